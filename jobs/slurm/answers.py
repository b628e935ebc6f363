"""What Slurm's commands answer, read line by line or as JSON: pure functions of text, for Slurm 22.05 to 25.x.

Sites have wrappers that greet, plugins that change columns, and versions that name and shape things anew. What is not
understood is left out and kept word for word, so that whoever asks can say so, and a job that may be meant by it is
not taken for gone.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

SEPARATOR = "|@|"
"""Between the columns that are asked of squeue: names and comments of other people's jobs may hold a mere `|`."""
QUEUE_FORMAT = SEPARATOR.join(("%F", "%K", "%T", "%u", "%V", "%Z", "%r", "%j", "%k"))
"""Array or job, element, state, user, time of submission, working folder, reason, name, comment."""
ACCOUNTING_FORMAT = "JobID,State,ExitCode,ElapsedRaw,User,Submit,JobName,ConsumedEnergyRaw"
UNKNOWN = "UNKNOWN"
"""The state of a job of which Slurm says that it is there, and not what it does."""
_NOTHING = {"", "(null)", "N/A", "None", "Unknown", "NULL"}
_ENDED = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "LAUNCH_FAILED"),
}
_GOES_ON = {"COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "CONFIGURING", "STAGE_OUT"}
"""States that, beside one of an end, say that the job is still there."""
_LIVE = _GOES_ON | {
    *("PENDING", "RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "RESV_DEL_HOLD", "POWER_UP_NODE"),
}
_JOB_ID = re.compile(r"[0-9]+")
_NO_VALUE = 0xFFFFFFFFFFFFFFF0
"""Numbers from here on stand for none in Slurm (NO_VAL64, INFINITE64)."""


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job, or an element of an array, that waits or runs."""

    job_id: str
    """Number of the job, or of the whole array."""
    element: int | None
    state: str
    """PENDING, RUNNING, ...; `UNKNOWN` where Slurm does not say it."""
    reason: str
    """Why it waits."""
    user: str = ""
    """Who submitted it; this and what follows is empty where Slurm does not say it."""
    name: str = ""
    comment: str = ""
    folder: str = ""
    """Working folder."""
    submitted_s: float | None = None
    """Seconds since 1970; a job that is queued again gets a later time."""

    @property
    def is_held(self) -> bool:
        """Whether it waits for a person, as after a launch that failed."""
        return self.state in {"PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT"} and (
            "held" in self.reason.lower() or self.state != "PENDING"
        )


@dataclass(frozen=True, kw_only=True)
class EndedJob:
    """What the accounting says of a job, or of an element of an array."""

    job_id: str
    element: int | None
    state: str
    """COMPLETED, FAILED, CANCELLED, TIMEOUT, NODE_FAIL, ..."""
    exit_code: str
    elapsed_s: int
    user: str = ""
    name: str = ""
    submitted_s: float | None = None
    comment: str = ""
    folder: str = ""
    energy_j: float | None = None
    """Energy that it took, in joules; None where the site measures none."""


@dataclass(frozen=True)
class Queue:
    """What the queue holds, as far as its answer was understood."""

    jobs: tuple[QueuedJob, ...] = ()
    unread: tuple[str, ...] = ()
    """What was not understood, word for word."""


@dataclass(frozen=True)
class Accounting:
    """What the accounting says of jobs that have ended, as far as its answer was understood."""

    jobs: tuple[EndedJob, ...] = ()
    unread: tuple[str, ...] = ()


def read_queue(text: str) -> Queue:
    """The answer of squeue, in whichever form it came: JSON, or lines in `QUEUE_FORMAT`."""
    if (document := _json_in(text)) is not None:
        return _read_queue_json(document)
    jobs, unread = [], []
    for line in text.splitlines():
        if not line.strip():
            continue
        job = _queued(line.split(SEPARATOR))
        if job is None:
            unread.append(line.strip())
        elif job.state not in _ENDED:
            jobs.append(job)
    return Queue(tuple(jobs), tuple(unread))


def is_readable(queue: Queue) -> bool:
    """Whether an answer was one at all: some jobs, or nothing that is not understood."""
    return bool(queue.jobs) or not queue.unread


def _queued(columns: Sequence[str]) -> QueuedJob | None:
    if len(columns) < 9 or not _JOB_ID.fullmatch(columns[0].strip()):
        return None
    job_id, element, state, user, submitted, folder, _, name = map(_told, columns[:8])
    return QueuedJob(
        job_id=job_id,
        element=int(element) if element.isdecimal() else None,
        state=_plain_state(state),
        reason=columns[6].strip("() "),
        user=user,
        name=name,
        comment=_told(SEPARATOR.join(columns[8:])),
        folder=folder,
        submitted_s=_seconds(submitted),
    )


def _json_in(text: str) -> dict[str, Any] | None:
    """The first JSON object that begins a line, as a site's wrapper may greet before it."""
    for brace in re.finditer(r"^\s*\{", text, re.MULTILINE):
        with suppress(ValueError):
            found, _ = json.JSONDecoder().raw_decode(text, brace.end() - 1)
            if isinstance(found, dict) and isinstance(found.get("jobs"), list):
                return found
    return None


def _read_queue_json(document: dict[str, Any]) -> Queue:
    jobs: list[QueuedJob] = []
    unread: list[str] = []
    for record in document["jobs"]:
        try:
            jobs += _queued_of(record)
        except (TypeError, ValueError, LookupError, AttributeError):
            unread.append(json.dumps(record))
    return Queue(tuple(jobs), tuple(unread))


def _queued_of(record: dict[str, Any]) -> Iterator[QueuedJob]:
    """A job of the JSON, an element each; none where it has ended, as such are listed for some minutes."""
    states = _states(record.get("job_state"))
    if set(states) & _ENDED and not set(states) & _GOES_ON:
        return
    number, array, element = (_number(record.get(name)) for name in ("job_id", "array_job_id", "array_task_id"))
    if not number:
        raise ValueError("a job without a number")
    waiting: list[int | None] = [element]
    if element is None:
        waiting = [*_elements(_told(str(record.get("array_task_string") or "")))] or [None]
    for each in waiting:
        yield QueuedJob(
            job_id=str(array or number),
            # Outside arrays versions say element 0, or nothing.
            element=each if array else None,
            state=next((state for state in states if state not in _ENDED), states[-1] if states else UNKNOWN),
            reason=str(record.get("state_reason") or "").strip("() "),
            user=_told(str(record.get("user_name") or "")) or str(record.get("user_id") or ""),
            name=str(record.get("name") or ""),
            comment=_comment(record.get("comment")),
            folder=str(record.get("current_working_directory") or ""),
            submitted_s=_number(record.get("submit_time")),
        )


def _states(value: Any) -> list[str]:
    """The state, with flags behind it in newer versions: a text before 23.11, a list since."""
    values = value if isinstance(value, list) else [value]
    return [str(each).upper() for each in values if each and str(each) not in _NOTHING]


def _number(value: Any) -> int | None:
    """A number as each version writes it: plain, as text, or with `set` and `infinite` beside it since 23.02."""
    if isinstance(value, dict):
        return _number(value.get("number")) if value.get("set") and not value.get("infinite") else None
    if value is None or value == "":
        return None
    return int(value)


def _comment(value: Any) -> str:
    """A job's comment; the accounting's JSON has several, of the job, of the administrator and of the system."""
    if isinstance(value, dict):
        value = value.get("job")
    return str(value or "")


def _elements(text: str) -> list[int]:
    """The elements of `3-7,9,12-20:4%2`; of one that Slurm cut short those that it names."""
    found: list[int] = []
    for piece in text.partition("%")[0].split(","):
        ends = re.fullmatch(r"\s*(\d+)(?:-(\d+)(?::(\d+))?)?\s*", piece)
        if ends is not None:
            first, last, step = (int(each) if each else None for each in ends.groups())
            found += range(first or 0, (first or 0) + 1 if last is None else last + 1, step or 1)
    return found


def read_accounting(text: str) -> Accounting:
    """The answer of `sacct --parsable2` in `ACCOUNTING_FORMAT`, without what waits or runs."""
    jobs, unread = [], []
    for line in text.splitlines():
        if not line.strip():
            continue
        columns = line.split("|")
        found = re.fullmatch(r"([0-9]+)(?:_([0-9]+|\[.*))?", columns[0].strip())
        if found is None or len(columns) < 4:
            unread.append(line.strip())
            continue
        state = _plain_state(columns[1])
        if state not in _ENDED | _LIVE:
            unread.append(line.strip())
        elif state in _ENDED:
            # An array that was cancelled before all of it began is told of in one line: 12_[3-9%2].
            elements = [None] if found[2] is None else _elements(found[2].strip("[]"))
            jobs += [_ended(found[1], element, state, columns) for element in elements]
    return Accounting(tuple(jobs), tuple(unread))


def _ended(job_id: str, element: int | None, state: str, columns: Sequence[str]) -> EndedJob:
    # A name may hold the sign between the columns, and the energy stands behind it.
    has_energy = len(columns) >= 8 and (not columns[-1].strip() or columns[-1].strip().isdecimal())
    last = -1 if has_energy else None
    user, submitted, name = (*columns[4:6], "|".join(columns[6:last])) if len(columns) >= 7 else ("", "", "")
    return EndedJob(
        job_id=job_id,
        element=element,
        state=state,
        exit_code=columns[2],
        elapsed_s=int(columns[3]) if columns[3].isdecimal() else 0,
        user=_told(user),
        name=_told(name),
        submitted_s=_seconds(submitted),
        energy_j=_energy_j(columns[-1]) if has_energy else None,
    )


def _energy_j(text: str) -> float | None:
    """Joules of the accounting; nothing and 0 mean that nobody measured, as does Slurm's largest number."""
    energy_j = int(text) if text.strip().isdecimal() else 0
    return float(energy_j) if 0 < energy_j < _NO_VALUE else None


def _plain_state(text: str) -> str:
    """A state without who cancelled it, and without the mark of a cut column."""
    words = _told(text).upper().split()
    if not words:
        return UNKNOWN
    if not words[0].endswith("+"):
        return words[0]
    return next((state for state in sorted(_ENDED | _LIVE) if state.startswith(words[0][:-1])), UNKNOWN)


def _told(text: str) -> str:
    return "" if text.strip() in _NOTHING else text.strip()


def _seconds(text: str) -> float | None:
    """The local time of a command's text, in seconds since 1970."""
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        return None
