"""Fields that may name a patient are found by their names in every format, and held against a slide's own names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bccdist.slides.private_fields import annotation_fields, fields_in_name, private_fields, private_images

MARKER = "Miller^Anna"


def written_tiff(path: Path, **options: Any) -> Path:
    tifffile.imwrite(path, np.zeros((64, 64, 3), dtype=np.uint8), photometric="rgb", metadata=None, **options)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "aperio.User",
        "aperio.Title",
        "aperio.Barcode",
        "aperio.Date",
        "hamamatsu.Reference",
        "leica.barcode",
        "mirax.GENERAL.SLIDE_NAME",
        "mirax.GENERAL.SLIDE_CREATIONDATETIME",
        "philips.PIM_DP_UFS_BARCODE",
        "philips.DICOM_ACQUISITION_DATETIME",
        "ventana.UserName",
        "dicom.PatientName",
        "dicom.PatientID",
        "dicom.AccessionNumber",
        "dicom.OtherPatientIDs",
        "dicom.ReferringPhysicianName",
        "dicom.SpecimenDescriptionSequence[0].SpecimenIdentifier",
        "dicom.ContainerIdentifier",
        "dicom.StudyDate",
        "dicom.OperatorsName",
        "tiff.ImageDescription",
        "tiff.Artist",
        "tiff.HostComputer",
        "openslide.comment",
    ],
)
def test_a_field_that_may_name_a_patient_a_person_or_a_day_is_found(tmp_path: Path, name: str) -> None:
    path = written_tiff(tmp_path / "a.tif")
    assert private_fields(path, {name: MARKER}) == {name: MARKER}
    assert private_fields(path, {name: " "}) == {}


@pytest.mark.parametrize(
    "name",
    [
        "aperio.MPP",
        "aperio.AppMag",
        "aperio.Exposure Time",
        "openslide.vendor",
        "mirax.HIERARCHICAL.HIER_0_NAME",
        "dicom.StudyInstanceUID",
        "dicom.ManufacturerModelName",
        "dicom.SpecimenLabelInImage",
        "dicom.SpecimenDescriptionSequence[0].SpecimenTypeCodeSequence[0].CodeMeaning",
    ],
)
def test_what_says_how_the_scanner_works_is_not_named(tmp_path: Path, name: str) -> None:
    assert private_fields(written_tiff(tmp_path / "a.tif"), {name: "20"}) == {}


def test_tags_of_a_tiff_are_found_that_openslide_does_not_show(tmp_path: Path) -> None:
    tags = [(315, "s", 0, MARKER, True), (65468, "s", 0, "4711-0815", True), (37510, "s", 0, "comment", True)]
    path = written_tiff(tmp_path / "a.tif", extratags=tags, description="a day")
    assert set(private_fields(path, {})) == {
        "tiff.Artist",
        "hamamatsu.Barcode",
        "tiff.UserComment",
        "tiff.ImageDescription",
    }


@pytest.mark.shared_data
def test_all_files_of_a_dicom_slide_are_looked_at(shared_data: Path, tmp_path: Path) -> None:
    """The label's own file holds what stands on it."""
    for path in sorted((shared_data / "fixtures" / "dicom_cmu1").glob("*.dcm")):
        image = pydicom.dcmread(path)
        if image.ImageType[2] == "LABEL":
            image.LabelText, image.BarcodeValue = "Miller", "4711"
            image.add_new(0x00091001, "LO", "Anna")
        image.save_as(tmp_path / path.name)
    assert set(private_fields(next(tmp_path.iterdir()), {})) >= {
        "dicom.LabelText",
        "dicom.BarcodeValue",
        "dicom.private attribute (0009,1001)",
    }


@pytest.mark.shared_data
def test_images_that_may_show_the_label_are_named_and_the_thumbnail_is_not(shared_data: Path) -> None:
    assert private_images(shared_data / "fixtures" / "CMU-1-Small-Region.svs") == ["label", "macro"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<Annotation Name="Tumor" Description="Miller"/>', ["Description"]),
        ("<ndpviewstate><title>Tumor</title><details>Miller</details></ndpviewstate>", ["details"]),
        ('<Annotation Name="Tumor" Description=""/><Region Text="x" Id="1"/>', ["Text"]),
        ('<ndpviewstate><annotation owner="Miller" color="#0"/></ndpviewstate>', ["owner"]),
        (json.dumps({"properties": {"classification": {"name": "Tumor"}, "name": "Miller"}}), ["name"]),
        (json.dumps({"properties": {"classification": {"name": "Tumor"}, "description": "x"}}), ["description"]),
        (
            json.dumps({"properties": {"metadata": {"created by": "x"}, "user": "y", "date": ""}}),
            ["created by", "user"],
        ),
        (json.dumps({"properties": {"classification": {"name": "Tumor"}}}), []),
        ("\x89PNG", []),
        ("{", []),
    ],
)
def test_free_text_in_annotations_is_named_and_classes_are_not(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text, encoding="utf-8")
    assert annotation_fields([path, tmp_path / "gone.xml"]) == expected


def test_free_text_in_xml_of_another_coding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<Annotation Name="Tumor" Description="Miller"/>', encoding="utf-16")
    assert annotation_fields([path]) == ["Description"]


def test_texts_in_mask_images_are_named(tmp_path: Path) -> None:
    texts = PngInfo()
    texts.add_text("Author", MARKER)
    texts.add_itxt("Comment", MARKER)
    picture = Image.fromarray(np.zeros((40, 40), dtype=np.uint8))
    picture.save(tmp_path / "a.png", pnginfo=texts)
    picture.save(tmp_path / "plain.png")
    written_tiff(tmp_path / "b.tif", description=MARKER)
    assert annotation_fields([tmp_path / "a.png"]) == ["Author", "Comment"]
    assert annotation_fields([tmp_path / "plain.png"]) == []
    assert annotation_fields([tmp_path / "b.tif"]) == ["tiff.ImageDescription"]


@pytest.mark.parametrize(
    ("field", "text", "name", "expected"),
    [
        ("dicom.PatientName", "Miller^Anna", "miller_2", True),
        ("dicom.PatientName", "Miller^Anna", "millers_2", False),
        ("dicom.PatientID", "H21-12", "scan-H21_12-a", True),
        ("dicom.PatientID", "H21-12", "scan-H2112-a", True),
        ("dicom.PatientID", "12", "scan-12-a", False),
        ("hamamatsu.Barcode", "0815/4711", "x/4711.ndpi", True),
        ("aperio.Filename", "CMU-1-slide", "CMU-1-slide.svs", False),
        ("aperio.Date", "2021-01-01", "2021-01-01.svs", False),
    ],
)
def test_the_text_of_a_patients_field_is_found_in_a_name(field: str, text: str, name: str, expected: bool) -> None:
    assert fields_in_name({field: text}, name) == [field] * expected
