"""XML from anywhere does no harm: no entity, no other file, no depth without end, and a clear word each time."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from annotated_slides import KINDS, blank_slide, square

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations import read_annotations, xml_file
from bccdist.slides.manifest import Kinds

ENTITIES = [f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in pairwise("abcdefghij")]
BILLION_LAUGHS = f'<!DOCTYPE a [<!ENTITY a "ha">{"".join(ENTITIES)}]><Annotations>&j;</Annotations>'
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><Annotations>&x;</Annotations>'


class Refused(NamedTuple):
    """XML that is refused, and what is said about it."""

    content: bytes
    says: str


DOCUMENT_TYPE = "document type or entities"
REFUSED = {
    "billion laughs": Refused(BILLION_LAUGHS.encode(), DOCUMENT_TYPE),
    "external entity": Refused(EXTERNAL.encode(), DOCUMENT_TYPE),
    "external entity in utf-16": Refused(EXTERNAL.encode("utf-16"), DOCUMENT_TYPE),
    "external dtd": Refused(b'<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><Annotations/>', DOCUMENT_TYPE),
    "plain dtd": Refused(b"<!DOCTYPE Annotations><Annotations/>", DOCUMENT_TYPE),
    "deep": Refused(b"<a>" * 100_000 + b"</a>" * 100_000, r"a\.xml: XML nested deeper than 32 levels"),
    "cut off": Refused(b"<Annotations><Annotation Id=", "not valid XML: .*; it may be cut off"),
    "unclosed": Refused(b"<Annotations><Annotation>", "not valid XML: no element found"),
    "binary": Refused(b"<\x00\x01\xff\xfe" * 20, "not valid XML"),
    "two roots": Refused(b"<Annotations/><Annotations/>", "not valid XML: junk after document element"),
    "unknown entity": Refused(b"<Annotations>&x;</Annotations>", "not valid XML: undefined entity"),
    "unknown encoding": Refused(b'<?xml version="1.0" encoding="no-such"?><a/>', "unknown encoding: no-such; save"),
    "no text encoding": Refused(b'<?xml version="1.0" encoding="hex"?><a/>', "not valid XML: .*; save it as UTF-8"),
    "only a start": Refused(b"  <", "not valid XML"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_harmful_and_broken_xml_is_refused(tmp_path: Path, case: Refused) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(case.content)
    with pytest.raises(AnnotationError, match=case.says) as error:
        read_annotations([path], blank_slide(), KINDS)
    assert str(error.value).startswith(str(path))


NAMES = {
    "gb18030": "基底细胞癌",
    "GBK": "基底细胞癌",
    "gb2312": "肿瘤",
    "Big5": "腫瘤",
    "Shift_JIS": "腫瘍巣",
    "EUC-JP": "腫瘍巣",
    "EUC-KR": "종양",
    "windows-1252": "Tumörnest",
    "iso-8859-15": "Tumörnest",
    "koi8-r": "опухоль",
    "utf-8": "腫瘍",
}


def imagescope(name: str, encoding: str | None) -> str:
    declared = "" if encoding is None else f'<?xml version="1.0" encoding="{encoding}" standalone="yes"?>\r\n'
    corners = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in square(10, 10, 20))
    region = f'<Region Id="1" Type="0"><Vertices>{corners}</Vertices></Region>'
    return f'{declared}<Annotations><Annotation Name="{name}"><Regions>{region}</Regions></Annotation></Annotations>'


@pytest.mark.parametrize("encoding", NAMES)
def test_the_encoding_that_a_file_declares_is_read(tmp_path: Path, encoding: str) -> None:
    name, path = NAMES[encoding], tmp_path / "a.xml"
    path.write_bytes(imagescope(name, encoding).encode(encoding))
    kinds = Kinds(names={name: Kind.TUMORNEST}, mask_values={})
    assert read_annotations([path], blank_slide(), kinds).num_polygons[Kind.TUMORNEST] == 1


UNICODE = {
    "utf-16 with a mark": ("utf-16", "UTF-16"),
    "utf-16, declared as utf-8": ("utf-16", "utf-8"),
    "utf-16 without a mark": ("utf-16-le", "UTF-16"),
    "utf-16 that declares nothing": ("utf-16-be", None),
    "utf-32": ("utf-32", "UTF-32"),
    "utf-8 with a mark": ("utf-8-sig", "utf-8"),
    "utf-8, declared as utf-16": ("utf-8", "utf-16"),
    "utf-8 that declares nothing": ("utf-8", None),
}


@pytest.mark.parametrize(("encoding", "declared"), UNICODE.values(), ids=UNICODE.keys())
def test_unicode_is_read_by_its_marks_whatever_is_declared(
    tmp_path: Path, encoding: str, declared: str | None
) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(imagescope("基底细胞癌", declared).encode(encoding))
    kinds = Kinds(names={"基底细胞癌": Kind.TUMORNEST}, mask_values={})
    assert read_annotations([path], blank_slide(), kinds).num_polygons[Kind.TUMORNEST] == 1


def test_text_that_is_not_in_the_encoding_that_it_declares_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(imagescope("基底细胞癌", "utf-8").encode("gb18030"))
    with pytest.raises(AnnotationError, match="not valid XML"):
        read_annotations([path], blank_slide(), KINDS)
    path.write_bytes(imagescope("Tumornest", "EUC-KR").encode() + b"\xff\xff")
    with pytest.raises(AnnotationError, match=r"not in the encoding 'cp949' that it declares.*save it as UTF-8"):
        read_annotations([path], blank_slide(), KINDS)


def test_a_document_type_in_another_encoding_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="gb18030"?>{EXTERNAL}'.encode("gb18030"))
    with pytest.raises(AnnotationError, match=DOCUMENT_TYPE):
        read_annotations([path], blank_slide(), KINDS)


def test_xml_that_is_too_large_is_refused_unparsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_file, "LARGEST_MIB", 1)
    with pytest.raises(AnnotationError, match="2 MiB of XML, at most 1 are read"):
        xml_file.parse_xml(tmp_path / "a.xml", b"<" * 2 * 2**20)
