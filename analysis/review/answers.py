"""What a reviewer said: answers, outlines, and what was taken back, as steps in the order of time (section 3.2).

Steps are lines of a journal (journal.py) that is only ever appended to. A correction is a further step, and so is what
takes one back: the first answer is kept, and the last one that stands counts. Every line has a version. Fields that
this version does not know are kept with their step; lines of a later version of no known kind are counted, and said.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from bccdist.errors import ConfigurationError, EventLogError
from bccdist.events import parse_record, records_in
from bccdist.files import digest_of
from bccdist.paths import StudyPaths

VERSION = 2
"""Of the lines that are written now. Those of the first have none: they have no entries either."""
LONGEST_NAME = 100
"""Characters of a reviewer's name."""
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,39}")
TAG = "kind"
"""The key that says what a line is."""
REVIEWER, NOTE = "reviewer", "note"
_ALL_REGIONS = "regions"
"""A line of the first version, which held all outlines of a slide."""


class Answer(StrEnum):
    """What a reviewer says about a section."""

    TUMOR = "Tumor"
    NORMAL = "Normal"
    UNSURE = "unsure"


class GivenAs(StrEnum):
    """How an answer was given."""

    ANSWER = "answer"
    """To this section alone."""
    REST = "rest of the slide"
    """Together with all others of its slide that had none: what was filled in is confirmed."""
    DECISION = "decision"
    """Between the different answers of others."""


def new_entry() -> str:
    """A name for a step that nobody named."""
    return uuid4().hex


@dataclass(frozen=True, kw_only=True)
class GivenAnswer:
    """One answer, with all that may have led it."""

    at: str
    """UTC, ISO 8601."""
    slide_id: str
    section_id: str
    answer: Answer
    comment: str
    seconds: float
    """Spent on the section."""
    is_blind: bool
    """Whether the section belongs to the blind share."""
    was_shown: bool
    """Whether the prediction was to be seen before this answer: the section is not blind, or was revealed."""
    prefilled: str
    """What stood there before: Tumor, Normal, or nothing."""
    prediction: str
    """The headline's verdict, shown or not: Tumor, Normal, review, or nothing."""
    label_before: str | None
    """The manifest's label."""
    setting: str
    """The setting whose verdicts fill in labels."""
    epoch: int
    weights_digest: str
    viewed: Mapping[str, Any] = field(default_factory=dict)
    """What the page showed at the time: setting, psi, t_p, heatmap."""
    is_hasty: bool = False
    """Whether it came within half a second of the answer before, too soon to have looked."""
    given_as: str = GivenAs.ANSWER
    """One of `GivenAs`."""
    batch: str = ""
    """Names the answers that were given in one act, which are taken back together; empty where it was one alone."""
    entry: str = field(default_factory=new_entry)
    """The step's name. The page chooses it before it sends, so that what is sent twice is kept once."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Fields that this version does not know."""

    @property
    def key(self) -> str:
        """Names the section."""
        return f"{self.slide_id}/{self.section_id}"

    @property
    def came_blind(self) -> bool:
        """Whether it was given before the model's verdict was to be seen, whichever share the section belongs to."""
        return not self.was_shown

    @property
    def content(self) -> tuple[Any, ...]:
        """What two steps of one entry must share."""
        return self.key, self.answer, self.comment


@dataclass(frozen=True, kw_only=True)
class OutlineChange:
    """Outlines that a reviewer drew on a slide or took off; one that is corrected is taken off and drawn anew."""

    at: str
    slide_id: str
    added: tuple[Mapping[str, Any], ...] = ()
    """GeoJSON features in level-0 px, each with an `id` and `properties.kind`; one of an id replaces what had it."""
    removed: tuple[str, ...] = ()
    """Ids of features."""
    replaces_all: bool = False
    """Whether all outlines of the slide go first."""
    entry: str = field(default_factory=new_entry)
    """The step's name."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Fields that this version does not know."""

    @property
    def content(self) -> tuple[Any, ...]:
        """What two steps of one entry must share."""
        return self.slide_id, tuple(each.get("id") for each in self.added), self.removed


@dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """Takes earlier steps back: they do not count any more."""

    at: str
    withdrawn: tuple[str, ...]
    """Entries of steps."""
    is_undo: bool = False
    """Whether it went one step back, which no undo takes back in turn."""
    entry: str = field(default_factory=new_entry)
    """The step's name."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Fields that this version does not know."""

    @property
    def content(self) -> tuple[Any, ...]:
        """What two steps of one entry must share."""
        return self.withdrawn, self.is_undo


Step = GivenAnswer | OutlineChange | Withdrawal
STEPS: Mapping[str, type[Step]] = {"answer": GivenAnswer, "outlines": OutlineChange, "withdrawal": Withdrawal}
"""What the kinds of lines are."""
_S = TypeVar("_S", bound=Step)


@dataclass(frozen=True, kw_only=True)
class GivenRegions:
    """The outlines of a slide that a reviewer has drawn, after all changes."""

    at: str
    """When the last change was made."""
    slide_id: str
    features: tuple[Mapping[str, Any], ...]
    """GeoJSON features in level-0 px with `id` and `properties.kind`."""


@dataclass(kw_only=True)
class Said:
    """All that one reviewer said, in the order of time."""

    reviewer: str
    begun_at: str = ""
    """When the journal was begun."""
    steps: list[Step] = field(default_factory=list)
    num_unknown: int = 0
    """Lines of a later version whose kind is not known here: kept in the journal, and not counted."""

    @property
    def unknown_note(self) -> str:
        """What is to be said of lines that are not known; nothing where there are none."""
        if not self.num_unknown:
            return ""
        return (
            f"{self.num_unknown} line(s) of {self.reviewer}'s journal are of a later version: they are kept, and do "
            "NOT count here; review and export with the newer version"
        )

    @property
    def standing(self) -> list[Step]:
        """The steps that nothing has taken back."""
        void: set[str] = set()
        # From the end: a withdrawal that was itself taken back takes nothing back.
        for step in reversed(self.steps):
            if isinstance(step, Withdrawal) and step.entry not in void:
                void.update(step.withdrawn)
        return [step for step in self.steps if step.entry not in void]

    @property
    def answers(self) -> list[GivenAnswer]:
        """All that were ever given."""
        return _of(GivenAnswer, self.steps)

    @property
    def latest(self) -> dict[str, GivenAnswer]:
        """The answer that counts, by section."""
        return {answer.key: answer for answer in _of(GivenAnswer, self.standing)}

    @property
    def first(self) -> dict[str, GivenAnswer]:
        """The answer that was given first, by section; of sections that have one that counts."""
        latest = self.latest
        # Also one that was taken back: only the first of all had seen nothing.
        return {answer.key: answer for answer in reversed(self.answers) if answer.key in latest}

    @property
    def latest_regions(self) -> dict[str, GivenRegions]:
        """The outlines that count, by slide."""
        features: dict[str, dict[str, Mapping[str, Any]]] = {}
        at: dict[str, str] = {}
        for change in _of(OutlineChange, self.standing):
            of_slide = features.setdefault(change.slide_id, {})
            gone = tuple(of_slide) if change.replaces_all else change.removed
            for feature_id in gone:
                of_slide.pop(feature_id, None)
            of_slide.update({each["id"]: each for each in change.added})
            at[change.slide_id] = change.at
        return {
            slide_id: GivenRegions(at=at[slide_id], slide_id=slide_id, features=tuple(of_slide.values()))
            for slide_id, of_slide in features.items()
        }


def _of(kind: type[_S], steps: Iterable[Step]) -> list[_S]:
    return [step for step in steps if isinstance(step, kind)]


def now() -> str:
    """The time as the journal writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def file_name_of(reviewer: str) -> str:
    """The reviewer's name as it stands in names of files; two reviewers have two.

    Raises:
        ConfigurationError: it is no name: empty, too long, or with characters that cannot be printed.
    """
    is_name = reviewer.isprintable() and reviewer[:1].isalnum() and reviewer == reviewer.strip()
    if not is_name or len(reviewer) > LONGEST_NAME:
        raise ConfigurationError(
            f"reviewer is {reviewer[: LONGEST_NAME + 1]!r}, expected a name of at most {LONGEST_NAME} printable "
            'characters that begins with a letter or digit; give --reviewer "NAME"'
        )
    if _FILE_NAME.fullmatch(reviewer):
        return reviewer
    plain = re.sub(r"[^A-Za-z0-9]+", "-", reviewer).strip("-")[:30]
    return f"{plain or 'reviewer'}-{digest_of(reviewer)}"


def torn_end(content: bytes) -> bytes:
    """What stands behind the last whole line."""
    *lines, end = content.split(b"\n")
    if end or not lines or parse_record(lines[-1], tag=TAG) is not None:
        return end
    return lines[-1] + b"\n"


def read_journal(path: Path) -> Said:
    """What stands in a journal, which may be open for writing: a last line that is not whole is not yet said.

    Raises:
        EventLogError: it is damaged where no crash can have cut it.
    """
    content = path.read_bytes()
    said: Said | None = None
    for number, record in records_in(content.removesuffix(torn_end(content)), path=path, tag=TAG):
        try:
            kind = record.pop(TAG)
            if kind == REVIEWER:
                said = Said(reviewer=record["reviewer"], begun_at=record.get("at", ""))
            elif said is not None:
                _note_down(said, kind, record, line=number)
            else:
                raise ValueError("it does not say whose journal it is")
        except (ValueError, TypeError, KeyError) as error:
            raise EventLogError(
                f"{path}, line {number}: not a line of a journal ({type(error).__name__}: {error}); restore "
                "the file from a copy, or take the line out and keep it elsewhere"
            ) from error
    if said is None:
        raise EventLogError(f"{path}: it is empty; remove it if nobody was at work")
    return said


def _note_down(said: Said, kind: str, record: dict[str, Any], *, line: int) -> None:
    version = record.pop("version", 1)
    if kind == _ALL_REGIONS:
        features = [{**each, "id": f"line-{line}-{number}"} for number, each in enumerate(record.pop("features"))]
        kind, record = "outlines", {**record, "added": features, "replaces_all": True}
    if kind in STEPS:
        said.steps.append(_step(STEPS[kind], {"entry": f"line-{line}", **record}))
    elif kind == NOTE:
        return
    elif isinstance(version, int) and version > VERSION:
        said.num_unknown += 1
    else:
        raise ValueError(f"kind is {kind!r}")


def _step(made: type[Step], record: Mapping[str, Any]) -> Step:
    """A step from the fields of its line, those that are not known kept apart."""
    names = {each.name for each in fields(made)} - {"more"}
    known: dict[str, Any] = {name: value for name, value in record.items() if name in names}
    if made is GivenAnswer:
        known["answer"] = Answer(known["answer"])
    for name in {"added", "removed", "withdrawn"} & known.keys():
        known[name] = tuple(known[name])
    if not isinstance(known["entry"], str):
        raise ValueError(f"entry is {known['entry']!r}")
    more = {name: value for name, value in record.items() if name not in names}
    return made(**known, more=more)


def read_journals(paths: StudyPaths) -> list[Said]:
    """What all reviewers of a study said, by name.

    Raises:
        EventLogError: a journal is damaged.
    """
    # A journal that another process is just beginning has no whole line yet.
    found = [read_journal(path) for path in paths.review.glob("journal-*.jsonl") if b"\n" in path.read_bytes()]
    return sorted(found, key=lambda said: said.reviewer)
