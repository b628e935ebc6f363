"""The files of a slide are told apart by their content, united, and refused where they do not fit the slide."""

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from annotated_slides import (
    HEIGHT_PX,
    KINDS,
    WIDTH_PX,
    blank_slide,
    boxes_mask,
    feature,
    polygon,
    read_features,
    square,
    whole,
)

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations import SUPPORTED_FORMATS, read_annotations

SLIDE = blank_slide()


def test_the_files_of_a_slide_are_united(tmp_path: Path) -> None:
    drawn = tmp_path / "a.geojson"
    drawn.write_text(json.dumps([feature(polygon(square(0, 0, 20))), feature(polygon(square(0, 0, 40)), "Stroma")]))
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    values[30:, 40:] = 1
    painted = tmp_path / "a.png"
    cv2.imwrite(str(painted), values)
    masks = read_annotations([drawn, painted], SLIDE, KINDS).masks(whole(SLIDE))
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((0, 0, 10, 10), (40, 30, 60, 40)))
    assert np.array_equal(masks[Kind.STROMA], boxes_mask((0, 0, 20, 20)))
    assert not masks[Kind.NORMAL].any()


def test_without_a_file_nothing_is_annotated() -> None:
    annotation = read_annotations([], SLIDE, KINDS)
    assert not any(mask.any() for mask in annotation.masks(whole(SLIDE)).values())
    assert set(annotation.areas_um2.values()) == {0}


def test_what_sticks_out_of_the_slide_a_little_is_cut(tmp_path: Path) -> None:
    masks = read_features(tmp_path, SLIDE, feature(polygon([[-2, -1], [60, -1], [60, 60], [-2, 60]])))
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((0, 0, 30, 30)))


class Outside(NamedTuple):
    """Polygons that do not fit the slide, as squares, and what is said about them."""

    squares: list[list[list[float]]]
    says: str


OUTSIDE = {
    "beyond": Outside([square(0, 0, 9), square(500, 0, 9)], "1 of 2 polygons lie outside the slide's 120 x 80"),
    "at the edge": Outside([square(120, 0, 9)], "1 of 1 polygons lie outside"),
    "half out": Outside([square(-10, 10, 20)], "50% of the annotated area lies outside"),
    "six in a hundred out": Outside([square(0, 0, 40), square(-10, 0, 10.5)], r"6\.?\d?% of the annotated area"),
}


@pytest.mark.parametrize("case", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_what_lies_outside_the_slide_is_refused(tmp_path: Path, case: Outside) -> None:
    with pytest.raises(AnnotationError, match=case.says) as error:
        read_features(tmp_path, SLIDE, *[feature(polygon(ring)) for ring in case.squares])
    assert str(error.value).startswith(str(tmp_path / "a.geojson"))


class Foreign(NamedTuple):
    """A file of a format that is not read, and what it is taken for."""

    name: str
    content: bytes
    says: str


FOREIGN = [
    Foreign("a.annotations", b"<Annotations/>", "seems to be HALO annotations"),
    Foreign(
        "a.xml",
        b'<Annotations><Annotation><Regions><Region Type="Polygon"><Vertices><V X="1" Y="1"/></Vertices></Region>'
        b"</Regions></Annotation></Annotations>",
        "seems to be HALO annotations",
    ),
    Foreign("a.json", b'{"version": "2.0", "schema_ref": "x", "item": {}, "annotations": []}', "V7 Darwin JSON"),
    Foreign("a.json", b'{"image_id": 1, "study_id": 1, "annotations": []}', "SlideScore JSON"),
    Foreign("a.txt", b"ImageID\tImage Name\tBy\n", "a SlideScore table"),
    Foreign("a.json", b'{"images": [], "annotations": [], "categories": []}', "COCO JSON"),
    Foreign("a.json", b'[{"annotation": {"elements": []}}]', "Digital Slide Archive"),
    Foreign("a.json", b'{"dataset": "x", "image": {}, "annotations": []}', "V7 Darwin JSON"),
    Foreign("a.json", b'[{"imageID": 1, "question": "Tumor", "value": "[]"}]', "SlideScore JSON"),
    Foreign(
        "a.json",
        b'{"collection": [{"class": "x", "location": "POLYGON ((0 0, 9 0, 9 9, 0 0))", "image": 1, "term": [2]}]}',
        "Cytomine JSON",
    ),
    Foreign("a.json", b'[{"location": "POLYGON ((0 0, 9 0, 9 9, 0 0))", "project": 4}]', "Cytomine JSON"),
    Foreign("a.wkt", b"MULTIPOLYGON (((0 0, 9 0, 9 9, 0 0)))", r"outlines in well-known text \(WKT\), as Cytomine"),
    Foreign("a.csv", b"ID;Term;WKT\n1;BCC;POLYGON ((0 0, 9 0, 9 9, 0 0))\n", "outlines in well-known text"),
    Foreign("a.csv", "ID;Term;WKT\n1;BCC;POLYGON((0 0, 9 0, 9 9, 0 0))\n".encode("utf-16"), "outlines in well-known"),
    Foreign("a.json", b'{"createdBy": "Sectra IDS7", "annotations": []}', "a file of Sectra"),
    Foreign("a.xml", b"<Sectra><Annotation/></Sectra>", "a file of Sectra"),
    Foreign("a.dcm", bytes(128) + b"DICM\x02\x00", "a DICOM file, as Sectra exports annotations"),
    Foreign("a.json", b'{"shapes": [], "imagePath": "a.tif"}', "LabelMe JSON"),
    Foreign("a.json", b'{"_via_img_metadata": {}}', "VGG Image Annotator JSON"),
    Foreign("a.qpproj", b'{"version": "0.5", "createTimestamp": 1, "images": []}', "a QuPath project"),
    Foreign("a.xml", b"<annotations><version>1.1</version><image id='0'/></annotations>", "CVAT XML"),
    Foreign("a.xml", b"<annotation><folder/><object/></annotation>", "Pascal VOC or LabelMe XML"),
    Foreign("a.ome.xml", b'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><ROI/></OME>', "OME-XML"),
    Foreign("a.session.xml", b"<session><image/></session>", "a Sedeen session"),
    Foreign("a.sqlite", b"SQLite format 3\0" + bytes(90), "a SQLite database, as SlideRunner writes"),
    Foreign("a.roi", b"Iout\0\0", "an ImageJ ROI"),
    Foreign("a.h5", b"\x89HDF\r\n", "an HDF5 file"),
    Foreign("a.npy", b"\x93NUMPY\x01", "a NumPy array"),
    Foreign("a.geojson.gz", b"\x1f\x8b\x08", "a gzip archive"),
    Foreign("a.zip", b"PK\x03\x04xyz", "a ZIP archive"),
    Foreign("a.jpg", b"\xff\xd8\xff\xe0", "a JPEG, whose compression changes the values"),
    Foreign("a.qpdata", b"\xac\xed\x00\x05", "a QuPath data file"),
    Foreign("a.txt", b"12 34 56", "it begins with b'12 34 56'"),
    Foreign("a.bin", bytes(40), "it begins with b'"),
    Foreign("a.xml", b"<svg><path/></svg>", r"XML with the root <svg> of \['path'\]"),
    Foreign("a.json", b"<html/>", "XML with the root <html>"),
    Foreign("a.xml", b"<annotations><mark/></annotations>", "XML with the root <annotations> of"),
]


@pytest.mark.parametrize("case", FOREIGN, ids=lambda case: f"{case.name}-{case.says[:30]}")
def test_another_format_is_refused_by_name_with_the_supported_ones(tmp_path: Path, case: Foreign) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content)
    with pytest.raises(AnnotationError, match=f"unknown annotation format: .*{case.says}") as error:
        read_annotations([path], SLIDE, KINDS)
    assert SUPPORTED_FORMATS in str(error.value)
    assert str(error.value).startswith(str(path))


class Advised(NamedTuple):
    """A file of another format, and what its owner is told to do."""

    content: bytes
    advice: str


ADVISED = {
    "qpdata": Advised(b"\xac\xed\x00\x05", "open it in QuPath, and export its objects as GeoJSON"),
    "zip": Advised(b"PK\x03\x04", "unpack it"),
    "wkt": Advised(b"POLYGON ((0 0, 9 0, 9 9, 0 0))", "Cytomine's y runs up from the lower edge"),
    "anything": Advised(b"12 34 56", "open the slide with its annotations in QuPath and export GeoJSON"),
}


@pytest.mark.parametrize("case", ADVISED.values(), ids=ADVISED.keys())
def test_the_refusal_of_another_format_says_what_to_do(tmp_path: Path, case: Advised) -> None:
    (tmp_path / "a.file").write_bytes(case.content)
    with pytest.raises(AnnotationError) as error:
        read_annotations([tmp_path / "a.file"], SLIDE, KINDS)
    assert str(error.value).endswith(case.advice) or case.advice in str(error.value).rpartition(": ")[2]


def test_a_file_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"a\.xml: cannot be read: No such file"):
        read_annotations([tmp_path / "a.xml"], SLIDE, KINDS)
    with pytest.raises(AnnotationError, match="cannot be read: Is a directory"):
        read_annotations([tmp_path], SLIDE, KINDS)
    (tmp_path / "a.geojson").touch()
    with pytest.raises(AnnotationError, match="it is empty"):
        read_annotations([tmp_path / "a.geojson"], SLIDE, KINDS)
