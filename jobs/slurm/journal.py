"""What was submitted for a study, one line per job, in the order of time: a second launch and the status read it."""

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bccdist.events import EventLog, read_events

_EVENT = "submitted"


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """One job, or one array."""

    stage: str
    job_id: str
    """Of the job or of the whole array."""
    cluster: str
    """slurm or local."""
    num_elements: int
    logs: str
    """Folder of its logs, relative to the study."""
    after: tuple[str, ...]
    """Jobs that it waits for."""
    code: str
    """Name of the code that it runs, as in the study's folder `code`."""
    command: tuple[str, ...]
    """Of the launcher; empty where it was called from Python."""
    folder: str
    """In which the launcher was called."""
    submitted_at: str
    """UTC, ISO 8601."""


def append(path: Path, entry: JournalEntry) -> None:
    """Write down a job that was submitted."""
    log = EventLog(path)
    log.write(_EVENT, **asdict(entry))
    log.close()


def read(path: Path) -> list[JournalEntry]:
    """All jobs, the oldest first; none where nothing was submitted.

    Raises:
        EventLogError: the file is damaged.
    """
    if not path.exists():
        return []
    return [_entry(event) for event in read_events(path) if event["event"] == _EVENT]


def newest(entries: list[JournalEntry]) -> dict[str, JournalEntry]:
    """The last job of each stage, in the order in which the stages were last submitted."""
    found: dict[str, JournalEntry] = {}
    for entry in entries:
        found.pop(entry.stage, None)
        found[entry.stage] = entry
    return found


def _entry(event: dict[str, Any]) -> JournalEntry:
    values = {field.name: event[field.name] for field in fields(JournalEntry)}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return JournalEntry(**values | lists)


def without_only_missing(command: tuple[str, ...]) -> tuple[str, ...]:
    """A command line as it was first given."""
    return tuple(word for word in command if word != "--only-missing")


def now() -> str:
    """The time as the journal writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
