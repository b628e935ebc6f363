"""What a selection and tables were made from, so that a copy of a study knows, too, whether they are out of date.

Times of files tell it at once, and mean nothing in a copy that did not keep them: where a time is another one, the
content decides.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bccdist.files import digest_of, read_json, sha256_of_file, write_json
from bccdist.paths import StudyPaths
from bccdist.seals import name_of_content

Origin = dict[str, Any]
"""As JSON: the ledger's folders by name, each with its time and the name of its content, and the labels' SHA-256."""


def origin_now(paths: StudyPaths) -> Origin:
    """What would be made from now; asked before the ledger is read, so that no later row is taken for known."""
    folders = sorted(folder for folder in paths.ledger.glob("*/*") if folder.is_dir())
    return {
        "ledger": {
            _name(paths, folder): {"time_ns": folder.stat().st_mtime_ns, "content": _content(folder)}
            for folder in folders
        },
        "labels": _labels(paths),
    }


def keep_origin(path: Path, origin: Origin, *, made: Path) -> None:
    """Write what `made` was made from, once it is there."""
    write_json(path, {**origin, "made": name_of_content(made)})


def is_origin_of_today(
    path: Path, paths: StudyPaths, *, made: Path, counts: Callable[[str, int], bool] = lambda *_: True
) -> bool | None:
    """Whether what `made` was made from is there as it was; None where a file of an older version does not say it.

    Args:
        path: where it was kept.
        paths: of the study.
        made: the file that it speaks of.
        counts: whether a setting's epoch is looked at.
    """
    if not path.exists():
        return None
    origin = read_json(path)
    if origin["made"] != name_of_content(made) or origin["labels"] != _labels(paths):
        return False
    folders = {
        _name(paths, folder): folder
        for folder in paths.ledger.glob("*/*")
        if folder.is_dir() and counts(folder.parent.name, int(folder.name.removeprefix("epoch-")))
    }
    return all(name in origin["ledger"] and _is_as(folder, origin["ledger"][name]) for name, folder in folders.items())


def _is_as(folder: Path, before: dict[str, Any]) -> bool:
    return bool(folder.stat().st_mtime_ns == before["time_ns"] or _content(folder) == before["content"])


def _name(paths: StudyPaths, folder: Path) -> str:
    return folder.relative_to(paths.ledger).as_posix()


def _content(folder: Path) -> str:
    return digest_of([[file.name, name_of_content(file)] for file in sorted(folder.glob("*.parquet"))])


def _labels(paths: StudyPaths) -> str:
    return sha256_of_file(paths.labels) if paths.labels.exists() else ""
