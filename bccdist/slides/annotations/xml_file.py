"""XML that comes from anywhere: parsed with bounds, and without what can reach outside the file."""

from io import BytesIO
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from bccdist.errors import AnnotationError

LARGEST_MIB = 256
"""An annotation of ten million vertices; the parsed tree takes several times as much memory."""
DEEPEST = 32
"""Levels; annotations have about six."""


def parse_xml(path: Path, content: bytes) -> Element:
    """The root of an XML file.

    Raises:
        AnnotationError: it is too large or too deep, broken, or has a DTD or entities, which annotations never need.
    """
    if len(content) > LARGEST_MIB * 2**20:
        raise AnnotationError(
            f"{path}: {len(content) / 2**20:.0f} MiB of XML, at most {LARGEST_MIB} are read; "
            "export the annotations in several files"
        )
    try:
        root, depth = _parse(content)
    except DefusedXmlException as error:
        raise AnnotationError(
            f"{path}: it has a document type or entities, which annotations do not need and which can name other "
            f"files or grow without bounds ({type(error).__name__}); export it again, or take the DOCTYPE out"
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"{path}: not valid XML: {error}; it may be cut off: export it again") from error
    if depth > DEEPEST:
        raise AnnotationError(
            f"{path}: XML nested deeper than {DEEPEST} levels, which no annotation is; export it again"
        )
    return root


def _parse(content: bytes) -> tuple[Element, int]:
    """The root, and how deep the parser was when it ended: there, or where it became too deep."""
    elements: list[Element] = []
    depth = 0
    for event, element in iterparse(BytesIO(content), events=("start", "end"), forbid_dtd=True):
        elements = elements or [element]
        depth += 1 if event == "start" else -1
        if depth > DEEPEST:
            break
    return elements[0], depth
