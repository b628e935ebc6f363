"""The bounds of margins are a table of their own: what is on the page stands in its files."""

from pathlib import Path

import pandas as pd
from report_page import ReportPage
from study_folders import flat_margins, ledger_row, sections, write_study

from analysis.page.report import write_report
from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.files import write_json
from bccdist.paths import StudyPaths
from bccdist.sections.margins import MARGIN_WARNING


def study_of(folder: Path, *margins_um: float) -> StudyPaths:
    """Sections of Test that are Tumor, with these margins, and one that is Normal."""
    found = [
        ledger_row(
            slide_id="t",
            section_id=f"t-{number}",
            part="Test",
            margin_um=flat_margins(top_step=250, margin_um=margin_um),
        )
        for number, margin_um in enumerate(margins_um)
    ]
    normal = sections(tp=0, fn=0, fp=0, tn=1, part="Test", slide_id="t")
    paths = write_study(folder / "study", [*sections(tp=2, fn=0, fp=0, tn=2), *found, *normal])
    lines = ["slide_id,part,path", "t,Test,t.tif", "Validation-II-0000,val2,v.tif"]
    (folder / "slides.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(paths.study, {"manifest": str(folder / "slides.csv"), "phantom": False})
    select_thresholds(paths.root, SelectConfig())
    return paths


def test_sections_called_tumor_stand_there_nearest_first_and_so_on_the_page(tmp_path: Path) -> None:
    paths = study_of(tmp_path, 120.0, 7.5)
    page = ReportPage(write_report(Evidence(paths.root)))
    frame = pd.read_parquet(paths.tables / "margin_bounds.parquet")
    assert frame[["section_id", "ledger_margin_um"]].to_numpy().tolist() == [["t-1", 7.5], ["t-0", 120.0]]
    assert frame.attrs["margins"] == MARGIN_WARNING
    assert [row["margin, not below um"] for row in page.table("Research use only.")] == ["8", "120"]
    assert page.warnings["Margins"] == [MARGIN_WARNING]
    for ending in ("csv", "md"):
        assert (paths.tables / f"margin_bounds.{ending}").exists()


def test_without_a_section_called_tumor_the_page_says_so(tmp_path: Path) -> None:
    paths = study_of(tmp_path)
    page = ReportPage(write_report(Evidence(paths.root)))
    assert page.left_out()["margin bounds"] == "no section of Test was called Tumor"
    assert not (paths.tables / "margin_bounds.parquet").exists()
