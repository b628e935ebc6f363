"""Formats of other programs that are not read: known by how they begin or what they hold, and refused by name."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from bccdist.errors import AnnotationError

SUPPORTED_FORMATS = (
    "QuPath GeoJSON, Hamamatsu NDPA (.ndpa), Aperio ImageScope XML, ASAP XML, mask images (.png, .tif, .tiff)"
)
_BY_QUPATH = "export one of these, or open the slide with its annotations in QuPath and export GeoJSON"
_WKT_ADVICE = (
    "write GeoJSON in level-0 px; Cytomine's y runs up from the lower edge, GeoJSON's down from the upper one"
)


class Foreign(NamedTuple):
    """A format that is not read."""

    name: str
    advice: str = _BY_QUPATH
    """What to do instead."""


_CYTOMINE = Foreign("Cytomine JSON", _WKT_ADVICE)
_HEADS = (
    (b"ImageID\t", Foreign("a SlideScore table")),
    (b"PK\x03\x04", Foreign("a ZIP archive", "unpack it, and name the file that is in it")),
    (b"\x1f\x8b", Foreign("a gzip archive", "unpack it, and name the file that is in it")),
    (
        b"\xff\xd8\xff",
        Foreign("a JPEG, whose compression changes the values of a mask", "save the mask as PNG or TIFF"),
    ),
    (
        b"\xac\xed",
        Foreign("a QuPath data file (.qpdata)", "open it in QuPath, and export its objects as GeoJSON"),
    ),
    (b"SQLite format 3\0", Foreign("a SQLite database, as SlideRunner writes")),
    (b"Iout", Foreign("an ImageJ ROI")),
    (b"\x89HDF", Foreign("an HDF5 file")),
    (b"\x93NUMPY", Foreign("a NumPy array", "save the mask as PNG or TIFF")),
)
_DICOM_AT, _DICOM = 128, b"DICM"
_WKT = re.compile(rb"\b(MULTI)?POLYGON\s*(Z\s*)?\(\s*\(", re.IGNORECASE)
_JSON_KEYS = (
    (("schema_ref", "item"), Foreign("V7 Darwin JSON")),
    (("dataset", "image", "annotations"), Foreign("V7 Darwin JSON")),
    (("study_id", "image_id"), Foreign("SlideScore JSON")),
    (("imageID", "question"), Foreign("SlideScore JSON")),
    (("categories", "images"), Foreign("COCO JSON")),
    (("annotation",), Foreign("Digital Slide Archive (HistomicsUI) JSON")),
    (("elements",), Foreign("Digital Slide Archive (HistomicsUI) JSON")),
    (("location", "image"), _CYTOMINE),
    (("location", "project"), _CYTOMINE),
    (("location", "term"), _CYTOMINE),
    (("shapes", "imagePath"), Foreign("LabelMe JSON")),
    (("_via_img_metadata",), Foreign("VGG Image Annotator JSON")),
    (("data_row",), Foreign("Labelbox JSON")),
    (("createTimestamp", "images"), Foreign("a QuPath project", "open it in QuPath, and export objects as GeoJSON")),
    (("dictionaries",), Foreign("Paper.js JSON")),
)
"""Keys by which the JSON of other programs is known."""
_XML_ELEMENTS = (
    ("Annotations", "Annotation/Regions/Region/Vertices/V", Foreign("HALO annotations")),
    ("annotations", "image", Foreign("CVAT XML")),
    ("annotation", "object", Foreign("Pascal VOC or LabelMe XML")),
    ("session", "image", Foreign("a Sedeen session")),
    ("DataObject", ".", Foreign("Philips XML")),
    ("GraphicsDocument", ".", Foreign("Zeiss annotations")),
)
"""The root, and an element below it, by which the XML of other programs is known."""
_PROGRAMS = {
    word.lower().encode(): word
    for word in (
        "Sectra",
        "Cytomine",
        "HALO",
        "Visiopharm",
        "Aiforia",
        "OMERO",
        "Proscia",
        "CaseViewer",
        "SlideViewer",
    )
}
"""Programs that are named where their file says who wrote it."""


def unsupported(path: Path, foreign: Foreign) -> AnnotationError:
    """The refusal of a file by its name."""
    return AnnotationError(
        f"{path}: unknown annotation format: it seems to be {foreign.name}; supported are {SUPPORTED_FORMATS}: "
        f"{foreign.advice}"
    )


def unknown(path: Path, what: str, head: bytes) -> AnnotationError:
    """The refusal of a file that begins with `head` and looks like nothing known, but may name a program."""
    named = next((word for mark, word in _PROGRAMS.items() if mark in head.lower()), None)
    if named is not None:
        return unsupported(path, Foreign(f"a file of {named}"))
    return AnnotationError(
        f"{path}: unknown annotation format: {what}; supported are {SUPPORTED_FORMATS}: {_BY_QUPATH}"
    )


def foreign_head(head: bytes) -> Foreign | None:
    """The format of a file that begins so, where that tells."""
    found = next((foreign for start, foreign in _HEADS if head.startswith(start)), None)
    if found is None and head[_DICOM_AT:].startswith(_DICOM):
        return Foreign("a DICOM file, as Sectra exports annotations")
    return found


def foreign_text(head: bytes) -> Foreign | None:
    """The format of a file whose text is neither XML nor JSON, where its beginning tells."""
    if _WKT.search(head.replace(b"\0", b"")):
        return Foreign("outlines in well-known text (WKT), as Cytomine exports", _WKT_ADVICE)
    return None


def foreign_json(content: Any) -> Foreign | None:
    """The program that wrote a JSON file which is no GeoJSON, if its keys tell."""
    # Some programs list what they hold, others wrap the list.
    wrapped = content.get("collection") if isinstance(content, dict) else None
    firsts = (each[0] if isinstance(each, list) and each else each for each in (content, wrapped))
    objects: Iterable[Any] = [first for first in firsts if isinstance(first, dict)]
    return next(
        (foreign for each in objects for keys, foreign in _JSON_KEYS if all(key in each for key in keys)), None
    )


def foreign_xml(path: Path, root: Element) -> Foreign | None:
    """The program that wrote an XML file, if its elements or its suffix tell."""
    # HALO has ImageScope's elements, but <V> for a vertex, and counts from elsewhere.
    if path.suffix.lower() == ".annotations":
        return Foreign("HALO annotations")
    if root.tag.endswith("}OME") or root.tag == "OME":
        return Foreign("OME-XML")
    return next(
        (foreign for tag, below, foreign in _XML_ELEMENTS if root.tag == tag and root.find(below) is not None), None
    )
