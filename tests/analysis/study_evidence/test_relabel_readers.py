"""Several readers' files of labels: where they differ there is no label, and nothing that one said is lost."""

from pathlib import Path

import pytest
from study_folders import ledger_row, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.readings import LabelState, label_states, readings_of
from analysis.study_evidence.relabel import relabel, relabel_study
from bccdist.errors import ConfigurationError
from bccdist.paths import StudyPaths
from bccdist.sections.section_rows import load_ledger
from bccdist.slides.manifest import read_manifest, read_sections
from bccdist.study import keep_manifest

HEADER = "slide_id,section_id,label,labelled_by,labelled_at,prefilled,conflict\n"


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    """Sections a to e of Test; the manifest labels a Tumor, by the laboratory, and no other."""
    rows = [
        ledger_row(slide_id="s", section_id=name, part="Test", label="Tumor" if name == "a" else None)
        for name in "abcde"
    ]
    paths = write_study(tmp_path / "study", rows)
    data = tmp_path / "data"
    data.mkdir()
    (data / "slides.csv").write_text("slide_id,part,path\ns,test,s.tif\n", encoding="utf-8")
    lines = [f"s,{name},{'Tumor,lab' if name == 'a' else ','},2025-01-01," for name in "abcde"]
    (data / "sections.csv").write_text("\n".join([HEADER.replace(",conflict", ""), *lines]), encoding="utf-8")
    keep_manifest(paths.root, read_manifest(data / "slides.csv", files_must_exist=False))
    return paths


def file_of(folder: Path, reader: str, answers: dict[str, str], *, at: str = "2026-01-01") -> Path:
    """A reader's file in a folder of his: answers by section; a section without one stands there as in the study."""
    lines = ["s,a,Tumor,lab,2025-01-01,,"] if "a" not in answers else []
    lines += [f"s,{name},{answer},{reader},{at},," for name, answer in answers.items()]
    path = folder / reader / "sections.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def labels_of(paths: StudyPaths) -> dict[str, str | None]:
    return {row["section_id"]: row["label"] for row in load_ledger(paths).to_pylist()}


def test_readers_who_differ_leave_no_label_and_are_named(paths: StudyPaths, tmp_path: Path) -> None:
    anna = file_of(tmp_path, "anna", {"b": "Tumor", "c": "Normal", "d": "Tumor", "e": ""})
    ben = file_of(tmp_path, "ben", {"b": "Tumor", "c": "Tumor", "d": "", "e": ""}, at="2026-01-02")
    said = relabel_study(paths.root, (anna, ben))
    assert "0 label(s) changed, 1 added, 0 removed, 1 kept" in said
    assert "note: readers differ on 2 section(s), which have no label: s/c, s/d" in said
    assert "note: of 1 section(s) their readers are unsure; they have no label" in said
    assert labels_of(paths) == {"a": "Tumor", "b": "Tumor", "c": None, "d": None, "e": None}
    kept = {row.section_id: row for row in read_sections(paths.labels)}
    assert kept["b"].labelled_by == "anna; ben"
    assert kept["c"].extra["conflict"] == "anna: Normal; ben: Tumor"
    assert kept["d"].extra["conflict"] == "anna: Tumor; ben: unsure"
    assert kept["e"].labelled_by == "anna; ben"
    states = {section_id: state for (_, section_id), state in label_states(Evidence(paths.root)).items()}
    assert states == {
        "a": LabelState.LABELLED,
        "b": LabelState.LABELLED,
        "c": LabelState.CONFLICT,
        "d": LabelState.CONFLICT,
        "e": LabelState.UNSURE,
    }


def test_what_each_reader_said_is_read_back(paths: StudyPaths, tmp_path: Path) -> None:
    files = [
        file_of(tmp_path, "anna", {"b": "Tumor", "c": "Normal"}),
        file_of(tmp_path, "ben", {"b": "Tumor", "c": "Tumor"}),
        file_of(tmp_path, "cleo", {"c": ""}),
    ]
    relabel(paths.root, *files)
    assert readings_of(Evidence(paths.root)) == {
        "anna": {("s", "b"): "Tumor", ("s", "c"): "Normal"},
        "ben": {("s", "b"): "Tumor", ("s", "c"): "Tumor"},
        "cleo": {("s", "c"): "unsure"},
    }


def test_one_file_after_the_other_says_that_it_replaces_another_readers_labels(
    paths: StudyPaths, tmp_path: Path
) -> None:
    relabel(paths.root, file_of(tmp_path, "anna", {"b": "Tumor", "c": "Normal"}))
    said = relabel_study(paths.root, (file_of(tmp_path, "ben", {"b": "Normal", "c": "Normal"}),))
    assert "note: 1 label(s) of another reader were replaced; give the readers' files at once" in said


def test_one_export_with_conflicts_keeps_them_and_changes_nothing_when_given_again(
    paths: StudyPaths, tmp_path: Path
) -> None:
    path = file_of(tmp_path, "anna", {})
    row = "s,b,,anna; ben,2026-01-01,,anna: Tumor; ben: Normal\n"
    path.write_text(HEADER + row, encoding="utf-8")
    first, again = (relabel(paths.root, path) for _ in range(2))
    assert (first.conflicts, first.has_changed) == (("s/b",), True)
    assert again.has_changed is False
    assert label_states(Evidence(paths.root))["s", "b"] is LabelState.CONFLICT
    # A third reader decides; his file comes alone.
    relabel(paths.root, file_of(tmp_path, "chief", {"b": "Tumor"}))
    assert label_states(Evidence(paths.root))["s", "b"] is LabelState.LABELLED


def test_a_reader_who_says_nothing_of_a_label_does_not_stand_for_it(paths: StudyPaths, tmp_path: Path) -> None:
    anna, ben = file_of(tmp_path, "anna", {"a": "Normal"}), file_of(tmp_path, "ben", {"b": "Tumor"})
    assert relabel(paths.root, anna, ben).conflicts == ()
    assert labels_of(paths)["a"] == "Normal"


def test_of_a_reader_in_two_files_the_newest_answer_counts(paths: StudyPaths, tmp_path: Path) -> None:
    late = file_of(tmp_path, "anna", {"b": "Normal"}, at="2026-03-01").rename(tmp_path / "late.csv")
    relabel(paths.root, late, file_of(tmp_path, "anna", {"b": "Tumor"}, at="2026-02-01"))
    assert labels_of(paths)["b"] == "Normal"


def test_a_label_that_readers_differ_on_goes_only_where_that_is_asked_for(paths: StudyPaths, tmp_path: Path) -> None:
    files = file_of(tmp_path, "anna", {"a": "Normal"}), file_of(tmp_path, "ben", {"a": "Tumor"})
    with pytest.raises(ConfigurationError, match=r"1 label\(s\) would be removed: s/a .*readers differ"):
        relabel(paths.root, *files)
    assert relabel(paths.root, *files, remove_labels=True).conflicts == ("s/a",)


def test_of_several_files_each_row_has_to_name_its_reader(paths: StudyPaths, tmp_path: Path) -> None:
    files = file_of(tmp_path, "anna", {"b": "Normal"}), file_of(tmp_path, "", {"b": "Tumor"})
    with pytest.raises(ConfigurationError, match=r"1 row\(s\) do not say in labelled_by .* s/b"):
        relabel(paths.root, *files)
    assert not paths.labels.exists()


def test_the_order_of_the_readers_files_says_nothing(paths: StudyPaths, tmp_path: Path) -> None:
    """Also where answers are of the same time, and a model had filled in different labels."""
    files = [
        file_of(tmp_path, name, {"b": "Tumor", "c": label}) for name, label in (("anna", "Tumor"), ("ben", "Normal"))
    ]
    for path, prefilled in zip(files, ("Tumor", "Normal"), strict=True):
        path.write_text(path.read_text(encoding="utf-8").replace(",2026-01-01,,", f",2026-01-01,{prefilled},"))
    assert relabel(paths.root, *files).has_changed
    before = paths.labels.read_bytes()
    assert not relabel(paths.root, *reversed(files)).has_changed
    assert paths.labels.read_bytes() == before
