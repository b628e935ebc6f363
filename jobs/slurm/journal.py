"""What was submitted for a study, one line per job, in the order of time: a second launch and the status read it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bccdist.errors import EventLogError
from bccdist.events import append_event, read_events
from bccdist.stages.stage import Stage, find_stage
from bccdist.stages.table import TABLE

_EVENT = "submitted"


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """One job, or one array."""

    stage: Stage
    job_id: str
    """Number of the job, or of the whole array."""
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
    """Command line of the launcher; empty where it was called from Python."""
    folder: str
    """Folder in which the launcher was called."""
    submitted_at: str
    """UTC, ISO 8601."""

    @property
    def as_json(self) -> dict[str, Any]:
        """The entry as it stands in the file."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {"stage": self.stage.fields}


def append(path: Path, entry: JournalEntry) -> None:
    """Write down a job that was submitted."""
    append_event(path, _EVENT, **entry.as_json)


def read(path: Path, table: Sequence[Stage] = TABLE) -> list[JournalEntry]:
    """All jobs, the oldest first; none where nothing was submitted.

    Raises:
        EventLogError: the file is damaged, or names a stage that is in no table.
    """
    if not path.exists():
        return []
    return [_entry(event, path, table) for event in read_events(path) if event["event"] == _EVENT]


def newest(entries: list[JournalEntry]) -> dict[Stage, JournalEntry]:
    """The last job of each stage, in the order in which the stages were last submitted."""
    found: dict[Stage, JournalEntry] = {}
    for entry in entries:
        found.pop(entry.stage, None)
        found[entry.stage] = entry
    return found


def _entry(event: dict[str, Any], path: Path, table: Sequence[Stage]) -> JournalEntry:
    stage = find_stage(event["stage"], table) if isinstance(event["stage"], dict) else None
    if stage is None:
        raise EventLogError(
            f"{path}: a job of the stage {event['stage']!r}, which this version does not know; look at the study with "
            "the version that launched it, or, if nothing of it is queued any more, remove the file"
        )
    values = {each.name: event[each.name] for each in fields(JournalEntry)}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return JournalEntry(**values | lists | {"stage": stage})


def again_for(command: tuple[str, ...], study: Path) -> tuple[str, ...]:
    """A command line as it was first given, for the study where it lies now, which may have been moved or copied."""
    words = [word for word in command if word != "--only-missing" and not word.startswith("--study=")]
    if "--study" in words:
        place = words.index("--study")
        del words[place : place + 2]
    return (*words, "--study", str(study))


def now() -> str:
    """The time as the journal writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
