"""What happened, as JSON lines that are only ever appended to: how all journals of a study are written and read.

A line is whole, whatever becomes of its writer: one that a full disk cut is taken back, and one that a killed process
left unfinished is passed over when the file is read.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bccdist.errors import EventLogError

_TAG = "event"
_CUT_LINE = "cut_line"
"""The event after a line that a killed process left unfinished."""
BEFORE = "before"
"""In a chained log: the SHA-256 of the bytes of the line before, without its end; of no bytes in the first line."""


class EventLog:
    """Appends events to a file; each line is whole, or is followed by an event `cut_line`."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending; what a killed process left there stays a line of its own."""
        path.parent.mkdir(parents=True, exist_ok=True)
        is_cut = _ends_within_a_line(path)
        # The umask decides who may append: a group may share a study.
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        if is_cut:
            append_bytes(self._file, b"\n" + _line(_CUT_LINE))

    def write(self, event: str, **values: Any) -> None:
        """Append one event with its time (seconds since 1970); NaN and infinity, which JSON lacks, become null."""
        append_bytes(self._file, _line(event, **values))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def append_event(path: Path, event: str, **values: Any) -> None:
    """Append one event to a file that nobody keeps open."""
    log = EventLog(path)
    try:
        log.write(event, **values)
    finally:
        log.close()


def append_chained(path: Path, event: str, **values: Any) -> None:
    """Append one event that holds the SHA-256 of the line before it, so that no line changes unseen.

    Several processes may append at once: each holds the file's lock while it reads the last line and writes the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        # A file system without locks has whole lines all the same; two at one instant would name the same line.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        *_, last, end = (b"", *path.read_bytes().split(b"\n"))
        if end:
            last = _line(_CUT_LINE, **{BEFORE: digest_of_line(end)})
            append_bytes(file, b"\n" + last)
        append_bytes(file, _line(event, **values, **{BEFORE: digest_of_line(last)}))
    finally:
        os.close(file)


def digest_of_line(line: bytes) -> str:
    """The SHA-256 of a line without its end, as the next line of a chained log holds it."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


def append_bytes(file: int, line: bytes, *, is_synced: bool = False) -> None:
    """Append a line to an open file that this process alone writes; if synced it is on the disk then.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    size_before = os.fstat(file).st_size
    try:
        while line:
            line = line[os.write(file, line) :]
        if is_synced:
            os.fsync(file)
    except OSError:
        # What was written of it, on a full disk for instance, must not stand before the next line.
        os.ftruncate(file, size_before)
        raise


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a file in their order, without the lines that a killed process left unfinished.

    Raises:
        EventLogError: a line is no JSON and is neither the unfinished last one nor followed by `cut_line`.
    """
    return [event for _, event in records_in(path.read_bytes(), path=path, tag=_TAG)]


def records_in(content: bytes, *, path: Path, tag: str) -> list[tuple[int, dict[str, Any]]]:
    """The records in what a file holds, each with the number of its line.

    Args:
        content: the bytes of the file.
        path: the file, for the message.
        tag: the key that says what kind of record each is.

    Raises:
        EventLogError: a line is no record and is neither the unfinished last one nor followed by `cut_line`.
    """
    lines = content.split(b"\n")
    may_be_cut = lines[-1] != b""
    if not may_be_cut:
        lines.pop()
    records: list[tuple[int, dict[str, Any]]] = []
    # From the end, because what follows a line says whether it may be unfinished.
    for number in range(len(lines), 0, -1):
        line = lines[number - 1]
        record = parse_record(line, tag=tag)
        if record is not None:
            records.append((number, record))
            may_be_cut = record[tag] == _CUT_LINE
        elif not may_be_cut:
            raise EventLogError(
                f"{path}, line {number}: expected a record as JSON with the key {tag!r}, got {line[:80]!r}; restore "
                "the file from a copy, or take the line out and keep it elsewhere"
            )
    return records[::-1]


def parse_record(line: bytes, *, tag: str = _TAG) -> dict[str, Any] | None:
    """The record in a line; None where it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and tag in record else None


def whole_events(content: bytes) -> Iterator[dict[str, Any]]:
    """The events in a piece of a file, without the lines that the piece cuts."""
    return filter(None, map(parse_record, content.split(b"\n")))


def json_line(record: Mapping[str, Any]) -> bytes:
    """A record as a line."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _line(event: str, **values: Any) -> bytes:
    finite = {name: None if _is_no_number(value) else value for name, value in values.items()}
    return json_line({"time_s": round(time.time(), 3), _TAG: event, **finite})


def _ends_within_a_line(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
