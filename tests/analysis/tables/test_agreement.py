"""Readers' agreement comes from what each of them said, in reviews and in files of labels, with an interval."""

from pathlib import Path

import pytest
from review_study import copied_study, given, say
from study_folders import ledger_row, write_study

from analysis.study_evidence.evidence import Evidence
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


def file_of(folder: Path, reader: str, said: dict[str, str], *, prefilled: str = "") -> Path:
    lines = [f"{key.split('-')[0]},{key},{answer},{reader},2026-01-01,{prefilled}" for key, answer in said.items()]
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


def test_answers_of_a_review_in_the_study_count_and_say_what_was_blind(tmp_path: Path) -> None:
    paths = copied_study(tmp_path)
    blind = {"is_blind": True, "was_shown": False, "prefilled": ""}
    say(paths, "anna", given(**blind), given("test-1/test-1-left", "Normal", **blind))
    say(paths, "ben", given(answer="Normal"), given("test-1/test-1-left", "Normal", **blind))
    table = write_agreement(Evidence(paths.root))
    (row,) = table.frame.to_dict("records")
    assert (row["num_sections"], row["num_agreed"]) == (2, 1)
    assert any("0 of 1 where its verdict was shown before, 1 of 3 where it was not" in note for note in table.notes)
    standard = write_reference_standard(Evidence(paths.root)).frame
    assert standard.loc[standard["part"] == "Test", "num_blind"].sum() == 1


def test_one_reader_agrees_with_nobody(tmp_path: Path) -> None:
    paths = study_of(tmp_path)
    relabel(paths.root, file_of(tmp_path, "anna", {"s0-a": "Tumor"}))
    with pytest.raises(NothingToShowError, match="no section was answered by two readers"):
        write_agreement(Evidence(paths.root))
    frame = write_reference_standard(Evidence(paths.root)).frame
    assert frame[["labelled_by", "num_sections"]].to_numpy().tolist() == [["anna", 1], ["nobody", 15]]
