"""What is asked of Slurm, beside submitting: what is queued, what became of jobs, how large an array may be."""

import os
import re
import time
from collections.abc import Sequence

from bccdist.errors import ClusterError
from bccdist.log import LOG
from jobs.slurm import commands
from jobs.slurm.answers import (
    ACCOUNTING_FORMAT,
    QUEUE_FORMAT,
    Accounting,
    Queue,
    is_readable,
    read_accounting,
    read_queue,
)
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
LIMIT_S = 10.0
"""How long squeue or sacct may take for a status, which ends within 30 s whatever they do."""
_SHORT_LIMIT_S = 2.0
"""How long a question may take whose answer only helps."""
_ALL_GONE = re.compile(r"invalid job id", re.IGNORECASE)
"""What squeue says where it is asked for one job alone, and that has been gone for some minutes."""
_JSON_SINCE = (23, 2)


def is_transient(message: str) -> bool:
    """Whether what a command of Slurm said is likely to pass."""
    return _TRANSIENT.search(message) is not None


def advice(message: str) -> str:
    """What to do about what a command of Slurm said, where that is known."""
    if "configuration source" in message:
        return "\nSlurm's commands are here but no configuration: set SLURM_CONF, or give --cluster local"
    return ""


def queued_jobs(job_ids: Sequence[str] | None = None, *, patience_s: float = PATIENCE_S) -> Queue:
    """The jobs that wait or run; each element of an array for itself. At most two calls of squeue.

    JSON is asked for first where Slurm offers it and heeds what is asked (before 23.02 it lists the whole cluster),
    else lines of fixed columns; the other form is asked for where the first was not understood.

    Args:
        job_ids: of whomever they are; None is all jobs of this user.
        patience_s: how long a controller may be away; 0 is asked once.

    Raises:
        ClusterError: the controller does not answer.
    """
    if job_ids is not None and not job_ids:
        return Queue()
    which = f"--user={os.getuid()}" if job_ids is None else f"--jobs={','.join(job_ids)}"
    forms = [["--noheader", "--array", f"--format={QUEUE_FORMAT}"], ["--json"]]
    if _heeds_filters_with_json():
        forms.reverse()
    try:
        first = read_queue(_ask(["squeue", which, *forms[0]], patience_s=patience_s, limit_s=LIMIT_S))
        refusal = None
    except ClusterError as error:
        if _ALL_GONE.search(str(error)):
            return Queue()
        if _passes(error.__cause__):  # the other form would find nobody either
            raise
        first, refusal = Queue(), error
    if refusal is None and is_readable(first):
        return first
    try:
        second = read_queue(_ask(["squeue", which, *forms[1]], patience_s=0.0, limit_s=_SHORT_LIMIT_S))
    except ClusterError as error:
        if refusal is not None:
            raise refusal from error
        return first
    return second if is_readable(second) or refusal is not None else first


def _heeds_filters_with_json() -> bool:
    try:
        told = commands.ask("scontrol", "--version", limit_s=_SHORT_LIMIT_S)
    except ClusterError:
        return False
    found = re.search(r"\b(\d+)\.(\d+)", told)
    return found is not None and (int(found[1]), int(found[2])) >= _JSON_SINCE


def ended_jobs(job_ids: Sequence[str]) -> Accounting | None:
    """What the accounting says of some jobs, those that wait or run left out; None where there is no accounting."""
    if not job_ids:
        return Accounting()
    words = ["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={','.join(job_ids)}"]
    try:
        told = _ask([*words, f"--format={ACCOUNTING_FORMAT}"], patience_s=0.0, limit_s=LIMIT_S)
    except ClusterError:
        return None
    return read_accounting(told)


def hides_jobs_of_others() -> bool:
    """Whether this site shows nobody the jobs of others, so that one that is not seen may still be there."""
    try:
        told = commands.ask("scontrol", "show", "config", limit_s=_SHORT_LIMIT_S)
    except ClusterError:
        return False
    found = re.search(r"^PrivateData\s*=\s*(.*)$", told, re.MULTILINE)
    return found is not None and "jobs" in found[1].split(",")


def max_array_size() -> int:
    """The most elements that an array may have here."""
    try:
        told = _ask(["scontrol", "show", "config"], patience_s=0.0)
    except ClusterError:
        return _DEFAULT_MAX_ARRAY_SIZE
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", told, re.MULTILINE)
    return int(found[1]) if found else _DEFAULT_MAX_ARRAY_SIZE


def jobs_with_comment(comment: str) -> list[str]:
    """The ids of this user's waiting or running jobs that were submitted with this comment."""
    return sorted({job.job_id for job in queued_jobs().jobs if comment in job.comment})


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


def _ask(words: Sequence[str], *, patience_s: float, limit_s: float = commands.LIMIT_S) -> str:
    """What a command says; one that fails for a reason that passes is repeated."""
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            return commands.ask(*words, limit_s=limit_s)
        except SlurmCommandError as error:
            if not _passes(error) or time.monotonic() > deadline_s:
                raise ClusterError(f"{error}{advice(error.said)}") from error
            LOG.warning(f"Slurm does not answer ({str(error).splitlines()[-1]}); trying again")
        time.sleep(_PAUSE_S)


def _passes(error: BaseException | None) -> bool:
    """Whether a command failed for a reason that is likely to pass."""
    return isinstance(error, SlurmCommandError) and (not error.in_time or is_transient(error.said))
