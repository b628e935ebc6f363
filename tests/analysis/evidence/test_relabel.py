"""Labels that came later feed selection and tables at once, and can be taken back."""

from pathlib import Path

import pytest
from study_folders import sections, write_study

from analysis.evidence.evidence import Evidence
from analysis.evidence.relabel import relabel, relabel_study
from analysis.tables.selection import select_thresholds
from analysis.tables.table4 import write_table4
from bccdist.configuration import SelectConfig
from bccdist.errors import ConfigurationError, LedgerError, ManifestError
from bccdist.paths import StudyPaths
from bccdist.sections.choices import read_selection
from bccdist.sections.section_rows import load_ledger

HEADER = "slide_id,section_id,label,labelled_by,labelled_at,prefilled\n"


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    test = sections(tp=5, fn=2, fp=1, tn=5, part="Test", slide_id="t")
    paths = write_study(tmp_path / "study", [*sections(tp=9, fn=0, fp=0, tn=9), *test])
    select_thresholds(paths.root, SelectConfig())
    return paths


def test_a_corrected_label_changes_table_4_at_once(paths: StudyPaths, tmp_path: Path) -> None:
    assert write_table4(Evidence(paths.root)).frame[["fn", "tn"]].to_numpy().tolist() == [[2, 5]]
    new = tmp_path / "sections.csv"
    new.write_text(
        HEADER + "t,Test-section-0005,Normal,dr,2026-01-02,Tumor\nt,Test-section-0000,Tumor,dr,2026-01-02,\n"
    )
    assert relabel(paths.root, new) == (1, 0)
    assert write_table4(Evidence(paths.root)).frame[["fn", "tn"]].to_numpy().tolist() == [[1, 6]]
    row = next(row for row in load_ledger(paths).to_pylist() if row["section_id"] == "Test-section-0005")
    assert (row["labelled_by"], row["labelled_at"], row["prefilled"]) == ("dr", "2026-01-02", "Tumor")


def test_a_corrected_label_changes_the_selection_at_once(paths: StudyPaths, tmp_path: Path) -> None:
    assert read_selection(paths)[["tp", "fn", "fp", "tn"]].to_numpy().tolist() == [[9, 0, 0, 9]]
    new = tmp_path / "sections.csv"
    new.write_text(HEADER + "Validation-II-0000,Validation-II-section-0000,Normal,dr,2026-01-02,\n")
    relabel(paths.root, new)
    select_thresholds(paths.root, SelectConfig())
    assert read_selection(paths)[["tp", "fn", "fp", "tn"]].to_numpy().tolist() == [[8, 0, 1, 9]]


def test_a_label_that_is_taken_away_leaves_the_section_out(paths: StudyPaths, tmp_path: Path) -> None:
    new = tmp_path / "sections.csv"
    new.write_text(HEADER + "t,Test-section-0005,,,,\n")
    relabel(paths.root, new)
    assert write_table4(Evidence(paths.root)).frame[["fn", "num_unlabelled"]].to_numpy().tolist() == [[1, 1]]


def test_the_ledgers_labels_come_back(paths: StudyPaths, tmp_path: Path) -> None:
    new = tmp_path / "sections.csv"
    new.write_text(HEADER + "t,Test-section-0005,Normal,,,\n")
    relabel_study(paths.root, new)
    relabel_study(paths.root, remove=True)
    assert write_table4(Evidence(paths.root)).frame[["fn", "tn"]].to_numpy().tolist() == [[2, 5]]


def test_sections_that_were_not_inferred_are_counted(paths: StudyPaths, tmp_path: Path) -> None:
    new = tmp_path / "sections.csv"
    new.write_text(HEADER + "t,Test-section-0005,Normal,,,\ntraining,s0,Normal,,,\n")
    assert relabel(paths.root, new) == (1, 1)


def test_a_file_of_other_slides_is_refused_and_nothing_changes(paths: StudyPaths, tmp_path: Path) -> None:
    new = tmp_path / "sections.csv"
    new.write_text(HEADER + "t,nowhere,Normal,,,\n")
    with pytest.raises(LedgerError, match=r"none of its 1 sections is in the ledger .*t/nowhere"):
        relabel(paths.root, new)
    assert not paths.labels.exists()


def test_a_file_with_faults_is_refused(paths: StudyPaths, tmp_path: Path) -> None:
    new = tmp_path / "sections.csv"
    new.write_text(HEADER + "t,Test-section-0005,Benign,,,\nt,Test-section-0005,Tumor,,,\n")
    with pytest.raises(ManifestError, match=r"2 fault\(s\)(.|\n)*Benign(.|\n)*more than once"):
        relabel(paths.root, new)


def test_a_file_or_remove_is_wanted_and_not_both(paths: StudyPaths) -> None:
    with pytest.raises(ConfigurationError, match="either"):
        relabel_study(paths.root)
