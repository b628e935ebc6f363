"""The task that submitit runs: an error for the user is one line and a failed job, anything else is a traceback."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from bccdist.command import INTERRUPTED
from bccdist.errors import ConfigurationError, ShardError
from bccdist.paths import StudyPaths
from bccdist.ranks import Ranks, resolve_ranks
from bccdist.remote.block_cache import FOLDER_VARIABLE, GIB_VARIABLE
from bccdist.stages.table import SHARDS
from bccdist.usage import read_starts
from jobs.slurm.requeue import SAVED
from jobs.slurm.sites import ClusterConfig
from jobs.slurm.task import Launched, StageTask, interruption_of


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refuse(what: str) -> None:
    raise ShardError(f"{what} is damaged")


def rest() -> None:
    pass


def say_ranks() -> None:
    ranks = resolve_ranks(os.environ)
    print(f"rank {ranks.rank} of {ranks.world_size}")  # noqa: T201


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


def test_variables_of_a_task_are_those_of_its_job_and_may_name_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    cluster = ClusterConfig(remote_cache="/local/$SLURM_JOB_ID/slides", remote_cache_gib=2.5)
    for name in (FOLDER_VARIABLE, GIB_VARIABLE):
        monkeypatch.setenv(name, "of the shell")
    replace(task("rest"), variables=cluster.variables)()
    assert (os.environ[FOLDER_VARIABLE], os.environ[GIB_VARIABLE]) == ("/local/7/slides", "2.5")
    replace(task("rest"), variables=ClusterConfig().variables)()
    assert os.environ[FOLDER_VARIABLE] == "/local/7/slides"


@pytest.mark.parametrize("gib", [0.0, -1.0, float("inf"), float("nan")])
def test_a_cache_without_a_bound_is_refused(gib: float) -> None:
    with pytest.raises(ConfigurationError, match=r"remote_cache_gib is .*, expected above 0"):
        ClusterConfig(remote_cache="/local", remote_cache_gib=gib)


def test_a_requeued_task_is_the_same_task() -> None:
    first = task("refuse", what="x")
    assert first.checkpoint().function is first


def stop_by_term() -> None:
    raise SystemExit(128 + signal.SIGTERM)


SLURM = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}


def test_a_task_of_slurm_that_obeyed_term_says_so_to_its_batch_script(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGHUP, signal.SIGINT)}
    with pytest.raises(SystemExit) as end:
        replace(task("stop_by_term"), launched=Launched(cluster="slurm", nodes=1, ranks_per_node=1))()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert end.value.code == SAVED
    with pytest.raises(SystemExit) as end:
        task("stop_by_term")()
    assert end.value.code == 143


LOCAL = {"SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_LOCALID": "1", "SUBMITIT_LOCAL_NTASKS": "2"}


def launched_as_the_second_of_two() -> StageTask:
    return replace(task("say_ranks"), launched=Launched(cluster="local", nodes=1, ranks_per_node=2))


def test_a_task_hands_on_what_it_was_launched_as_whatever_the_shell_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "x", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    mark = Ranks().as_mark()
    for name, value in {**shell, **mark, **LOCAL, "SUBMITIT_LOCAL_JOB_ID": "42"}.items():
        monkeypatch.setenv(name, value)
    launched_as_the_second_of_two()()
    assert capsys.readouterr().out == "rank 1 of 2\n"


def test_a_task_that_is_not_told_which_rank_it_is_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SUBMITIT_LOCAL_NTASKS", "2")
    with pytest.raises(SystemExit):
        launched_as_the_second_of_two()()
    assert "SUBMITIT_LOCAL_GLOBALID, SUBMITIT_LOCAL_LOCALID is not set" in caplog.text


@pytest.mark.parametrize("number", ["42", "43"], ids=["its own job", "another job"])
def test_a_local_task_whose_launcher_was_interrupted_before_it_listened_does_nothing(
    number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interruption_of(tmp_path, number).touch()
    for name, value in {**LOCAL, "SUBMITIT_LOCAL_JOB_ID": "42", "SUBMITIT_FOLDER": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    if number == "42":
        with pytest.raises(SystemExit) as end:
            launched_as_the_second_of_two()()
        assert end.value.code == INTERRUPTED
    else:
        launched_as_the_second_of_two()()
    assert ("rank 1 of 2" in capsys.readouterr().out) == (number == "43")
