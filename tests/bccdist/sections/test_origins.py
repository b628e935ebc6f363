"""What a selection was made from is known by content: a copy is no newer than what it was copied from."""

import os
from pathlib import Path

import pytest
from study_folders import ledger_row, write_study

from bccdist.files import write_text
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import write_rows
from bccdist.sections.origins import is_origin_of_today, keep_origin, origin_now


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    """Two epochs of a slide, and a selection that was made from them."""
    paths = write_study(tmp_path / "study", [ledger_row(epoch=epoch) for epoch in (1, 2)])
    write_text(paths.selection, "chosen")
    keep_origin(paths.selection_origin, origin_now(paths), made=paths.selection)
    return paths


def is_as_it_was(paths: StudyPaths) -> bool | None:
    return is_origin_of_today(paths.selection_origin, paths, made=paths.selection)


def all_times(paths: StudyPaths, time_s: float) -> None:
    """As a copy that keeps no times."""
    for path in paths.root.rglob("*"):
        os.utime(path, (time_s, time_s))


@pytest.mark.parametrize("time_s", [1e9, 2e9])
def test_times_of_a_copy_mean_nothing(paths: StudyPaths, time_s: float) -> None:
    assert is_as_it_was(paths)
    all_times(paths, time_s)
    assert is_as_it_was(paths)


@pytest.mark.parametrize("change", ["another label", "another slide", "another epoch", "labels", "selection"])
def test_what_has_changed_is_noticed_whatever_the_times_say(paths: StudyPaths, change: str) -> None:
    changes = {
        "another label": {"label": "Normal"},
        "another slide": {"slide_id": "slide-1"},
        "another epoch": {"epoch": 3},
    }
    if change in changes:
        row = ledger_row(**changes[change])
        write_rows(paths.ledger_rows(row["setting"], row["epoch"], row["slide_id"]), [row])
    else:
        write_text(paths.labels if change == "labels" else paths.selection, "other")
    all_times(paths, 1e9)
    assert is_as_it_was(paths) is False


def test_a_selection_of_an_older_version_does_not_say_it(paths: StudyPaths) -> None:
    paths.selection_origin.unlink()
    assert is_as_it_was(paths) is None
