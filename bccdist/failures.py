"""Why a stage could not process a slide: one small JSON file each, gone once the slide goes through."""

from datetime import UTC, datetime
from pathlib import Path

from bccdist.files import read_json, write_json


def write_failure(path: Path, *, stage: str, slide_id: str, error: Exception) -> None:
    """Write the failure of one slide to `path` (`StudyPaths.failure`)."""
    write_json(
        path,
        {
            "slide_id": slide_id,
            "stage": stage,
            "reason": str(error),
            "error": type(error).__name__,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def read_reason(path: Path) -> str | None:
    """The reason in a failure file, None where there is no file."""
    return str(read_json(path)["reason"]) if path.exists() else None
