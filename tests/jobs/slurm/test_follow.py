"""Local jobs are shown while they run, and end with the launcher, however it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mini_cluster import wait_for
from places import REPOSITORY

from jobs.slurm import journal

LAUNCH = """
import sys
from pathlib import Path
from bccdist.command import run_command
from bccdist.stages.table import SHARDS
from jobs.slurm.sites import ClusterConfig
from jobs.slurm.submission import Launch, Work, submitting
from jobs.slurm.task import StageTask

def main():
    launch = Launch(study=Path(sys.argv[1]), cluster=ClusterConfig(cluster="local"))
    function, values = f"stages_of_the_test:{sys.argv[2]}", {"study_root": launch.study}
    task = StageTask(name=SHARDS.name, stage=SHARDS.fields, function=function, values=values)
    with submitting(launch) as submitter:
        submitter.submit(Work(stage=SHARDS, tasks=(task, task), ranks_per_node=2), after=[])

run_command(main)
"""
STAGES = """
import signal, subprocess, sys, time
from pathlib import Path

def work(study_root):
    print("at work", flush=True)

def save(study_root):
    told = []
    signal.signal(signal.SIGINT, lambda *_: told.append(1))
    subprocess.Popen(["sleep", "100"])
    print("asleep", flush=True)
    while not told:
        time.sleep(0.05)
    time.sleep(3)
    Path(study_root, "saved").touch()
    sys.exit(130)

def sleep(study_root):
    child = subprocess.Popen(["sh", "-c", "trap '' INT TERM; sleep 100; sleep 100"])
    print(f"asleep {child.pid}", flush=True)
    try:
        time.sleep(100)
    finally:
        Path(study_root, "tidied").touch()
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "stages_of_the_test.py").write_text(STAGES)
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


def launch(study: Path, function: str) -> subprocess.Popen[str]:
    """A launcher that leads a session, as in a terminal of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(study), function],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{study.parent}"},
    )


def processes_of(study: Path) -> set[str]:
    """The command lines of the jobs that run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{study.parent}".encode() in path.read_bytes():
                found.add(path.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found - {""}


@pytest.fixture
def asleep(study: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A launcher whose two jobs, of two tasks each, sleep; or do what the test asks for."""
    launcher = launch(study, getattr(request, "param", "sleep"))
    try:
        shown = ""
        assert launcher.stdout is not None
        while len(re.findall("asleep", shown)) < 2:
            shown += launcher.stdout.readline()
        while not [line for line in processes_of(study) if line.startswith("sleep")]:
            time.sleep(0.1)
        yield launcher
    finally:
        launcher.kill()
        launcher.communicate()


def test_what_a_local_job_prints_is_shown_and_its_logs_are_the_only_files_beside_it(study: Path) -> None:
    shown, errors = (launcher := launch(study, "work")).communicate(timeout=120)
    assert launcher.returncode == 0, errors
    assert {line for line in shown.splitlines() if "at work" in line} == {
        "[shards 1/2] at work",
        "[shards 2/2] at work",
    }
    [logs] = (study / "logs").iterdir()
    assert all(re.fullmatch(r"\d+_([01]_(log\.out|result\.pkl)|submitted\.pkl)", file.name) for file in logs.iterdir())
    assert len(list(logs.glob("*_log.out"))) == 4


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [(signal.SIGINT, 130, "interrupted; .*\n"), (signal.SIGTERM, 143, ""), (signal.SIGHUP, 129, "")],
    ids=["Ctrl-C", "told to end", "terminal gone"],
)
def test_a_launcher_that_ends_ends_its_jobs_and_what_they_started(
    number: int, code: int, says: str, study: Path, asleep: subprocess.Popen[str]
) -> None:
    os.killpg(asleep.pid, number)
    _, errors = asleep.communicate(timeout=60)
    assert asleep.returncode == code
    # On a busy machine the jobs take long enough to be waited for aloud.
    waiting = ".* WARNING the jobs save what they have and end; .*\n"
    assert re.fullmatch(rf".* INFO shards: 2 local job\(s\); logs in .*\n({waiting})?{says}", errors)
    assert processes_of(study) == set()
    assert (study / "tidied").exists()


@pytest.mark.parametrize("asleep", ["save"], indirect=True)
@pytest.mark.parametrize(
    ("numbers", "code"),
    [([signal.SIGINT], 130), ([signal.SIGHUP, signal.SIGTERM], 129), ([signal.SIGTERM, signal.SIGHUP], 143)],
    ids=["Ctrl-C", "terminal gone", "told to end"],
)
def test_jobs_that_save_when_they_are_interrupted_have_the_time_to(
    numbers: list[int], code: int, study: Path, asleep: subprocess.Popen[str]
) -> None:
    for number in numbers:
        os.killpg(asleep.pid, number)
        time.sleep(0.3)
    _, errors = asleep.communicate(timeout=60)
    assert asleep.returncode == code
    assert "the jobs save what they have and end; Ctrl-C again ends them at once" in errors
    assert (study / "saved").exists()
    assert processes_of(study) == set()


@pytest.mark.parametrize("asleep", ["save"], indirect=True)
def test_a_second_interrupt_ends_the_jobs_at_once(study: Path, asleep: subprocess.Popen[str]) -> None:
    for _ in range(2):
        os.killpg(asleep.pid, signal.SIGINT)
        time.sleep(0.5)
    asleep.communicate(timeout=60)
    assert asleep.returncode == 130
    assert not (study / "saved").exists()
    assert processes_of(study) == set()


def test_a_reader_that_goes_away_ends_the_jobs(study: Path, asleep: subprocess.Popen[str]) -> None:
    assert asleep.stdout is not None
    asleep.stdout.close()
    for log in (study / "logs").rglob("*_0_log.out"):
        with log.open("a") as file:
            file.write("one more line\n")
    assert asleep.wait(timeout=60) == 141
    assert processes_of(study) == set()


def test_beside_local_jobs_whose_launcher_was_killed_nothing_is_launched(
    study: Path, asleep: subprocess.Popen[str]
) -> None:
    path = study / "jobs.jsonl"
    asleep.kill()
    asleep.wait()
    shown, errors = (second := launch(study, "work")).communicate(timeout=60)
    assert (second.returncode, shown) == (1, "")
    assert "local jobs of an earlier launch, which was killed, still work on this study: process(es)" in errors
    for process in journal.read(path)[0].processes:
        os.killpg(int(process.partition("@")[0]), signal.SIGKILL)
    wait_for(lambda: not processes_of(study), within_s=10, what="no process of the study")
    _, errors = (third := launch(study, "work")).communicate(timeout=60)
    assert third.returncode == 0, errors
    assert set(journal.endings(path).values()) == {"done"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_journal_says_of_jobs_that_ended_with_their_launcher_that_they_were_stopped(
    number: int, study: Path, asleep: subprocess.Popen[str]
) -> None:
    os.killpg(asleep.pid, number)
    asleep.communicate(timeout=60)
    assert set(journal.endings(study / "jobs.jsonl").values()) == {"stopped"}
