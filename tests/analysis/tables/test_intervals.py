"""Figures with intervals, alone and beside the paper's."""

from pathlib import Path

import pandas as pd
import pytest
from study_folders import ledger_row, sections, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.tables.beside_paper import write_beside_paper
from analysis.tables.intervals import write_intervals
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import LedgerError
from bccdist.paths import StudyPaths
from jobs import verify_paper


def study_with(folder: Path, rows: list) -> StudyPaths:  # type: ignore[type-arg]
    paths = write_study(folder, rows)
    select_thresholds(paths.root, SelectConfig())
    return paths


@pytest.fixture(scope="module")
def paper_study(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    """The paper's counts of resnet34_ds, and psi_0's of its Table 5."""
    test = sections(tp=1075, fn=44, fp=30, tn=813, part="Test")
    psi_0 = sections(tp=1073, fn=46, fp=33, tn=810, part="Test", psi="psi_0", is_final=False)
    rows = [*sections(tp=443, fn=2, fp=5, tn=634), *test, *psi_0]
    return study_with(tmp_path_factory.mktemp("paper"), rows)


def test_every_part_output_and_figure_has_an_interval_around_its_value(paper_study: StudyPaths) -> None:
    frame = write_intervals(Evidence(paper_study.root)).frame
    keys = set(zip(frame["part"], frame["psi"], strict=True))
    assert keys == {("Test", "psi_4"), ("Test", "psi_0"), ("Validation I + II", "psi_4")}
    assert len(frame) == 3 * 4
    assert (frame["low"] < frame["value"]).all()
    assert (frame["value"] < frame["high"]).all()
    accuracy = frame[(frame["part"] == "Test") & frame["is_final"] & (frame["figure"] == "accuracy")].iloc[0]
    assert accuracy["value"] == pytest.approx(1888 / 1962)
    assert (accuracy["num_sections"], accuracy["num_slides"]) == (1962, 20)


def test_the_table_prints_the_settings_own_outputs(paper_study: StudyPaths) -> None:
    table = write_intervals(Evidence(paper_study.root))
    assert table.printed[["part", "output"]].to_numpy().tolist() == [["Test", "psi_4"], ["Validation I + II", "psi_4"]]
    assert table.printed["accuracy"].iloc[0].startswith("0.962 (0.")
    assert "so its figures are too good" in table.markdown


def test_the_paper_and_the_study_stand_beside_each_other(paper_study: StudyPaths) -> None:
    table = write_beside_paper(Evidence(paper_study.root))
    rows = table.frame.set_index(["table", "psi"])
    assert rows.loc[("Table 4", "psi_4"), "accuracy_paper"] == "0.962"
    assert rows.loc[("Table 5", "psi_0"), "accuracy_paper"] == "0.9597"
    # The study has the paper's own counts, so its figures are the paper's.
    for _, row in table.frame.iterrows():
        for name in ("sensitivity", "specificity", "f_beta"):
            assert f"{row[name]:.3f}" == row[f"{name}_paper"]
    assert table.printed["accuracy"].iloc[0].startswith("0.9")


def test_verify_paper_prints_a_study_below_its_checks(
    paper_study: StudyPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify_paper, "checks", lambda: iter(()))
    assert verify_paper.main(paper_study.root) == 0
    printed = capsys.readouterr().out
    assert "0 of 0 checks hold" in printed
    assert "| Table 5" in printed


def test_without_labelled_sections_there_is_an_error(tmp_path: Path) -> None:
    paths = study_with(tmp_path, sections(tp=3, fn=0, fp=0, tn=3))
    for path in paths.ledger.rglob("*.parquet"):
        path.unlink()
    frame = pd.read_parquet(paths.selection)
    frame["epoch"] = 9
    frame.to_parquet(paths.selection)
    write_study(tmp_path, [ledger_row(label=None)])
    with pytest.raises(LedgerError, match="no sections of"):
        write_intervals(Evidence(paths.root))
