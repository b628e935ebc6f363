"""What a reviewer said, as JSON lines that are only ever appended to: one file a reviewer.

An answer is on the disk before it is acknowledged. A line that a crash has cut is set aside at the next start, and all
before it stays. Corrections are further lines: the last one counts, and the first one is kept.
"""

import fcntl
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bccdist.errors import ConfigurationError, EventLogError
from bccdist.events import append_bytes, json_line, parse_record, records_in
from bccdist.files import digest_of
from bccdist.paths import StudyPaths

LONGEST_NAME = 100
"""Characters of a reviewer's name."""
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,39}")
_TAG = "kind"
"""The key that says what a line is."""
_REVIEWER, _ANSWER, _REGIONS, _NOTE = "reviewer", "answer", "regions", "note"


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

    @property
    def key(self) -> str:
        """Names the section."""
        return f"{self.slide_id}/{self.section_id}"


@dataclass(frozen=True, kw_only=True)
class GivenRegions:
    """The regions of a slide as a reviewer drew or corrected them; they replace those that came before."""

    at: str
    slide_id: str
    features: tuple[Mapping[str, Any], ...]
    """GeoJSON features in level-0 px with `properties.kind`."""


@dataclass(kw_only=True)
class Said:
    """All that one reviewer said, in the order of time."""

    reviewer: str
    answers: list[GivenAnswer] = field(default_factory=list)
    regions: list[GivenRegions] = field(default_factory=list)

    @property
    def latest(self) -> dict[str, GivenAnswer]:
        """The answer that counts, by section."""
        return {answer.key: answer for answer in self.answers}

    @property
    def first(self) -> dict[str, GivenAnswer]:
        """The answer that was given first, by section."""
        return {answer.key: answer for answer in reversed(self.answers)}

    @property
    def latest_regions(self) -> dict[str, GivenRegions]:
        """The regions that count, by slide."""
        return {regions.slide_id: regions for regions in self.regions}


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


class Journal:
    """The journal of one reviewer, open for appending by one process; threads may share it."""

    def __init__(self, paths: StudyPaths, reviewer: str) -> None:
        """Open the journal, or begin it; what a crash has cut is set aside.

        Raises:
            ConfigurationError: the name is none, another process has the journal open, or it cannot be written.
            EventLogError: the journal is damaged where no crash can have cut it, or is another reviewer's.
        """
        self.path = paths.review_journal(file_name_of(reviewer))
        self._lock = threading.Lock()
        self._file = _opened(self.path)
        try:
            _hold(self._file, self.path, reviewer)
            self.note = self._set_torn_line_aside()
            self.said = read_journal(self.path) if os.fstat(self._file).st_size else self._begin(reviewer)
            if self.said.reviewer != reviewer:
                raise EventLogError(
                    f"{self.path}: it is the journal of {self.said.reviewer!r}, not of {reviewer!r}; give another name"
                )
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        """The journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file; another process may open it then."""
        os.close(self._file)

    def add_answer(self, answer: GivenAnswer) -> None:
        """Append an answer; it is on the disk when this returns.

        Raises:
            OSError: it cannot be written; the journal is as it was.
        """
        with self._lock:
            self._append({"kind": _ANSWER, **asdict(answer)})
            self.said.answers.append(answer)

    def add_regions(self, regions: GivenRegions) -> None:
        """Append the regions of a slide; they are on the disk when this returns.

        Raises:
            OSError: they cannot be written; the journal is as it was.
        """
        with self._lock:
            self._append({"kind": _REGIONS, **asdict(regions)})
            self.said.regions.append(regions)

    def _begin(self, reviewer: str) -> Said:
        self._append({"kind": _REVIEWER, "at": now(), "reviewer": reviewer})
        # The file's name is on the disk, too, before anything is acknowledged.
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return Said(reviewer=reviewer)

    def _append(self, record: Mapping[str, Any]) -> None:
        append_bytes(self._file, json_line(record), is_synced=True)

    def _set_torn_line_aside(self) -> str:
        """Cut a last line that is not whole off, into a file of its own; returns what is to be said about it."""
        content = self.path.read_bytes()
        torn = _torn_end(content)
        if not torn:
            return ""
        aside = self.path.with_name(f"{self.path.stem}.torn-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
        with aside.open("xb") as file:
            file.write(torn)
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(self._file, len(content) - len(torn))
        text = f"the last line was cut by a crash before it was acknowledged; it is set aside as {aside.name}"
        if len(content) > len(torn):
            self._append({"kind": _NOTE, "at": now(), "text": text})
        return f"{self.path}: {text}"


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be written: {error.strerror}; answers are kept there, so make the folder writable"
        ) from error


def _hold(file: int, path: Path, reviewer: str) -> None:
    """Lock the open file for this process; the system gives the lock back when it ends, however it does."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"{path}: another server of reviewer {reviewer!r} is at work; stop it, or give another --reviewer"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{path}: its file system has no locks ({error.strerror}), so two servers of one reviewer could not be "
            "told apart; put the study on another one"
        ) from error


def _torn_end(content: bytes) -> bytes:
    """What stands behind the last whole line."""
    *lines, end = content.split(b"\n")
    if end or not lines or parse_record(lines[-1], tag=_TAG) is not None:
        return end
    return lines[-1] + b"\n"


def read_journal(path: Path) -> Said:
    """What stands in a journal, which may be open for writing: a last line that is not whole is not yet said.

    Raises:
        EventLogError: it is damaged where no crash can have cut it.
    """
    content = path.read_bytes()
    said: Said | None = None
    for number, record in records_in(content.removesuffix(_torn_end(content)), path=path, tag=_TAG):
        try:
            kind = record.pop(_TAG)
            if kind == _REVIEWER:
                said = Said(reviewer=record["reviewer"])
            elif said is not None:
                _note_down(said, kind, record)
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


def _note_down(said: Said, kind: str, record: dict[str, Any]) -> None:
    if kind == _ANSWER:
        said.answers.append(GivenAnswer(**{**record, "answer": Answer(record["answer"])}))
    elif kind == _REGIONS:
        said.regions.append(GivenRegions(**{**record, "features": tuple(record["features"])}))
    elif kind != _NOTE:
        raise ValueError(f"kind is {kind!r}")


def read_journals(paths: StudyPaths) -> list[Said]:
    """What all reviewers of a study said, by name.

    Raises:
        EventLogError: a journal is damaged.
    """
    # A journal that another process is just beginning has no whole line yet.
    found = [read_journal(path) for path in paths.review.glob("journal-*.jsonl") if b"\n" in path.read_bytes()]
    return sorted(found, key=lambda said: said.reviewer)
