"""Tables 3 to 5 from a synthetic ledger print the paper's own figures, and say what they stand on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_folders import NORMAL_CURVE, TUMOR_CURVE, ledger_row, sections, write_study

from analysis.page.summary import print_tables
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table, markdown_of
from analysis.tables.flip_shifts import write_flip_shifts
from analysis.tables.nearest_verdicts import write_nearest_verdicts
from analysis.tables.section_verdicts import write_verdict_table
from analysis.tables.selection import select_thresholds
from analysis.tables.table3 import write_table3
from analysis.tables.table4 import write_table4
from analysis.tables.table5 import write_table5
from bccdist.configuration import SelectConfig
from bccdist.errors import LedgerError
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.speedups.record import MeasuredOutput

VALIDATION = sections(tp=443, fn=2, fp=5, tn=634)
TEST = sections(tp=1075, fn=44, fp=30, tn=813, part="Test")
FEW_VALIDATION = sections(tp=3, fn=0, fp=0, tn=3)
FEW_TEST = sections(tp=3, fn=1, fp=1, tn=3, part="Test")


def study_of(folder: Path, rows: list[dict[str, Any]]) -> StudyPaths:
    """A study whose thresholds are selected."""
    paths = write_study(folder, rows)
    select_thresholds(paths.root, SelectConfig())
    return paths


@pytest.fixture(scope="module")
def paper_study(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    """The paper's counts; psi_0 misses two more sections and finds three that are not there."""
    changed = {f"Test-section-{number:04d}" for number in (0, 1, 1900, 1901, 1902)}
    psi_0 = []
    for row in TEST:
        flipped = TUMOR_CURVE if row["label"] == "Normal" else NORMAL_CURVE
        curve = flipped.tolist() if row["section_id"] in changed else row["largest_region_px"]
        psi_0.append({**row, "psi": "psi_0", "is_final": False, "largest_region_px": curve})
    return study_of(tmp_path_factory.mktemp("paper"), [*VALIDATION, *TEST, *psi_0])


def body_of(table: Table) -> list[list[str]]:
    """The cells below the rule of a printed table."""
    lines = [line for line in table.markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_table_3(paper_study: StudyPaths) -> None:
    (row,) = body_of(write_table3(Evidence(paper_study.root)))
    assert row[4:] == ["0.994", "0.996", "0.992", "0.993", "443", "2", "5", "634", "0", "1084", "11"]
    assert (paper_study.tables / "table3.md").read_text().startswith("**Table 3.")


def test_table_4(paper_study: StudyPaths) -> None:
    (row,) = body_of(write_table4(Evidence(paper_study.root)))
    assert row[1:] == [
        "0.962",
        "0.961",
        "0.964",
        "0.964",
        "1075",
        "44",
        "30",
        "813",
        "0",
        "1962",
        "20",
        "1.00",
        "1.00",
    ]
    written = pd.read_parquet(paper_study.tables / "table4.parquet").iloc[0]
    assert written["accuracy"] == 1888 / 1962
    assert written["weights_digest"] == "abcdefabcdef"
    assert pd.read_csv(paper_study.tables / "table4.csv")["fn"].tolist() == [44]


def test_table_5(paper_study: StudyPaths) -> None:
    rows = body_of(write_table5(Evidence(paper_study.root)))
    assert rows == [
        ["psi_0", "0.9597", "0.959", "0.961", "0.962", "46", "33", "0", "5", "3", "2"],
        ["psi_4", "0.9622", "0.961", "0.964", "0.964", "44", "30", "0", "0", "0", "0"],
    ]


def test_table_5_has_times_where_the_calibration_measured_them(
    paper_study: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = {
        psi: MeasuredOutput(psi=psi, patch_s=seconds, score_std=1) for psi, seconds in (("psi_0", 0.4), ("psi_4", 0.6))
    }
    monkeypatch.setattr("analysis.tables.table5.measured_outputs", lambda *_: costs)
    table = write_table5(Evidence(paper_study.root))
    assert table.printed["ms a patch"].tolist() == ["400", "600"]
    assert table.printed["of the whole"].tolist() == ["67%", "100%"]
    assert pd.read_parquet(paper_study.tables / "table5.parquet")["patch_s"].tolist() == [0.4, 0.6]


def test_verdicts_of_sections(paper_study: StudyPaths) -> None:
    write_table4(Evidence(paper_study.root))
    every_output = pd.read_parquet(paper_study.tables / "section_verdicts.parquet")
    assert every_output["psi"].value_counts().to_dict() == {"psi_0": 1962, "psi_4": 1962}
    assert (every_output[["read_s", "network_s"]] == 1.0).all(axis=None)
    verdicts = every_output[every_output["is_final"]]
    assert verdicts.index.tolist() == list(range(1962))
    assert (~verdicts["correct"]).sum() == 74
    assert not verdicts["correct"].iloc[:74].any()
    missed = verdicts[(verdicts["label"] == "Tumor") & ~verdicts["correct"]]
    assert (missed["verdict"] == "Normal").all()
    assert (missed["area_um2"] < missed["t_a_um2"]).all()


def test_review_and_unlabelled_sections_are_no_errors(tmp_path: Path) -> None:
    test = sections(tp=3, fn=0, fp=1, tn=3, review=2, part="Test")
    unlabelled = ledger_row(slide_id="new", section_id="new", part="Test", label=None)
    paths = study_of(tmp_path, [*FEW_VALIDATION, *test, unlabelled])
    table = write_table4(Evidence(paths.root))
    (row,) = body_of(table)
    assert row[5:] == ["3", "0", "1", "3", "2", "9", "2", "1.00", "1.00"]
    assert "without a label are left out: 1" in table.markdown
    verdicts = pd.read_parquet(paths.tables / "section_verdicts.parquet").set_index("section_id")
    table_5 = write_table5(Evidence(paths.root)).markdown
    assert "without a label are left out: 1" in table_5
    assert "Sections without a label" not in write_table3(Evidence(paths.root)).markdown
    assert verdicts["correct"].isna().sum() == 3
    assert verdicts.loc["new", "verdict"] == "Tumor"
    assert verdicts["verdict"].value_counts().to_dict() == {"Tumor": 5, "Normal": 3, "review": 2}


@pytest.mark.parametrize(
    ("phantom", "phantom_weights", "warning"),
    [
        (True, True, "PHANTOM DATA - drawn slides, not tissue"),
        (True, False, "PHANTOM DATA - drawn slides, not tissue"),
        (False, True, "PHANTOM WEIGHTS - the network was trained on drawn slides, not on tissue"),
    ],
)
def test_phantoms_are_named_in_every_title(tmp_path: Path, phantom: bool, phantom_weights: bool, warning: str) -> None:
    """Drawn slides by one warning, and real ones under a network of drawn slides by another."""
    marks = {"phantom": phantom, "phantom_weights": phantom_weights}
    rows = [{**row, **marks} for row in [*FEW_VALIDATION, *FEW_TEST]]
    root = study_of(tmp_path, rows).root
    for table in (
        write_table3(Evidence(root)),
        write_table4(Evidence(root)),
        write_table5(Evidence(root)),
        write_verdict_table(Evidence(root)),
    ):
        assert table.markdown.splitlines()[0].endswith(f"** {warning}")
        assert table.frame[list(marks)].all().to_dict() == marks


def test_real_slides_are_not_called_phantoms(paper_study: StudyPaths) -> None:
    assert "PHANTOM" not in write_table4(Evidence(paper_study.root)).markdown


def test_missing_test_part_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = study_of(tmp_path, FEW_VALIDATION).root
    with pytest.raises(LedgerError, match="no sections of Test for the chosen models"):
        write_table4(Evidence(root))
    print_tables(Evidence(root))
    printed = capsys.readouterr().out
    assert "**Table 3." in printed
    assert "table4: not made" in printed
    assert "table5: not made" in printed


def test_setting_without_test_sections_is_named(tmp_path: Path) -> None:
    other = [{**row, "setting": "unet"} for row in FEW_VALIDATION]
    table = write_table4(Evidence(study_of(tmp_path, [*FEW_VALIDATION, *other, *FEW_TEST]).root))
    assert [row[0] for row in body_of(table)] == ["resnet34_ds"]
    assert "No Test sections in the ledger yet for: unet." in table.markdown


def test_settings_judged_on_different_sections_are_said(tmp_path: Path) -> None:
    other = [{**row, "setting": "unet"} for row in [*FEW_VALIDATION, *FEW_TEST[:-1]]]
    table = write_table4(Evidence(study_of(tmp_path, [*FEW_VALIDATION, *FEW_TEST, *other]).root))
    assert "not judged on the same sections" in table.markdown


def test_other_weights_than_the_chosen_are_refused(tmp_path: Path) -> None:
    test = [{**row, "weights_digest": "f" * 12} for row in FEW_TEST]
    with pytest.raises(LedgerError, match="the weights ffffffffffff, but abcdefabcdef were chosen"):
        write_table4(Evidence(study_of(tmp_path, [*FEW_VALIDATION, *test]).root))


def test_sections_that_end_with_another_output_than_the_thresholds_were_chosen_on_are_refused(tmp_path: Path) -> None:
    test = [{**row, "psi": "psi_0"} for row in FEW_TEST]
    with pytest.raises(LedgerError, match=r"psi_0 is the final output of 8 section\(s\).*were chosen on psi_4"):
        write_table4(Evidence(study_of(tmp_path, [*FEW_VALIDATION, *test]).root))


def test_thresholds_that_were_chosen_on_an_early_output_judge_it(tmp_path: Path) -> None:
    rows = [{**row, "psi": "psi_0"} for row in (*FEW_VALIDATION, *FEW_TEST)]
    assert "psi_0" not in write_table4(Evidence(study_of(tmp_path, rows).root)).markdown


def test_output_that_misses_a_section_is_refused(tmp_path: Path) -> None:
    psi_0 = [{**row, "psi": "psi_0", "is_final": False} for row in FEW_TEST[:3]]
    with pytest.raises(LedgerError, match="psi_0 has 3 Test sections and the final output 4"):
        write_table5(Evidence(study_of(tmp_path, [*FEW_VALIDATION, *FEW_TEST[:4], *psi_0]).root))


def test_table_5_of_a_setting_that_was_not_selected(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="nothing was selected for unet; selected were resnet34_ds"):
        write_table5(Evidence(study_of(tmp_path, FEW_VALIDATION).root), "unet")


def test_nothing_selected(tmp_path: Path) -> None:
    for write in (write_table3, write_table4, write_table5):
        with pytest.raises(LedgerError, match="run the selection first"):
            write(Evidence(tmp_path))


def test_markdown_is_aligned() -> None:
    assert markdown_of(pd.DataFrame({"name": ["a", "longer"], "n": ["1", "100"]})).splitlines() == [
        "| name   |   n |",
        "| :----- | --: |",
        "| a      |   1 |",
        "| longer | 100 |",
    ]


@pytest.mark.parametrize("write", [write_verdict_table, write_flip_shifts, write_nearest_verdicts])
def test_tables_of_another_part_leave_those_of_test_as_they_are(
    tmp_path: Path, write: Callable[[Evidence, Part], Table]
) -> None:
    paths = write_study(tmp_path, [*sections(tp=5, fn=1, fp=1, tn=5), *sections(tp=2, fn=0, fp=0, tn=2, part="Test")])
    select_thresholds(paths.root, SelectConfig())
    own = write(Evidence(paths.root), Part.TEST).name
    before = (paths.tables / f"{own}.parquet").read_bytes()
    assert write(Evidence(paths.root), Part.VALIDATION_2).name == f"{own}_val2"
    assert (paths.tables / f"{own}.parquet").read_bytes() == before
    assert (paths.tables / f"{own}_val2.parquet").exists()
