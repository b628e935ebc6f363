"""The one task that submitit runs, whatever the stage."""

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any

import submitit

from bccdist.errors import BccdistError


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
    threads: int | None = None
    """Of each process; None is what Slurm gave it."""

    def __call__(self) -> None:
        """Run it; an error that the user can act on is printed as one message, without a traceback."""
        _limit_threads(self.threads or os.environ.get("SLURM_CPUS_PER_TASK"))
        module, function = self.function.split(":")
        try:
            getattr(importlib.import_module(module), function)(*self.arguments)
        except BccdistError as error:
            print(f"ERROR in {self.name}: {error}", flush=True)
            sys.exit(1)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit queues again after a preemption or a time limit."""
        return submitit.helpers.DelayedSubmission(self)


def _limit_threads(num: int | str | None) -> None:
    """Before numpy, OpenCV or torch are imported: processes that share cores must not each use all of them."""
    if num is not None:
        os.environ.update(OMP_NUM_THREADS=str(num), OPENCV_FOR_THREADS_NUM=str(num))
