"""Watch jobs from the terminal that submitted them."""

import time
from collections.abc import Sequence
from pathlib import Path

import submitit

from bccdist.errors import StageFailedError

_POLL_S = 0.5


def follow(stage: str, jobs: Sequence[submitit.Job[None]], logs: Path) -> None:
    """Stay until local jobs are done, showing what they print.

    Raises:
        StageFailedError: a job failed.
    """
    print(f"{stage}: {len(jobs)} local job(s); logs in {logs}", flush=True)
    try:
        _echo_until_done(stage, jobs)
    except KeyboardInterrupt:
        for job in jobs:
            job.cancel()
        raise
    _refuse_failed(stage, jobs)


def _logs(job: submitit.Job[None]) -> list[Path]:
    """One per rank, the first rank's first."""
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
    for line in [line for line in lines if "rror" in line][-3:]:
        print(f"[{stage}, {log.name}] {line}", flush=True)
