"""Training on a real Slurm, whatever the cluster does to it: the outcome has the bits of a run that was left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from mini_cluster import MiniCluster, job_ids, wait_for
from places import REPOSITORY
from slurm_study import SITE, TRAIN, write_slurm_study
from small_study import SmallStudy
from training_outcome import assert_same, outcome

from bccdist.configuration import Setting
from bccdist.files import read_json
from bccdist.paths import RunPaths, StudyPaths

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
SETTING: Setting = "resnet34_linear"
STAGE = f"train-{SETTING}"
SHORT = ("--epochs", "2", "--max-steps", "14")
NUM_STEPS = 28


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    return write_slurm_study(tmp_path_factory.mktemp("slurm"))


@pytest.fixture
def study(shards: SmallStudy, tmp_path: Path, mini_cluster: MiniCluster) -> Iterator[StudyPaths]:
    """A study to train in; its jobs are gone in the end."""
    yield _copy_of(shards, tmp_path / "study")
    mini_cluster.cancel_all()


def _copy_of(shards: SmallStudy, root: Path) -> StudyPaths:
    shutil.copytree(shards.root, root, dirs_exist_ok=True)
    return StudyPaths(root)


def _train_locally(study: StudyPaths, *words: str) -> RunPaths:
    command = [sys.executable, REPOSITORY / "jobs" / "launch_train.py", "--study", study.root, "--setting", SETTING]
    local = ["--cluster", "local", "--ranks-per-node", "2", *TRAIN, *words]
    done = subprocess.run([*command, *local], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return study.run(SETTING)


@pytest.fixture(scope="module")
def undisturbed(shards: SmallStudy, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """The run of SHORT that was left alone, with the same number of ranks, on local processes."""
    return _train_locally(_copy_of(shards, tmp_path_factory.mktemp("undisturbed")), *SHORT)


def _launch(cluster: MiniCluster, study: StudyPaths, *words: str) -> str:
    """Launch a training with two ranks; the id of its job."""
    said = cluster.launch("jobs/launch_train.py", "--study", study.root, "--setting", SETTING, *SITE, *TRAIN, *words)
    return job_ids(said)[STAGE]


def _events(study: StudyPaths) -> list[dict[str, Any]]:
    path = study.run(SETTING).events(0)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _num_steps(study: StudyPaths) -> int:
    return sum(event["event"] == "step" for event in _events(study))


def _wait_for_steps(study: StudyPaths, num: int) -> None:
    wait_for(lambda: _num_steps(study) >= num, within_s=90, what=f"{num} steps")


def _status(cluster: MiniCluster, study: StudyPaths) -> dict[str, Any]:
    """Of the training."""
    command = [sys.executable, REPOSITORY / "jobs" / "status.py", study.root, "--json"]
    said = subprocess.run(command, env=os.environ | cluster.variables, capture_output=True, text=True, check=False)
    stages = {stage["stage"]: stage for stage in json.loads(said.stdout)["stages"]}
    return dict(stages[STAGE])


def _assert_ends_like(cluster: MiniCluster, study: StudyPaths, job_id: str, expected: RunPaths) -> None:
    cluster.wait_for_outcome(job_id, "COMPLETED", within_s=180)
    assert_same(outcome(study.run(SETTING)), outcome(expected))
    status = _status(cluster, study)
    assert (status["state"], status["num_done"], status["num_total"]) == ("done", 2, 2)


def _preempt(cluster: MiniCluster) -> str:
    """Submit a job of a higher partition that needs both nodes."""
    words = ("--nodes=2", "--exclusive", "--partition=gpu", "--output=/dev/null", "--wrap=sleep 2")
    return cluster.ask("sbatch", "--parsable", *words).strip()


def _wait_for_a_restart(cluster: MiniCluster, job_id: str) -> None:
    wait_for(lambda: cluster.restarts(job_id) >= 1, within_s=60, what="the job to be queued again")


def test_a_preempted_run_saves_is_queued_again_and_goes_on(
    mini_cluster: MiniCluster, study: StudyPaths, undisturbed: RunPaths
) -> None:
    job_id = _launch(mini_cluster, study, *SHORT, "--partition", "scavenge")
    _wait_for_steps(study, 3)
    assert _status(mini_cluster, study)["state"] == "running"
    mini_cluster.wait_for_outcome(_preempt(mini_cluster), "COMPLETED")
    _assert_ends_like(mini_cluster, study, job_id, undisturbed)
    assert [event["signal"] for event in _events(study) if event["event"] == "stop"] == ["SIGUSR2"]
    assert _num_steps(study) == NUM_STEPS, "no step is made twice"


@pytest.mark.slow
def test_a_site_that_announces_a_preemption_by_term_alone_loses_nothing_either(
    mini_cluster: MiniCluster, study: StudyPaths, undisturbed: RunPaths
) -> None:
    with mini_cluster.configured("SlurmctldParameters=preempt_send_user_signal", ""):
        job_id = _launch(mini_cluster, study, *SHORT, "--partition", "scavenge")
        _wait_for_steps(study, 3)
        mini_cluster.wait_for_outcome(_preempt(mini_cluster), "COMPLETED")
        _assert_ends_like(mini_cluster, study, job_id, undisturbed)
    assert [event["signal"] for event in _events(study) if event["event"] == "stop"] == ["SIGTERM"]
    assert _num_steps(study) == NUM_STEPS, "no step is made twice"


@pytest.mark.slow
def test_a_run_on_two_nodes_that_somebody_requeues_goes_on(
    mini_cluster: MiniCluster, study: StudyPaths, undisturbed: RunPaths
) -> None:
    job_id = _launch(mini_cluster, study, *SHORT, "--nodes", "2", "--ranks-per-node", "1")
    _wait_for_steps(study, 3)
    mini_cluster.ask("scontrol", "requeue", job_id)
    _wait_for_a_restart(mini_cluster, job_id)
    _assert_ends_like(mini_cluster, study, job_id, undisturbed)
    assert not list(study.run(SETTING).root.glob("meeting-*"))


@pytest.mark.slow
def test_a_run_of_which_a_rank_is_killed_is_queued_again(
    mini_cluster: MiniCluster, study: StudyPaths, undisturbed: RunPaths
) -> None:
    job_id = _launch(mini_cluster, study, *SHORT, "--save-every-min", "0")
    _wait_for_steps(study, 3)
    os.kill(_rank_processes(job_id)[-1], signal.SIGKILL)
    _wait_for_a_restart(mini_cluster, job_id)
    assert len(list(study.logs.glob(f"*/{job_id}.killed"))) == 1
    _assert_ends_like(mini_cluster, study, job_id, undisturbed)


def _rank_processes(job_id: str) -> list[int]:
    """The processes that run the task of a job on this machine."""
    found = _processes_of(job_id).items()
    runs_archive = [pid for pid, words in found if b"-u" in words and any(b"/code/" in word for word in words)]
    return sorted(pid for pid in runs_archive if not any(b"srun" in word for word in dict(found)[pid]))


def _processes_of(job_id: str) -> dict[int, list[bytes]]:
    """The command line of each process of a job on this machine, by its number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
            words = (path.parent / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has gone
            continue
        if f"SLURM_JOB_ID={job_id}".encode() in variables:
            found[int(path.parent.name)] = words
    return found


@pytest.mark.slow
def test_the_controller_and_a_node_daemon_may_crash_while_a_run_goes_on(
    mini_cluster: MiniCluster, study: StudyPaths, undisturbed: RunPaths
) -> None:
    job_id = _launch(mini_cluster, study, *SHORT)
    _wait_for_steps(study, 3)
    with _halted(job_id):
        mini_cluster.script("kill", "slurmctld")
        mini_cluster.script("kill", "node1")
        assert _status(mini_cluster, study)["state"] == "unknown"
        mini_cluster.script("daemon", "slurmctld")
        mini_cluster.script("daemon", "node1")
    _assert_ends_like(mini_cluster, study, job_id, undisturbed)
    assert not any(event["event"] in ("stop", "resume") for event in _events(study)), "it was left alone"


@contextmanager
def _halted(job_id: str) -> Iterator[list[int]]:
    """The processes of a job do nothing for a while, so that it is not done before its fault has come."""
    ranks = _rank_processes(job_id)
    assert len(ranks) == 2
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield ranks
    finally:
        for pid in ranks:
            with suppress(ProcessLookupError):  # Slurm lets it go on when it sends a signal
                os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_a_run_with_its_disk_full_fails_and_goes_on_once_there_is_room(
    mini_cluster: MiniCluster, shards: SmallStudy, undisturbed: RunPaths, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("60m")
    study = _copy_of(shards, disk / "study")
    job_id = _launch(mini_cluster, study, *SHORT, "--save-every-min", "0")
    _wait_for_steps(study, 3)
    filler = disk / "filler"
    with filler.open("wb") as file:
        try:
            while file.write(bytes(1 << 16)):
                file.flush()
        except OSError:
            pass
    mini_cluster.wait_for_outcome(job_id, "FAILED")
    assert _status(mini_cluster, study)["state"] == "failed"
    filler.unlink()
    said = mini_cluster.launch("jobs/status.py", study.root, "--retry-failed")
    _assert_ends_like(mini_cluster, study, job_ids(said)[STAGE], undisturbed)


@pytest.mark.slow
def test_two_nodes_of_four_ranks_train_together_and_one_goes_on_where_the_other_is_taken(
    mini_cluster: MiniCluster, study: StudyPaths
) -> None:
    words = ["--site", "mini", "--nodes", "2", "--min-nodes", "1", "--width", "4", "--global-batch", "8"]
    words += ["--micro-batch", "1", "--num-workers", "0", "--keep-best", "1", "--max-steps", "2"]

    def train_to(epochs: int) -> None:
        command = ("--study", study.root, "--setting", SETTING, *words, "--epochs", str(epochs))
        said = mini_cluster.launch("jobs/launch_train.py", *command)
        # Eight ranks start on whatever cores there are.
        mini_cluster.wait_for_outcome(job_ids(said)[STAGE], "COMPLETED", within_s=300)

    train_to(1)
    assert read_json(study.run(SETTING).environment)["world_size"] == 8
    taken = ("--nodelist=node2", "--exclusive", "--output=/dev/null", "--wrap=sleep 600")
    taker = mini_cluster.ask("sbatch", "--parsable", *taken).strip()
    wait_for(
        lambda: taker in mini_cluster.ask("squeue", "--states=R", "--format=%i"), within_s=30, what="a taken node"
    )
    train_to(2)
    mini_cluster.ask("scancel", taker)
    assert read_json(study.run(SETTING).environment)["world_size"] == 4
    assert _num_steps(study) == 4
    events = {event["event"]: event for event in _events(study)}
    assert (events["fewer_ranks"]["asked"], events["fewer_ranks"]["found"]) == (8, 4)
    assert "a step has the same 8 patches, 2 for each rank" in events["other_ranks"]["text"]


@pytest.mark.slow
def test_a_run_that_meets_its_time_limit_is_queued_again_and_ends_with_the_same_bits(
    mini_cluster: MiniCluster, study: StudyPaths, undisturbed: RunPaths
) -> None:
    """So that a run of any speed meets its limit, its ranks are halted until the warning.

    Slurm looks every half minute, and so warns up to half a minute early: here 30 s after the start, or later. What is
    waited for is the batch script, which counts down; a rank may have heard the warning before it was halted.
    """
    job_id = _launch(mini_cluster, study, *SHORT, "--timeout-min", "2", "--signal-delay-s", "60")
    _wait_for_steps(study, 3)
    with _halted(job_id):
        wait_for(lambda: _is_warned(job_id), within_s=90, what="the warning before the time limit")
    _wait_for_a_restart(mini_cluster, job_id)
    _assert_ends_like(mini_cluster, study, job_id, undisturbed)
    assert next(event["signal"] for event in _events(study) if event["event"] == "stop") == "SIGUSR2"
    assert _num_steps(study) == NUM_STEPS, "no step is made twice"


@pytest.mark.slow
def test_a_run_that_does_not_listen_to_the_warning_is_queued_again_all_the_same(
    mini_cluster: MiniCluster, study: StudyPaths, undisturbed: RunPaths
) -> None:
    """The warning comes as from Slurm, to the batch script; the ranks are halted, as by a hung network."""
    job_id = _launch(mini_cluster, study, *SHORT, "--save-every-min", "0", "--signal-delay-s", "4")
    _wait_for_steps(study, 3)
    with _halted(job_id):
        mini_cluster.ask("scancel", "--batch", "--signal=USR2", job_id)
        _wait_for_a_restart(mini_cluster, job_id)
    _assert_ends_like(mini_cluster, study, job_id, undisturbed)


def _is_warned(job_id: str) -> bool:
    """Whether the batch script of a job, or of one that came after it under its number, counts down."""
    return any(words[0] == b"sleep" for words in _processes_of(job_id).values()) or not _rank_processes(job_id)
