"""XML that comes from anywhere: parsed with bounds, and without what can reach outside the file.

The parser knows no multi-byte encodings but UTF-8 and UTF-16, while programs write what their computer's language
has: text is decoded here, by its byte order mark or by what it declares.
"""

import codecs
import re
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

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([^"']+)["']""")
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_AS_WRITTEN = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
"""What Windows writes under these names: sets that hold them and more characters."""


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
        root, depth = _parse(_in_utf8(content))
    except DefusedXmlException as error:
        raise AnnotationError(
            f"{path}: it has a document type or entities, which annotations do not need and which can name other "
            f"files or grow without bounds ({type(error).__name__}); export it again, or take the DOCTYPE out"
        ) from error
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path}: not valid XML: it is not in the encoding {error.encoding!r} that it declares or that XML has "
            f"without a word: {error.reason} at byte {error.start:,}; save it as UTF-8"
        ) from error
    except LookupError as error:
        raise AnnotationError(f"{path}: not valid XML: {error}; save it as UTF-8") from error
    except (ParseError, ValueError) as error:
        raise AnnotationError(f"{path}: not valid XML: {error}; it may be cut off: export it again") from error
    if depth > DEEPEST:
        raise AnnotationError(
            f"{path}: XML nested deeper than {DEEPEST} levels, which no annotation is; export it again"
        )
    return root


def _in_utf8(content: bytes) -> bytes:
    """The same text in UTF-8, without its declaration, which may name another encoding."""
    return _DECLARATION.sub("", content.decode(_encoding_of(content)), count=1).encode()


def _encoding_of(content: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return encoding
    declared = _DECLARED.match(content)
    if declared is None:
        return "utf-8"
    encoding = codecs.lookup(declared[1].decode("ascii", "replace")).name
    # Text whose declaration reads as bytes is in no UTF-16 or UTF-32, whatever a program that joined strings wrote.
    return "utf-8" if encoding.startswith(("utf-16", "utf-32")) else _AS_WRITTEN.get(encoding, encoding)


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
