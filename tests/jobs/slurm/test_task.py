"""The task that submitit runs: an error for the user is one line and a failed job, anything else is a traceback."""

import json
import os

import pytest

from bccdist.errors import ShardError
from jobs.slurm.task import StageTask


def refuse(what: str) -> None:
    raise ShardError(f"{what} is damaged")


def break_down() -> None:
    raise ZeroDivisionError


def task(function: str, *arguments: object) -> StageTask:
    return StageTask(name="stage", function=f"{__name__}:{function}", arguments=arguments, threads=1)


def test_an_error_for_the_user_is_one_line_and_fails_the_job(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        task("refuse", "tar 7")()
    assert stop.value.code == 1
    code, usage = capsys.readouterr().out.splitlines()
    assert code == "code not recorded"
    assert (usage.partition(" ")[0], json.loads(usage.partition(" ")[2])["outcome"]) == ("usage", "failed")
    assert [(line.levelname, line.message) for line in caplog.records] == [("ERROR", "stage: tar 7 is damaged")]


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        task("break_down")()


def test_the_threads_of_a_task_reach_the_libraries() -> None:
    StageTask(name="stage", function="os:getcwd", arguments=(), threads=3)()
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENCV_FOR_THREADS_NUM"] == "3"


def test_a_requeued_task_is_the_same_task() -> None:
    first = task("refuse", "x")
    assert first.checkpoint().function is first
