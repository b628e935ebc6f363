"""Which jobs are ours: those that carry, as their comment, the mark that they were submitted with.

A number is not enough: Slurm gives numbers again, and several people may work on one study. Sites may take comments
away or write their own into them; then a job is known by its number together with its name, its working folder and the
time of its submission, and whoever asks is told so.
"""

import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from bccdist.stages.stage import Stage
from jobs.slurm.journal import JournalEntry

_ANY_MARK = re.compile(r"bccdist:[0-9a-f]+:\S+?:[0-9a-f]{12}")
_CLOCKS_DIFFER_S = 600.0
"""How much earlier than in our journal a job of ours may have been submitted by Slurm's clock."""
Likeness = Literal["mark", "likeness", "other"]


class KnownJob(Protocol):
    """What is told of a job, by the queue or by the accounting; empty where it is not told."""

    @property
    def job_id(self) -> str:
        """Number of the job, or of the whole array."""

    @property
    def user(self) -> str:
        """Who submitted it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def comment(self) -> str:
        """Its comment."""

    @property
    def folder(self) -> str:
        """Its working folder."""

    @property
    def submitted_s(self) -> float | None:
        """Time of its submission, in seconds since 1970."""


def new_mark(study_id: str, stage: Stage) -> str:
    """A mark for one submission of a stage, which no other has."""
    return f"bccdist:{study_id}:{stage.name}:{uuid.uuid4().hex[:12]}"


def mark_of_hook(study_id: str) -> str:
    """A mark for the job that calls a launch's hook at the end."""
    return f"bccdist:{study_id}:hook:{uuid.uuid4().hex[:12]}"


def job_name(stage: Stage, study: Path) -> str:
    """What Slurm shows."""
    return f"{stage.name}@{study.name}"


def likeness(job: KnownJob, entry: JournalEntry) -> Likeness:
    """How a job is known to be that of an entry: by its mark, by all else that is told of it; or it is another's."""
    if entry.mark and entry.mark in job.comment:
        return "mark"
    if job.job_id != entry.job_id or _ANY_MARK.search(job.comment):
        return "other"
    agrees = [
        not job.name or job.name.startswith(f"{entry.stage.name}@"),
        not (job.folder and entry.folder) or job.folder == entry.folder,
        job.submitted_s is None or job.submitted_s > submitted_s(entry) - _CLOCKS_DIFFER_S,
        not (job.user and entry.user) or job.user == entry.user,
    ]
    return "likeness" if all(agrees) else "other"


def submitted_s(entry: JournalEntry) -> float:
    """When it was submitted, in seconds since 1970."""
    return datetime.fromisoformat(entry.submitted_at).timestamp()


def is_of_a_copy(entry: JournalEntry, study: Path) -> bool:
    """Whether a job was submitted for a study that is still where it was, and of which `study` is a copy."""
    there = Path(entry.study) if entry.study else study
    try:
        return there.resolve() != study.resolve() and there.is_dir() and not there.samefile(study)
    except OSError:
        return False


def notes_on(jobs: Sequence[KnownJob], entries: Sequence[JournalEntry]) -> list[str]:
    """What is to be said of jobs in the queue that have the numbers of ours and not their marks."""
    notes = []
    for entry in entries:
        found = [(job, likeness(job, entry)) for job in jobs if job.job_id == entry.job_id]
        if entry.mark and any(how == "likeness" for _, how in found):
            notes.append(
                f"job {entry.job_id} does not carry the mark that it was submitted with (the site takes comments "
                "away or writes its own): it is known by number, name, folder and time of submission"
            )
        if others := [job for job, how in found if how == "other"]:
            owner = f" of {others[0].user}" if others[0].user else ""
            name = f" ({others[0].name})" if others[0].name else ""
            notes.append(
                f"job {entry.job_id}{owner}{name} in the queue is not the one that was submitted for "
                f"{entry.stage.name}: it only has its number"
            )
    return notes
