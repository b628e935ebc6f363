"""What is asked of Slurm, beside submitting: what is queued, what became of jobs, how large an array may be."""

import getpass
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bccdist.errors import ClusterError
from bccdist.log import LOG
from jobs.slurm import commands
from jobs.slurm.commands import SlurmCommandError

PATIENCE_S = 300.0
"""How long a controller may be away, as during its restart, before a command is given up."""
_LET_GO = re.compile(r"^[0-9_,\[\]-]+: (No error|Job has already finished)$")
"""What is said of an element of a job that was let go, or had ended."""
_PAUSE_S = 5.0
_TRANSIENT = re.compile(
    r"unable to contact slurm controller|timed out|connection (refused|failure|reset)|temporarily (un|un-)?available|"
    r"temporarily unable|try again|communication",
    re.IGNORECASE,
)
_DEFAULT_MAX_ARRAY_SIZE = 1001


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job, or an element of an array, that waits or runs."""

    job_id: str
    """Number of the job, or of the whole array."""
    element: int | None
    state: str
    """PENDING, RUNNING, ..."""
    reason: str
    """Why it waits."""

    @property
    def is_held(self) -> bool:
        """Whether it waits for a person, as after a launch that failed."""
        return self.state == "PENDING" and "held" in self.reason.lower()


@dataclass(frozen=True, kw_only=True)
class EndedJob:
    """What the accounting says of a job, or of an element of an array."""

    job_id: str
    element: int | None
    state: str
    """COMPLETED, FAILED, CANCELLED, TIMEOUT, NODE_FAIL, ..."""
    exit_code: str
    elapsed_s: int


def is_transient(message: str) -> bool:
    """Whether what a command of Slurm said is likely to pass."""
    return _TRANSIENT.search(message) is not None


def advice(message: str) -> str:
    """What to do about what a command of Slurm said, where that is known."""
    if "configuration source" in message:
        return "\nSlurm's commands are here but no configuration: set SLURM_CONF, or give --cluster local"
    return ""


def queued_jobs(*, patience_s: float = PATIENCE_S) -> list[QueuedJob]:
    """All jobs of this user that wait or run; each element of an array for itself.

    Raises:
        ClusterError: the controller does not answer.
    """
    words = ["squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%F|%K|%T|%r"]
    return [_queued(line) for line in _ask(words, patience_s=patience_s).splitlines()]


def _queued(line: str) -> QueuedJob:
    job_id, element, state, reason = line.split("|", maxsplit=3)
    return QueuedJob(
        job_id=job_id, element=int(element) if element.isdecimal() else None, state=state, reason=reason.strip("() ")
    )


def ended_jobs(job_ids: Sequence[str]) -> list[EndedJob] | None:
    """What the accounting says of some jobs, those that wait or run left out; None where there is no accounting."""
    if not job_ids:
        return []
    words = ["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={','.join(job_ids)}"]
    try:
        told = _ask([*words, "--format=JobID,State,ExitCode,ElapsedRaw"], patience_s=0.0)
    except ClusterError:
        return None
    found = [_ended(line) for line in told.splitlines()]
    return [job for job in found if job is not None and job.state not in {"PENDING", "RUNNING", "REQUEUED"}]


def _ended(line: str) -> EndedJob | None:
    job_id, state, exit_code, elapsed = line.split("|")
    main, _, element = job_id.partition("_")
    if element and not element.isdecimal():  # elements that wait, as 12_[3-9]
        return None
    return EndedJob(
        job_id=main,
        element=int(element) if element else None,
        state=state.split()[0],  # without who cancelled it
        exit_code=exit_code,
        elapsed_s=int(elapsed or 0),
    )


def max_array_size() -> int:
    """The most elements that an array may have here."""
    try:
        told = _ask(["scontrol", "show", "config"], patience_s=0.0)
    except ClusterError:
        return _DEFAULT_MAX_ARRAY_SIZE
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", told, re.MULTILINE)
    return int(found[1]) if found else _DEFAULT_MAX_ARRAY_SIZE


def jobs_with_comment(comment: str) -> list[str]:
    """The ids of the waiting or running jobs that were submitted with this comment."""
    words = ["squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%F|%k"]
    pairs = [line.split("|", maxsplit=1) for line in _ask(words, patience_s=PATIENCE_S).splitlines()]
    return sorted({job_id for job_id, said in pairs if said == comment})


def cancel(job_ids: Sequence[str]) -> None:
    """End jobs.

    Raises:
        ClusterError: the controller does not answer.
    """
    if job_ids:
        _ask(["scancel", *job_ids], patience_s=PATIENCE_S)


def release(job_ids: Sequence[str]) -> None:
    """Let held jobs go.

    Raises:
        ClusterError: the controller does not answer, or they may not be released.
    """
    try:
        _ask(["scontrol", "release", ",".join(job_ids)], patience_s=PATIENCE_S)
    except ClusterError as error:
        # Of an array of which some elements have ended Slurm lets the others go, and calls that a failure.
        if not all(_LET_GO.search(line) for line in str(error).partition(" failed: ")[2].splitlines() or [""]):
            raise


def _ask(words: Sequence[str], *, patience_s: float) -> str:
    """What a command says; one that fails for a reason that passes is repeated."""
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            return commands.ask(*words)
        except SlurmCommandError as error:
            passes = not error.in_time or is_transient(error.said)
            if not passes or time.monotonic() > deadline_s:
                raise ClusterError(f"{error}{advice(error.said)}") from error
            LOG.warning(f"Slurm does not answer ({str(error).splitlines()[-1]}); trying again")
        time.sleep(_PAUSE_S)
