"""A folder of slides and a laboratory's table become a manifest, patients whole in their parts."""

import logging
import sys
from pathlib import Path
from random import Random
from typing import Any
from zipfile import ZipFile

import pandas as pd
import pytest
from cohort import write_slides

from bccdist.errors import BccdistError, ManifestError
from bccdist.parts import Label, Part
from bccdist.slides.case_table import read_case_table
from bccdist.slides.draft import Table, draft_manifest
from bccdist.slides.finder import find_slides
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest
from jobs.make_manifest import ManifestArguments, main, make_manifest

NAMES = tuple(f"case-{number}/{stain}" for number in range(6) for stain in ("HE", "HE2"))


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slides(tmp_path_factory.mktemp("slides"), *NAMES)


def made(slides: Path, folder: Path, table: str | Path | None = None, **changes: Any) -> Manifest:
    if isinstance(table, str):
        path = folder / "cases.csv"
        path.write_text(table, encoding="utf-8")
        table = path
    return make_manifest(ManifestArguments(slides=slides, out=folder / "out", table=table, **changes))


def table_of(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


CASES = table_of(
    "File;Patient;class;scanner;comment",
    *[f"case-{number}\\HE.tif;P{number};{'Tumor' if number % 2 else 'Normal'};S360;x" for number in range(6)],
    *[f"case-{number}/HE2.tif;P{number};Normal;S360;y" for number in range(6)],
)


def test_a_folder_alone_becomes_validation_and_test_slide_by_slide(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = made(slides, tmp_path)
    assert len(manifest.slides) == 12
    assert {slide.part for slide in manifest.slides} == {Part.VALIDATION_2, Part.TEST}, "there are no annotations"
    assert "12 of 12 slides have no patient_id" in caplog.text


def test_a_table_says_patients_and_labels_under_names_of_its_own(slides: Path, tmp_path: Path) -> None:
    manifest = made(slides, tmp_path, CASES, shares=(0, 0, 1, 1))
    assert {slide.patient_id for slide in manifest.slides} == {f"P{number}" for number in range(6)}
    assert {slide.scanner for slide in manifest.slides} == {"S360"}
    for patient in {slide.patient_id for slide in manifest.slides}:
        assert len({slide.part for slide in manifest.slides if slide.patient_id == patient}) == 1
    labels = {section.slide_id: section.label for section in manifest.sections}
    assert (labels["case-1-HE"], labels["case-1-HE2"]) == (Label.TUMOR, Label.NORMAL)
    for part in (Part.VALIDATION_2, Part.TEST):
        tumor = [slide for slide in manifest.slides_of([part]) if labels[slide.slide_id] == Label.TUMOR]
        assert 1 <= len(tumor) <= 2, "three patients with tumor lie in two parts"


@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_whatever_a_spreadsheet_separates_fields_with_the_table_is_the_same(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, separator: str, encoding: str
) -> None:
    caplog.set_level(logging.INFO)
    rows = [
        ("Slide", "Patient", "Pixel size", "Note"),
        ("case-0-HE", "P1", '"0,25"', "a"),
        ("case-1-HE", "P2", "", ""),
    ]
    path = tmp_path / "cases.csv"
    path.write_bytes("".join(f"{separator.join(row)}\r\n" for row in rows).encode(encoding))
    manifest = made(slides, tmp_path, path, shares=(0, 0, 1, 1))
    assert {slide.slide_id: (slide.patient_id, slide.mpp) for slide in manifest.slides} == {
        "case-0-HE": ("P1", 0.25),
        "case-1-HE": ("P2", None),
    }
    assert (
        f"cases.csv: fields separated by {separator!r}, columns 'Slide' as slide_id, 'Patient' as patient_id, "
        "'Pixel size' as mpp; not used: 'Note'"
    ) in caplog.text


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("Slide;Patient,Label\ncase-0-HE;P1,Tumor\n", r"may be separated by ',' or ';'"),
        ("Slide,Patient,Label\ncase-0-HE,Doe, Anna,Tumor\n", r"line\(s\) 2 have not 3 fields,"),
        ("Slide;Pixel size\ncase-0-HE;1,250\n", r"is its comma a decimal one or between thousands"),
        ("Objekt;Fall\ncase-0-HE;P1\n", r"its header has \['Objekt', 'Fall'\]"),
    ],
)
def test_what_a_table_may_mean_in_two_ways_is_refused(slides: Path, tmp_path: Path, table: str, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        made(slides, tmp_path, table)
    assert not (tmp_path / "out").exists()


def test_a_label_of_a_slide_is_that_of_one_section_around_all_of_it(slides: Path, tmp_path: Path) -> None:
    manifest = made(slides, tmp_path, table_of("slide_id,label", "case-0-HE,Tumor", "case-1-HE,"))
    (section,) = manifest.sections
    assert (section.slide_id, section.box_level0_px) == ("case-0-HE", Box(0, 0, 900, 560))


def test_rows_of_sections_stay_sections(slides: Path, tmp_path: Path) -> None:
    rows = ("case-0-HE,a,TUMOUR,60,40,300,400", "case-0-HE,b,healthy,520,80,280,300")
    header = "slide,section,label,x,y,width,height"
    manifest = made(slides, tmp_path, table_of(header, *rows), tumor=("tumour",), normal=("Healthy",))
    assert [(each.section_id, each.label, each.box_level0_px) for each in manifest.sections] == [
        ("a", Label.TUMOR, Box(60, 40, 300, 400)),
        ("b", Label.NORMAL, Box(520, 80, 280, 300)),
    ]


def test_annotations_beside_slides_are_found_and_make_training_possible(tmp_path: Path) -> None:
    slides = write_slides(tmp_path / "slides", "a", "b", "c", "d")
    for name in ("a.xml", "b.tif.ndpa", "c.geojson"):
        (slides / name).write_text("<x/>")
    manifest = made(slides, tmp_path, shares=(1, 1, 0, 1))
    annotated = {slide.slide_id: [path.name for path in slide.annotations] for slide in manifest.slides}
    assert annotated == {"a": ["a.xml"], "b": ["b.tif.ndpa"], "c": ["c.geojson"], "d": []}
    assert {slide.part for slide in manifest.slides} == {Part.TRAINING, Part.VALIDATION_1, Part.TEST}


def test_slides_without_the_annotation_that_they_need_are_one_line_that_names_masks_beside_them(
    tmp_path: Path,
) -> None:
    slides = write_slides(tmp_path / "slides", *(f"s{number}" for number in range(7)))
    for number in range(3):
        (slides / f"s{number}.mask.png").write_bytes(b"")
    with pytest.raises(ManifestError) as raised:
        made(slides, tmp_path, table_of("slide_id,part", *(f"s{number},Training" for number in range(7))))
    assert "1 fault(s)" in str(raised.value)
    assert "7 slides of Training or Validation I name no annotation: 's0', 's1', " in str(raised.value)
    assert "3 mask image(s) lie beside: name each in column annotation, as s0.mask.png" in str(raised.value)


def test_parts_that_the_table_says_hold(slides: Path, tmp_path: Path) -> None:
    manifest = made(slides, tmp_path, table_of("slide_id,split", "case-0-HE,val2", "case-1-HE,Test"))
    assert [slide.part for slide in manifest.slides] == [Part.VALIDATION_2, Part.TEST]


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_parts(slides: Path, tmp_path: Path) -> None:
    texts = []
    for number, seed in enumerate((0, 0, 5)):
        (tmp_path / str(number)).mkdir()
        texts.append(made(slides, tmp_path / str(number), seed=seed).path.read_bytes())
    assert texts[0] == texts[1] != texts[2]


def test_what_is_on_one_side_only_is_left_out_and_told(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        manifest = made(slides, tmp_path, table_of("slide_id,patient_id", "case-0-HE,p", "gone,q"))
    assert len(manifest.slides) == 1
    assert "1 row(s) of cases.csv name no slide that was found: line 3: gone" in caplog.text
    assert "11 slide(s) have no row in cases.csv and are left out" in caplog.text


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (("slide_id,patient_id", "HE.tif,p"), "line 2: 'HE.tif' may be case-0-HE, case-1-HE"),
        (("slide_id,patient_id", "nothing,p"), "none of its rows names a slide"),
        (("slide_id,label", "case-0-HE,BCC"), "line 2: label is 'BCC', expected one of Tumor, Normal"),
        (("slide_id,part", "case-0-HE,val2", "case-1-HE,"), "no part of 1 slide"),
        (("slide_id,part", "case-0-HE,val9"), "unknown part 'val9'"),
        (("slide_id,mpp", "case-0-HE,fine"), "mpp is 'fine', expected a number"),
        (("slide_id,patient_id", "case-0-HE,p", "case-0-HE,q"), "several values of patient_id: p, q"),
        (("slide_id,slide", "case-0-HE,p"), "the columns slide_id, slide would all be slide_id"),
        (("a,b", "1,2"), "none of its columns is known"),
        (("slide_id,label,x,y,w,h", "case-0-HE,Tumor,inf,0,1,1"), "line 2: the box .*inf.* is not four whole numbers"),
        (("slide_id,label,x,y,w,h", "case-0-HE,Tumor,0.7,0,9.9,1"), "line 2: the box .* is not four whole numbers"),
        (("slide_id,label,x,y,w,h", "case-0-HE,Tumor,-5,0,9,1"), "line 2: the box .* has a negative corner"),
        (("slide_id,mpp", "case-0-HE,nan"), "mpp is 'nan', expected a number"),
        (
            ("slide_id,part,patient_id", "case-0-HE,val2,p", "case-1-HE,test,p"),
            "(?s)out/slides.csv, which was not written: .*'p' is in more than one part",
        ),
    ],
)
def test_faults_of_a_table_are_told_and_nothing_is_written(
    slides: Path, tmp_path: Path, rows: tuple[str, ...], why: str
) -> None:
    with pytest.raises(BccdistError, match=why):
        made(slides, tmp_path, table_of(*rows))
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_is_there_is_not_written_over(slides: Path, tmp_path: Path) -> None:
    path = made(slides, tmp_path).path
    path.write_text("mine")
    with pytest.raises(ManifestError, match="is there already"):
        made(slides, tmp_path)
    assert path.read_text() == "mine"


def test_excel_says_the_same_as_csv(slides: Path, tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    rows = {"slide_id": ["case-0-HE", "case-1-HE"], "Patient ID": ["0012", 12], "label": ["Tumor", None]}
    pd.DataFrame(rows).to_excel(tmp_path / "cases.xlsx", sheet_name="March", index=False)
    (tmp_path / "excel").mkdir()
    manifest = made(slides, tmp_path / "excel", tmp_path / "cases.xlsx", shares=(0, 0, 0, 1))
    assert [slide.patient_id for slide in manifest.slides] == ["0012", "12"]
    assert [section.label for section in manifest.sections] == [Label.TUMOR]
    with pytest.raises(ManifestError, match="cannot be read as a workbook"):
        made(slides, tmp_path, tmp_path / "cases.xlsx", sheet="April")


@pytest.mark.parametrize("merged", ["B2:B4", "A3:B3"])
def test_merged_cells_are_refused_because_their_other_rows_would_be_empty(
    slides: Path, tmp_path: Path, merged: str
) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["slide_id", "patient_id"], ["case-0-HE", "P1"], ["case-1-HE", ""], ["case-2-HE", ""]):
        book.active.append(row)
    book.active.merge_cells(merged)
    book.save(tmp_path / "cases.xlsx")
    with pytest.raises(ManifestError, match=f"the cells {merged} are merged"):
        made(slides, tmp_path, tmp_path / "cases.xlsx")


@pytest.mark.parametrize("value", ["#N/A", "#REF!"])
def test_a_formula_without_a_value_is_no_patient(slides: Path, tmp_path: Path, value: str) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["slide_id", "patient_id"], ["case-0-HE", "nan"], ["case-1-HE", value]):
        book.active.append(row)
    book.save(tmp_path / "cases.xlsx")
    with pytest.raises(ManifestError, match=r"gives no value .* in line\(s\) 3"):
        made(slides, tmp_path, tmp_path / "cases.xlsx")


@pytest.mark.parametrize("ids", [("0012", "12"), ("P-12", "p 12"), ("12.0", "12")])
def test_ids_that_may_be_one_patients_come_into_one_part(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, ids: tuple[str, str]
) -> None:
    rows = [f"case-{number}-HE,{patient}" for number, patient in enumerate((*ids, "A", "B"))]
    manifest = made(slides, tmp_path, table_of("slide_id,patient_id", *rows), shares=(0, 0, 1, 1))
    assert manifest.slides[0].part == manifest.slides[1].part
    assert {slide.part for slide in manifest.slides} == {Part.VALIDATION_2, Part.TEST}
    assert "if they are one patient" in caplog.text


def test_several_rows_of_a_slide_without_boxes_are_told(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(slides, tmp_path, table_of("slide_id,label", "case-0-HE,Tumor", "case-1-HE,Normal", "case-0-HE,Normal"))
    assert "1 slide(s) have rows of sections without boxes" in caplog.text
    assert "case-0-HE; if a slide is there twice by mistake" in caplog.text


def test_without_the_package_for_excel_its_error_says_what_to_install(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with ZipFile(tmp_path / "cases.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(ManifestError, match=r"pip install 'bccdist\[excel\]'"):
        made(slides, tmp_path, tmp_path / "cases.xlsx")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + b"0" * 100, b"no workbook"])
def test_a_workbook_that_is_none_is_one_line(slides: Path, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "cases.xlsx").write_bytes(data)
    with pytest.raises(ManifestError, match=r"cases.xlsx: cannot be read as a workbook"):
        made(slides, tmp_path, tmp_path / "cases.xlsx")


@pytest.mark.parametrize(
    ("num_tumor", "shares", "told"),
    [
        (1, (0, 0, 1, 1), ("of 1 patient(s)", "none", " 1")),
        (3, (0, 0, 1, 1), ("of 3 patient(s)", "has 1")),
        (0, (0, 0, 0, 1), ("of 0 patient(s)", "Test has none")),
        (4, (0, 0, 1, 1), ()),
    ],
)
def test_a_part_with_no_tumor_patient_or_one_alone_is_told(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, num_tumor: int, shares: Any, told: tuple[str, ...]
) -> None:
    rows = [f"case-{number}/HE.tif;P{number};{'Tumor' if number < num_tumor else 'Normal'}" for number in range(6)]
    made(slides, tmp_path, table_of("file;patient;class", *rows), shares=shares)
    lines = [record.message for record in caplog.records if "section labelled Tumor" in record.message]
    assert len(lines) == bool(told)
    assert all(words in lines[0] for words in told)


def test_slides_without_labels_are_dealt_out_without_a_word_on_tumor(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(slides, tmp_path)
    assert "Tumor" not in caplog.text


def test_whatever_the_order_of_files_and_rows_the_slides_come_into_the_same_parts(
    slides: Path, tmp_path: Path
) -> None:
    (tmp_path / "cases.csv").write_text(CASES, encoding="utf-8")
    rows = read_case_table(tmp_path / "cases.csv", known=("path", "patient_id", "label"), sheet=None)
    paths = find_slides(slides).paths
    shares = dict(zip(Part, (0, 0, 1, 1), strict=True))
    found = []
    for seed in (0, 1, 2):
        random = Random(seed)
        table = Table(path=tmp_path / "cases.csv", rows=random.sample(rows, len(rows)))
        order = dict(random.sample([*paths.items()], len(paths)))
        manifest = draft_manifest(tmp_path / "slides.csv", order, table, shares=shares, seed=0)
        found.append({slide.slide_id: slide.part for slide in manifest.slides})
    assert found[0] == found[1] == found[2]
    assert {*found[0].values()} == {Part.VALIDATION_2, Part.TEST}


LAYOUT = ("tumor/P7/A1_HE", "tumor/P7/A1_p63", "normal/P8/B1_HE", "normal/P9/C1_HE", "normal/P9/overview")
PATTERN = "{label}/{patient}/{slide}_{stain}.tif"


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slides(tmp_path_factory.mktemp("laid_out"), *LAYOUT)


def test_a_pattern_takes_patient_label_and_id_from_the_folders(
    laid_out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    manifest = made(laid_out, tmp_path, pattern=PATTERN, only=("stain=he",), shares=(0, 0, 1, 1))
    assert {slide.slide_id: slide.patient_id for slide in manifest.slides} == {"A1": "P7", "B1": "P8", "C1": "P9"}
    labels = {section.slide_id: section.label for section in manifest.sections}
    assert labels == {"A1": Label.TUMOR, "B1": Label.NORMAL, "C1": Label.NORMAL}
    assert {section.labelled_by for section in manifest.sections} == {"its folder"}
    assert "{stain} (not kept): 2 value(s): HE (3), p63 (1)" in caplog.text
    assert "1 slide(s) are left out by --only: tumor/P7/A1_p63.tif" in caplog.text
    assert "the pattern does not describe them: normal/P9/overview.tif" in caplog.text


def test_a_dry_run_says_the_same_and_writes_nothing(
    laid_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"pattern": PATTERN, "only": ("stain=HE",), "shares": (0.0, 0.0, 1.0, 1.0)}
    main(ManifestArguments(slides=laid_out, out=tmp_path / "out", dry_run=True, **words))  # type: ignore[arg-type]
    dry = capsys.readouterr().out
    assert "slides.csv, not written, as --dry-run was given: 3 slides, 3 labelled sections" in dry
    assert not (tmp_path / "out").exists()
    main(ManifestArguments(slides=laid_out, out=tmp_path / "out", **words))  # type: ignore[arg-type]
    assert capsys.readouterr().out == dry.replace(", not written, as --dry-run was given", "")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/{slide}.tif", {"A1_HE", "A1_p63", "B1_HE", "C1_HE", "overview"}),
        ("NORMAL/{patient}/{slide}.TIF", {"B1_HE", "C1_HE", "overview"}),
        ("*/{patient}/*.tif", {slide.replace("/", "-") for slide in LAYOUT}),
        ("normal/P{patient}/C{slide}_HE.tif", {"1"}),
    ],
)
def test_wildcards_stand_for_names_and_folders(
    laid_out: Path, tmp_path: Path, pattern: str, expected: set[str]
) -> None:
    assert {slide.slide_id for slide in made(laid_out, tmp_path, pattern=pattern).slides} == expected


def test_the_same_name_twice_has_to_stand_for_the_same(tmp_path: Path) -> None:
    slides = write_slides(tmp_path / "slides", "P1/P1_a", "P2/P3_b")
    manifest = made(slides, tmp_path, pattern="{patient}/{patient}_{slide}.tif")
    assert [(slide.slide_id, slide.patient_id) for slide in manifest.slides] == [("a", "P1")]


def test_a_table_adds_to_a_pattern_and_must_not_contradict_it(laid_out: Path, tmp_path: Path) -> None:
    words = {"pattern": "*/{patient}/{slide}_HE.tif", "shares": (0, 0, 1, 1)}
    table = table_of("path,label,patient_id", "tumor/P7/A1_HE.tif,Tumor,P7", "normal/P8/B1_HE.tif,Normal,")
    manifest = made(laid_out, tmp_path, table, **words)
    assert {slide.slide_id: slide.patient_id for slide in manifest.slides} == {"A1": "P7", "B1": "P8"}
    for name in ("slides.csv", "sections.csv"):
        (tmp_path / "out" / name).unlink()
    with pytest.raises(ManifestError, match=r"slide A1: the pattern says patient_id 'P7', the table's line 2 'P70'"):
        made(laid_out, tmp_path, table.replace(",P7\n", ",P70\n"), **words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"pattern": "{patient/{slide}.tif"}, r"'\{' is no name in braces"),
        ({"pattern": "{}/{slide}.tif"}, r"'\{\}' is no name in braces"),
        ({"pattern": "*/*.tif"}, "nothing of it is in braces"),
        ({"pattern": "{slide}.tif"}, r"describes none of the slides that were found, such as normal/P8/B1_HE\.tif"),
        ({"pattern": "**/{slide}_*.tif"}, r"1 slide_id\(s\) would be those of several(.|\n)*A1: tumor/P7/A1_HE"),
        ({"pattern": PATTERN, "only": ("stain=Ki67",)}, r"--only leaves no slide; there are .*stain: HE, p63"),
        ({"pattern": PATTERN, "only": ("dye=HE",)}, r"has no \{dye\}; it has label, patient, slide, stain"),
        ({"pattern": PATTERN, "only": ("HE",)}, "expected NAME=VALUE"),
        ({"only": ("stain=HE",)}, "give --pattern, too"),
        ({"pattern": "{part}/{patient}/{slide}.tif"}, "unknown part 'normal'"),
        ({"pattern": "{patient}/{label}/{slide}.tif"}, r"B1_HE\.tif: label is 'P8', expected one of Tumor, Normal"),
    ],
)
def test_faults_of_a_pattern_are_told_and_nothing_is_written(
    laid_out: Path, tmp_path: Path, words: dict[str, Any], says: str
) -> None:
    with pytest.raises(BccdistError, match=says):
        made(laid_out, tmp_path, **words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("header", "row", "why"),
    [
        (
            "path,patient_id",
            "https://u:Hidden1@host/case-0/HE.tif?sig=Hidden1,p",
            r"1 address\(es\), as in line 2: path is",
        ),
        ("slide_id,path", "case-0-HE,s3://bucket/HE.tif", "line 2: path is s3://bucket/HE.tif"),
        ("slide_id,annotation", "case-0-HE,a.geojson;https://host/b.geojson", "annotation is https://host/b.geojson"),
    ],
)
def test_a_table_of_slides_on_a_server_is_refused_in_one_line(
    slides: Path, tmp_path: Path, header: str, row: str, why: str
) -> None:
    with pytest.raises(ManifestError, match=why) as caught:
        made(slides, tmp_path, table_of(header, row))
    assert "\n" not in str(caught.value)
    assert "Hidden1" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["SLIDES", "--table", "--out"])
def test_a_server_is_not_searched_and_not_written_to(slides: Path, tmp_path: Path, what: str) -> None:
    address = Path("https://u:Hidden1@host/slides")
    given = {"SLIDES": {"slides": address}, "--table": {"table": address}, "--out": {"out": address}}[what]
    with pytest.raises(ManifestError, match=f"^{what} begins with https:/, and has to be of this machine") as caught:
        make_manifest(ManifestArguments(**{"slides": slides, "out": tmp_path / "out", **given}))
    assert "Hidden1" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
