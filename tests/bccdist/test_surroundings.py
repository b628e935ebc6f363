"""Shells, sites and containers differ: a command gives the same, or says in one line what is in its way."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from places import REPOSITORY
from small_study import SmallStudy, write_finished_study
from study_folders import write_metrics
from study_folders import write_study as write_ledger

from bccdist.paths import StudyPaths

pytestmark = pytest.mark.slow

_CURVES = (sys.executable, str(REPOSITORY / "analysis" / "make.py"), "learning_curves")
_TRAIN = """
import sys
from pathlib import Path
from bccdist.command import run_command

def main():
    from bccdist.configuration import TrainConfig
    from bccdist.training.loop import train
    config = TrainConfig(width=4, epochs=1, global_batch=2, micro_batch=1, max_steps=1, num_workers=2)
    train(Path(sys.argv[1]), "unet", config)

run_command(main)
"""


class Surroundings(NamedTuple):
    """What is unusual about where a command runs."""

    variables: Mapping[str, str] = {}
    without: tuple[str, ...] = ()
    first: str = ""
    """What a shell does before it."""
    matplotlibrc: str = ""
    """In the working folder."""


_ODD_PICTURES = "text.usetex: True\nbackend: TkAgg\nfont.family: none-such\nfigure.dpi: 7\n"
_NOBODY = "exec unshare --user --map-user=54321 --map-group=54321"
SURROUNDINGS = {
    "a window's backend": Surroundings({"MPLBACKEND": "Qt5Agg"}),
    "a backend that is not there": Surroundings({"MPLBACKEND": "none-such"}),
    "usetex in the working folder": Surroundings(matplotlibrc=_ODD_PICTURES),
    "a locale of ASCII": Surroundings({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "letters that the terminal lacks": Surroundings({"PYTHONIOENCODING": "ascii"}),
    "few files": Surroundings(first="ulimit -n 64"),
    "files for nobody else": Surroundings(first="umask 077"),
    "no home and no name": Surroundings(without=("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME")),
    "threads that are no number": Surroundings({"OMP_NUM_THREADS": "many", "MKL_NUM_THREADS": "-1"}),
    "a folder for temporary files that is not there": Surroundings({"TMPDIR": "/none/such"}),
}


def _run(command: tuple[str, ...], around: Surroundings, folder: Path) -> "subprocess.CompletedProcess[str]":
    if around.matplotlibrc:
        (folder / "matplotlibrc").write_text(around.matplotlibrc, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name not in around.without}
    words = ["bash", "-c", f'{around.first or ":"}\nexec "$@"', "bash", *command]
    environment = {**kept, "PYTHONPATH": str(REPOSITORY), **around.variables}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=120
    )


def _with_metrics(folder: Path) -> StudyPaths:
    paths = StudyPaths(folder / "Größe µ")
    write_ledger(paths.root, [])
    write_metrics(paths, "unet", {1: 0.25, 2: 0.5})
    return paths


@pytest.mark.parametrize("around", SURROUNDINGS.values(), ids=SURROUNDINGS.keys())
def test_a_table_and_its_chart_are_the_same_wherever_they_are_made(around: Surroundings, tmp_path: Path) -> None:
    paths = _with_metrics(tmp_path)
    done = _run((*_CURVES, str(paths.root)), around, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "best in epoch 2 with 0.5000" in done.stdout
    picture = (paths.tables / "learning_curves.png").read_bytes()
    other = _with_metrics(tmp_path / "plain")
    plain = _run((*_CURVES, str(other.root)), Surroundings(), other.root)
    assert plain.returncode == 0, plain.stderr
    assert picture == (other.tables / "learning_curves.png").read_bytes()


def test_a_folder_that_was_removed_is_said_in_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    launcher, status = (str(REPOSITORY / "jobs" / name) for name in ("launch_train.py", "status.py"))
    for command in (
        (sys.executable, launcher, "--study", str(tmp_path / "study")),
        (sys.executable, launcher),
        (sys.executable, status, "studies/here"),
    ):
        gone.mkdir(exist_ok=True)
        done = _run(command, Surroundings(first=f'rmdir "{gone}"'), gone)
        assert done.returncode == 1
        assert "the folder that this was started in is not there any more; change to one that is" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_network_is_trained_by_a_user_without_a_name_or_a_home_with_few_files_and_odd_pictures(
    tmp_path: Path,
) -> None:
    study: SmallStudy = write_finished_study(tmp_path, width_px=800, height_px=560)
    around = Surroundings(
        {"OMP_NUM_THREADS": "0", "MPLBACKEND": "none-such"},
        without=("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"),
        first=f'ulimit -n 64; umask 077; unshare --user true && {_NOBODY} "$@"',
        matplotlibrc=_ODD_PICTURES,
    )
    done = _run((sys.executable, "-c", _TRAIN, str(study.root)), around, tmp_path)
    assert done.returncode == 0, done.stderr
    run = StudyPaths(study.root).run("unet")
    assert run.weights(1).exists()
    assert run.summary.exists()
    assert run.weights(1).stat().st_mode & 0o077 == 0, "the user's umask is the user's will"
