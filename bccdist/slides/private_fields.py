"""What the files of a slide say that may name a patient, a person or a day: their names, and never their values.

Nothing of it is used or written anywhere. It is named, so that whoever passes slides on knows; and it is held against
the slide_id and the path, which do appear in what is made of a slide. What a label or macro image shows nobody reads.
"""

import codecs
import contextlib
import importlib.util
import io
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import openslide
import tifffile

from bccdist.addresses import Location
from bccdist.errors import RemoteError
from bccdist.remote.files import read_bytes
from bccdist.slides.annotations.mask_file import PNG_SIGNATURE
from bccdist.slides.slide_file import open_file, open_slide_file
from bccdist.slides.tiff_pages import TIFF_SIGNATURES

if TYPE_CHECKING:
    import pydicom

_HARMLESS_IMAGES = {"thumbnail"}
"""Associated images that show tissue alone; all others may show the label."""
_PRIVATE = re.compile(
    r"\b(accession|admission|artist|author|birth|case|comments?|container|copyright|creator|date|description|hospital|host|"
    r"institution|label|notes?|operators?|owner|patients?|physicians?|reference|specimen|study|text|time|title|user|xmp|"
    r"(document|file|image|page|slide) name|filename|username|host computer)\b|barcode|datetime",
)
"""What the words of a field's name have that may hold free text, a person or a day."""
_OF_A_PATIENT = {
    *("accession", "admission", "barcode", "birth", "case", "container", "label", "patient", "reference", "specimen"),
    *("title",),
}
"""Of these, whose text may stand in a slide_id or a path, too."""
_TECHNICAL = re.compile(
    r"uid$|\bcode|sequence|manufacturer|implementation|dimension|scheme|exposure|colou?r|filter|frame of|layer|level|"
    r"hier|position reference|label in image|label (x|y|width|height)"
)
"""Fields with such words that say how the scanner works."""
_UNKNOWN = {"", "unknown", "none", "n/a", "no", "yes", "null"}
_LEAST_TEXT = 4
"""Shorter texts stand in any name by chance."""
_TIFF_TAGS = {
    269: "DocumentName",
    270: "ImageDescription",
    285: "PageName",
    306: "DateTime",
    315: "Artist",
    316: "HostComputer",
    700: "XMP",
    33432: "Copyright",
    36867: "DateTimeOriginal",
    37510: "UserComment",
    42016: "ImageUniqueID",
    42032: "CameraOwnerName",
    65427: "hamamatsu.Reference",
    65468: "hamamatsu.Barcode",
}
_FREE_TEXT = re.compile(
    r"(description|comments?|notes?|details|text|user(name)?|author|creator|owner|by|date(time)?|timestamp|time|created|"
    r"modified)$"
)
"""What the name of a field in an annotation ends with where people or programs write what they like."""
_CLASSES = {"classification", "classifications", "geometry", "measurements"}
"""Members of an object of QuPath's that hold its class and numbers."""
_TEXTS = {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UT"}
"""What DICOM calls the kinds of values that are texts, names and days."""
_IN_XML = (
    re.compile(rb"""\s([\w:]+)\s*=\s*["']\s*[^"'<>\s]"""),
    re.compile(rb"""<([\w:]+)(?:\s[^<>]*)?>\s*[^<\s]"""),
)
"""Filled attributes and filled elements."""


def private_images(path: Location) -> list[str]:
    """The names of a slide's images that may show its label.

    Raises:
        SlideError: it cannot be opened.
    """
    with open_file(path) as handle:
        return sorted(set(handle.associated_images) - _HARMLESS_IMAGES)


def private_fields(path: Location, properties: Mapping[str, str]) -> dict[str, str]:
    """The filled fields of a slide's file that may name a patient, a person or a day, with their texts.

    Args:
        path: the file; tags of a TIFF that OpenSlide does not show are read, and all files of a DICOM slide's series
            where pydicom is installed.
        properties: what OpenSlide shows of it.
    """
    found = {name: text for name, text in properties.items() if _may_be_private(name)}
    with open_slide_file(path) as file:
        others = (*_tiff_fields(file.reading()), *_dicom_fields(file.path))
    for name, text in others:
        if text not in found.values():
            found.setdefault(name, text)
    return {name: text for name, text in found.items() if text.strip().casefold() not in _UNKNOWN}


def annotation_fields(paths: Iterable[Location]) -> list[str]:
    """The names of filled free-text fields in annotations; the class of a drawing is none of them."""
    names: set[str] = set()
    for path in paths:
        try:
            content = read_bytes(path)
        except (OSError, RemoteError):
            continue  # what cannot be read is another finding
        if content.startswith(PNG_SIGNATURE):
            names |= set(_texts_in_png(content))
        elif content.startswith(TIFF_SIGNATURES):
            names |= {name for name, text in _tiff_fields(io.BytesIO(content)) if text.strip()}
        else:
            names |= _free_text_in(_as_utf8(content))
    return sorted(names)


def _as_utf8(content: bytes) -> bytes:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", "replace").encode()
    return content.removeprefix(codecs.BOM_UTF8).lstrip()


def _free_text_in(content: bytes) -> set[str]:
    if content.startswith(b"<"):
        return set(_free_text_in_xml(content))
    if content.startswith((b"{", b"[")):
        with contextlib.suppress(ValueError, RecursionError):
            return set(_free_text_in_json(json.loads(content)))
    return set()


def _texts_in_png(content: bytes) -> Iterator[str]:
    """The keywords of a PNG's texts; each chunk is its length, its name, and what it holds before a checksum."""
    place = len(PNG_SIGNATURE)
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] in (b"tEXt", b"zTXt", b"iTXt"):
            yield content[place + 8 : place + 8 + length].partition(b"\0")[0].decode("latin-1")
        place += 12 + length


def _free_text_in_xml(content: bytes) -> Iterator[str]:
    found = {match[1].decode("ascii", "replace") for pattern in _IN_XML for match in pattern.finditer(content)}
    return (name.rpartition(":")[2] for name in found if _FREE_TEXT.search(name.casefold()))


def _free_text_in_json(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in _CLASSES:
                yield from _free_text_in_json(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _free_text_in_json(inner, key)
    elif isinstance(value, str) and value.strip() and (key == "name" or _FREE_TEXT.search(key.casefold())):
        yield key


def fields_in_name(fields: Mapping[str, str], name: str) -> list[str]:
    """The fields of a patient whose text, or a word of it, stands in a name such as a slide_id or a path.

    Args:
        fields: from `private_fields`, or others by their names.
        name: what is looked at.
    """
    words = _words_of_text(name)
    runs = {"".join(words[start:end]) for start in range(len(words)) for end in range(start + 1, len(words) + 1)}
    return [field for field, text in fields.items() if _is_of_a_patient(field) and _long_texts(text) & runs]


def _may_be_private(name: str) -> bool:
    if name.startswith("openslide."):
        return name == openslide.PROPERTY_NAME_COMMENT
    words = " ".join(_words_of_field(name))
    return bool(_PRIVATE.search(words)) and not _TECHNICAL.search(words)


def _is_of_a_patient(name: str) -> bool:
    words = _words_of_field(name)
    return any(word in _OF_A_PATIENT or "barcode" in word for word in words)


def _words_of_field(name: str) -> list[str]:
    """The words of the last part of a field's name: `dicom.PatientName` gives patient, name."""
    last = re.sub(r"\[\d+\]", "", name).rpartition(".")[2]
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", last)
    return re.split(r"[^a-z0-9]+", parts.casefold())


def _words_of_text(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text.casefold()) if word]


def _long_texts(text: str) -> set[str]:
    """A text's words and the whole of it without what parts them; those that do not stand in any name by chance."""
    words = _words_of_text(text)
    return {each for each in (*words, "".join(words)) if len(each) >= _LEAST_TEXT}


def _tiff_fields(source: Path | BinaryIO) -> Iterator[tuple[str, str]]:
    try:
        with tifffile.TiffFile(source, name=Path(getattr(source, "name", "")).name) as tiff:
            for page in tiff.pages:
                for code, name in _TIFF_TAGS.items():
                    tag = page.tags.get(code) if isinstance(page, tifffile.TiffPage) else None
                    if tag is not None:
                        value = tag.value
                        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
                        yield f"{'' if '.' in name else 'tiff.'}{name}", text
    except RemoteError:
        raise
    # Whatever tifffile cannot read is for OpenSlide to judge, as in `bccdist.slides.checkup`.
    except (OSError, ValueError, TypeError, IndexError, KeyError, AttributeError):
        return


def _dicom_fields(path: Path) -> Iterator[tuple[str, str]]:
    """What all files of a DICOM slide say, the label's among them; nothing where pydicom is not installed."""
    if not _is_dicom(path):
        return
    if importlib.util.find_spec("pydicom") is None:
        return
    # Its warnings repeat the text that they are about.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series = _headers(path).get("SeriesInstanceUID")
        for each in sorted(path.parent.iterdir()):
            if each.is_file() and _is_dicom(each) and (found := _headers(each)).get("SeriesInstanceUID") == series:
                for element in found.iterall():
                    name = element.keyword or f"private attribute {element.tag}"
                    if element.VR in _TEXTS and (element.tag.is_private or _may_be_private(name)):
                        yield f"dicom.{name}", str(element.value or "")


def _headers(path: Path) -> "pydicom.Dataset":
    """What a DICOM file says before its pixels; nothing where it cannot be read, which is another finding."""
    import pydicom

    try:
        dataset: pydicom.Dataset = pydicom.dcmread(path, stop_before_pixels=True)
    except (pydicom.errors.InvalidDicomError, OSError, ValueError, EOFError, AttributeError):
        return pydicom.Dataset()
    dataset.pop("PerFrameFunctionalGroupsSequence", None)
    return dataset


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
