"""The report of a cohort: by what model, what was found, what failed; figures come with labels that come later."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cohort import write_cohort, write_model_file, write_slides
from model_study import SETTING
from report_page import ReportPage, check_page_against_ledger

from analysis.page.report import write_report
from analysis.page.stage import write_tables
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.relabel import relabel_study
from analysis.tables.selection import select_thresholds
from bccdist.configuration import PHANTOM_WARNING, PHANTOM_WEIGHTS_WARNING, SelectConfig
from bccdist.errors import ConfigurationError, StageFailedError
from bccdist.failures import write_failure
from bccdist.models.model_file import read_model
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.slides.quality_measures import MEASURES


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    """Two slides of two sections each, and one that failed, after the tables stage."""
    folder = tmp_path_factory.mktemp("cohort")
    model, slides = write_model_file(folder), write_slides(folder / "slides", "one", "two", "cut")
    paths = write_cohort(folder / "lab2", model.path, slides)
    for place in (paths.ledger_rows(SETTING, 2, "cut"), paths.heatmap(SETTING, 2, "cut")):
        place.unlink()
    write_failure(
        paths.failure(f"infer-{SETTING}", "cut"), stage="infer", slide_id="cut", reason="its end is missing", error="x"
    )
    write_tables(paths.root, paths.root / "slides.csv")
    return paths


@pytest.fixture
def cohort(made: StudyPaths, tmp_path: Path) -> StudyPaths:
    """A copy."""
    shutil.copytree(made.root, tmp_path / "lab2")
    return StudyPaths(tmp_path / "lab2")


def test_every_count_is_that_of_the_ledger_and_the_failed_slide_has_its_reason(made: StudyPaths) -> None:
    page = ReportPage(made.report)
    assert len(check_page_against_ledger(page, made.root, SETTING)) == 4
    assert page.numbers["slides of Test"] == ("3", "1 failed")
    assert page.warnings["Overview"][0] == "Not assessable: 4 of 4 sections (strongly compressed 4)."
    assert page.warnings["Overview"][1].startswith("This model has no reference of quality (its study's")
    assert "cut failed: its end is missing" in page.warnings["Overview"]
    times = {row["slide"]: float(row["network s"]) for row in page.table("Slides:") if row["state"] == "done"}
    ledger = Evidence(made.root).ledger.to_pandas()
    assert times == pytest.approx({row.slide_id: row.network_s for row in ledger.itertuples()}, abs=0.05)


def test_rows_of_before_are_not_measured_and_never_within_limits(cohort: StudyPaths) -> None:
    """Two of four sections have rows of the schema before, which has no column of quality."""
    path = cohort.ledger_rows(SETTING, 2, "one")
    table = pq.read_table(path)
    before = {
        key: b"5" if key == b"bccdist.schema_version" else text
        for key, text in table.schema.metadata.items()
        if b"sha256" not in key
    }
    old = table.drop_columns([*MEASURES, "features", "not_assessable"]).replace_schema_metadata(before)
    pq.write_table(old, path)
    page = ReportPage(write_report(Evidence(cohort.root)))
    assert page.warnings["Overview"][0].startswith("The quality of 2 of 4 sections was not measured, so that nothing")
    assert page.warnings["Overview"][1] == "Not assessable: 2 of 4 sections (strongly compressed 2)."
    assert page.warnings["Overview"][2].startswith("This model has no reference of quality")
    shown = {row["section"]: row["quality"] for row in page.table("Section verdicts")}
    assert {section for section, text in shown.items() if text == "not measured"} == {"one-s0", "one-s1"}


def test_the_page_says_what_judged_the_slides(made: StudyPaths) -> None:
    facts = {row["what"]: row["value"] for row in ReportPage(made.report).table("The model.")}
    model = read_model(made.model)
    about = model.description
    assert facts["model"] == f"model.bcc, digest {model.digest}"
    assert facts["weights"] == about.network.weights_digest
    assert facts["decision"] == f"t_p {about.selection.t_p:g}, t_A {about.selection.t_a_um2:g} um2"
    assert facts["trained on"] == "2 slides; scanners: a scanner (2)"
    assert facts["drawn slides"] == "none: trained on tissue"
    assert facts["licence"] == "nobody named one"
    assert facts["its study's manifest"] == about.trained_on.manifest_digest


def test_real_slides_are_not_called_drawn_where_the_model_is_a_phantom(tmp_path: Path) -> None:
    model = write_model_file(tmp_path, phantom=True)
    paths = write_cohort(tmp_path / "lab2", model.path, write_slides(tmp_path / "slides", "one"))
    text = write_report(Evidence(paths.root)).read_text(encoding="utf-8")
    assert PHANTOM_WEIGHTS_WARNING in text
    assert PHANTOM_WARNING not in text


def test_what_was_found_comes_first_and_nothing_of_a_training_is_missed(made: StudyPaths) -> None:
    page = ReportPage(made.report)
    assert page.parts[:6] == ["Overview", "Model", "Sections", "Slides", "Quality", "Overlays"]
    assert not {"Data", "Training", "Selection"} & set(page.parts)
    assert not {"Table 2", "triage", "merge weights", "Figure 4", "Figure 8"} & set(page.left_out())


def test_the_drawn_slides_are_on_the_page_and_lead_to_the_whole_pictures(made: StudyPaths) -> None:
    text = made.report.read_text(encoding="utf-8")
    for name in ("one", "two"):
        link = f"overlays/{SETTING}/{name}.png"
        assert f'<a href="{link}">whole picture</a>' in text
        assert f'alt="Slide {name} under its heatmap' in text
        assert (made.report.parent / link).exists()
    assert f"overlays/{SETTING}/cut.png" not in text


def test_later_labels_add_figures_to_the_same_page(cohort: StudyPaths, tmp_path: Path) -> None:
    verdicts = Evidence(cohort.root).verdicts(Part.TEST)
    lines = [f"{row.slide_id},{row.section_id},Tumor" for row in verdicts.head(3).itertuples()]
    (tmp_path / "later.csv").write_text("\n".join(["slide_id,section_id,label", *lines]) + "\n", encoding="utf-8")
    said = relabel_study(cohort.root, (tmp_path / "later.csv",))
    assert "launch_tables.py" in said
    assert "selection" not in said
    page = ReportPage(write_report(Evidence(cohort.root)))
    check_page_against_ledger(page, cohort.root, SETTING)
    assert "3 of 4 sections of Test have a label" in " ".join(page.lines["Overview"])
    assert page.table("Figures with 95% intervals")[0]["sections"] == "3"


def test_pictures_of_before_a_correction_are_marked_and_made_anew(cohort: StudyPaths, tmp_path: Path) -> None:
    slide_id, section_id = Evidence(cohort.root).verdicts(Part.TEST)[["slide_id", "section_id"]].iloc[0]
    (tmp_path / "later.csv").write_text(f"slide_id,section_id,label\n{slide_id},{section_id},Tumor\n")
    before = cohort.overlay(SETTING, slide_id).read_bytes()
    assert "of before" not in cohort.report.read_text(encoding="utf-8")
    relabel_study(cohort.root, (tmp_path / "later.csv",))
    page = ReportPage(write_report(Evidence(cohort.root)))
    redraw = "python jobs/launch_tables.py --study STUDY draws it anew."
    assert page.warnings["Overlays"] == [f"1 drawn with labels or verdicts of before; {redraw}"]
    assert cohort.report.read_text(encoding="utf-8").count("drawn with labels or verdicts of before") == 2
    write_tables(cohort.root, cohort.root / "slides.csv")
    assert "of before" not in cohort.report.read_text(encoding="utf-8")
    assert cohort.overlay(SETTING, slide_id).read_bytes() != before


def test_thresholds_that_came_with_the_model_are_not_chosen_again(cohort: StudyPaths) -> None:
    before = cohort.selection.read_bytes()
    with pytest.raises(ConfigurationError, match="is a cohort: its epoch, t_p and t_A came with its model"):
        select_thresholds(cohort.root, SelectConfig())
    assert cohort.selection.read_bytes() == before


def test_a_damaged_model_is_a_line_on_the_page_and_an_exit_code(cohort: StudyPaths) -> None:
    content = bytearray(cohort.model.read_bytes())
    content[len(content) // 2] ^= 1
    cohort.model.write_bytes(content)
    with pytest.raises(StageFailedError, match=r"quality, checklists, Model, Quality: .*model\.bcc"):
        write_report(Evidence(cohort.root))
    page = ReportPage(cohort.report)
    assert page.warnings["Model"][0].startswith("Not made: ")
    check_page_against_ledger(page, cohort.root, SETTING)
