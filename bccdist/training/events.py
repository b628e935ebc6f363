"""What happened, as JSON lines: one file per rank, one object per line."""

import json
import math
import time
from pathlib import Path
from typing import Any


class EventLog:
    """Appends events to a file; each line is whole or absent."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, event: str, **values: Any) -> None:
        """Append one event with its time (seconds since 1970); NaN and infinity, which JSON lacks, become null."""
        values = {name: None if _is_no_number(value) else value for name, value in values.items()}
        line = {"time_s": round(time.time(), 3), "event": event, **values}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
