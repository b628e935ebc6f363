"""The checklists name all that three guidelines ask; answers are the study's, and what it does not know is open."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_folders import sections, write_study

from analysis.page.report import _COHORT_PAGE, _STUDY_PAGE
from analysis.study_evidence.evidence import Evidence
from analysis.tables.checklist_facts import Facts
from analysis.tables.checklist_items import ITEMS
from analysis.tables.checklists import _IN_A_COHORT, write_checklists
from analysis.tables.selection import select_thresholds
from analysis.tables.table4 import write_table4
from bccdist.configuration import SelectConfig
from bccdist.slides.manifest import read_manifest
from bccdist.study import keep_manifest

STARD_AI = [
    *(str(number) for number in range(1, 41) if number not in (15, 16, 17, 26, 40)),
    *("15a", "15b", "15c", "15d", "16a", "16b", "16c", "17a", "17b", "26a", "26b", "40a", "40b"),
]
CLAIM = [str(number) for number in range(1, 45)]
TRIPOD_AI = [
    *(
        "1",
        "2",
        "3a",
        "3b",
        "3c",
        "4",
        "5a",
        "5b",
        "6a",
        "6b",
        "6c",
        "7",
        "8a",
        "8b",
        "8c",
        "9a",
        "9b",
        "9c",
        "10",
        "11",
    ),
    *(f"12{letter}" for letter in "abcdefg"),
    *("13", "14", "15", "16", "17", *(f"18{letter}" for letter in "abcdef"), "19", "20a", "20b", "20c"),
    *("21", "22", "23a", "23b", "24", "25", "26", "27a", "27b", "27c"),
]


@pytest.mark.parametrize(
    ("guideline", "numbers"), [("stard_ai", STARD_AI), ("claim", CLAIM), ("tripod_ai", TRIPOD_AI)]
)
def test_every_number_of_a_guideline_has_its_row(guideline: str, numbers: list[str]) -> None:
    there = [number for item in ITEMS for number in getattr(item, guideline).split(", ") if number]
    assert set(there) == set(numbers)


def test_every_answer_is_a_fact_and_every_place_a_part_of_the_page() -> None:
    for item in ITEMS:
        assert not item.answer or isinstance(getattr(Facts, item.answer), property), item.topic
        assert bool(item.where) == bool(item.answer), item.topic
        assert not item.where or item.where in _STUDY_PAGE, item.topic
        assert not item.where or _IN_A_COHORT.get(item.where, item.where) in _COHORT_PAGE, item.topic


def test_an_item_has_one_row() -> None:
    assert len({item.topic for item in ITEMS}) == len(ITEMS)


def study_of(folder: Path, *, labelled: bool = True, columns: str = "", **counts: int) -> Evidence:
    test: list[dict[str, Any]] = sections(part="Test", **{"tp": 5, "fn": 1, "fp": 2, "tn": 4, **counts})
    rows = [*sections(tp=9, fn=0, fp=0, tn=9), *(row if labelled else {**row, "label": None} for row in test)]
    folder.mkdir(exist_ok=True)
    paths = write_study(folder / "study", rows)
    names, values = ("," + columns.partition("=")[0], "," + columns.partition("=")[2]) if columns else ("", "")
    lines = [f"Test-0000,test,t.tif{values}", f"Validation-II-0000,val2,v.tif{values}"]
    (folder / "slides.csv").write_text("\n".join([f"slide_id,part,path{names}", *lines]), encoding="utf-8")
    keep_manifest(paths.root, read_manifest(folder / "slides.csv", files_must_exist=False))
    select_thresholds(paths.root, SelectConfig())
    return Evidence(paths.root)


def rows_of(study: Evidence) -> pd.DataFrame:
    return write_checklists(study).frame.set_index("topic")


def test_figures_are_those_of_the_other_tables(tmp_path: Path) -> None:
    study = study_of(tmp_path, review=2)
    rows, (table4,) = rows_of(study), write_table4(study).frame.to_dict("records")
    counts = ", ".join(f"{table4[name]} {name.upper()}" for name in ("tp", "fn", "fp", "tn"))
    assert rows.loc["Test against reference standard, as counts", "answer"] == counts == "5 TP, 1 FN, 2 FP, 4 TN"
    assert f"accuracy {table4['accuracy']:.3f} (" in rows.loc["Accuracy with its uncertainty", "answer"]
    assert "2 sections of Test for review" in rows.loc["Results that are no clear yes or no", "answer"]


def test_without_labels_nothing_that_rests_on_them_is_claimed(tmp_path: Path) -> None:
    rows = rows_of(study_of(tmp_path, labelled=False))
    for topic in (
        "Test against reference standard, as counts",
        "Accuracy with its uncertainty",
        "Performance on the data that chose, and on Test",
        "Figures, and how they were computed and compared",
        "Who labelled",
        "The reference standard",
        "Agreement of those who labelled",
        "Size of the sample, and why",
    ):
        assert rows.loc[topic, ["state", "answer", "left_open"]].tolist() == ["open", "", "all of it"], topic
    assert rows.loc["What is missing, and what was done about it", "state"] == "answered"


def test_groups_scanners_and_patients_are_answered_only_where_the_manifest_names_them(tmp_path: Path) -> None:
    topics = ["Errors and fairness by groups of people", "Scanners"]
    assert rows_of(study_of(tmp_path / "a"))["state"][topics].tolist() == ["open", "open"]
    rows = rows_of(study_of(tmp_path / "b", columns="sex=f"))
    assert rows.loc[topics[0], ["state", "answer"]].tolist() == ["in part", "figures by sex"]
    rows = rows_of(study_of(tmp_path / "c", columns="scanner=NanoZoomer"))
    assert rows.loc[topics[1], "answer"] == "NanoZoomer (1 slides of Test)"


def test_what_only_authors_can_say_is_always_open(tmp_path: Path) -> None:
    rows = rows_of(study_of(tmp_path))
    for topic in ("Approval by an ethics committee, and consent", "Funding, and the role of funders", "Limitations"):
        assert rows.loc[topic, "state"] == "open"
    counted = rows["state"].value_counts()
    note = f"{counted['answered']} answered, {counted['in part']} in part, {counted['open']} open."
    assert note in (tmp_path / "study" / "tables" / "checklists.md").read_text(encoding="utf-8")
