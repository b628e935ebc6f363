"""XML from anywhere does no harm: no entity, no other file, no depth without end, and a clear word each time."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from annotated_slides import KINDS, blank_slide

from bccdist.errors import AnnotationError
from bccdist.slides.annotations import read_annotations, xml_file

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
    "unknown encoding": Refused(b'<?xml version="1.0" encoding="no-such"?><a/>', "not valid XML"),
    "only a start": Refused(b"  <", "not valid XML"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_harmful_and_broken_xml_is_refused(tmp_path: Path, case: Refused) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(case.content)
    with pytest.raises(AnnotationError, match=case.says) as error:
        read_annotations([path], blank_slide(), KINDS)
    assert str(error.value).startswith(str(path))


def test_xml_that_is_too_large_is_refused_unparsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_file, "LARGEST_MIB", 1)
    with pytest.raises(AnnotationError, match="2 MiB of XML, at most 1 are read"):
        xml_file.parse_xml(tmp_path / "a.xml", b"<" * 2 * 2**20)
