"""What happened, as JSON lines: one file per rank, one object per line."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from bccdist.errors import EventLogError

_CUT_LINE = "cut_line"
"""The event after a line that a killed process left unfinished."""


class EventLog:
    """Appends events to a file; each line is whole, or is followed by an event `cut_line`."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending; what a killed process left there stays a line of its own."""
        path.parent.mkdir(parents=True, exist_ok=True)
        is_cut = _ends_within_a_line(path)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        if is_cut:
            self._file.write("\n" + _line(_CUT_LINE))

    def write(self, event: str, **values: Any) -> None:
        """Append one event with its time (seconds since 1970); NaN and infinity, which JSON lacks, become null."""
        self._file.write(_line(event, **values))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of one rank in their order, without the lines that a killed process left unfinished.

    Raises:
        EventLogError: a line is no JSON and is neither the unfinished last one nor followed by `cut_line`.
    """
    lines = path.read_bytes().split(b"\n")
    may_be_cut = lines[-1] != b""
    if not may_be_cut:
        lines.pop()
    events: list[dict[str, Any]] = []
    for number in range(len(lines), 0, -1):
        line = lines[number - 1]
        event = _event_of(line)
        if event is not None:
            events.append(event)
            may_be_cut = event["event"] == _CUT_LINE
        elif not may_be_cut:
            raise EventLogError(f"{path}, line {number}: expected one event as JSON, got {line[:80]!r}")
    return events[::-1]


def _event_of(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _line(event: str, **values: Any) -> str:
    finite = {name: None if _is_no_number(value) else value for name, value in values.items()}
    return json.dumps({"time_s": round(time.time(), 3), "event": event, **finite}, allow_nan=False) + "\n"


def _ends_within_a_line(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
