"""Why a stage could not process a slide: one small JSON file each, gone once the slide goes through."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from bccdist.addresses import without_secrets
from bccdist.files import read_json, write_json

BEGUN = "Begun"
"""The kind of error of a slide that a process began and has not ended: it is at work, or it was killed."""


def write_begun(path: Path, *, stage: str, slide_id: str) -> None:
    """Write down that a slide is begun; once it is ended, a failure takes the file's place, or nothing does."""
    reason = "the process that worked on it was killed, or is still at work"
    write_failure(path, stage=stage, slide_id=slide_id, reason=reason, error=BEGUN)


def is_begun(path: Path) -> bool:
    """Whether a process began the slide and has not ended it."""
    return path.exists() and read_json(path)["error"] == BEGUN


def write_failure(path: Path, *, stage: str, slide_id: str, reason: str, error: str) -> None:
    """Write the failure of one slide to `path` (`StudyPaths.failure`); `error` names the kind of error."""
    write_json(
        path,
        {
            "slide_id": slide_id,
            "stage": stage,
            "reason": without_secrets(reason),
            "error": error,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": platform.node(),
            "process": os.getpid(),
        },
    )


def read_reason(path: Path) -> str | None:
    """The reason in a failure file, None where there is no file."""
    return str(read_json(path)["reason"]) if path.exists() else None
