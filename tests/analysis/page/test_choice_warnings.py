"""A choice of thresholds that means little is said at the head of the page."""

from pathlib import Path

from study_folders import sections, write_study

from analysis.page.report import write_report
from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.files import write_json


def page_of(root: Path, **validation: int) -> str:
    rows = [*sections(**validation), *sections(tp=3, fn=1, fp=1, tn=3, part="Test")]
    paths = write_study(root / "study", rows)
    lines = ["slide_id,part,path", "Validation-II-0000,Validation II,v.tif", "Test-0000,Test,t.tif"]
    (root / "slides.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(paths.study, {"manifest": str(root / "slides.csv"), "phantom": False})
    select_thresholds(paths.root, SelectConfig())
    return write_report(Evidence(paths.root)).read_text(encoding="utf-8")


def test_a_specificity_of_0_is_called_a_choice_that_says_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path, tp=30, fn=0, fp=30, tn=0)
    assert "its specificity on Validation I + II is 0, no Normal section is right." in page
    assert "so that chance decides much" not in page


def test_few_sections_of_a_kind_are_counted(tmp_path: Path) -> None:
    page = page_of(tmp_path, tp=7, fn=1, fp=0, tn=40)
    assert "The choice rests on 8 Tumor sections of Validation I + II" in page
    assert "Normal sections of Validation I + II, so that" not in page


def test_a_plateau_that_reaches_the_edge_of_the_grid_is_said_with_what_was_tried_last(tmp_path: Path) -> None:
    # Regions of 50,000 px at 250 / 255 against ones at 10 / 255: any t_p above 0.04 and small t_A is as good.
    assert "reaches the edge of the grid (t_p 0.05, t_p 0.95, t_A 1280" in page_of(tmp_path, tp=30, fn=0, fp=0, tn=30)
