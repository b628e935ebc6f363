"""What reviewers said about the findings of an audit: a journal each, that is only ever appended to.

Each line names its setting and the audit's table: what was said about an earlier audit does not count for another.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from analysis.review.answers import file_name_of
from bccdist.errors import EventLogError
from bccdist.events import append_chained, read_events
from bccdist.parts import Kind
from bccdist.paths import StudyPaths

_EVENT = "decision"


class Decision(StrEnum):
    """What is done about a finding."""

    ACCEPT = "accept"
    """The annotation stands as it is."""
    FIX = "fix"
    """It is corrected."""
    SKIP = "skip"
    """Nothing is said."""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """One decision."""

    reviewer: str
    at: str
    """UTC, ISO 8601."""
    setting: str
    audit: str
    """Names the table of the audit, by its content."""
    id: str
    """The row of the table."""
    decision: str
    """One of `Decision`."""
    kind: str | None = None
    """What a fix makes of it: a kind, or None, which takes the outline away."""

    @property
    def said(self) -> tuple[str, str | None]:
        """What two reviewers have to share to agree."""
        return self.decision, self.kind


def keep(paths: StudyPaths, decided: Decided) -> None:
    """Append a decision to its reviewer's journal.

    Raises:
        OSError: it cannot be written; the journal is as it was.
    """
    append_chained(paths.audit_journal(file_name_of(decided.reviewer)), _EVENT, **asdict(decided))


def read_decisions(paths: StudyPaths, setting: str, audit: str) -> tuple[list[Decided], int]:
    """What all reviewers said about an audit, in the order of each one's time; and how much was about earlier ones.

    Raises:
        EventLogError: a journal is damaged.
    """
    everything = [
        decided
        for path in sorted(paths.review.glob("audit-*.jsonl"))
        for decided in _read(path)
        if decided.setting == setting
    ]
    current = [decided for decided in everything if decided.audit == audit]
    return current, len(everything) - len(current)


def _read(path: Path) -> Iterable[Decided]:
    for event in read_events(path):
        if event["event"] != _EVENT:
            continue
        try:
            decided = Decided(**{name: event[name] for name in Decided.__dataclass_fields__})
            Decision(decided.decision)
            Kind(decided.kind or Kind.TUMORNEST)
        except (KeyError, ValueError) as error:
            raise EventLogError(
                f"{path}: a line is no decision of this version ({error!r}); restore a copy"
            ) from error
        yield decided


def latest(decisions: Iterable[Decided]) -> dict[str, dict[str, Decided]]:
    """The last word of each reviewer on each row: by row, then by reviewer; a skip is none."""
    found: dict[str, dict[str, Decided]] = {}
    for decided in decisions:
        own = found.setdefault(decided.id, {})
        own.pop(decided.reviewer, None)
        if decided.decision != Decision.SKIP:
            own[decided.reviewer] = decided
    return {row: own for row, own in found.items() if own}


def conflicts(by_row: Mapping[str, Mapping[str, Decided]]) -> list[str]:
    """The rows on which reviewers differ."""
    return sorted(row for row, own in by_row.items() if len({each.said for each in own.values()}) > 1)


def as_json(decided: Decided | None) -> dict[str, Any] | None:
    """A decision as the page knows it."""
    return None if decided is None else {"decision": decided.decision, "kind": decided.kind, "at": decided.at}
