"""The journal of a reviewer: JSON lines that are only ever appended to, one file a reviewer.

A step is on the disk before it is acknowledged. A line that a crash has cut is set aside at the next start, and all
before it stays.
"""

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from analysis.review.answers import (
    NOTE,
    REVIEWER,
    STEPS,
    TAG,
    VERSION,
    Said,
    Step,
    file_name_of,
    now,
    read_journal,
    torn_end,
)
from bccdist.errors import BccdistError, ConfigurationError, EventLogError
from bccdist.events import append_bytes, json_line
from bccdist.paths import StudyPaths


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
        self._is_new = False
        self._file = _opened(self.path)
        try:
            _hold(self._file, self.path, reviewer)
            self._is_new = not os.fstat(self._file).st_size
            self.note = self._set_torn_line_aside()
            self.said = read_journal(self.path) if os.fstat(self._file).st_size else self._begin(reviewer)
            self._by_entry = {step.entry: step for step in self.said.steps}
            if self.said.reviewer != reviewer:
                raise EventLogError(
                    f"{self.path}: it is the journal of {self.said.reviewer!r}, not of {reviewer!r}; give another name"
                )
        except BaseException as error:
            self._forget_if_new()
            os.close(self._file)
            if isinstance(error, OSError) and not isinstance(error, BccdistError):
                raise ConfigurationError(
                    f"{self.path}: cannot be written ({error.strerror}); what stands in it is as it was; make room, "
                    "and start again"
                ) from error
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

    @contextmanager
    def kept_if_all_goes_well(self) -> Iterator[None]:
        """A journal that was begun now is gone again where what follows fails, as nobody was at work."""
        try:
            yield
        except BaseException:
            self._forget_if_new()
            raise

    def _forget_if_new(self) -> None:
        # Only while it is locked: another server may have begun to write to it otherwise.
        if self._is_new:
            self.path.unlink(missing_ok=True)
            with suppress(OSError):
                self.path.parent.rmdir()

    def add(self, step: Step) -> Step:
        """Append a step; it is on the disk when this returns.

        Returns:
            The step of this entry that is kept: this one, or the one that came first, of which nothing is written
            again. So what a page sends twice, because no answer reached it, is kept once.

        Raises:
            OSError: it cannot be written; the journal is as it was.
        """
        with self._lock:
            kept = self._by_entry.get(step.entry)
            if kept is None:
                self._append(_record(step))
                self.said.steps.append(step)
                kept = self._by_entry[step.entry] = step
            return kept

    def step_of(self, entry: str) -> Step | None:
        """The step of an entry; None where there is none."""
        return self._by_entry.get(entry)

    def _begin(self, reviewer: str) -> Said:
        begun_at = now()
        self._append({TAG: REVIEWER, "version": VERSION, "at": begun_at, "reviewer": reviewer})
        # The file's name is on the disk, too, before anything is acknowledged.
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return Said(reviewer=reviewer, begun_at=begun_at)

    def _append(self, record: Mapping[str, Any]) -> None:
        append_bytes(self._file, json_line(record), is_synced=True)

    def _set_torn_line_aside(self) -> str:
        """Cut a last line that is not whole off, into a file of its own; returns what is to be said about it."""
        content = self.path.read_bytes()
        torn = torn_end(content)
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
            self._append({TAG: NOTE, "version": VERSION, "at": now(), "text": text})
        return f"{self.path}: {text}"


def _record(step: Step) -> dict[str, Any]:
    """A step as its line has it."""
    kind = next(kind for kind, made in STEPS.items() if isinstance(step, made))
    written = asdict(step)
    return {TAG: kind, "version": VERSION, **written.pop("more"), **written}


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
