"""One table names all that the analysis makes; each entry is a command whose help says what each option does."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.make import make
from analysis.page.summary import make_tables
from analysis.specs import SPECS, in_summary
from bccdist.errors import BccdistError
from bccdist.paths import StudyPaths


@pytest.mark.parametrize("name", SPECS)
def test_every_command_has_help_for_each_of_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        make([name, "--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert printed.startswith(f"usage: make.py {name} ")
    described = inspect.getdoc(SPECS[name].load()) or ""
    assert described.split("\n")[0].endswith(".")
    for option in inspect.signature(SPECS[name].load()).parameters:
        (text,) = (line for line in described.splitlines() if line.startswith(f"    {option}: "))
        assert text.removeprefix(f"    {option}: ")[0].isupper(), text


def test_every_table_of_the_summary_goes_by_its_name_in_the_table() -> None:
    assert {spec.name for spec in in_summary("with pictures")} == {f"figure{number}" for number in (2, 4, 6, 7, 8)}
    assert [spec.name for spec in in_summary("always")][:4] == ["table1", "table2", "table3", "stability"]
    assert inspect.signature(make_tables).parameters["specs"].default is None


def test_the_list_of_commands_draws_and_trains_nothing() -> None:
    code = (
        "import sys; from analysis.make import make; make([]); print({'matplotlib', 'torch', 'cv2'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SystemExit, match="unknown name 'table9'; known names: summary, report, selection"):
        make(["table9"])


@pytest.mark.parametrize("name", [spec.name for spec in SPECS.values() if spec.of_study_alone])
def test_what_only_a_study_has_is_refused_of_a_cohort_in_one_line(name: str, tmp_path: Path) -> None:
    StudyPaths(tmp_path).model.touch()
    with pytest.raises(BccdistError, match=f"is a cohort, a model applied to slides: {name} rests on a training"):
        make([name, str(tmp_path)])
