"""What lies in a study's folders, by names alone: no file is looked at one by one."""

import os
from collections.abc import Callable
from pathlib import Path

from bccdist.paths import StudyPaths

FileOf = Callable[[str], Path]
"""The file of a slide, by its slide_id."""


def names_in(folder: Path) -> list[str]:
    """Names of a folder's entries; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def whole_ids(file_of: FileOf) -> set[str]:
    """The slides that have a whole file; one that is being written has a name that goes on after its suffix."""
    example = file_of("x")
    names = names_in(example.parent)
    return {name.removesuffix(example.suffix) for name in names if name.endswith(example.suffix)}


def folders_in(folder: Path) -> list[str]:
    """Names of a folder's folders, sorted; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []


def epoch_folders(paths: StudyPaths, setting: str) -> dict[int, Path]:
    """The folders of a setting's ledger rows, by epoch."""
    folder = paths.ledger / setting
    return {int(name.removeprefix("epoch-")): folder / name for name in folders_in(folder)}
