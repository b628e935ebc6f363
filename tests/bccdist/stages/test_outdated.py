"""Which results of a study are out of date is known by what they were made from, each for itself."""

from pathlib import Path

import pandas as pd
import pytest
from study_folders import ledger_row, write_study

from bccdist.files import write_json, write_text
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import write_rows
from bccdist.sections.origins import keep_origin, origin_now
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.stages.outdated import BY_TIMES, MADE_OF_ALL, REMEDY, Result, outdated_results, told_outdated

SETTING = "resnet34_ds"
HEADER = "slide_id,section_id,label,labelled_by,labelled_at,prefilled,conflict\n"
PARTS = {"val": Part.VALIDATION_2, "test": Part.TEST}
MANIFEST = Manifest(
    path=Path("slides.csv"),
    slides=tuple(SlideRecord(slide_id=name, part=part, path=Path(f"{name}.tif")) for name, part in PARTS.items()),
    sections=(),
)


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    """Rows of two epochs, a selection that chose the first, and all that is made of it, each with its origin."""
    rows = [
        ledger_row(slide_id=name, section_id=f"{name}-0", part=part.value, epoch=epoch)
        for epoch in (1, 2)
        for name, part in PARTS.items()
    ]
    paths = write_study(tmp_path / "study", rows)
    choose(paths)
    for path in (
        paths.tables / "table4.parquet",
        paths.report,
        paths.figure("figure6"),
        paths.overlay(SETTING, "test"),
    ):
        write_text(path, "made")
    make(paths, *MADE_OF_ALL)
    return paths


def choose(paths: StudyPaths, t_p: float = 0.5) -> None:
    choice = {"setting": SETTING, "epoch": 1, "psi": "psi_4", "t_p": t_p, "t_a_um2": 1280.0, "beta": 1.5}
    choice |= {"area_unit": "physical", "weights_digest": "abcdefabcdef"}
    paths.selection.parent.mkdir(exist_ok=True)
    pd.DataFrame([choice]).to_parquet(paths.selection)
    make(paths, Result.SELECTION)


def make(paths: StudyPaths, *results: Result) -> None:
    for result in results:
        keep_origin(paths.origin(result), origin_now(paths, MANIFEST), made=paths.selection)


def found(paths: StudyPaths) -> dict[Result, str]:
    return outdated_results(paths, MANIFEST)


def correct(paths: StudyPaths, *lines: str) -> None:
    write_text(paths.labels, HEADER + "".join(f"{line}\n" for line in lines))


def test_corrected_labels_of_test_leave_the_thresholds_as_they_are_and_all_else_is_of_before(
    paths: StudyPaths,
) -> None:
    assert found(paths) == {}
    correct(paths, "test,test-0,Normal,anna,2026-01-01,,")
    assert found(paths) == dict.fromkeys(MADE_OF_ALL, "labels.csv has changed")
    make(paths, *MADE_OF_ALL)
    assert found(paths) == {}


def test_corrected_labels_of_validation_make_the_thresholds_and_what_rests_on_them_old(paths: StudyPaths) -> None:
    correct(paths, "val,val-0,Normal,anna,2026-01-01,,")
    assert found(paths)[Result.SELECTION] == f"{SETTING}: labels.csv has changed"
    # Tables that are made now rest on thresholds of before.
    make(paths, *MADE_OF_ALL)
    so = f"so is the selection that it rests on: {SETTING}: labels.csv has changed"
    assert found(paths) == {Result.SELECTION: f"{SETTING}: labels.csv has changed", **dict.fromkeys(MADE_OF_ALL, so)}
    choose(paths)
    assert found(paths) == {}, "it chose the same again"
    choose(paths, t_p=0.6)
    assert set(found(paths)) == set(MADE_OF_ALL)


@pytest.mark.parametrize("also", [(), ("stranger,s,Tumor,anna,,,",)], ids=["another order", "a slide of no study"])
def test_the_same_labels_in_another_order_are_the_same(paths: StudyPaths, also: tuple[str, ...]) -> None:
    lines = (
        "val,val-0,Normal,anna,2026-01-01,,",
        "test,test-0,,anna; ben,2026-01-02,,anna: Tumor; ben: Normal",
    )
    correct(paths, *lines)
    make(paths, Result.SELECTION, *MADE_OF_ALL)
    correct(paths, *reversed(lines), *also)
    assert found(paths) == {}


def test_who_set_a_label_is_shown_and_chooses_nothing(paths: StudyPaths) -> None:
    correct(paths, "val,val-0,Normal,anna,2026-01-01,,")
    make(paths, Result.SELECTION, *MADE_OF_ALL)
    correct(paths, "val,val-0,Normal,ben,2026-01-01,,")
    assert found(paths) == dict.fromkeys(MADE_OF_ALL, "labels.csv has changed")


@pytest.mark.parametrize("result", MADE_OF_ALL)
def test_each_result_is_known_by_itself(paths: StudyPaths, result: Result) -> None:
    """A report that was made anew makes no picture new, and taking labels back does not make it true."""
    correct(paths, "test,test-0,Normal,anna,2026-01-01,,")
    make(paths, result)
    assert found(paths) == dict.fromkeys(
        [each for each in MADE_OF_ALL if each is not result], "labels.csv has changed"
    )
    paths.labels.unlink()
    assert set(found(paths)) == {result}


def test_rows_that_came_since_are_named(paths: StudyPaths) -> None:
    write_rows(
        paths.ledger_rows(SETTING, 2, "val"), [ledger_row(slide_id="val", section_id="val-0", epoch=2, label="Normal")]
    )
    reason = f"rows of {SETTING}/epoch-002 have changed"
    assert found(paths) == {Result.SELECTION: f"{SETTING}: {reason}", **dict.fromkeys(MADE_OF_ALL, reason)}


def test_what_could_not_be_made_may_be_of_before(paths: StudyPaths) -> None:
    keep_origin(
        paths.origin("overlays"), origin_now(paths, MANIFEST), made=paths.selection, faults={"overlays": "slide gone"}
    )
    assert found(paths) == {Result.OVERLAYS: "not all could be made: overlays"}


def test_before_what_the_tables_said_was_true_of_all(paths: StudyPaths) -> None:
    for result in (Result.REPORT, Result.FIGURES, Result.OVERLAYS):
        paths.origin(result).unlink()
    origin = origin_now(paths, MANIFEST)
    keep_origin(paths.origin("tables"), origin, made=paths.selection, of_one_result=False)
    assert found(paths) == {}
    correct(paths, "test,test-0,Normal,anna,2026-01-01,,")
    assert found(paths) == dict.fromkeys(MADE_OF_ALL, "labels.csv has changed")
    # A report of today says nothing of pictures: their times do.
    make(paths, Result.TABLES, Result.REPORT)
    assert found(paths) == dict.fromkeys((Result.FIGURES, Result.OVERLAYS), BY_TIMES)


def test_a_cohorts_thresholds_rest_on_no_label_of_its_own(paths: StudyPaths) -> None:
    write_json(paths.model, {})
    correct(paths, "val,val-0,Normal,anna,2026-01-01,,")
    assert set(found(paths)) == set(MADE_OF_ALL)


def test_they_are_told_by_reason_and_with_what_to_do_in_order() -> None:
    told = told_outdated({Result.SELECTION: "a", Result.TABLES: "b", Result.REPORT: "b"}, study="'a b'")
    selection, tables = (REMEDY[result].replace("STUDY", "'a b'") for result in (Result.SELECTION, Result.TABLES))
    assert told == f"out of date: selection: a; tables, report: b. To make them anew: {selection}, then {tables}"
