"""What a selection was made from is known by content: a copy is no newer than what it was copied from."""

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
from study_folders import ledger_row, write_study

from bccdist.files import write_text
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import write_rows
from bccdist.sections.origins import changes_since, faults_in, keep_origin, origin_now
from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    """Two epochs of a slide, and a selection that was made from them."""
    paths = write_study(tmp_path / "study", [ledger_row(epoch=epoch) for epoch in (1, 2)])
    write_text(paths.selection, "chosen")
    keep_origin(paths.origin("selection"), origin_now(paths, MANIFEST), made=paths.selection)
    return paths


def manifest_of(**slides: Part) -> Manifest:
    records = [SlideRecord(slide_id=name, part=part, path=Path(f"{name}.tif")) for name, part in slides.items()]
    return Manifest(path=Path("slides.csv"), slides=tuple(records), sections=())


MANIFEST = manifest_of(a=Part.VALIDATION_1, b=Part.VALIDATION_2, c=Part.TEST)
OF_VALIDATION = (Part.VALIDATION_1, Part.VALIDATION_2)


def changes(paths: StudyPaths, manifest: Manifest = MANIFEST, parts: Collection[Part] = tuple(Part)) -> str | None:
    return changes_since(paths.origin("selection"), paths, manifest, made=paths.selection, parts=parts)


def all_times(paths: StudyPaths, time_s: float) -> None:
    """As a copy that keeps no times."""
    for path in paths.root.rglob("*"):
        os.utime(path, (time_s, time_s))


@pytest.mark.parametrize("time_s", [1e9, 2e9])
def test_times_of_a_copy_mean_nothing(paths: StudyPaths, time_s: float) -> None:
    assert changes(paths) == ""
    all_times(paths, time_s)
    assert changes(paths) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("another label", "rows of resnet34_ds/epoch-001 have changed"),
        ("another slide", "rows of resnet34_ds/epoch-001 have changed"),
        ("another epoch", "rows of resnet34_ds/epoch-003 have changed"),
        ("labels", "labels.csv has changed"),
        ("selection", "selection.parquet is another one"),
    ],
)
def test_what_has_changed_is_said_whatever_the_times_say(paths: StudyPaths, change: str, told: str) -> None:
    rows = {
        "another label": {"label": "Normal"},
        "another slide": {"slide_id": "slide-1"},
        "another epoch": {"epoch": 3},
    }
    if change in rows:
        row = ledger_row(**rows[change])
        write_rows(paths.ledger_rows(row["setting"], row["epoch"], row["slide_id"]), [row])
    else:
        write_text(paths.labels if change == "labels" else paths.selection, "other")
    all_times(paths, 1e9)
    assert changes(paths) == told


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (manifest_of(a=Part.VALIDATION_1, b=Part.VALIDATION_2), "slides.csv names 0 slides of Test, and did name 1"),
        (
            manifest_of(a=Part.VALIDATION_1, b=Part.VALIDATION_2, c=Part.TEST, d=Part.TEST),
            "slides.csv names 2 slides of Test, and did name 1",
        ),
        (
            manifest_of(a=Part.VALIDATION_1, b=Part.VALIDATION_2, d=Part.TEST),
            "slides.csv names other slides of Test than before",
        ),
        (
            replace(MANIFEST, sections=(SectionRecord(slide_id="c", section_id="c-s0", label=None),)),
            "labels or boxes of Test in sections.csv have changed",
        ),
        (
            replace(MANIFEST, slides=tuple(replace(slide, scanner="another") for slide in MANIFEST.slides)),
            "what slides.csv or kinds.toml say has changed",
        ),
    ],
)
def test_what_the_manifest_names_by_now_is_compared_too(paths: StudyPaths, now: Manifest, told: str) -> None:
    assert changes(paths, now) == told
    assert changes(paths, now, OF_VALIDATION) == "", "these are as they were"


def test_a_choice_rests_on_the_slides_of_validation(paths: StudyPaths) -> None:
    now = manifest_of(b=Part.VALIDATION_2, c=Part.TEST)
    assert changes(paths, now, OF_VALIDATION) == "slides.csv names 0 slides of Validation I, and did name 1"


def test_what_could_not_be_made_is_kept_with_its_reason(paths: StudyPaths) -> None:
    assert faults_in(paths.origin("selection")) == faults_in(paths.origin("tables")) == {}
    keep_origin(
        paths.origin("tables"), origin_now(paths, MANIFEST), made=paths.selection, faults={"figure7": "no slide"}
    )
    assert faults_in(paths.origin("tables")) == {"figure7": "no slide"}


def test_a_selection_of_an_older_version_does_not_say_it(paths: StudyPaths) -> None:
    paths.origin("selection").unlink()
    assert changes(paths) is None


def test_what_an_older_version_noted_without_the_manifest_is_compared_without_it(paths: StudyPaths) -> None:
    keep_origin(paths.origin("selection"), origin_now(paths, None), made=paths.selection)
    assert changes(paths, manifest_of(c=Part.TEST)) == ""
