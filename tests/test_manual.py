"""The manual tells the truth: its commands, flags, links, tables and snippets are those of the code."""

import contextlib
import functools
import importlib.util
import inspect
import io
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from picture_study import write_heatmap
from places import REPOSITORY
from small_model import write_small_model
from study_folders import sections, write_study

import bccdist
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.schemas import SCHEMAS
from analysis.tables.section_verdicts import write_verdict_table
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import AnnotationError
from bccdist.slides.manifest import read_manifest
from jobs.slurm.sites import read_site

PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for pattern in ("README.md", "CHANGELOG.md", "docs/*.md", "benchmarks/*.md", "shards/*.md", "slurm/*.md")
    for path in REPOSITORY.glob(pattern)
)
HISTORY = ("CHANGELOG.md",)
"""Pages that name commands of before."""
OTHER_PROGRAMS = {"conda", "source", "tensorboard", "ruff"}
"""Programs of others, whose words are not checked here."""
OTHER_FLAGS = {"--gpus-per-node", "--gpus-per-task", "--run-slow", "--cleanenv", "--env", "--env-host", "--pid"}
"""Flags of sbatch, of programs that run containers, and of the tests."""
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def fenced(page: str, language: str) -> list[str]:
    """The blocks of one language, without the indentation of a list that they stand in."""
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in blocks]


def inline(page: str) -> list[str]:
    """What stands between single backticks outside of fenced blocks."""
    prose = re.sub(r"^ *```.*?^ *```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


@dataclass(frozen=True)
class Command:
    """One command line of a page."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands_of_block(block: str) -> Iterator[tuple[str, ...]]:
    """The commands of a shell block; a loop's variable takes the first of its values."""
    values: dict[str, str] = {}
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["for"]:
            values[f"${words[1]}"] = words[3]
        elif words and words != ["done"]:
            yield tuple(values.get(word, word) for word in words)


def commands() -> Iterator[Command]:
    """Every command of the manual, in blocks and in sentences."""
    for page in PAGES:
        for block in fenced(page, "bash"):
            yield from (Command(page, words) for words in commands_of_block(block))
        for code in inline(page) if page not in HISTORY else ():
            if re.match(r"(python|make|pip install) ", code):
                yield Command(page, tuple(shlex.split(code)))


COMMAND_LINES = list(commands())


class UnderstoodError(BaseException):
    """Raised in place of what a command would do, once its words were parsed."""


def parse_and_stop(real: Callable[..., Any]) -> Callable[..., Any]:
    """Make `tyro.cli` parse the words as ever, and do nothing with them."""

    def cli(target: Any, **options: Any) -> Any:
        if not inspect.isclass(target):

            @functools.wraps(target)
            def stop(*_: Any, **__: Any) -> None:
                raise UnderstoodError

            target = stop
        real(target, **options)
        raise UnderstoodError

    return cli


def check_python(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command's own file parse the words."""
    if words[:1] == ("-m",):
        module = words[1].replace(".", "/")
        is_folder = (REPOSITORY / module).is_dir()
        words = (f"{module}/__main__.py" if is_folder else f"{module}.py", *words[2:])
    script = REPOSITORY / words[0]
    assert script.is_file(), f"{words[0]} is not there"
    if words[0] == "analysis/make.py" and (len(words) == 1 or words[1] == "NAME"):
        return
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", list(words))
    monkeypatch.setattr(tyro, "cli", parse_and_stop(tyro.cli))
    with pytest.raises(UnderstoodError):
        runpy.run_path(str(script), run_name="__main__")


def check_make(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for target and variables in the Makefile; what a benchmark is told, the benchmark parses."""
    for word in words:
        name, is_variable, value = word.partition("=")
        known = rf"^{name} \?=" if is_variable else rf"^{name}:"
        assert re.search(known, MAKEFILE, flags=re.MULTILINE), f"the Makefile has no {word}"
        if name == "BENCH":
            check_python(("benchmarks/heatmaps.py", *shlex.split(value)), monkeypatch)


def check_pip(words: tuple[str, ...]) -> None:
    """Look for the extras in pyproject.toml."""
    table = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    assert words[0] == "install"
    for extra in re.findall(r"\[(.*?)\]", " ".join(words)):
        assert extra in table


@pytest.mark.parametrize("command", COMMAND_LINES, ids=str)
def test_every_command_is_understood_by_its_program(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *words = command.words
    if program == "python":
        check_python(tuple(words), monkeypatch)
    elif program == "make":
        check_make(tuple(words), monkeypatch)
    elif program == "pip":
        check_pip(tuple(words))
    elif program == "eval":
        script, word = words[0].strip("$()").split()
        assert f"{word})" in text_of(script)
    else:
        assert program in OTHER_PROGRAMS, f"this test does not know how to check {program}"


def test_the_commands_were_found() -> None:
    programs = [command.words[:2] for command in COMMAND_LINES]
    for expected in ("jobs/launch_study.py", "jobs/doctor.py", "analysis/make.py", "-m", "benchmarks/train.py"):
        assert ("python", expected) in programs
    assert ("make", "demo") in programs


def help_of(script: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command prints for --help."""
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()


def test_every_flag_in_a_sentence_is_one_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [path for path in (REPOSITORY / "jobs").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")]
    monkeypatch.chdir(REPOSITORY)
    make = subprocess.check_output([sys.executable, "analysis/make.py", "--help"], text=True)
    known = " ".join([make, *(help_of(path, monkeypatch) for path in programs)])
    pages = [page for page in PAGES if not page.startswith("benchmarks/")]
    flags = {found[0] for page in pages for code in inline(page) if (found := re.match(r"--[a-z][a-z0-9.-]*\w", code))}
    assert len(flags) > 10
    assert {flag for flag in flags - OTHER_FLAGS if flag not in known} == set()


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    words = re.sub(r"[`*]", "", heading).lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        path = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert path.is_file(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in map(slug, headings), f"{page}: {target}"


def test_the_front_page_is_short_and_leads_to_every_page() -> None:
    front = text_of("README.md")
    assert len(front.splitlines()) <= 150
    for page in PAGES:
        if page not in ("README.md", "slurm/README.md", "docs/learning-curves.md"):
            assert f"]({page})" in front, page


def test_the_site_has_every_page_of_the_manual() -> None:
    specification = importlib.util.spec_from_file_location("manual_conf", REPOSITORY / "docs" / "conf.py")
    assert specification is not None
    assert specification.loader is not None
    conf = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(conf)
    assert set(PAGES) - set(conf.include_patterns) == {"slurm/README.md", "docs/learning-curves.md"}


def test_the_list_of_the_analysis_is_whole() -> None:
    words = [sys.executable, REPOSITORY / "analysis" / "make.py"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"^  (\w+) ", printed, flags=re.MULTILINE))
    assert len(names) > 25
    mentioned = " ".join(inline("docs/analysis.md") + fenced("docs/analysis.md", "bash"))
    in_a_range = {"table2", "table3", "table4", "figure5", "figure6", "figure7", "verdict_table", "schemas"}
    assert {name for name in names if name not in mentioned} <= in_a_range


@pytest.mark.parametrize("page", ["README.md", "docs/manifest.md"])
def test_the_example_manifest_is_a_manifest(page: str, tmp_path: Path) -> None:
    tables = [block for block in fenced(page, "text") if block.startswith("slide_id,")]
    assert len(tables) == 2
    for name, table in zip(("slides.csv", "sections.csv"), tables, strict=True):
        (tmp_path / name).write_text(table, encoding="utf-8")
    for name in re.findall(r"[^,;\n]+/[^,;\n]+", tables[0]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for kinds in fenced(page, "toml"):
        (tmp_path / "kinds.toml").write_text(kinds, encoding="utf-8")
    manifest = read_manifest(tmp_path / "slides.csv")
    assert [section.label for section in manifest.sections] == ["Tumor", "Normal"]


CHECKS = """
by_pandas = area_um2.set_axis(chosen.section_id)
by_duckdb = areas.df().set_index("section_id").area_um2
judged = verdicts.set_index("section_id")
assert len(by_duckdb) == len(judged) == 30, (len(by_duckdb), len(judged))
assert (by_pandas[judged.index] == judged.area_um2).all()
assert (by_duckdb[judged.index] == judged.area_um2).all()
assert set(chosen.section_id[is_tumor & (chosen.part == "Test")]) == set(judged.index[judged.verdict == "Tumor"])
assert len(wrong) == 5, wrong
assert len(nearest) == 10 and nearest.flip_shift.is_monotonic_increasing
assert set(flipping.df().section_id) == set(judged.index[judged.flip_shift < 0.05]) != set()
assert abs(probability.max() - 230 / 255) < 1e-9
assert duckdb.sql("SELECT largest_region_px[0] AS nothing FROM 'sections.parquet'").df().nothing.isna().all()
"""


def test_the_snippets_of_the_analysis_give_the_tables_numbers(tmp_path: Path) -> None:
    """Pandas and DuckDB find the areas of the verdicts, though the ledger names each section twice."""
    rows = [
        *sections(tp=10, fn=1, fp=1, tn=10, part="Validation I"),
        *sections(tp=10, fn=3, fp=2, tn=15, part="Test"),
    ]
    paths = write_study(
        tmp_path, [*rows, *({**row, "psi": "psi_0", "is_final": False, "pixel_px": 16} for row in rows)]
    )
    select_thresholds(tmp_path, SelectConfig())
    write_verdict_table(Evidence(tmp_path))
    values = np.full((512, 512), 230, dtype=np.uint8)
    path = paths.heatmap("resnet34_ds", 2, "phantom-test-000")
    write_heatmap(path, values, outputs=("psi_4",), weights_digest="0" * 12)
    code = "\n".join([*fenced("docs/analysis.md", "python"), CHECKS])
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_snippets_of_the_library_run_one_after_the_other(tmp_path: Path) -> None:
    small = write_small_model(tmp_path)
    small.infer()
    (tmp_path / "slides").mkdir()
    for name in ("one.svs", "other.svs"):
        (tmp_path / "slides" / name).symlink_to(small.slide)
    checks = """
assert list(found.sections.section_id) == ["slide-s0", "slide-s1"]
assert list(sections.section_id) == ["one-s0", "one-s1", "other-s0", "other-s1"]
assert len(verdicts) == 3
assert {path.name for path in Path("heatmaps").iterdir()} == {"slide.ozx", "one.ozx", "other.ozx"}
"""
    code = "\n".join([*fenced("docs/library.md", "python"), checks])
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_example_of_a_site_is_one(tmp_path: Path) -> None:
    (text,) = fenced("docs/contributing.md", "toml")
    (tmp_path / "here.toml").write_text(text, encoding="utf-8")
    site = read_site(str(tmp_path / "here.toml"))
    assert (site.partition, site.gpus_per_node, site.cpu.partition) == ("a100", 8, "batch")


def test_the_example_of_an_annotation_format_reads_outlines(tmp_path: Path) -> None:
    (code,) = (block for block in fenced("docs/contributing.md", "python") if "read_corner_table" in block)
    (tmp_path / "corner_table.py").write_text(code, encoding="utf-8")
    module = runpy.run_path(str(tmp_path / "corner_table.py"))
    text = "outline,class,x,y\n0,BCC,0,0\n0,BCC,8,0\n0,BCC,8,4\n1,ruler,5,5\n"
    outline, ruler = module["read_corner_table"](Path("corners.csv"), text)
    assert (outline.name, ruler.name) == ("BCC", "ruler")
    assert [shape.geometry.area for shape in outline.shapes()] == [16]
    with pytest.raises(AnnotationError, match=r"corners\.csv: no column class"):
        module["read_corner_table"](Path("corners.csv"), text.replace("class", "kind"))


def test_the_example_of_a_table_counts_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, schema = (block for block in fenced("docs/contributing.md", "python") if "readers" in block)
    (tmp_path / "readers.py").write_text(f"{code}\n{schema}", encoding="utf-8")
    module = runpy.run_path(str(tmp_path / "readers.py"))
    monkeypatch.setitem(SCHEMAS, "readers", module["READERS"])
    rows = [
        *sections(tp=10, fn=1, fp=1, tn=10, part="Validation I"),
        *sections(tp=3, fn=2, fp=0, tn=4, part="Test"),
    ]
    write_study(tmp_path / "study", rows)
    select_thresholds(tmp_path / "study", SelectConfig())
    table = module["write_readers"](Evidence(tmp_path / "study"))
    assert table.frame[["labelled_by", "num_sections", "num_correct"]].to_numpy().tolist() == [["reader", 9, 7]]
    assert (tmp_path / "study" / "tables" / "readers.parquet").is_file()


def test_the_example_of_a_stage_is_the_one_that_is_tested() -> None:
    (code,) = (block for block in fenced("docs/contributing.md", "python") if "Stage(" in block)
    assert code in text_of("tests/bccdist/stages/test_table.py")


def test_one_version_is_named_everywhere() -> None:
    newest = re.search(r"^## \[(\d[^\]]*)\] - (\S+)$", text_of("CHANGELOG.md"), flags=re.MULTILINE)
    assert newest is not None
    citation = text_of("CITATION.cff")
    assert newest[1] == bccdist.__version__
    assert f"\nversion: {newest[1]}\n" in citation
    assert f"\ndate-released: {newest[2]}\n" in citation
