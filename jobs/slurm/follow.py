"""Local jobs: started by submitit, watched from the terminal that submitted them, and ended with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import submitit

from bccdist.errors import StageFailedError
from bccdist.log import LOG
from jobs.slurm.snapshot import Snapshot
from jobs.slurm.task import interruption_of

_POLL_S = 0.5
_PATIENCE_S = 600.0
"""How long an interrupted job has to end by itself: a training does the step at hand first, and saves."""
_SAID_AFTER_S = 1.0
"""When we say that an interrupted job is waited for."""
_KILLED_WITHIN_S = 10.0
"""How long a job that was killed may take to go."""
_RESULT_WITHIN_S = 1
"""When a job of this machine that has ended has its result, if it has one."""


class GroupExecutor(submitit.LocalExecutor):
    """Submitit's local executor, with a process group for each job and all that it starts.

    A terminal sends Ctrl-C to everything in it: jobs would end while they are being ended, with submitit's traceback.
    So its signals reach the launcher alone, which ends the groups.
    """

    def __init__(self, folder: Path, max_num_timeout: int, *, python: str | None, code: Snapshot) -> None:
        """Nothing is started yet."""
        super().__init__(folder, max_num_timeout=max_num_timeout, python=python)
        self._code = code
        self.started: list[submitit.Job[None]] = []
        """What was started so far, also where starting the next one is interrupted."""

    @property
    def _submitit_command_str(self) -> str:
        return self._code.command(self.python, self.folder)

    def _submit_command(self, command: str) -> Any:
        # Submitit's call of Popen has no options for this. What is ignored here stays ignored in the process between
        # us and the tasks; a task listens again as soon as it runs (jobs.slurm.task).
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with mock.patch.object(subprocess, "Popen", partial(subprocess.Popen, process_group=0)):
                job: submitit.Job[None] = super()._submit_command(command)
                for rank in range(job.num_tasks):
                    # Else one that ended without a result is waited for, as if a distant disk could still bring it.
                    job.task(rank)._results_timeout_s = _RESULT_WITHIN_S  # noqa: SLF001 - no public way
                self.started.append(job)
                return job
        finally:
            signal.signal(signal.SIGINT, before)


def follow(stage: str, jobs: Sequence[submitit.Job[None]], logs: Path) -> None:
    """Stay until local jobs are done, showing what they print; within `ended_with_us`.

    Raises:
        StageFailedError: a job failed.
    """
    LOG.info(f"{stage}: {len(jobs)} local job(s); logs in {logs}")
    _echo_until_done(stage, jobs)
    _refuse_failed(stage, jobs)


@contextmanager
def ended_with_us(jobs: Sequence[submitit.Job[None]]) -> Iterator[None]:
    """End the jobs with the launcher: at Ctrl-C, when it is told to end, when its terminal or its reader goes away."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:  # not under nohup, which lets a launch outlive its terminal
            signal.signal(number, _exit)
    try:
        yield
    except BaseException:
        _end(jobs)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as a signal's handler is called
    sys.exit(128 + number)


def _end(jobs: Sequence[submitit.Job[None]]) -> None:
    """Interrupt the jobs, so that they can save and tidy up; then kill what is left of them and of what they started.

    A second Ctrl-C kills at once. TERM and HUP do not: a terminal that closes sends both.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(KeyboardInterrupt):
        for job in jobs:
            # Before the signal, which a task that does not listen yet will not hear.
            with suppress(OSError):
                interruption_of(job.paths.folder, job.job_id).touch()
        _send(jobs, signal.SIGINT)
        if not _are_done(jobs, within_s=_SAID_AFTER_S):
            LOG.warning("the jobs save what they have and end; Ctrl-C again ends them at once")
            _are_done(jobs, within_s=_PATIENCE_S)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    _send(jobs, signal.SIGKILL)
    _are_done(jobs, within_s=_KILLED_WITHIN_S)
    signal.signal(signal.SIGINT, before)


def _send(jobs: Sequence[submitit.Job[None]], number: signal.Signals) -> None:
    for job in jobs:
        with suppress(ProcessLookupError):
            os.killpg(int(job.job_id), number)


def _are_done(jobs: Sequence[submitit.Job[None]], *, within_s: float) -> bool:
    """Whether all of them end within a time."""
    deadline_s = time.monotonic() + within_s
    while not all(job.done() for job in jobs):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S / 10)
    return True


def _logs(job: submitit.Job[None]) -> list[Path]:
    """The logs of a job's ranks, the first rank's first."""
    return [Path(job.task(rank).paths.stdout) for rank in range(job.num_tasks)]


def _echo_until_done(stage: str, jobs: Sequence[submitit.Job[None]]) -> None:
    shown = [0] * len(jobs)
    running = True
    while running:
        running = not all(job.done() for job in jobs)
        for number, job in enumerate(jobs):
            label = stage if len(jobs) == 1 else f"{stage} {number + 1}/{len(jobs)}"
            shown[number] += _echo_new_lines(_logs(job)[0], shown[number], label, everything=not running)
        if running:
            time.sleep(_POLL_S)


def _echo_new_lines(log: Path, offset: int, label: str, *, everything: bool) -> int:
    """Print whole new lines; returns how many bytes were shown."""
    if not log.exists():
        return 0
    with log.open("rb") as file:
        file.seek(offset)
        new = file.read()
    if not everything:
        new = new[: new.rfind(b"\n") + 1]
    for line in new.decode(errors="replace").splitlines():
        if not line.startswith("submitit "):
            print(f"[{label}] {line}", flush=True)
    return len(new)


def _refuse_failed(stage: str, jobs: Sequence[submitit.Job[None]]) -> None:
    failed = [job for job in jobs if job.exception() is not None]
    for job in failed:
        for log in _logs(job)[1:]:
            _echo_errors(log, stage)
    if failed:
        logs = ", ".join(str(_logs(job)[0]) for job in failed)
        raise StageFailedError(f"{stage}: {len(failed)} of {len(jobs)} job(s) failed; see above, and the logs: {logs}")


def _echo_errors(log: Path, stage: str) -> None:
    """The last words of a rank that is not shown while it runs."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    for line in [line for line in lines if "error" in line.lower()][-3:]:
        print(f"[{stage}, {log.name}] {line}", flush=True)
