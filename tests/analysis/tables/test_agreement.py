"""Readers' agreement comes from what each of them said, in reviews and in files of labels, with an interval."""

import json
from pathlib import Path

import pandas as pd
import pytest
from review_study import copied_study, given, say
from study_folders import ledger_row, write_study

from analysis.review.answers import GivenAs, Withdrawal
from analysis.review.export import export_review
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.readings import LabelState, label_states, readings_of
from analysis.study_evidence.relabel import relabel
from analysis.tables.agreement import write_agreement
from analysis.tables.reference_standard import write_reference_standard
from bccdist.errors import NothingToShowError
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import read_manifest
from bccdist.study import keep_manifest


def study_of(folder: Path, num_slides: int = 8) -> StudyPaths:
    """Test slides of two sections each, without labels."""
    rows = [
        ledger_row(slide_id=f"s{slide}", section_id=f"s{slide}-{name}", part="Test", label=None, labelled_by="")
        for slide in range(num_slides)
        for name in "ab"
    ]
    paths = write_study(folder / "study", rows)
    lines = [f"s{slide},test,s{slide}.tif" for slide in range(num_slides)]
    (folder / "slides.csv").write_text("\n".join(["slide_id,part,path", *lines]), encoding="utf-8")
    keep_manifest(paths.root, read_manifest(folder / "slides.csv", files_must_exist=False))
    return paths


def file_of(folder: Path, reader: str, said: dict[str, str], *, prefilled: str = "", slide: str = "") -> Path:
    lines = [
        f"{slide or key.split('-')[0]},{key},{answer},{reader},2026-01-01,{prefilled}" for key, answer in said.items()
    ]
    path = folder / f"{reader}.csv"
    header = "slide_id,section_id,label,labelled_by,labelled_at,prefilled"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_files_of_two_readers_give_kappa_and_the_reference_standard(tmp_path: Path) -> None:
    paths = study_of(tmp_path)
    keys = [f"s{slide}-{name}" for slide in range(8) for name in "ab"]
    anna = dict(zip(keys, ["Tumor", "Normal"] * 8, strict=True))
    # Ben differs on three sections, is unsure of one, and did not see the last one.
    ben = {**anna, "s0-a": "Normal", "s1-b": "Tumor", "s2-a": "Normal", "s3-a": ""}
    del ben["s7-b"]
    relabel(paths.root, file_of(tmp_path, "anna", anna, prefilled="Tumor"), file_of(tmp_path, "ben", ben))
    (row,) = write_agreement(Evidence(paths.root)).frame.to_dict("records")
    assert (row["part"], row["one"], row["other"]) == ("Test", "anna", "ben")
    assert (row["num_sections"], row["num_agreed"], row["num_unsure"], row["num_slides"]) == (14, 11, 1, 8)
    assert row["kappa"] == pytest.approx(0.571, abs=0.001)
    assert row["kappa_low"] < row["kappa"] < row["kappa_high"]
    frame = write_reference_standard(Evidence(paths.root)).frame
    labelled = frame.set_index("labelled_by")
    assert labelled.loc["anna; ben", ["num_sections", "num_tumor", "num_normal"]].tolist() == [15, 5, 6]
    assert labelled.loc["anna; ben", ["num_conflict", "num_unsure", "num_prefilled"]].tolist() == [4, 0, 15]
    assert labelled.loc["anna", ["num_sections", "num_normal"]].tolist() == [1, 1]
    assert frame["num_sections"].sum() == 16
    assert frame["num_blind"].isna().all()


BLIND = {"is_blind": True, "was_shown": False, "prefilled": ""}
LATER = {"is_blind": True, "was_shown": True, "prefilled": "Tumor", "at": "2026-01-02T00:00:00.000+00:00"}
LEFT, RIGHT = "test-1/test-1-left", "test-1/test-1-right"


def taken_over(paths: StudyPaths) -> pd.DataFrame:
    """The reference standard of Test once the review's labels are the study's."""
    export_review(paths.root, paths.root.parent / "out")
    relabel(paths.root, paths.root.parent / "out" / "sections.csv", remove_labels=True)
    frame = write_reference_standard(Evidence(paths.root)).frame
    return frame[frame["part"] == "Test"].set_index("labelled_by")


def test_answers_of_a_review_in_the_study_count_and_say_what_was_blind(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    say(paths, "anna", given(**BLIND), given(LEFT, "Normal", **BLIND))
    say(paths, "ben", given(answer="Normal"), given(LEFT, "Normal", **BLIND))
    table = write_agreement(Evidence(paths.root))
    (row,) = table.frame.to_dict("records")
    assert (row["num_sections"], row["num_agreed"], row["num_blind"]) == (2, 1, 1)
    assert any("0 of 1 where its verdict was shown before, 1 of 3 where it was not" in note for note in table.notes)
    standard = taken_over(paths)
    assert standard.loc["anna; ben", ["num_sections", "num_blind"]].tolist() == [2, 1]
    assert standard["num_blind"].sum() == 1


def test_a_reading_that_was_changed_after_the_reveal_is_not_blind(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    say(paths, "anna", given(LEFT, "Normal", **BLIND), given(RIGHT, "Normal", **BLIND), given(LEFT, "Tumor", **LATER))
    say(paths, "ben", given(LEFT, "Tumor", **BLIND), given(RIGHT, "Normal", **BLIND))
    (row,) = write_agreement(Evidence(paths.root)).frame.to_dict("records")
    assert (row["num_sections"], row["num_agreed"], row["num_blind"]) == (2, 2, 1)
    assert taken_over(paths).loc["anna; ben", ["num_sections", "num_blind"]].tolist() == [2, 1]
    answers = pd.read_csv(tmp_path / "out" / "answers.csv").set_index(["section_id", "reviewer"])
    of_left = ("test-1-left", "anna")
    assert answers.loc[of_left, ["is_blind", "was_shown", "came_blind"]].tolist() == [True, True, False]
    assert answers["came_blind"].sum() == 3
    pair = json.loads((tmp_path / "out" / "agreement.json").read_text(encoding="utf-8"))["pairs"][0]
    assert (pair["num"], pair["num_blind"]) == (2, 1)


@pytest.mark.parametrize(("is_undone", "num_blind"), [(False, 0), (True, 1)])
def test_a_reading_that_was_withdrawn_and_given_again_is_blind_only_if_that_is_undone(
    tmp_path: Path, num_blind: int, *, is_undone: bool
) -> None:
    paths = copied_study(tmp_path)
    first, again = given(LEFT, "Normal", **BLIND), given(LEFT, "Normal", **LATER)
    away = Withdrawal(at=LATER["at"], withdrawn=(first.entry,))
    back = Withdrawal(at=LATER["at"], withdrawn=(again.entry, away.entry), is_undo=True)
    say(paths, "anna", first, away, again, *([back] if is_undone else []))
    assert taken_over(paths).loc["anna", ["num_sections", "num_blind"]].tolist() == [1, num_blind]


def test_a_decision_is_blind_only_with_the_readings_that_it_was_between(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    decision = {**BLIND, "given_as": GivenAs.DECISION}
    say(paths, "anna", given(LEFT, "Normal", **BLIND), given(RIGHT, "Normal", **BLIND))
    say(paths, "ben", given(LEFT, "Tumor", **BLIND), given(RIGHT, "Tumor", **LATER))
    say(paths, "carl", given(LEFT, "Tumor", **decision), given(RIGHT, "Tumor", **decision))
    assert taken_over(paths).loc["carl", ["num_sections", "num_blind"]].tolist() == [2, 1]


def test_a_label_of_somebody_else_is_not_blind_because_of_a_review(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    say(paths, "anna", given(LEFT, "Tumor", **BLIND))
    relabel(paths.root, file_of(tmp_path, "dora", {"test-1-left": "Normal"}, slide="test-1"))
    frame = write_reference_standard(Evidence(paths.root)).frame
    assert frame.loc[frame["labelled_by"] == "dora", "num_blind"].tolist() == [0]


def test_a_decision_that_nobody_can_say_is_unsure_and_no_conflict(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    say(paths, "anna", given(LEFT, "Normal"), given(RIGHT, "Normal"))
    say(paths, "ben", given(LEFT, "Tumor"), given(RIGHT, "Tumor"))
    say(paths, "carl", given(LEFT, "unsure", given_as=GivenAs.DECISION))
    standard = taken_over(paths)
    counts = ["num_sections", "num_unsure", "num_conflict"]
    assert standard.loc["carl", counts].tolist() == [1, 1, 0]
    assert standard.loc["anna; ben", counts].tolist() == [1, 0, 1]
    # Who decides is no reader, whatever was decided.
    assert readings_of(Evidence(paths.root)).keys() == {"anna", "ben"}


@pytest.mark.parametrize(("second", "expected"), [("unsure", LabelState.UNSURE), ("Tumor", LabelState.CONFLICT)])
def test_several_who_decide_have_to_agree_that_nobody_can_say(
    tmp_path: Path, second: str, expected: LabelState
) -> None:
    paths = copied_study(tmp_path)
    say(paths, "anna", given(LEFT, "Normal"))
    say(paths, "ben", given(LEFT, "Tumor"))
    say(paths, "carl", given(LEFT, "unsure", given_as=GivenAs.DECISION))
    say(paths, "dora", given(LEFT, second, given_as=GivenAs.DECISION))
    assert "carl; dora" in taken_over(paths).index
    assert label_states(Evidence(paths.root))["test-1", "test-1-left"] is expected
    # Given again beside another reader's file it stays what it is.
    exported = tmp_path / "out" / "sections.csv"
    relabel(
        paths.root, exported, file_of(tmp_path, "emil", {"test-0-left": "Tumor"}, slide="test-0"), remove_labels=True
    )
    assert label_states(Evidence(paths.root))["test-1", "test-1-left"] is expected


def test_one_reader_agrees_with_nobody(tmp_path: Path) -> None:
    paths = study_of(tmp_path)
    relabel(paths.root, file_of(tmp_path, "anna", {"s0-a": "Tumor"}))
    with pytest.raises(NothingToShowError, match="no section was answered by two readers"):
        write_agreement(Evidence(paths.root))
    frame = write_reference_standard(Evidence(paths.root)).frame
    assert frame[["labelled_by", "num_sections"]].to_numpy().tolist() == [["anna", 1], ["nobody", 15]]
