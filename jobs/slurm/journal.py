"""What was submitted for a study, one line per job, in the order of time: a second launch and the status read it.

Beside the jobs it holds the study's own number, which jobs carry in their marks, what each launch meant to submit, and
how local jobs ended. Each line holds the digest of the line before it (`append_chained`): a later change shows.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bccdist.errors import EventLogError
from bccdist.events import append_chained, read_events
from bccdist.stages.stage import Stage, find_stage
from bccdist.stages.table import TABLE

_EVENT = "submitted"
_FLAGS_OF_STUDY = ("--study", "--out")
"""Flags of launchers that name the folder."""
_STUDY, _PLANNED, _ENDED = "study", "planned", "ended"
Ending = Literal["done", "failed", "stopped"]
"""How a local job ended; stopped: with its launcher, by Ctrl-C or a signal."""


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
    mark: str = ""
    """What the job carries as its comment; this and what follows is empty in journals of older versions."""
    user: str = ""
    """Who submitted it."""
    study: str = ""
    """Folder of the study at that time: the jobs of a study are not those of its copy."""
    host: str = ""
    """Machine of local processes."""
    processes: tuple[str, ...] = ()
    """Local processes, as NUMBER@TIME OF START; each leads a group of processes."""

    @property
    def as_json(self) -> dict[str, Any]:
        """The entry as it stands in the file."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {"stage": self.stage.fields}


def append(path: Path, entry: JournalEntry) -> None:
    """Write down a job that was submitted."""
    append_chained(path, _EVENT, **entry.as_json)


def read(path: Path, table: Sequence[Stage] = TABLE) -> list[JournalEntry]:
    """All jobs, the oldest first; none where nothing was submitted.

    Raises:
        EventLogError: the file is damaged, or names a stage that is in no table.
    """
    if not path.exists():
        return []
    return [_entry(event, path, table) for event in read_events(path) if event["event"] == _EVENT]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a launch meant to submit, written before its first job."""

    stages: tuple[Stage, ...]
    command: tuple[str, ...]
    folder: str
    planned_at: str


def study_id(path: Path) -> str:
    """The study's own number, made when it is first asked for; a copy of the study keeps it."""
    events = read_events(path) if path.exists() else []
    known = next((str(event["id"]) for event in events if event["event"] == _STUDY), None)
    if known is None:
        known = uuid.uuid4().hex[:12]
        append_chained(path, _STUDY, id=known)
    return known


def append_plan(path: Path, plan: Plan) -> None:
    """Write down what a launch is going to submit."""
    stages = [stage.fields for stage in plan.stages]
    append_chained(path, _PLANNED, stages=stages, command=plan.command, folder=plan.folder, planned_at=plan.planned_at)


def append_ending(path: Path, job_id: str, ending: Ending) -> None:
    """Write down how a local job ended."""
    append_chained(path, _ENDED, job_id=job_id, ending=ending)


def plans(path: Path, table: Sequence[Stage] = TABLE) -> dict[Stage, Plan]:
    """The newest launch that meant to submit each stage; stages that no table knows are left out."""
    found: dict[Stage, Plan] = {}
    for event in read_events(path) if path.exists() else []:
        if event["event"] == _PLANNED:
            stages = (find_stage(fields_of_stage, table) for fields_of_stage in event["stages"])
            plan = Plan(
                stages=tuple(stage for stage in stages if stage is not None),
                command=tuple(event["command"]),
                folder=event["folder"],
                planned_at=event["planned_at"],
            )
            found |= dict.fromkeys(plan.stages, plan)
    return found


def endings(path: Path) -> dict[str, Ending]:
    """How the newest local job of each number ended; one that said nothing is not among them."""
    found: dict[str, Ending] = {}
    for event in read_events(path) if path.exists() else []:
        if event["event"] == _EVENT:
            found.pop(event["job_id"], None)  # numbers of processes are given again
        elif event["event"] == _ENDED:
            found[event["job_id"]] = event["ending"]
    return found


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
    # Later fields have defaults, and older journals lack them.
    values = {each.name: event[each.name] for each in fields(JournalEntry) if each.name in event}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return JournalEntry(**values | lists | {"stage": stage})


def again_for(command: tuple[str, ...], study: Path) -> tuple[str, ...]:
    """A command line as it was first given, for the study where it lies now, which may have been moved or copied."""
    words = [
        word
        for word in command
        if word != "--only-missing" and not word.startswith(tuple(f"{flag}=" for flag in _FLAGS_OF_STUDY))
    ]
    for flag in _FLAGS_OF_STUDY:
        if flag in words:
            place = words.index(flag)
            del words[place : place + 2]
    return (*words, "--study", str(study))


def now() -> str:
    """The time as the journal writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
