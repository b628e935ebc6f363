"""Why a stage could not process a slide: one small JSON file each, gone once the slide goes through."""

from datetime import UTC, datetime
from pathlib import Path

from bccdist.files import read_json, write_json


def write_failure(path: Path, *, stage: str, slide_id: str, reason: str, error: str) -> None:
    """Write the failure of one slide to `path` (`StudyPaths.failure`); `error` names the kind of error."""
    write_json(
        path,
        {
            "slide_id": slide_id,
            "stage": stage,
            "reason": reason,
            "error": error,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def read_reason(path: Path) -> str | None:
    """The reason in a failure file, None where there is no file."""
    return str(read_json(path)["reason"]) if path.exists() else None
