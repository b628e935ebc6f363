"""What happened, as JSON lines: one file per rank, one object per line."""

import json
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
        """Append one event with its time (seconds since 1970)."""
        self._file.write(json.dumps({"time_s": round(time.time(), 3), "event": event, **values}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
