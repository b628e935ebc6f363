"""The headline says how much was judged, how right it is, what is left out, and how far readers agree."""

from pathlib import Path

import pandas as pd
import pytest
from report_page import ReportPage, check_page_against_ledger
from study_folders import ledger_row, sections, write_study

from analysis.page.report import write_report
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.relabel import relabel
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import write_rows
from bccdist.slides.manifest import read_manifest
from bccdist.study import keep_manifest

SETTING = "resnet34_ds"


def study_of(folder: Path, *, patients: dict[str, str] | None = None, num_slides: int = 6) -> StudyPaths:
    """Test slides t0, t1, ... of two sections each, the first one Tumor and found; none has a label."""
    rows = sections(tp=25, fn=0, fp=0, tn=25)
    for slide in range(num_slides):
        of_slide = sections(tp=1, fn=0, fp=0, tn=1, part="Test", slide_id=f"t{slide}", labelled_by="")
        rows += [{**row, "label": None, "section_id": f"t{slide}-{n}"} for n, row in enumerate(of_slide)]
    paths = write_study(folder / "study", rows)
    lines = [f"t{slide},test,t{slide}.tif,{(patients or {}).get(f't{slide}', '')}" for slide in range(num_slides)]
    lines.append("Validation-II-0000,val2,v.tif,")
    (folder / "slides.csv").write_text("\n".join(["slide_id,part,path,patient_id", *lines]), encoding="utf-8")
    keep_manifest(paths.root, read_manifest(folder / "slides.csv", files_must_exist=False))
    select_thresholds(paths.root, SelectConfig())
    return paths


def file_of(folder: Path, reader: str, answers: dict[str, str]) -> Path:
    lines = [f"{key.split('-')[0]},{key},{answer},{reader}" for key, answer in answers.items()]
    path = folder / f"{reader}.csv"
    path.write_text("\n".join(["slide_id,section_id,label,labelled_by", *lines]) + "\n", encoding="utf-8")
    return path


def page_of(paths: StudyPaths) -> ReportPage:
    page = ReportPage(write_report(Evidence(paths.root)))
    check_page_against_ledger(page, paths.root, SETTING)
    return page


def test_what_is_left_out_is_counted_by_its_reason_and_readers_have_their_kappa(tmp_path: Path) -> None:
    paths = study_of(tmp_path)
    anna = {"t0-0": "Tumor", "t0-1": "Normal", "t1-0": "Tumor", "t1-1": "Normal", "t2-0": "Tumor", "t2-1": ""}
    ben = {"t0-0": "Tumor", "t0-1": "Normal", "t1-0": "Normal", "t1-1": "Normal", "t2-0": "Tumor", "t2-1": ""}
    relabel(paths.root, file_of(tmp_path, "anna", anna), file_of(tmp_path, "ben", ben))
    page = page_of(paths)
    assert page.numbers["sections left out"] == ("8", "6 without a label, 1 unsure, 1 in conflict")
    assert [page.numbers[name][0] for name in ("TP", "FN", "FP", "TN")] == ["2", "0", "0", "2"]
    value, about = page.numbers["kappa of anna and ben"]
    # 4 of 5 agree; by chance (3 x 2 + 2 x 3) / 25 do.
    assert value == "0.615"
    row = pd.read_parquet(paths.tables / "agreement.parquet").iloc[0]
    assert (value, about) == (f"{row.kappa:.3f}", f"{row.kappa_low:.3f} to {row.kappa_high:.3f}, 5 sections")
    assert "Labels of Test are of 2 reader(s): anna, ben (see Reference standard)." in page.lines["Overview"]


def test_of_several_pairs_the_least_kappa_stands_at_the_head(tmp_path: Path) -> None:
    paths = study_of(tmp_path)
    same = {"t0-0": "Tumor", "t0-1": "Normal", "t1-0": "Tumor", "t1-1": "Normal"}
    files = [file_of(tmp_path, "anna", same), file_of(tmp_path, "ben", same)]
    relabel(paths.root, *files, file_of(tmp_path, "cleo", {**same, "t1-0": "Normal"}))
    names = [name for name in page_of(paths).numbers if name.startswith("kappa")]
    assert names == ["kappa of anna and cleo"]
    page = ReportPage(paths.report)
    assert page.numbers[names[0]][1].endswith("4 sections; the least of 3 pairs")


def test_one_reader_is_named_and_agreement_is_said_to_be_not_known(tmp_path: Path) -> None:
    paths = study_of(tmp_path)
    relabel(paths.root, file_of(tmp_path, "anna", {"t0-0": "Tumor", "t0-1": "Normal"}))
    page = page_of(paths)
    assert not [name for name in page.numbers if name.startswith("kappa")]
    (line,) = [line for line in page.lines["Overview"] if line.startswith("Labels of Test are")]
    assert "of 1 reader(s): anna; how far readers agree is not known" in line


@pytest.mark.parametrize(
    ("patients", "expected"),
    [
        ({}, ("not known", "no slide names one")),
        ({f"t{slide}": f"p{slide // 2}" for slide in range(6)}, ("3", "")),
        ({"t0": "p", "t1": "p"}, ("1", "4 slide(s) name none")),
    ],
)
def test_patients_are_those_that_the_manifest_names(
    tmp_path: Path, patients: dict[str, str], expected: tuple[str, str]
) -> None:
    paths = study_of(tmp_path, patients=patients)
    assert page_of(paths).numbers["patients named"] == expected
    counted = pd.read_parquet(paths.tables / "verdict_counts.parquet").set_index("part").loc["Test"]
    assert ("not known" if pd.isna(counted.num_patients) else str(counted.num_patients)) == expected[0]


def test_the_choice_stands_in_words(tmp_path: Path) -> None:
    paths = study_of(tmp_path)
    chosen = pd.read_parquet(paths.selection).iloc[0]
    (words, origin) = page_of(paths).lines["Overview"][:2]
    assert f"a connected region of at least {chosen.t_a_um2:,.0f} um2 (t_A)" in words
    assert f"a tumor probability of at least {chosen.t_p:.2f} (t_p)" in words
    assert "had the best F_1.5 on Validation I + II" in origin


def test_a_changed_cell_or_number_of_the_page_is_noticed_by_these_tests(tmp_path: Path) -> None:
    paths = study_of(tmp_path)
    relabel(paths.root, file_of(tmp_path, "anna", {"t0-0": "Tumor", "t0-1": "Normal"}))
    text = write_report(Evidence(paths.root)).read_text(encoding="utf-8")
    start = text.index('data-table="units"')
    cell = text.index("<td>1</td>", start)
    for other in (
        text[:cell] + "<td>7</td>" + text[cell + len("<td>1</td>") :],
        text.replace("<b>1.000</b>sensitivity", "<b>0.999</b>sensitivity"),
    ):
        assert other != text
        paths.report.write_text(other, encoding="utf-8")
        with pytest.raises(AssertionError):
            check_page_against_ledger(ReportPage(paths.report), paths.root, SETTING)


def test_a_section_for_review_is_left_out_and_said(tmp_path: Path) -> None:
    paths = study_of(tmp_path)
    half = [
        ledger_row(slide_id="t0", section_id=f"t0-{n}", part="Test", label="Normal", coverage=0.5, **changes)
        for n, changes in enumerate(({}, {"largest_region_px": [0] * 256}))
    ]
    write_rows(paths.ledger_rows(SETTING, 1, "t0"), half)
    page = page_of(paths)
    assert page.numbers["sections left out"] == ("11", "10 without a label, 1 labelled, but for review")
