"""The export: labels in the manifest's own form, conflicts that are shown, and no answer that is lost."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from review_study import copied_study, drawn_square, given, original, say

from analysis.review.answers import GivenAs, GivenRegions, Withdrawal
from analysis.review.export import export_review
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.readings import readings_of
from analysis.study_evidence.relabel import relabel, relabel_study
from analysis.tables.table4 import write_table4
from bccdist.configuration import PHANTOM_WARNING
from bccdist.errors import ConfigurationError, LedgerError, StageFailedError
from bccdist.files import write_json, write_text
from bccdist.parts import Label
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import Manifest, read_manifest

LEFT, RIGHT, OTHER, THIRD = (
    "test-0/test-0-left",
    "test-0/test-0-right",
    "test-1/test-1-left",
    "test-1/test-1-right",
)


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return copied_study(tmp_path)


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["section_id"]: row for row in csv.DictReader(file)}


def manifest_with(sections: Path, folder: Path) -> Manifest:
    """The manifest as it is once the exported file has taken the place of its own."""
    shutil.copytree(original().manifest.path.parent, folder, copy_function=lambda src, dst: Path(dst).hardlink_to(src))
    (folder / "sections.csv").unlink()
    shutil.copy(sections, folder / "sections.csv")
    return read_manifest(folder / "slides.csv")


def test_the_export_takes_the_place_of_the_manifests_own_file(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", given("test-2/test-2-left", "Tumor", at="2026-02-03T04:05:06.000+00:00", prefilled=""))
    export_review(paths.root, tmp_path / "out")
    after = manifest_with(tmp_path / "out" / "sections.csv", tmp_path / "data")
    before = {section.section_id: section for section in original().manifest.sections}
    assert [section.section_id for section in after.sections] == list(before)
    for section in after.sections:
        assert section.box_level0_px == before[section.section_id].box_level0_px
        if section.section_id != "test-2-left":
            assert section.label == before[section.section_id].label
    labelled = next(section for section in after.sections if section.section_id == "test-2-left")
    assert (labelled.label, labelled.labelled_by, labelled.labelled_at, labelled.prefilled) == (
        Label.TUMOR,
        "anna",
        "2026-02-03T04:05:06.000+00:00",
        "",
    )


def test_the_last_answer_counts_with_what_was_filled_in_then(paths: StudyPaths, tmp_path: Path) -> None:
    blind = given(answer="Normal", is_blind=True, was_shown=False, prefilled="", at="2026-01-01")
    say(paths, "anna", blind, given(answer="Tumor", prefilled="Tumor", at="2026-01-02"))
    export_review(paths.root, tmp_path / "out")
    row = rows(tmp_path / "out" / "sections.csv")["test-0-left"]
    assert (row["label"], row["prefilled"], row["labelled_at"]) == ("Tumor", "Tumor", "2026-01-02")


def test_a_damaged_ledger_is_not_taken_for_one_without_boxes(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", given())
    rows_file = next(paths.ledger.rglob("*.parquet"))
    shutil.copy(rows_file, rows_file.with_name("again.parquet"))
    with pytest.raises(LedgerError, match="twice"):
        export_review(paths.root, tmp_path / "out")
    assert not (tmp_path / "out" / "sections.csv").exists()


def test_reviewers_who_agree_give_a_label_and_those_who_differ_a_conflict(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", given("test-0/test-0-left", "Tumor"), given("test-0/test-0-right", "Normal", at="2026-05-01"))
    say(paths, "bert", given("test-0/test-0-left", "Normal"), given("test-0/test-0-right", "Normal", at="2026-04-01"))
    said = export_review(paths.root, tmp_path / "out")
    found = rows(tmp_path / "out" / "sections.csv")
    assert (found["test-0-left"]["label"], found["test-0-left"]["conflict"]) == ("", "anna: Tumor; bert: Normal")
    agreed = found["test-0-right"]
    assert (agreed["label"], agreed["labelled_by"], agreed["labelled_at"]) == ("Normal", "anna; bert", "2026-05-01")
    assert agreed["conflict"] == ""
    conflicts = pd.read_csv(tmp_path / "out" / "conflicts.csv")
    assert conflicts[["section_id", "reviewer", "answer"]].to_numpy().tolist() == [
        ["test-0-left", "anna", "Tumor"],
        ["test-0-left", "bert", "Normal"],
    ]
    assert "1 labelled, 1 with different answers (conflicts.csv), 0 unsure" in said


def test_a_decision_between_readers_is_the_label_and_its_origin_is_said(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", given(LEFT, "Tumor"), given(RIGHT, "Normal"), given(OTHER, "Tumor"), given(THIRD, "Tumor"))
    say(paths, "bert", given(LEFT, "Normal"), given(RIGHT, "Normal"), given(OTHER, "Normal"))
    decision = {"given_as": GivenAs.DECISION, "at": "2026-06-01", "prefilled": ""}
    say(paths, "carl", given(LEFT, "Normal", **decision), given(RIGHT, "Tumor", **decision))
    said = export_review(paths.root, tmp_path / "out")
    assert "3 labelled (1 decided between readers), 1 with different answers (conflicts.csv), 0 unsure" in said
    found = rows(tmp_path / "out" / "sections.csv")
    columns = ("label", "labelled_by", "label_origin", "conflict")
    names = [key.split("/")[1] for key in (LEFT, RIGHT, OTHER, THIRD)]
    assert [tuple(found[name][column] for column in columns) for name in names] == [
        ("Normal", "carl", "decided", "anna: Tumor; bert: Normal"),
        # What readers agree on needs no decision.
        ("Normal", "anna; bert", "readers agree", ""),
        ("", "anna; bert", "", "anna: Tumor; bert: Normal"),
        ("Tumor", "anna", "one reader", ""),
    ]
    conflicts = pd.read_csv(tmp_path / "out" / "conflicts.csv")
    assert conflicts[conflicts["section_id"] == names[0]]["given_as"].tolist() == ["answer", "answer", "decision"]


def test_relabel_understands_where_labels_come_from(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", given(LEFT, "Normal"), given(RIGHT, "Normal"), given(THIRD, "Normal"))
    say(paths, "bert", given(LEFT, "Tumor"), given(RIGHT, "Normal"))
    say(paths, "carl", given(LEFT, "Normal", given_as=GivenAs.DECISION))
    export_review(paths.root, tmp_path / "out")
    exported = tmp_path / "out" / "sections.csv"
    found = relabel(paths.root, exported)
    assert found.origins == {"decided": 1, "readers agree": 1, "one reader": 1}
    assert (found.conflicts, found.misspelt) == ((), {})
    again = tmp_path / "again.csv"
    again.write_text(exported.read_text().replace("decided", "readers agree"))
    assert "origin of the labels that were read: 1 one reader, 2 readers agree" in relabel_study(paths.root, (again,))
    # Of several files the one with the decision decides.
    lines = exported.read_text().splitlines()
    only_anna = [lines[0], *(line.replace("carl", "anna") for line in lines if LEFT.split("/")[1] in line)]
    (tmp_path / "anna.csv").write_text("\n".join(only_anna).replace("anna: Normal; bert: Tumor", "") + "\n")
    assert relabel(paths.root, tmp_path / "anna.csv", exported).conflicts == ()
    assert readings_of(Evidence(paths.root)).keys() == {"anna", "bert"}


def test_unsure_leaves_no_label_but_who_looked(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", given("test-0/test-0-left", "unsure"))
    export_review(paths.root, tmp_path / "out")
    row = rows(tmp_path / "out" / "sections.csv")["test-0-left"]
    assert (row["label"], row["labelled_by"], row["conflict"]) == ("", "anna", "")


def test_every_answer_is_in_the_file_of_answers_also_one_whose_section_has_gone(
    paths: StudyPaths, tmp_path: Path
) -> None:
    say(paths, "anna", given(comment="=1+2"), given("gone/gone-1", comment='a "b", c\nd'))
    said = export_review(paths.root, tmp_path / "out")
    assert "NOT IN sections.csv: 1 answered section(s)" in said
    assert "gone/gone-1" in said
    found = rows(tmp_path / "out" / "answers.csv")
    assert found["test-0-left"]["comment"] == "'=1+2"
    assert found["gone-1"]["comment"] == 'a "b", c\nd'


def test_sections_without_boxes_get_those_that_were_looked_at(paths: StudyPaths, tmp_path: Path) -> None:
    """Their slides were inferred, so boxes were found for them."""
    data = tmp_path / "given"
    data.mkdir()
    source = original().manifest.path.parent
    (data / "slides.csv").write_text((source / "slides.csv").read_text())
    lines = (source / "sections.csv").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("val1-1")]
    stripped = [",".join([*line.split(",")[:3], *[""] * 4]) if line.startswith("test-") else line for line in kept]
    (data / "sections.csv").write_text("\n".join(stripped) + "\n")
    paths.study.write_text(json.dumps({"manifest": str(data / "slides.csv"), "phantom": True}))
    say(paths, "anna", given("val1-1/val1-1-left"))
    export_review(paths.root, tmp_path / "out")
    found = rows(tmp_path / "out" / "sections.csv")
    assert found["test-0-left"]["width_level0_px"] == "1100"
    assert found["test-2-left"]["width_level0_px"] == ""
    assert (found["val1-1-left"]["label"], found["val1-1-left"]["x_level0_px"]) == ("Tumor", "0")
    assert found["val1-1-right"]["label"] == "Normal"


def test_regions_are_written_for_each_slide_and_reviewer(paths: StudyPaths, tmp_path: Path) -> None:
    for reviewer, edge in (("anna", 10), ("Dr. B", 20)):
        regions = GivenRegions(at="2026", slide_id="test-0", features=(drawn_square(1, 1, edge),))
        say(paths, reviewer, regions=regions)
    export_review(paths.root, tmp_path / "out")
    files = sorted((tmp_path / "out" / "regions").iterdir())
    assert [file.name.split(".")[0] for file in files] == ["test-0", "test-0"]
    contents = [json.loads(file.read_text()) for file in files]
    assert {each["features"][0]["properties"]["metadata"]["reviewer"] for each in contents} == {"anna", "Dr. B"}
    assert all(each["warning"] == PHANTOM_WARNING for each in contents)


def test_a_slide_that_is_gone_is_named_after_all_else_is_written(paths: StudyPaths, tmp_path: Path) -> None:
    for reviewer, slide_id in (("anna", "gone"), ("bert", "test-0")):
        say(paths, reviewer, regions=GivenRegions(at="2026", slide_id=slide_id, features=(drawn_square(1, 1, 9),)))
    with pytest.raises(StageFailedError, match="gone, by anna: it is not in the manifest any more"):
        export_review(paths.root, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out" / "regions").iterdir()] == ["test-0.bert.geojson"]


def test_agreement_is_written_with_the_warning(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", given())
    say(paths, "bert", given())
    export_review(paths.root, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert (report["pairs"][0]["num"], report["pairs"][0]["kappa"]) == (1, None)
    assert (report["phantom"], report["warning"]) == (True, PHANTOM_WARNING)


def test_the_manifests_own_file_is_not_overwritten(paths: StudyPaths) -> None:
    say(paths, "anna", given())
    folder = original().manifest.path.parent
    before = (folder / "sections.csv").read_bytes()
    with pytest.raises(ConfigurationError, match="is the study's own"):
        export_review(paths.root, folder)
    assert (folder / "sections.csv").read_bytes() == before


def test_a_study_that_nobody_reviewed_is_an_error(paths: StudyPaths, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nobody has reviewed this study yet"):
        export_review(paths.root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_corrected_label_feeds_table_4_at_once(paths: StudyPaths, tmp_path: Path) -> None:
    def false_alarms() -> int:
        frame = write_table4(Evidence(paths.root)).frame.set_index("setting")
        return int(frame.loc["resnet34_ds", "fp"])

    assert false_alarms() == 1
    say(paths, "anna", given("test-1/test-1-right", "Tumor"))
    export_review(paths.root, tmp_path / "out")
    assert relabel(paths.root, tmp_path / "out" / "sections.csv").num_changed == 1
    assert false_alarms() == 0


def test_reviewers_are_those_who_answered(paths: StudyPaths, tmp_path: Path) -> None:
    """Not who opened the page, nor who took all back."""
    say(paths, "anna", given())
    say(paths, "bert")
    taken = given()
    say(paths, "carl", taken, Withdrawal(at="2026", withdrawn=(taken.entry,)))
    assert "answered by 1 reviewer(s)" in export_review(paths.root, tmp_path / "out")
    assert rows(tmp_path / "out" / "answers.csv")["test-0-left"]["reviewer"] == "anna"


def test_text_is_no_formula_in_any_table(paths: StudyPaths, tmp_path: Path) -> None:
    for reviewer, said in (("a;=1+1", "Tumor"), ("bert", "Normal")):
        say(paths, reviewer, given(answer=said, comment="\n\uff1dcmd"))
    export_review(paths.root, tmp_path / "out")
    for name, columns in (("answers.csv", ["reviewer", "comment"]), ("sections.csv", ["labelled_by", "conflict"])):
        for row in pd.read_csv(tmp_path / "out" / name, dtype=str).fillna("").to_dict("records"):
            assert all(";=" not in row[column] and "\n\uff1d" not in row[column] for column in columns)


def test_fields_of_a_later_version_are_exported(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", given(more={"certainty": 0.9}))
    path = paths.review_journal("anna")
    path.write_text(path.read_text() + '{"kind": "voice", "version": 99, "at": "2027"}\n')
    said = export_review(paths.root, tmp_path / "out")
    assert json.loads(rows(tmp_path / "out" / "answers.csv")["test-0-left"]["more"]) == {"certainty": 0.9}
    assert said.startswith("1 line(s) of anna's journal are of a later version: they are kept, and do NOT count here")


@pytest.mark.parametrize("full_at", ["conflicts.csv", "agreement.json", "test-0.anna.geojson"])
def test_a_full_disk_is_said_with_what_is_written(
    paths: StudyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    say(paths, "anna", given(), regions=GivenRegions(at="2026", slide_id="test-0", features=(drawn_square(1, 1, 9),)))
    before = paths.review_journal("anna").read_bytes()

    def refusing(write: Any) -> Any:
        def write_or_refuse(path: Path, content: Any) -> None:
            if path.name == full_at:
                raise OSError(28, "No space left on device")
            write(path, content)

        return write_or_refuse

    monkeypatch.setattr("analysis.review.export.write_text", refusing(write_text))
    monkeypatch.setattr("analysis.review.export.write_json", refusing(write_json))
    with pytest.raises(StageFailedError, match="No space left on device; written are sections") as found:
        export_review(paths.root, tmp_path / "out")
    written = {file.name for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert {name for name in ("sections.csv", "conflicts.csv", "answers.csv") if name in str(found.value)} == (
        written - {"agreement.json"}
    )
    assert paths.review_journal("anna").read_bytes() == before
