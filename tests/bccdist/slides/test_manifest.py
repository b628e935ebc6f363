"""A manifest is read whole, or refused with one message that lists every fault."""

import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from bccdist.errors import ManifestError
from bccdist.parts import Kind, Label, Part
from bccdist.slides.frames import Frame
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import (
    DEFAULT_KINDS,
    MOST_LISTED_FAULTS,
    Manifest,
    SlideRecord,
    inspect_manifest,
    read_manifest,
    read_sections,
)

SLIDES = "slide_id,part,path,annotation,mpp,patient_id,scanner\n"
SECTIONS = "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px,patient_id\n"


def write_manifest(folder: Path, slides: str | bytes, sections: str | None = None, kinds: str | None = None) -> Path:
    """The files of a manifest, with slides a.tif, b.tif ... and annotations a.geojson, b.geojson, all empty."""
    for name in (*(f"{letter}.tif" for letter in "abcdefghij"), "a.geojson", "b.geojson"):
        (folder / name).write_bytes(b"")
    for name, content in (("slides.csv", slides), ("sections.csv", sections), ("kinds.toml", kinds)):
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / "slides.csv"


def faults(path: Path) -> list[str]:
    """The faults that the message lists, checked against the number that it gives."""
    with pytest.raises(ManifestError) as error:
        read_manifest(path)
    head, *listed = str(error.value).split("\n  - ")
    assert head == f"{path.resolve()}: {len(listed)} fault(s) in the manifest:"
    return listed


def test_every_kind_of_fault_at_once_is_one_message(tmp_path: Path) -> None:
    slides = (
        "good,Test,a.tif,,,p1,\n"
        "part,Validation III,b.tif,,,,\n"
        "twice,Test,c.tif,,,,\n"
        "twice,Test,c.tif,,,,\n"
        "gone,Test,gone.tif,,,,\n"
        "pathless,Test,,,,,\n"
        "mpp,Test,d.tif,,-0.5,,\n"
        "an.id,Test,e.tif,,,,\n"
        "bare,Training,f.tif,,,,\n"
        "lost,Training,g.tif,lost.geojson,,,\n"
        "patient,val2,h.tif,,,p1,\n"
        "mixed,Test,i.tif,,,,\n"
        "ragged,Test,j.tif\n"
        "hole,Training,g.tif,a.geojson;;b.geojson,,,\n"
        "double,Training,g.tif,a.geojson; a.geojson,,,\n"
        "again,Test,./i.tif,,,,\n"
    )
    sections = (
        "good,good-0,Tumor,,,,,\n"
        "nowhere,nowhere-0,Tumor,,,,,\n"
        "good,good-1,Normal,,,,,\n"
        "good,good-1,Normal,,,,,\n"
        "good,good-2,Benign,,,,,\n"
        "good,good-3,Normal,1,2,3,,\n"
        "good,good-4,Normal,1,2,0,4,\n"
        "good,good-5,Normal,1,2,3,4,too,many\n"
        "mixed,mixed-0,Normal,1,2,3,4,\n"
        "mixed,mixed-1,Normal,,,,,\n"
    )
    expected = [
        r"slides\.csv, line 3: unknown part 'Validation III'; known parts: 'Training' \(train\)",
        r"slides\.csv, line 6: path 'gone\.tif' is not there \(looked at .*/gone\.tif\)",
        r"slides\.csv, line 7: path is empty",
        r"slides\.csv, line 8: mpp is '-0\.5', expected a number above 0",
        r"slides\.csv, line 9: slide_id is 'an\.id'; use letters",
        r"slides\.csv, line 11: annotation 'lost\.geojson' is not there",
        r"slides\.csv, line 14: 3 fields, expected 7 as in the header",
        r"slides\.csv, line 15: annotation is 'a\.geojson;;b\.geojson': a path beside a ';' is empty",
        r"slides\.csv, line 16: annotation names a file more than once: a\.geojson",
        r"slides 'mixed', 'again' are one file: .*/i\.tif",
        r"sections\.csv, line 6: label is 'Benign', expected one of Tumor, Normal",
        r"sections\.csv, line 7: the box .* is not four whole numbers",
        r"sections\.csv, line 8: the box \(1, 2, 0, 4\) has a negative corner or no area",
        r"sections\.csv, line 9: 9 fields, expected 8 as in the header",
        r"kinds\.toml: unknown table\(s\) \['classes'\]; known: names, mask_values, frames",
        r"slide_id 'twice' occurs more than once",
        r"section_id 'good-1' occurs more than once",
        r"sections\.csv, line 3: slide_id 'nowhere' is not in slides\.csv",
        r"slide 'bare' is in Training but names no annotation",
        r"slide 'mixed': some of its sections have a box and some have none",
        r"patient 'p1' is in more than one part: Test, Validation II",
    ]
    listed = faults(write_manifest(tmp_path, SLIDES + slides, SECTIONS + sections, "[classes]\nx = 'Stroma'\n"))
    for pattern in expected:
        assert sum(bool(re.match(pattern, fault)) for fault in listed) == 1, (pattern, listed)
    assert len(listed) == len(expected)


def test_a_whole_manifest_is_read(tmp_path: Path) -> None:
    slides = (
        "a,train,a.tif,a.geojson,0.46,p1,S360\nb,Validation II,b.tif,,,p2,\nc,val1,c.tif,a.geojson; b.geojson,,,\n"
    )
    sections = "a,a-0,Tumor,1,2,3,4,p1\nb,b-0,Normal,,,,,p2\nb,b-1,Tumor,,,,,\n"
    manifest = read_manifest(write_manifest(tmp_path, SLIDES + slides, SECTIONS + sections))
    first, second, third = manifest.slides
    assert (first.slide_id, first.part, first.mpp, first.patient_id) == ("a", Part.TRAINING, 0.46, "p1")
    assert (first.path, first.annotations) == (tmp_path / "a.tif", (tmp_path / "a.geojson",))
    assert (second.part, second.mpp, second.annotations) == (Part.VALIDATION_2, None, ())
    assert third.annotations == (tmp_path / "a.geojson", tmp_path / "b.geojson")
    assert manifest.slides_of([Part.VALIDATION_2]) == [second]
    assert manifest.slide("b") == second
    assert [section.section_id for section in manifest.sections_of("b")] == ["b-0", "b-1"]
    assert manifest.sections_of("c") == manifest.sections_of("nowhere") == []
    assert manifest.sections_of("a")[0].box_level0_px == Box(1, 2, 3, 4)
    assert manifest.sections_of("b")[0].box_level0_px is None
    assert manifest.sections_of("b")[0].label is Label.NORMAL
    assert manifest.kinds == DEFAULT_KINDS
    with pytest.raises(ManifestError, match="no slide 'd' among its 3 slides"):
        manifest.slide("d")


@pytest.mark.parametrize(
    ("name", "part"), [("train", Part.TRAINING), ("VAL1", Part.VALIDATION_1), ("val2", Part.VALIDATION_2)]
)
def test_parts_go_by_short_names_too(tmp_path: Path, name: str, part: Part) -> None:
    assert read_manifest(write_manifest(tmp_path, f"{SLIDES}a,{name},a.tif,a.geojson,,,\n")).slides[0].part is part


def test_sections_may_be_missing(tmp_path: Path) -> None:
    assert read_manifest(write_manifest(tmp_path, "slide_id,part,path\na,Test,a.tif\n")).sections == ()


def test_unknown_columns_are_kept(tmp_path: Path) -> None:
    slides = "slide_id,part,path,stain,block\na,Test,a.tif,H&E,7\n"
    sections = "slide_id,section_id,label,note\na,a-0,Tumor,unsure\n"
    manifest = read_manifest(write_manifest(tmp_path, slides, sections))
    assert manifest.slides[0].extra == {"stain": "H&E", "block": "7"}
    assert manifest.sections[0].extra == {"note": "unsure"}


@pytest.mark.parametrize(("scanner", "expected"), [("phantom", True), ("S360", False), ("", False)])
def test_a_drawn_slide_makes_a_phantom(tmp_path: Path, scanner: str, *, expected: bool) -> None:
    manifest = read_manifest(write_manifest(tmp_path, f"{SLIDES}a,Test,a.tif,,,,\nb,Test,b.tif,,,,{scanner}\n"))
    assert manifest.is_phantom is expected


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "scans"):
        (tmp_path / name).mkdir()
    for name in ("b.tif", "c.tif"):
        (tmp_path / "scans" / name).write_bytes(b"")
    rows = f"a,Test,a.tif,,,,\nb,Test,../scans/b.tif,,,,\nc,Test,{tmp_path / 'scans' / 'c.tif'},,,,\n"
    write_manifest(tmp_path / "data", SLIDES + rows)
    monkeypatch.chdir(tmp_path / "scans")
    manifest = read_manifest(Path("../data/slides.csv"))
    assert manifest.path == tmp_path / "data" / "slides.csv"
    there = [tmp_path / "data" / "a.tif", tmp_path / "scans" / "b.tif", tmp_path / "scans" / "c.tif"]
    assert [slide.path.resolve() for slide in manifest.slides] == there
    assert all(slide.path.is_absolute() for slide in manifest.slides)


PLAIN = "slide_id,part,path,mpp,note\na,Test,sub/a.tif,0.46,7\nb,val2,b.tif,,Größe\n"
SAVED = {
    "Windows lines": PLAIN.replace("\n", "\r\n"),
    "old Mac lines": PLAIN.replace("\n", "\r"),
    "mark": "\ufeff" + PLAIN,
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "separator line": "sep=;\r\n" + PLAIN.replace(",", ";"),
    "semicolons and a decimal comma": PLAIN.replace(",", ";").replace("0.46", "0,46"),
    "quoted": PLAIN.replace("0.46", '"0.46"').replace("slide_id,part", '"slide_id","part"'),
    "quoted decimal comma": PLAIN.replace("0.46", '"0,46"'),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16 with tabs": PLAIN.replace(",", "\t").encode("utf-16"),
    "UTF-16 without its mark": PLAIN.encode("utf-16-le"),
    "UTF-16, big end first": PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
    "backslashes": PLAIN.replace("sub/a.tif", "sub\\a.tif"),
    "empty columns": "\n".join(line + ",,," for line in PLAIN.splitlines()),
    "empty rows": PLAIN + ",,,,\n\n,,,,\n",
    "no-break spaces": PLAIN.replace("part", "\u00a0part\u00a0").replace("Test", "\u00a0Test\u200b"),
    "text formula": PLAIN.replace("a,Test", '="a",Test'),
}
"""One table in the forms in which spreadsheets save it."""


@pytest.mark.parametrize("content", SAVED.values(), ids=SAVED.keys())
def test_a_table_is_the_same_however_it_was_saved(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.tif").write_bytes(b"")
    expected = read_manifest(write_manifest(tmp_path, PLAIN))
    found = read_manifest(write_manifest(tmp_path, content))
    assert (found.slides, found.warnings, found.digest) == (expected.slides, (), expected.digest)
    assert found.notes == expected.notes == ("slides.csv: columns that are kept and not used: 'note'",)


@pytest.mark.parametrize("box", ["384.0,1,2,3", '"384,0",1,2,3', "384.,1.00,2,3"])
def test_whole_numbers_may_be_written_as_decimals(tmp_path: Path, box: str) -> None:
    path = write_manifest(tmp_path, f"{SLIDES}a,Test,a.tif,,,,\n", f"{SECTIONS}a,a-0,Tumor,{box},\n")
    assert read_manifest(path).sections[0].box_level0_px == Box(384, 1, 2, 3)


def test_columns_that_nobody_knows_are_named_with_what_may_be_meant(tmp_path: Path) -> None:
    slides = "slide_id,part,path,Patient,MPP,label,stain\na,Test,a.tif,p1,0.46,Tumor,HE\n"
    sections = "slide_id,section_id,label,x,y,width,height,mpp\na,a-0,Tumor,1,2,3,4,0.5\n"
    manifest = read_manifest(write_manifest(tmp_path, slides, sections))
    unused = "is not known and not used; did you mean"
    assert manifest.warnings == (
        f"slides.csv: column 'Patient' {unused} patient_id?",
        f"slides.csv: column 'MPP' {unused} mpp?",
        "slides.csv: column 'label' is not used; label belongs in sections.csv",
        f"sections.csv: column 'x' {unused} x_level0_px?",
        f"sections.csv: column 'y' {unused} y_level0_px?",
        f"sections.csv: column 'width' {unused} width_level0_px?",
        f"sections.csv: column 'height' {unused} height_level0_px?",
        "sections.csv: column 'mpp' is not used; mpp belongs in slides.csv",
    )
    assert manifest.notes[0].endswith("not used: 'Patient', 'MPP', 'label', 'stain'")


@pytest.mark.parametrize("column", ["stain", "block", "note", "age", "sex", "site", "scan_date", "conflict", "source"])
def test_a_column_of_ones_own_is_a_note_and_no_warning(tmp_path: Path, column: str) -> None:
    manifest = read_manifest(write_manifest(tmp_path, f"slide_id,part,path,{column}\na,Test,a.tif,1\n"))
    assert (manifest.warnings, len(manifest.notes)) == ((), 1)


def test_patient_ids_alike_in_both_files_are_a_warning_that_names_both(tmp_path: Path) -> None:
    slides = f"{SLIDES}a,val2,a.tif,,,12.0,\nb,Test,b.tif,,,,\n"
    manifest = read_manifest(write_manifest(tmp_path, slides, f"{SECTIONS}b,b-0,Tumor,,,,,12\n"))
    (warning,) = manifest.warnings
    assert "'12' (Test: b) and '12.0' (Validation II: a) are equal but for" in warning
    assert warning.endswith("write one id and keep the patient in one part")


@pytest.mark.shared_data
def test_the_patient_that_a_spreadsheet_split_is_found(shared_data: Path) -> None:
    manifest = read_manifest(shared_data / "cases" / "mangled-patient-ids" / "slides.csv")
    (warning,) = manifest.warnings
    assert re.search(r"'12' \(Test: s2\) and '12\.0' \(Validation II: s1\)", warning)


def test_spreadsheets_leave_marks_that_do_no_harm(tmp_path: Path) -> None:
    rows = "\ufeffslide_id, part ,path\r\n\r\n a ,Test,a.tif\r\n,,\r\n"
    manifest = read_manifest(write_manifest(tmp_path, rows))
    assert [(slide.slide_id, slide.part) for slide in manifest.slides] == [("a", Part.TEST)]


def test_a_comma_in_quotes_belongs_to_the_field(tmp_path: Path) -> None:
    manifest = read_manifest(write_manifest(tmp_path, 'slide_id,part,path,note\na,Test,a.tif,"one, two"\n'))
    assert manifest.slides[0].extra == {"note": "one, two"}


class Unreadable(NamedTuple):
    """A file that is no manifest, and what is said about it."""

    content: str | bytes
    says: str


UNREADABLE = {
    "empty": Unreadable("", r"slides\.csv: it is empty"),
    "blank": Unreadable("\n \n", r"slides\.csv: it is empty"),
    "header alone": Unreadable(SLIDES, r"slides\.csv: no rows under the header"),
    "column missing": Unreadable("slide_id,path\na,a.tif\n", r"slides\.csv: required column\(s\) missing: part;"),
    "hashes": Unreadable("slide_id#part#path\na#Test#a.tif\n", r"required .* slide_id, part, path; .*'slide_id#part"),
    "workbook": Unreadable(b"PK\x03\x04\x14\x00 slides", r"slides\.csv is an Excel .*save it as 'CSV UTF-8'"),
    "old workbook": Unreadable(b"\xd0\xcf\x11\xe0\xa1\xb1", r"slides\.csv is an old Excel workbook"),
    "zero bytes": Unreadable("slide_id,part,path\na,Test,\0a.tif\n", r"slides\.csv holds zero bytes"),
    "misspelt": Unreadable(
        "Slide,set,file\na,Test,a.tif\n", r"name 'Slide' to slide_id, 'set' to part, 'file' to path\?"
    ),
    "columns without names": Unreadable("slide_id,,part,,path\na,1,Test,2,a.tif\n", "2 columns have no name"),
    "value below no name": Unreadable("slide_id,part,path,\na,Test,a.tif,7\n", "line 2: 4 fields, expected 3"),
    "decimal comma without quotes": Unreadable(
        "slide_id,part,path,mpp\na,Test,a.tif,0,46\n", "line 2: 5 fields.*quotes"
    ),
    "drive": Unreadable("slide_id,part,path\na,Test,D:\\scans\\a.tif\n", r"'D:.*leads to a drive .* relative"),
    "server": Unreadable("slide_id,part,path\na,Test,\\\\nas\\scans\\a.tif\n", "leads to a drive or server"),
    "column twice": Unreadable("slide_id,part,path,path\na,Test,a.tif,b.tif\n", "named more than once: path"),
    "Latin-1": Unreadable("slide_id,part,path\na,Test,Größe.tif\n".encode("latin-1"), "not readable as CSV in UTF-8"),
    "half of UTF-16": Unreadable("slide_id,part,path\na,Test,a.tif\n".encode("utf-16")[:-1], "not readable as CSV"),
    "open quote": Unreadable(
        'slide_id,part,path\na,Test,"a.tif\nb,Test,a.tif\n', "the quotation marks of line 2 are no pairs"
    ),
    "long field": Unreadable(f"slide_id,part,path\na,Test,{'a' * 140_000}\n", "field larger than field limit"),
    "long path": Unreadable(f"slide_id,part,path\na,Test,{'a' * 5_000}\n", r"slides\.csv, line 2: .*too long"),
    "too many fields": Unreadable("slide_id,part,path\na,Test,a.tif,b.tif\n", "line 2: 4 fields, expected 3"),
    "too few fields": Unreadable("slide_id,part,path\na,Test\n", "line 2: 2 fields, expected 3"),
}


@pytest.mark.parametrize("case", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_manifest_is_one_clear_fault(tmp_path: Path, case: Unreadable) -> None:
    (fault,) = faults(write_manifest(tmp_path, case.content))
    assert re.search(case.says, fault), fault


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path / "slides.csv")
    assert fault.endswith("slides.csv is not there; give the path of a slides.csv")


def test_a_folder_in_place_of_a_table_is_said_to_be_one_and_what_makes_a_table_of_it(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=rf"expected a slides.csv; `python jobs/make_manifest.py {tmp_path}"):
        read_manifest(tmp_path)
    with pytest.raises(ManifestError, match=r"is a folder, expected a sections.csv$"):
        read_sections(tmp_path)
    (tmp_path / "slides.csv").write_text("slide_id,part,path\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=rf"is a folder, expected a table; give {tmp_path}/slides.csv"):
        read_manifest(tmp_path)


def test_a_slide_that_is_not_there_may_be_one_that_is_misspelt() -> None:
    slide = SlideRecord(slide_id="case-7-HE", part=Part.TEST, path=Path("a.svs"))
    manifest = Manifest(path=Path("slides.csv"), slides=(slide,), sections=())
    with pytest.raises(ManifestError, match=r"no slide 'case-7-he' among its 1 slides; did you mean case-7-HE\?"):
        manifest.slide("case-7-he")
    with pytest.raises(ManifestError, match=r"among its 1 slides$"):
        manifest.slide("zzz")


def test_line_numbers_count_blank_lines_and_lines_within_quotes(tmp_path: Path) -> None:
    (fault,) = faults(write_manifest(tmp_path, 'slide_id,part,path,note\n\na,Test,a.tif,"x\ny"\nb,No,a.tif,\n'))
    assert fault.startswith("slides.csv, line 5: unknown part 'No'")


def test_a_faulty_slide_does_not_make_its_sections_faulty(tmp_path: Path) -> None:
    (fault,) = faults(write_manifest(tmp_path, f"{SLIDES}a,Test,gone.tif,,,,\n", f"{SECTIONS}a,a-0,Tumor,,,,,\n"))
    assert "gone.tif" in fault


def test_unreadable_slides_do_not_make_sections_faulty(tmp_path: Path) -> None:
    (fault,) = faults(write_manifest(tmp_path, "", f"{SECTIONS}a,a-0,Tumor,,,,,\n"))
    assert "slides.csv: it is empty" in fault


@pytest.mark.parametrize("name", ["a.b", "a/b", "", "-a", "ä", "a b"])
def test_names_that_cannot_be_files_or_keys_are_refused(tmp_path: Path, name: str) -> None:
    (fault,) = faults(write_manifest(tmp_path, f"{SLIDES}{name},Test,a.tif,,,,\n"))
    assert f"slide_id is {name!r}" in fault


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1,234", "0,4,6", "1_0", "20x", "0.46 um"])
def test_what_is_no_mpp_is_refused(tmp_path: Path, text: str) -> None:
    (fault,) = faults(write_manifest(tmp_path, f'{SLIDES}a,Test,a.tif,,"{text}",,\n'))
    assert f"mpp is {text!r}, expected a number above 0" in fault


@pytest.mark.parametrize(
    "box",
    [
        "-1,0,5,5",
        "0,0,5,0",
        "0,0,5.5,5",
        "1,2,3,",
        "a,b,c,d",
        "1,2,3E+02,4",
        '0,0,"1,024",5',
        "1_0,2,3,4",
        "0,0,5,nan",
    ],
)
def test_what_is_no_box_is_refused(tmp_path: Path, box: str) -> None:
    (fault,) = faults(write_manifest(tmp_path, f"{SLIDES}a,Test,a.tif,,,,\n", f"{SECTIONS}a,a-0,Tumor,{box},\n"))
    assert "the box" in fault


def test_a_patient_of_sections_counts_too(tmp_path: Path) -> None:
    slides = f"{SLIDES}a,Test,a.tif,,,,\nb,val2,b.tif,,,,\n"
    sections = f"{SECTIONS}a,a-0,Tumor,,,,,p9\nb,b-0,Tumor,,,,,p9\n"
    (fault,) = faults(write_manifest(tmp_path, slides, sections))
    assert fault == "patient 'p9' is in more than one part: Test, Validation II"


def test_kinds_give_names_and_values_a_meaning(tmp_path: Path) -> None:
    kinds = "[names]\nBCC = 'Tumornest'\nInk = 'none'\n[mask_values]\n0 = 'none'\n7 = 'Stroma'\n"
    read = read_manifest(write_manifest(tmp_path, f"{SLIDES}a,Test,a.tif,,,,\n", kinds=kinds)).kinds
    assert read.names == {**DEFAULT_KINDS.names, "BCC": Kind.TUMORNEST, "Ink": None}
    assert read.mask_values == {0: None, 7: Kind.STROMA}


def test_kinds_say_what_a_format_counts_from(tmp_path: Path) -> None:
    row = f"{SLIDES}a,Test,a.tif,,,,\n"
    read = read_manifest(write_manifest(tmp_path, row, kinds="[frames]\ngeojson = 'level0'\nasap = 'qupath'\n"))
    assert read.kinds.frames == {"geojson": Frame.LEVEL0, "asap": Frame.QUPATH}
    plain = read_manifest(write_manifest(tmp_path, row, kinds=""))
    assert not plain.kinds.frames
    assert plain.digest != read.digest


@pytest.mark.parametrize(
    "kinds",
    [
        "names = 3",
        "[names]\nBCC = 'Tumor'",
        "[names]\nBCC = 1",
        "[mask_values]\nx = 'none'",
        "[names",
        "frames = 3",
        "[frames]\ngeojson = 'canvas'",
        "[frames]\nndpa = 'level0'",
        "[frames]\ngeojson = 1",
    ],
)
def test_faulty_kinds_are_a_fault(tmp_path: Path, kinds: str) -> None:
    (fault,) = faults(write_manifest(tmp_path, f"{SLIDES}a,Test,a.tif,,,,\n", kinds=kinds))
    assert fault.startswith("kinds.toml: ")


CHANGED = {
    "a label": (f"{SLIDES}a,train,a.tif,a.geojson,,,\n", f"{SECTIONS}a,a-0,Normal,,,,,\n", None),
    "no label": (f"{SLIDES}a,train,a.tif,a.geojson,,,\n", f"{SECTIONS}a,a-0,,,,,,\n", None),
    "two annotations": (f"{SLIDES}a,train,a.tif,a.geojson;b.geojson,,,\n", f"{SECTIONS}a,a-0,Tumor,,,,,\n", None),
    "another part": (f"{SLIDES}a,test,a.tif,a.geojson,,,\n", f"{SECTIONS}a,a-0,Tumor,,,,,\n", None),
    "another kind": (
        f"{SLIDES}a,train,a.tif,a.geojson,,,\n",
        f"{SECTIONS}a,a-0,Tumor,,,,,\n",
        "[names]\nX = 'none'\n",
    ),
}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED.keys())
def test_the_digest_names_the_content(tmp_path: Path, changed: tuple[str, str, str | None]) -> None:
    slides, sections = f"{SLIDES}a,train,a.tif,a.geojson,,,\n", f"{SECTIONS}a,a-0,Tumor,,,,,\n"
    path = write_manifest(tmp_path, slides, sections)
    digest = read_manifest(path).digest
    assert read_manifest(path).digest == digest
    write_manifest(tmp_path, *changed)
    assert read_manifest(path).digest != digest


def test_a_data_set_that_moves_keeps_its_digest(tmp_path: Path) -> None:
    digests = []
    for name in ("here", "there"):
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        (tmp_path / name / "scan.tif").write_bytes(b"")
        slides = f"{SLIDES}a,train,a.tif,a.geojson;b.geojson,,,\nb,Test,../scan.tif,,,,\n"
        digests.append(read_manifest(write_manifest(folder, slides, f"{SECTIONS}a,a-0,Tumor,,,,,\n")).digest)
    assert digests[0] == digests[1]


def test_a_section_may_wait_for_its_label(tmp_path: Path) -> None:
    sections = f"{SECTIONS}a,a-0,,1,2,3,4,\na,a-1,Tumor,5,6,7,8,\n"
    manifest = read_manifest(write_manifest(tmp_path, f"{SLIDES}a,Test,a.tif,,,,\n", sections))
    assert [section.label for section in manifest.sections] == [None, Label.TUMOR]


class OneFile(NamedTuple):
    """How two slides come to name one file."""

    second_path: str
    links: dict[str, str]
    """Names of links and what they point to."""


ONE_FILE = {
    "the same path": OneFile("a.tif", {}),
    "another way to it": OneFile("../{folder}/./a.tif", {}),
    "its absolute path": OneFile("{root}/a.tif", {}),
    "a link to it": OneFile("link.tif", {"link.tif": "a.tif"}),
    "through a linked folder": OneFile("linked/a.tif", {"linked": "."}),
}


@pytest.mark.parametrize("case", ONE_FILE.values(), ids=ONE_FILE.keys())
def test_one_file_under_two_names_is_a_fault(tmp_path: Path, case: OneFile) -> None:
    for name, target in case.links.items():
        (tmp_path / name).symlink_to(target)
    second = case.second_path.format(folder=tmp_path.name, root=tmp_path)
    path = write_manifest(tmp_path, f"{SLIDES}first,Test,a.tif,,,,\nsecond,Test,{second},,,,\nc,Test,c.tif,,,,\n")
    (fault,) = faults(path)
    assert fault == f"slides 'first', 'second' are one file: {tmp_path / 'a.tif'}"
    if not case.links:
        with pytest.raises(ManifestError, match="are one file"):
            read_manifest(path, files_must_exist=False)


def test_files_need_not_be_there_when_a_job_reads_the_manifest_again(tmp_path: Path) -> None:
    path = write_manifest(tmp_path, f"{SLIDES}a,train,gone.tif,gone.geojson,,,\nb,Test,b.tif,,,,\n")
    manifest = read_manifest(path, files_must_exist=False)
    assert manifest.slide("a").path == tmp_path / "gone.tif"
    with pytest.raises(ManifestError, match=r"path 'gone\.tif' is not there"):
        read_manifest(path)


def test_other_faults_stay_faults_when_files_need_not_be_there(tmp_path: Path) -> None:
    path = write_manifest(tmp_path, f"{SLIDES}a,train,gone.tif,,,,\n")
    with pytest.raises(ManifestError, match="names no annotation"):
        read_manifest(path, files_must_exist=False)


@pytest.mark.parametrize("num", [MOST_LISTED_FAULTS, MOST_LISTED_FAULTS + 1, 3000])
def test_a_wrong_folder_does_not_fill_the_screen(tmp_path: Path, num: int) -> None:
    path = write_manifest(tmp_path, SLIDES + "".join(f"s{row},Test,gone/{row}.tif,,,,\n" for row in range(num)))
    with pytest.raises(ManifestError, match=f"{num} fault") as error:
        read_manifest(path)
    _, *listed = str(error.value).splitlines()
    rest = [f"  ... and {num - MOST_LISTED_FAULTS} more"] if num > MOST_LISTED_FAULTS else []
    assert listed[MOST_LISTED_FAULTS:] == rest
    assert len(inspect_manifest(path)[1]) == num


def test_an_inspection_goes_on_with_the_good_rows(tmp_path: Path) -> None:
    slides = "a,Test,a.tif,,,,\na,Test,b.tif,,,,\nb,Test,gone.tif,,,,\nc,train,c.tif,,,,\nd,nowhere,d.tif,,,,\n"
    manifest, listed = inspect_manifest(write_manifest(tmp_path, SLIDES + slides, f"{SECTIONS}a,a-0,?,,,,,\n"))
    assert [(slide.slide_id, slide.path.name) for slide in manifest.slides] == [("a", "a.tif"), ("c", "c.tif")]
    assert manifest.sections == ()
    assert len(listed) == 5
    assert inspect_manifest(tmp_path / "nothing.csv")[0].slides == ()


def test_reading_and_looking_up_do_not_scan_all_rows_for_each_slide(tmp_path: Path) -> None:
    num_slides, num_sections = 10_000, 50_000
    slides = "".join(f"s{row},Test,{row}.tif,,0.46,p{row},S360\n" for row in range(num_slides))
    sections = "".join(f"s{row % num_slides},t{row},Normal,1,2,3,4,\n" for row in range(num_sections))
    path = write_manifest(tmp_path, SLIDES + slides, SECTIONS + sections)
    start_s = time.process_time()
    manifest = read_manifest(path, files_must_exist=False)
    assert sum(len(manifest.sections_of(slide.slide_id)) for slide in manifest.slides) == num_sections
    assert [manifest.slide(f"s{row}").mpp for row in range(num_slides)] == [0.46] * num_slides
    # A scan of all rows for each slide would compare 500 million times.
    assert time.process_time() - start_s < 5
