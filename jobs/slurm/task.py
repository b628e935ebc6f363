"""The one task that submitit runs, whatever the stage."""

import importlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from bccdist.errors import BccdistError
from bccdist.log import LOG, set_up_logging
from jobs.watching.usage import measured

_TERMINATED = 128 + signal.SIGTERM
"""Exit code of a stage that saved its work because it was told to end."""


@dataclass(frozen=True, kw_only=True)
class StageTask:
    """A function by its name, so that the login node never imports what the job needs.

    All stages go on from what is on disk, so a requeued task is simply run again.
    """

    name: str
    """Of the job, as the scheduler shows it."""
    function: str
    """module:function."""
    arguments: tuple[Any, ...]
    num_slides: int | None = None
    """That it works on, where it does so slide by slide."""
    threads: int | None = None
    """Of each process; None is what Slurm gave it."""

    def __call__(self) -> None:
        """Run it; an error that the user can act on is told as one message, without a traceback."""
        set_up_logging()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what started a local task ignores it
        _limit_threads(self.threads or os.environ.get("SLURM_CPUS_PER_TASK"))
        if scratch := os.environ.get("TMPDIR"):
            Path(scratch).mkdir(parents=True, exist_ok=True)  # the batch script made it on the first node alone
        print(f"code {os.environ.get('BCCDIST_CODE', 'not recorded')}", flush=True)
        module, function = self.function.split(":")
        try:
            with measured(self.name, num_slides=self.num_slides):
                getattr(importlib.import_module(module), function)(*self.arguments)
        except BccdistError as error:
            LOG.error(f"{self.name}: {error}")
            sys.exit(1)
        except SystemExit as end:
            if end.code == _TERMINATED:
                queue_again()
            raise

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit queues again after a preemption or a time limit."""
        return submitit.helpers.DelayedSubmission(self)


def queue_again() -> None:
    """Queue this Slurm job again, if it was told to end by a preemption.

    Sites that announce a preemption by TERM alone take a job that obeys, and ends before its time, for done. A job
    that was cancelled does not count as running anymore, and is left alone.
    """
    job_id = os.environ.get("SLURM_JOB_ID")
    if job_id is None or os.environ.get("SLURM_PROCID", "0") != "0":
        return
    asked = ["squeue", "--noheader", f"--job={job_id}", "--format=%T"]
    state = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    if state == "RUNNING":
        LOG.warning(f"job {job_id} was told to end while it ran: it is queued again")
        subprocess.run(["scontrol", "requeue", job_id], check=False)


def _limit_threads(num: int | str | None) -> None:
    """Before numpy, OpenCV or torch are imported: processes that share cores must not each use all of them."""
    if num is not None:
        os.environ.update(OMP_NUM_THREADS=str(num), OPENCV_FOR_THREADS_NUM=str(num))
