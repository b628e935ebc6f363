"""The report is true of drawn slides, moved studies, hundreds of slides, certified verdicts and old corrections."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from report_page import ReportPage, check_page_against_ledger
from study_folders import NORMAL_CURVE, TUMOR_CURVE, ledger_row, sections, write_study

from analysis.page.report import write_report
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.relabel import relabel
from analysis.tables.selection import select_thresholds
from bccdist.configuration import PHANTOM_WARNING, SelectConfig
from bccdist.errors import StageFailedError
from bccdist.paths import StudyPaths
from bccdist.sections.choices import read_choices
from bccdist.sections.ledger import write_rows
from bccdist.slides.manifest import read_manifest
from bccdist.study import keep_manifest

SETTING = "resnet34_ds"
Row = dict[str, Any]


def section_of(number: int, *, per_slide: int = 2, **changes: Any) -> Row:
    """A section of Test: each third is labelled Tumor, and every seventh is judged wrongly."""
    is_tumor, is_wrong = number % 3 == 0, number % 7 == 6
    return ledger_row(
        **{
            "part": "Test",
            "slide_id": f"t{number // per_slide}",
            "section_id": f"t{number // per_slide}-{number % per_slide}",
            "label": "Tumor" if is_tumor else "Normal",
            "largest_region_px": TUMOR_CURVE if is_tumor != is_wrong else NORMAL_CURVE,
            **changes,
        }
    )


def make_study(folder: Path, test: list[Row], *, scanner: str = "", validation: list[Row] | None = None) -> StudyPaths:
    """A study with this Test; its data lie beside it."""
    rows = [*(validation or sections(tp=25, fn=0, fp=0, tn=25)), *test]
    paths = write_study(folder / "study", rows)
    lines = [
        f"{slide_id},test,{slide_id}.tif,{scanner}" for slide_id in dict.fromkeys(row["slide_id"] for row in test)
    ]
    (folder / "data").mkdir(parents=True)
    slides = folder / "data" / "slides.csv"
    header = "slide_id,part,path,scanner"
    slides.write_text("\n".join([header, *lines, f"Validation-II-0000,val2,v.tif,{scanner}"]) + "\n", encoding="utf-8")
    keep_manifest(paths.root, read_manifest(slides, files_must_exist=False))
    select_thresholds(paths.root, SelectConfig())
    return paths


def page_of(paths: StudyPaths) -> ReportPage:
    page = ReportPage(write_report(Evidence(paths.root)))
    check_page_against_ledger(page, paths.root, SETTING)
    return page


def test_hundreds_of_slides_have_one_page_with_all_their_sections(tmp_path: Path) -> None:
    page = page_of(make_study(tmp_path, [section_of(number) for number in range(600)]))
    assert page.numbers["sections"][0] == "600"
    assert page.numbers["slides of Test"][0] == "300"
    assert len(page.table("Section verdicts, Test")) == 40
    assert len(page.table("The other 560 sections")) == 560


def test_drawn_slides_are_named_and_counted_as_all_others(tmp_path: Path) -> None:
    test = [section_of(number, phantom=True, phantom_weights=True) for number in range(12)]
    validation = sections(tp=25, fn=0, fp=0, tn=25, phantom=True, phantom_weights=True)
    paths = make_study(tmp_path, test, scanner="phantom", validation=validation)
    page_of(paths)
    assert f'<div class="phantom">{PHANTOM_WARNING}</div>' in paths.report.read_text(encoding="utf-8")


def test_a_study_that_was_moved_has_the_same_page(tmp_path: Path) -> None:
    paths = make_study(tmp_path / "here", [section_of(number) for number in range(12)])
    before = page_of(paths)
    shutil.move(tmp_path / "here", tmp_path / "there")
    after = page_of(StudyPaths(tmp_path / "there" / "study"))
    assert after.numbers == before.numbers
    assert after.tables == before.tables


def test_several_settings_are_each_held_against_the_ledger(tmp_path: Path) -> None:
    other = [section_of(number, setting="unet", psi="psi_4", largest_region_px=TUMOR_CURVE) for number in range(12)]
    validation = [row for name in (SETTING, "unet") for row in sections(tp=25, fn=0, fp=0, tn=25, setting=name)]
    paths = make_study(tmp_path, [*(section_of(number) for number in range(12)), *other], validation=validation)
    page = ReportPage(write_report(Evidence(paths.root), setting="unet"))
    check_page_against_ledger(page, paths.root, "unet")
    assert page.numbers["specificity"][0] == "0.000"
    assert [row["setting"] for row in page.table("Table 4.")] == ["unet", SETTING]


def test_certified_verdicts_are_counted_and_said_to_be_so(tmp_path: Path) -> None:
    paths = make_study(tmp_path, [section_of(0)])
    (choice,) = read_choices(paths)
    certificate = {
        "reached_by": "certified",
        "certificate_levels": 4.0,
        "certificate_confidence": 0.95,
        "certificate_num_slides": 20,
        "certificate_t_p": choice.t_p,
        "certificate_t_a_um2": choice.t_a_um2,
        "certificate_area_unit": choice.area_unit,
    }
    final = [section_of(number, **certificate) for number in range(2)]
    early = [section_of(number, psi="psi_0", is_final=False, reached_by="fast") for number in range(2)]
    write_rows(paths.ledger_rows(SETTING, 1, "t0"), [*final, *early])
    page = page_of(paths)
    assert any(line.startswith("2 of 2 verdicts are certified") for line in page.lines["Overview"])
    without = [line for line in page.lines["Decoder blocks"] if line.startswith("Without psi_1, psi_2, psi_3")]
    assert len(without) == 1
    assert "certified inference" in without[0]


def test_old_corrections_whose_sections_are_gone_are_named_and_count_nowhere(tmp_path: Path) -> None:
    paths = make_study(tmp_path, [section_of(number) for number in range(6)])
    later = tmp_path / "later.csv"
    lines = ["t0,t0-0,Normal,anna,2026-01-01", "t1,t1-1,Tumor,anna,2026-01-01"]
    later.write_text("\n".join(["slide_id,section_id,label,labelled_by,labelled_at", *lines]) + "\n", encoding="utf-8")
    relabel(paths.root, later)
    page_of(paths)
    # The sections of t1 were found anew, under other ids.
    write_rows(paths.ledger_rows(SETTING, 1, "t1"), [section_of(2, section_id="t1-new")])
    page = page_of(paths)
    assert page.numbers["sections"][0] == "5"
    (gone,) = [text for text in page.warnings["Overview"] if "correction(s)" in text]
    assert "1 correction(s) in labels.csv are of no section any more, and count nowhere: t1/t1-1" in gone
    assert any("1 corrected label(s) are of no section any more" in line for line in page.lines["Reference standard"])


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("analysis.tables.checklists.build_checklists", "checklists"),
        ("analysis.tables.reference_standard.build_reference_standard", "reference standard"),
        ("analysis.tables.agreement.build_agreement", "agreement"),
        ("analysis.tables.verdict_counts.build_verdict_counts", "verdict counts"),
        ("analysis.tables.table4.build_table4", "Table 4"),
    ],
)
def test_one_failing_table_is_one_line_with_its_reason_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, name: str
) -> None:
    paths = make_study(tmp_path, [section_of(number) for number in range(6)])

    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(target, break_down)
    with pytest.raises(StageFailedError, match=r"1 not made(.|\n)*ZeroDivisionError: division by zero"):
        write_report(Evidence(paths.root))
    page = ReportPage(paths.report)
    assert page.left_out()[name] == "ZeroDivisionError: division by zero"
    assert page.parts[-1] == "Provenance"
    told = [text for texts in page.warnings.values() for text in texts if text.startswith("Not made")]
    assert told == [page.warnings["Overview"][0]] == [f"Not made: {name}: ZeroDivisionError: division by zero."]


def test_the_page_warns_of_labels_that_it_does_not_read(tmp_path: Path) -> None:
    paths = make_study(tmp_path, [section_of(number) for number in range(12)])
    (paths.root / "sections.csv").write_text("slide_id,section_id,label\nt0,t0-0,Normal\n", encoding="utf-8")
    (told,) = [text for text in page_of(paths).warnings["Overview"] if "NOT read" in text]
    assert told.startswith("1 file(s) in the study's folder")
    assert "sections.csv" in told
