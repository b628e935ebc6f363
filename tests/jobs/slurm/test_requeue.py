"""The batch script, run by bash with stand-ins for Slurm's commands, queues its own job again where it should."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.slurm.requeue import KILLS_FORGIVEN, lines_after_the_task, lines_before_the_task

HUNG = "trap '' USR2 TERM; while :; do sleep 0.1; done"


@dataclass
class Batch:
    """A batch script and what stands in for Slurm."""

    folder: Path
    state: str = "RUNNING"
    """What squeue says; empty where it fails."""
    scontrol: str = "true"
    """What scontrol does after it has written down what it was asked for."""

    @property
    def asked(self) -> list[str]:
        """What scontrol was asked for."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text()

    def start(
        self,
        ranks: str,
        *,
        is_array: bool = False,
        timeout_min: int = 600,
        setup: tuple[str, ...] = (),
        delay_s: int = 40,
    ) -> "subprocess.Popen[bytes]":
        """Run the script with these lines of bash in the place of srun and the ranks."""
        self._stand_in("squeue", f"echo {self.state}" if self.state else "exit 1")
        self._stand_in("scontrol", f'echo "$@" >>{self.folder}/asked; {self.scontrol}')
        # What sleeps after the job was queued again is ended by Slurm, and what waits for squeue does not wait here.
        self._stand_in("sleep", 'case $1 in 60 | 5) exit 0 ;; *) exec /bin/sleep "$1" ;; esac')
        (self.folder / "ranks").write_text(ranks)
        after = lines_after_the_task(
            self.folder, is_array=is_array, timeout_min=timeout_min, signal_delay_s=delay_s, max_timeouts=2
        )
        lines = [*lines_before_the_task(), *setup, f"bash {self.folder}/ranks &", *after]
        (self.folder / "script").write_text("\n".join(lines))
        environment = os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
        environment |= {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3", "SQUEUE_STATES": "PENDING"}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(["bash", self.folder / "script"], stdout=log, stderr=log, env=environment)

    def run(self, ranks: str, *, is_array: bool = False, timeout_min: int = 600) -> int:
        """Its exit code."""
        return self.start(ranks, is_array=is_array, timeout_min=timeout_min).wait(timeout=60)

    def _stand_in(self, name: str, line: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(0o755)


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


def tell_once_ready(batch: Batch, process: "subprocess.Popen[bytes]", number: signal.Signals) -> int:
    """Send a signal to the script alone, as Slurm does, once its ranks are at work; the exit code."""
    deadline_s = time.monotonic() + 30
    while not (batch.folder / "ready").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    process.send_signal(number)
    return process.wait(timeout=60)


def ready(batch: Batch, then: str) -> str:
    return f"touch {batch.folder}/ready; {then}"


@pytest.mark.parametrize("code", [0, 1, 2, 127, 129, 130])
def test_ranks_that_end_by_themselves_or_are_interrupted_end_the_job(code: int, batch: Batch) -> None:
    assert batch.run(f"exit {code}") == code
    assert batch.asked == []


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (140, "it was warned that its time ends"),
        (200, "it was told to end"),
        (143, "a process was killed (exit code 143)"),
        (137, "a process was killed (exit code 137)"),
        (139, "a process was killed (exit code 139)"),
        (134, "a process was killed (exit code 134)"),
    ],
)
def test_the_job_of_ranks_that_saved_or_were_killed_is_queued_again(code: int, why: str, batch: Batch) -> None:
    assert batch.run(f"exit {code}") == code
    assert batch.asked == ["requeue 7"], "and not the element whose variables are there, too"
    assert f"{why}: the job is queued again" in batch.said


def test_an_element_is_queued_again_by_its_number_in_the_array(batch: Batch) -> None:
    assert batch.run("exit 137", is_array=True) == 137
    assert batch.asked == ["requeue 5_3"], "the job's own number may be that of the whole array"


@pytest.mark.parametrize(
    ("state", "said"), [("COMPLETING", "COMPLETING"), ("CANCELLED", "CANCELLED"), ("", "unknown")]
)
@pytest.mark.parametrize("code", [137, 140, 143])
def test_a_job_that_somebody_ended_is_not_queued_again(state: str, said: str, code: int, batch: Batch) -> None:
    batch.state = state
    assert batch.run(f"exit {code}") == code
    assert batch.asked == []
    assert f"not queued again: its state is {said}, not RUNNING" in batch.said


def test_kills_are_forgiven_a_few_times(batch: Batch) -> None:
    for _ in range(KILLS_FORGIVEN + 2):
        batch.run("exit 137")
    assert len(batch.asked) == KILLS_FORGIVEN
    assert f"more often than {KILLS_FORGIVEN} times: not queued again" in batch.said
    assert len((batch.folder / "7.killed").read_text().splitlines()) == KILLS_FORGIVEN + 2


def test_time_limits_are_counted_and_preemptions_are_not(batch: Batch) -> None:
    for _ in range(4):
        batch.run("exit 140")
    assert len(batch.asked) == 4
    for _ in range(4):
        batch.run("exit 140", timeout_min=1)
    assert len(batch.asked) == 4 + 2
    assert "it met its time limit, more often than 2 times: not queued again" in batch.said


def test_the_warning_reaches_the_ranks_and_these_have_time_to_save(batch: Batch) -> None:
    ranks = ready(batch, "trap 'sleep 0.5; echo saved; exit 140' USR2; while :; do sleep 0.05; done")
    assert tell_once_ready(batch, batch.start(ranks), signal.SIGUSR2) == 140
    assert "saved" in batch.said
    assert "given up" not in batch.said
    assert batch.asked == ["requeue 7"]


@pytest.mark.parametrize("code", [0, 1])
def test_ranks_that_end_well_or_with_an_error_after_the_warning_are_not_queued_again(code: int, batch: Batch) -> None:
    ranks = ready(batch, f"trap 'exit {code}' USR2; while :; do sleep 0.05; done")
    assert tell_once_ready(batch, batch.start(ranks), signal.SIGUSR2) == code
    assert batch.asked == []


def test_a_rank_that_hangs_is_given_up_before_the_time_ends(batch: Batch) -> None:
    begin_s = time.monotonic()
    assert tell_once_ready(batch, batch.start(ready(batch, HUNG), delay_s=4), signal.SIGUSR2) == 137
    assert 2.5 < time.monotonic() - begin_s < 30
    assert "the ranks have not ended within 3 s after the warning: they are given up" in batch.said
    assert "it was warned that its time ends: the job is queued again" in batch.said
    assert batch.asked == ["requeue 7"]


def test_a_batch_script_that_is_told_to_end_tells_its_ranks(batch: Batch) -> None:
    ranks = ready(batch, "trap 'exit 143' TERM; while :; do sleep 0.05; done")
    assert tell_once_ready(batch, batch.start(ranks), signal.SIGTERM) == 143
    assert batch.asked == ["requeue 7"]


def test_a_warning_that_comes_before_there_are_ranks_is_kept_for_them(batch: Batch) -> None:
    setup = (f"touch {batch.folder}/ready", "/bin/sleep 1")
    process = batch.start("trap 'echo heard; exit 140' USR2; while :; do sleep 0.05; done", setup=setup)
    assert tell_once_ready(batch, process, signal.SIGUSR2) == 140
    assert "heard" in batch.said
    assert batch.asked == ["requeue 7"]


def test_setup_lines_that_make_bash_strict_change_nothing(batch: Batch) -> None:
    assert batch.start("exit 137", setup=("set -euo pipefail",)).wait(timeout=60) == 137
    assert batch.asked == ["requeue 7"]


def test_a_controller_that_is_away_is_asked_again(batch: Batch) -> None:
    batch.scontrol = f'[ "$(wc -l <{batch.folder}/asked)" -gt 2 ]'
    assert batch.run("exit 143") == 143
    assert batch.asked == ["requeue 7"] * 3
