"""The analysis starts without torch, and its files run as scripts: none shadows a module of the standard library."""

import subprocess
import sys
from pathlib import Path

import pytest
from study_folders import sections, write_study

import analysis
from bccdist.files import write_json

FOLDER = Path(analysis.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)
    for path in FOLDER.rglob("*.py")
    if path.stem != "__init__"
)
TABLES_TO_THEIR_FIRST_LINE = {
    "table3": "**Table 3.",
    "table4": "**Table 4.",
    "table5": "**Table 5.",
    "verdict_table": "**Section verdicts, Test;",
    "intervals": "**Figures with 95% intervals",
    "summary": "**Table 1.",
}


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd, timeout=120
    )


def test_no_module_has_a_name_of_the_standard_library() -> None:
    assert not {name.split(".")[-1] for name in MODULES} & set(sys.stdlib_module_names)


def test_imports_are_free_of_torch(tmp_path: Path) -> None:
    imports = "; ".join(f"import {name}" for name in MODULES)
    finished = python("-c", f"{imports}; import sys; print('torch' in sys.modules)", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "False"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [*sections(tp=3, fn=0, fp=0, tn=3), *sections(tp=3, fn=0, fp=1, tn=3, part="Test")]
    root = write_study(tmp_path_factory.mktemp("scripts") / "study", rows).root
    lines = ["slide_id,part,path", "Test-0000,Test,gone.tif", "Validation-II-0000,Validation II,away.tif"]
    (root / "slides.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(root / "study.json", {"manifest": str(root / "slides.csv"), "phantom": False})
    finished = python(str(FOLDER / "make.py"), "selection", str(root), cwd=root)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("**Table 3.")
    return root


@pytest.mark.parametrize("name", TABLES_TO_THEIR_FIRST_LINE)
def test_files_run_as_scripts(name: str, study: Path) -> None:
    finished = python(str(FOLDER / "make.py"), name, str(study), cwd=study)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(TABLES_TO_THEIR_FIRST_LINE[name])


@pytest.mark.parametrize(
    "words",
    [
        "analysis/make.py verdict_table STUDY --part tset",
        "analysis/make.py margins STUDY --part tset",
        "analysis/make.py overlays STUDY slides.csv --parts val1 tset",
        "analysis/make.py regions STUDY slides.csv --parts tset",
        "jobs/launch_infer.py --study STUDY --parts tset",
        "jobs/doctor.py slides.csv --parts tset",
        "jobs/review.py STUDY --reviewer me --parts tset",
    ],
)
def test_a_wrong_part_is_one_message_that_lists_the_known_ones(words: str, study: Path) -> None:
    """The slides.csv is not read before."""
    script, *rest = (str(study) if word == "STUDY" else word for word in words.split())
    finished = python(str(FOLDER.parent / script), *rest, cwd=study)
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr
    for text in ("unknown part 'tset'", "'Validation II' (val2)"):
        assert text in finished.stderr


def test_errors_are_one_message_without_a_traceback(tmp_path: Path) -> None:
    finished = python(str(FOLDER / "make.py"), "table4", str(tmp_path), cwd=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: ")
    assert "Traceback" not in finished.stderr
