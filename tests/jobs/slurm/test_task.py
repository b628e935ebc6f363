"""The task that submitit runs: an error for the user is one line and a failed job, anything else is a traceback."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bccdist.errors import ShardError
from bccdist.paths import StudyPaths
from bccdist.stages.table import SHARDS
from bccdist.usage import read_starts
from jobs.slurm.task import StageTask


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refuse(what: str) -> None:
    raise ShardError(f"{what} is damaged")


def rest() -> None:
    pass


def break_down() -> None:
    raise ZeroDivisionError


def task(function: str, **values: object) -> StageTask:
    values = {"study_root": Path(), "not_asked_for": 1, **values}
    return StageTask(name="stage", stage=SHARDS.fields, function=f"{__name__}:{function}", values=values, threads=1)


def test_an_error_for_the_user_is_one_line_and_fails_the_job(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        task("refuse", what="tar 7")()
    assert stop.value.code == 1
    (start,) = read_starts(StudyPaths(Path()))
    assert (start.usage.stage, start.usage.outcome) == (SHARDS.fields, "failed")
    assert caplog.messages[0] == "code not recorded"
    assert [(line.levelname, line.message) for line in caplog.records][2:] == [("ERROR", "stage: tar 7 is damaged")]


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        task("break_down")()


def test_the_threads_of_a_task_reach_the_libraries() -> None:
    replace(task("rest"), threads=3)()
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENCV_FOR_THREADS_NUM"] == "3"


def test_a_requeued_task_is_the_same_task() -> None:
    first = task("refuse", what="x")
    assert first.checkpoint().function is first
