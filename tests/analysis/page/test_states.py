"""The report is true in every state of a study: each number on the page is that of the ledger, labels or not."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from report_page import ReportPage, check_page_against_ledger
from study_folders import NORMAL_CURVE, TUMOR_CURVE, ledger_row, sections, write_study

from analysis.page.report import write_report
from analysis.page.stage import write_tables
from analysis.pictures.picture_state import STATE, state_of_verdicts
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.relabel import relabel_study
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import LedgerError, StageFailedError
from bccdist.failures import write_failure
from bccdist.files import write_json
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.ledger import write_rows
from bccdist.stages.outdated import Result, outdated_results
from bccdist.stages.table import TABLES
from bccdist.study import manifest_of_study

SETTING = "resnet34_ds"
FIGURE_6 = "Figure 6. Sections of Test that were classified right."
Row = dict[str, Any]


def section_of(number: int, **changes: Any) -> Row:
    """A section of Test, three to a slide: each third is tumor and found, and every fifth is judged wrongly."""
    is_tumor, is_wrong = number % 3 == 0, number % 5 == 4
    return ledger_row(
        **{
            "part": "Test",
            "slide_id": f"slide-{number // 3}",
            "section_id": f"section-{number}",
            "label": "Tumor" if is_tumor else "Normal",
            "largest_region_px": TUMOR_CURVE if is_tumor != is_wrong else NORMAL_CURVE,
            "weights_digest": "abcdefabcdef",
            **changes,
        }
    )


TEST = [section_of(number) for number in range(12)]


def make_study(root: Path, test: list[Row], *, with_validation: bool = True, more: tuple[str, ...] = ()) -> StudyPaths:
    """A study with these sections of Test; slides and heatmaps are not there, and `more` names slides without any."""
    validation = sections(tp=6, fn=0, fp=0, tn=6) if with_validation else []
    paths = write_study(root / "study", [*validation, *test])
    slide_ids = dict.fromkeys([*(row["slide_id"] for row in test), *more])
    lines = [f"{slide_id},Test,{slide_id}.tif" for slide_id in slide_ids]
    lines += ["Validation-II-0000,val2,v.tif"] if with_validation else []
    (root / "slides.csv").write_text("\n".join(["slide_id,part,path", *lines]) + "\n", encoding="utf-8")
    write_json(paths.study, {"manifest": str(root / "slides.csv"), "phantom": False})
    if with_validation:
        select_thresholds(paths.root, SelectConfig())
    else:
        write_thresholds(paths)
    return paths


def write_thresholds(paths: StudyPaths) -> None:
    """What came from elsewhere: thresholds, and nothing of how they were chosen."""
    choice = Choice(
        setting=SETTING,
        epoch=1,
        psi="psi_4",
        t_p=0.6,
        t_a_um2=5000.0,
        beta=1.5,
        area_unit="physical",
        weights_digest="abcdefabcdef",
    )
    paths.tables.mkdir(parents=True)
    pd.DataFrame([{**asdict(choice), "f_beta": 0.9}]).to_parquet(paths.selection)


def with_labels(keep: Callable[[int, str], bool]) -> list[Row]:
    """The sections of Test, some of them without their label."""
    return [{**row, "label": row["label"] if keep(n, row["label"]) else None} for n, row in enumerate(TEST)]


NO_LABEL = with_labels(lambda *_: False)
STATES: dict[str, list[Row]] = {
    "no label": NO_LABEL,
    "labels in part": with_labels(lambda number, _: number < 5),
    "one label": with_labels(lambda number, _: number == 7),
    "Tumor alone": with_labels(lambda _, label: label == "Tumor"),
    "Normal alone": with_labels(lambda _, label: label == "Normal"),
    "one slide": TEST[:3],
    "one slide without labels": NO_LABEL[:3],
    "one section": NO_LABEL[:1],
    "all review": [{**row, "coverage": 0.5, "largest_region_px": NORMAL_CURVE} for row in TEST],
    "all review without labels": [{**row, "coverage": 0.5, "largest_region_px": NORMAL_CURVE} for row in NO_LABEL],
    "no error": [row for row in TEST if int(row["section_id"].split("-")[1]) % 5 != 4],
    "all wrong": [row for row in TEST if int(row["section_id"].split("-")[1]) % 5 == 4],
    "all labelled": TEST,
}


@pytest.mark.parametrize(
    ("state", "with_validation"),
    [
        *((state, True) for state in STATES),
        *((state, False) for state in ("no label", "labels in part", "one section", "all review", "all labelled")),
    ],
)
def test_every_count_on_the_page_is_that_of_the_ledger(tmp_path: Path, state: str, with_validation: bool) -> None:
    """Also of a study without slides of Training and Validation, whose thresholds came from elsewhere."""
    paths = make_study(tmp_path, STATES[state], with_validation=with_validation)
    page = ReportPage(write_report(Evidence(paths.root)))
    verdicts = check_page_against_ledger(page, paths.root, SETTING)
    assert len(verdicts) == len(STATES[state])
    assert page.parts[-1] == "Provenance"
    assert of_slides(page) == []


def of_slides(page: ReportPage) -> list[str]:
    """The warnings at the head of the page but those about the choice, which rests on few sections here."""
    return [text for text in page.warnings.get("Overview", []) if "choice" not in text and "were chosen" not in text]


def test_slides_without_a_verdict_are_named_with_the_reason(tmp_path: Path) -> None:
    paths = make_study(tmp_path, NO_LABEL, more=("broken", "empty", "forgotten"))
    write_failure(
        paths.failure(f"infer-{SETTING}", "broken"), stage="infer", slide_id="broken", reason="no pixel", error="x"
    )
    write_rows(paths.ledger_rows(SETTING, 1, "empty"), [])
    page = ReportPage(write_report(Evidence(paths.root)))
    check_page_against_ledger(page, paths.root, SETTING)
    assert page.numbers["slides of Test"] == ("7", "1 failed, 1 not there, 1 without a section")
    assert of_slides(page) == [
        "Failed and not in the results: 1 (see Provenance).",
        "1 slide(s) of Test not in the results, as nothing was made of them: forgotten.",
        "1 slide(s) of Test without a section, so that they have no verdict: empty.",
        "broken failed: no pixel",
    ]
    states = {row["slide"]: (row["state"], row["why"]) for row in page.table("Slides:")}
    assert states["broken"] == ("failed", "no pixel")
    assert [states[name][0] for name in ("empty", "forgotten", "slide-0")] == ["no section", "not there", "done"]


def test_a_study_of_which_every_slide_failed_names_them(tmp_path: Path) -> None:
    paths = make_study(tmp_path, [], with_validation=False, more=("one", "two"))
    for slide_id in ("one", "two"):
        write_failure(
            paths.failure(f"infer-{SETTING}", slide_id), stage="infer", slide_id=slide_id, reason="gone", error="x"
        )
    page = ReportPage(write_report(Evidence(paths.root)))
    assert page.numbers["slides of Test"] == ("2", "2 failed")
    assert [page.numbers[name][0] for name in ("sections", "called Tumor", "called Normal", "review")] == ["0"] * 4
    assert {"one failed: gone", "two failed: gone"} <= set(page.warnings["Overview"])


def test_a_study_of_slides_without_any_section_has_a_page(tmp_path: Path) -> None:
    paths = make_study(tmp_path, [], with_validation=False, more=("white",))
    write_rows(paths.ledger_rows(SETTING, 1, "white"), [])
    page = ReportPage(write_report(Evidence(paths.root)))
    assert page.numbers["slides of Test"] == ("1", "1 without a section")


def test_labels_that_come_later_add_figures_everywhere_and_go_again(tmp_path: Path) -> None:
    paths = make_study(tmp_path, NO_LABEL)
    write_report(Evidence(paths.root))
    assert not (paths.tables / "table4.parquet").exists()
    new = tmp_path / "later.csv"
    lines = [f"{row['slide_id']},{row['section_id']},{row['label']}" for row in TEST]
    new.write_text("\n".join(["slide_id,section_id,label", *lines]) + "\n", encoding="utf-8")
    said = relabel_study(paths.root, (new,))
    assert f"0 label(s) changed, 12 added, 0 removed, 12 kept ({paths.labels})" in said
    assert f"python analysis/make.py selection {paths.root}" in said
    assert f"python jobs/launch_tables.py --study {paths.root}" in said
    page = ReportPage(write_report(Evidence(paths.root)))
    (test,) = [row for row in page.table("Table 1.") if row["part"] == "Test"]
    (table4,) = page.table("Table 4.")
    assert (test["Tumor sections"], test["Normal sections"], test["without label"]) == ("4", "8", "0")
    # Of 12 every fifth is wrong: sections 4 and 9, a Normal and a Tumor one.
    assert [table4[name] for name in ("TP", "FN", "FP", "TN", "sections")] == ["3", "1", "1", "7", "12"]
    assert page.numbers["accuracy"][0] == "0.833"
    assert (paths.figures / "roc.png").exists()
    drawn, about = Image.new("RGB", (8, 8)), PngInfo()
    drawn.save(paths.figure("figure6"))
    before = write_report(Evidence(paths.root)).read_text(encoding="utf-8")
    assert FIGURE_6 not in before
    assert "Left out: Figure 6: drawn with labels or verdicts of before; <code>python jobs/launch_tables.py" in before
    about.add_text(STATE, state_of_verdicts(Evidence(paths.root).verdicts(Part.TEST)))
    drawn.save(paths.figure("figure6"), pnginfo=about)
    assert FIGURE_6 in write_report(Evidence(paths.root)).read_text(encoding="utf-8")
    relabel_study(paths.root, remove=True)
    page = ReportPage(write_report(Evidence(paths.root)))
    check_page_against_ledger(page, paths.root, SETTING)
    assert FIGURE_6 not in paths.report.read_text(encoding="utf-8")
    # What was made with labels would contradict the page.
    left = {path.stem for folder in (paths.tables, paths.figures) for path in folder.iterdir()}
    assert not {"table4", "roc", "roc_curves", "reliability", "reliability_bins", "error_groups", "figure5"} & left
    assert "section_verdicts" in left


def test_a_table_that_breaks_is_a_line_on_the_page_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_study(tmp_path, TEST)

    def break_down(*_: object) -> None:
        raise KeyError("label")

    monkeypatch.setattr("analysis.tables.comparisons.build_comparisons", break_down)
    monkeypatch.setattr("analysis.page.findings.slide_times", break_down)
    with pytest.raises(StageFailedError, match=r"2 not made(.|\n)*comparisons, Time: KeyError: 'label'"):
        write_report(Evidence(paths.root))
    page = ReportPage(paths.report)
    check_page_against_ledger(page, paths.root, SETTING)
    assert page.left_out()["comparisons"] == "KeyError: 'label'"
    assert page.warnings["Time"] == ["Not made: KeyError: 'label'"]
    assert page.parts[-1] == "Provenance"


def test_a_damaged_table_costs_the_stage_its_success_and_nothing_else(tmp_path: Path) -> None:
    paths = make_study(tmp_path, TEST)
    paths.grid.write_bytes(paths.grid.read_bytes()[:-9])
    with pytest.raises(StageFailedError, match=r"stability: .*grid\.parquet"):
        write_tables(paths.root, tmp_path / "slides.csv")
    page = ReportPage(paths.report)
    check_page_against_ledger(page, paths.root, SETTING)
    assert "grid.parquet" in page.left_out()["stability"]


def test_sections_come_in_the_order_in_which_a_person_looks(tmp_path: Path) -> None:
    rows = [
        section_of(0, section_id="right"),
        section_of(1, section_id="unlabelled", label=None),
        section_of(2, section_id="review", coverage=0.5),
        section_of(4, section_id="wrong"),
    ]
    page = ReportPage(write_report(Evidence(make_study(tmp_path, rows).root)))
    listed = [row["section"] for row in page.table("Section verdicts, Test")]
    assert listed == ["wrong", "review", "unlabelled", "right"]


def test_nothing_selected_is_one_error(tmp_path: Path) -> None:
    paths = make_study(tmp_path, TEST)
    paths.selection.unlink()
    with pytest.raises(LedgerError, match="no thresholds were selected yet"):
        write_report(Evidence(paths.root))


def test_a_page_on_thresholds_of_before_says_so_first(tmp_path: Path) -> None:
    """A label of Validation was corrected: the tables are of today, and the choice is not until it is made anew."""
    paths = make_study(tmp_path, TEST)
    row = sections(tp=6, fn=0, fp=0, tn=6)[0]
    new = tmp_path / "later.csv"
    new.write_text(f"slide_id,section_id,label\n{row['slide_id']},{row['section_id']},Normal\n", encoding="utf-8")
    relabel_study(paths.root, (new,))
    page = ReportPage(write_report(Evidence(paths.root)))
    assert page.warnings["Overview"][0] == (
        f"The thresholds are out of date ({SETTING}: labels.csv has changed). To make them anew: "
        "python analysis/make.py selection STUDY."
    )
    progress = TABLES.progress(paths, manifest_of_study(paths.root))
    assert (
        f"tables 3, 4, 5 out of date: so is the selection that it rests on: {SETTING}: labels.csv" in progress.detail
    )
    select_thresholds(paths.root, SelectConfig())
    page = ReportPage(write_report(Evidence(paths.root)))
    assert not [text for text in page.warnings["Overview"] if "out of date" in text]
    assert outdated_results(paths, manifest_of_study(paths.root)) == {}


def test_a_ledger_that_is_refused_is_the_first_line_and_one_line(tmp_path: Path) -> None:
    paths = make_study(tmp_path, TEST)
    rows = paths.ledger_rows(SETTING, 1, "slide-0")
    content = bytearray(rows.read_bytes())
    content[len(content) // 2] ^= 1
    rows.write_bytes(content)
    with pytest.raises(StageFailedError, match=r"^\d+ not made, all else is:\n") as caught:
        write_report(Evidence(paths.root))
    told = [line for line in str(caught.value).splitlines() if "slide-0.parquet: damaged" in line]
    assert len([line for line in told if line.startswith("  - table1, reference_standard")]) == 1
    first, *others = ReportPage(paths.report).warnings["Overview"]
    assert first.startswith("Not made: Table 1, reference standard, agreement")
    assert "more: ledger/resnet34_ds/epoch-001/slide-0.parquet: damaged" in first
    assert not [text for text in others if "damaged" in text]
    outdated = outdated_results(paths, manifest_of_study(paths.root))
    assert outdated[Result.TABLES].startswith("not all could be made: agreement, checklists, comparisons and ")
