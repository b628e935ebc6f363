"""The one task that submitit runs, whatever the stage."""

import importlib
import inspect
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import submitit

from bccdist.command import INTERRUPTED
from bccdist.errors import BccdistError
from bccdist.installed import imported_code
from bccdist.log import LOG, set_up_logging
from bccdist.ranks import Ranks, ranks_of_launch
from bccdist.surroundings import advice_on, settle
from bccdist.usage import Fields, Watts, measured
from jobs.slurm.requeue import SAVED, WARNED


@dataclass(frozen=True, kw_only=True)
class Launched:
    """What a launcher sends a task out as, which no variable of a shell can change."""

    cluster: Literal["slurm", "local"]
    nodes: int
    ranks_per_node: int

    def ranks(self) -> Ranks:
        """This process among those of the launch.

        Raises:
            DistributedError: the cluster does not say which of them it is, or started another number of them.
        """
        return ranks_of_launch(
            self.cluster, nodes=self.nodes, ranks_per_node=self.ranks_per_node, environment=os.environ
        )


@dataclass(frozen=True, kw_only=True)
class StageTask:
    """A function by its name, so that the login node never imports what the job needs.

    All stages go on from what is on disk, so a requeued task is simply run again.
    """

    name: str
    """Name of the stage, as the scheduler shows it."""
    stage: Fields
    """What names the stage in records."""
    function: str
    """Function to call, as module:function."""
    values: Mapping[str, Any]
    """What it is called with, by keyword; what it has no parameter for is left out."""
    num_slides: int | None = None
    """Number of slides that it works on, where it does so slide by slide."""
    watts: Watts = field(default_factory=Watts)
    """Power of the machines that it runs on, for what it took."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment; variables of the job may stand in their values."""
    threads: int | None = None
    """Threads of each process; None is as many cores as Slurm gave it."""
    launched: Launched | None = None
    """What it was sent out as; None where it is called at once, by the process that made it."""

    def __call__(self) -> None:
        """Run it; an error that the user can act on is told as one message, without a traceback."""
        settle()
        set_up_logging()
        self._set_handlers()
        self._end_if_interrupted_before()
        _limit_threads(self.threads or os.environ.get("SLURM_CPUS_PER_TASK"))
        if scratch := os.environ.get("TMPDIR"):
            _make(Path(scratch))  # the batch script made it on the first node alone
        os.environ.update({name: os.path.expandvars(value) for name, value in self.variables.items()})
        LOG.info(f"code {imported_code() or 'not recorded'}")
        try:
            # The mark of a process that called us is not ours.
            os.environ.update((self.launched.ranks() if self.launched else Ranks()).as_mark())
            with measured(self.stage, self.values["study_root"], num_slides=self.num_slides, watts=self.watts):
                module, name = self.function.split(":")
                function = getattr(importlib.import_module(module), name)
                taken = inspect.signature(function).parameters
                function(**{name: value for name, value in self.values.items() if name in taken})
        except BccdistError as error:
            LOG.error(f"{self.name}: {error}")
            sys.exit(1)
        except OSError as error:
            if (advice := advice_on(error)) is None:
                raise
            LOG.error(f"{self.name}: {error}; {advice}")
            sys.exit(1)
        except SystemExit as end:
            if end.code == 128 + signal.SIGTERM and self._is_on_slurm:
                sys.exit(SAVED)
            raise
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)  # its traceback helps nobody

    @property
    def _is_on_slurm(self) -> bool:
        return self.launched is not None and self.launched.cluster == "slurm"

    def _set_handlers(self) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what started a local task ignores it
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not under nohup
            signal.signal(signal.SIGHUP, _end_by_hangup)
        if self._is_on_slurm:
            # Submitit's handler would call scontrol, which a container may lack.
            signal.signal(signal.SIGUSR2, _end_warned)

    def _end_if_interrupted_before(self) -> None:
        """End where the launcher was interrupted before this process listened.

        Raises:
            SystemExit: it was.
        """
        logs, job_id = os.environ.get("SUBMITIT_FOLDER"), os.environ.get("SUBMITIT_LOCAL_JOB_ID")
        is_local = self.launched is not None and not self._is_on_slurm
        if is_local and logs and job_id and interruption_of(Path(logs), job_id).exists():
            sys.exit(INTERRUPTED)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit starts again after a local job's time limit; on Slurm the batch script queues it again."""
        return submitit.helpers.DelayedSubmission(self)


def interruption_of(logs: Path, job_id: str) -> Path:
    """The file by which a launcher that is interrupted tells the tasks of a local job that do not listen yet."""
    return logs / f"{job_id}_interrupted"


def _make(scratch: Path) -> None:
    """Without it Python takes another folder for temporary files."""
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        LOG.warning(f"TMPDIR is {scratch}, which cannot be made ({error}); another folder is used for temporary files")


def _end_warned(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as a signal's handler is called
    sys.exit(WARNED)


def _end_by_hangup(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as a signal's handler is called
    sys.exit(128 + signal.SIGHUP)


def _limit_threads(num: int | str | None) -> None:
    """Before numpy, OpenCV or torch are imported: processes that share cores must not each use all of them."""
    if num is not None:
        os.environ.update(OMP_NUM_THREADS=str(num), OPENCV_FOR_THREADS_NUM=str(num))
