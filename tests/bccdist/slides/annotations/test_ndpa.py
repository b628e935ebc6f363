"""Hamamatsu's nanometres become level-0 pixels by the slide's own file; what has no area is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from annotated_slides import blank_slide, boxes_mask, read_text
from hypothesis import given
from hypothesis import strategies as st

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations.ndpa import read_ndpa
from bccdist.slides.annotations.xml_file import parse_xml

NM_PER_PX = 460.0
OFFSET_NM = (1_000_000, -2_000_000)
PROPERTIES = {
    "openslide.mpp-x": "0.46",
    "openslide.mpp-y": "0.46",
    "hamamatsu.XOffsetFromSlideCentre": str(OFFSET_NM[0]),
    "hamamatsu.YOffsetFromSlideCentre": str(OFFSET_NM[1]),
}
SLIDE = blank_slide(properties=PROPERTIES)
SQUARE = [(10.0, 10.0), (50.0, 10.0), (50.0, 50.0), (10.0, 50.0)]


def nm(x: float, y: float) -> tuple[int, int]:
    """A position in level-0 px, on the glass as NDP.view writes it."""
    width, height = SLIDE.level0_size
    return round((x - width / 2) * NM_PER_PX + OFFSET_NM[0]), round((y - height / 2) * NM_PER_PX + OFFSET_NM[1])


def view(drawn: str, *, title: str = "Tumornest", unit: str = "nanometers") -> str:
    return f'<ndpviewstate id="4"><title> {title}</title><coordformat>{unit}</coordformat>{drawn}</ndpviewstate>'


def freehand(corners: list[tuple[float, float]], *, closed: int = 1, special: str = "") -> str:
    marks = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in (nm(*corner) for corner in corners))
    return (
        f'<annotation type="freehand"><closed>{closed}</closed><pointlist>{marks}</pointlist>'
        f"<specialtype>{special}</specialtype></annotation>"
    )


def circle(x: float, y: float, radius_nm: str) -> str:
    x_nm, y_nm = nm(x, y)
    return f'<annotation type="circle"><x>{x_nm}</x><y>{y_nm}</y><radius>{radius_nm}</radius></annotation>'


def file_of(*views: str) -> str:
    return f"<?xml version='1.0' encoding='utf-8'?><annotations>{''.join(views)}</annotations>"


@pytest.mark.parametrize(
    "drawn", [freehand(SQUARE), freehand([*SQUARE, SQUARE[0]]), freehand(SQUARE, closed=0, special="rectangle")]
)
def test_outlines_and_rectangles_are_areas(tmp_path: Path, drawn: str) -> None:
    masks = read_text(tmp_path / "a.ndpi.ndpa", file_of(view(drawn)), SLIDE)
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((5, 5, 25, 25)))


def test_a_circle_is_an_area(tmp_path: Path) -> None:
    masks = read_text(tmp_path / "a.ndpa", file_of(view(circle(60, 40, str(30 * 460)))), SLIDE)
    rows, cols = np.mgrid[:40, :60]
    expected = np.hypot(2 * cols + 1 - 60, 2 * rows + 1 - 40) < 30
    assert np.array_equal(masks[Kind.TUMORNEST], expected)


def test_the_files_own_scale_counts_and_not_the_manifests(tmp_path: Path) -> None:
    slide = blank_slide(properties=PROPERTIES, mpp_level0=0.5)
    masks = read_text(tmp_path / "a.ndpa", file_of(view(freehand(SQUARE))), slide)
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((5, 5, 25, 25)))


def test_a_wrong_scale_in_both_the_slides_file_and_its_ndpa_gives_the_right_pixels(tmp_path: Path) -> None:
    """The scanner wrote 46 um/px and drew by it; slides.csv says 0.46."""
    properties = {**PROPERTIES, "openslide.mpp-x": "46", "openslide.mpp-y": "46"}
    slide = blank_slide(properties=properties, mpp_level0=0.46)
    width, height = slide.level0_size
    corners = [((x - width / 2) * 46_000 + OFFSET_NM[0], (y - height / 2) * 46_000 + OFFSET_NM[1]) for x, y in SQUARE]
    marks = "".join(f"<point><x>{x:.0f}</x><y>{y:.0f}</y></point>" for x, y in corners)
    drawn = f'<annotation type="freehand"><closed>1</closed><pointlist>{marks}</pointlist></annotation>'
    masks = read_text(tmp_path / "a.ndpa", file_of(view(drawn)), slide)
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((5, 5, 25, 25)))


@given(
    corners=st.lists(st.tuples(st.integers(0, 12_000), st.integers(0, 8_000)), min_size=3, max_size=9, unique=True),
    mpp=st.floats(0.2, 0.6),
)
def test_vertices_on_hundredths_of_a_pixel_come_back_exactly(corners: list[tuple[int, int]], mpp: float) -> None:
    slide = blank_slide(properties={**PROPERTIES, "openslide.mpp-x": repr(mpp), "openslide.mpp-y": repr(mpp)})
    drawn = np.array(corners) / 100
    positions = np.round((drawn - np.array(slide.level0_size) / 2) * mpp * 1000 + OFFSET_NM).astype(int)
    marks = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in positions)
    text = file_of(view(f'<annotation type="freehand"><closed>1</closed><pointlist>{marks}</pointlist></annotation>'))
    marking = read_ndpa(Path("a.ndpa"), parse_xml(Path("a.ndpa"), text.encode()), slide)[0]
    assert np.array_equal(np.array(marking.shapes()[0].geometry.exterior.coords)[:-1], drawn)


def test_a_pin_or_a_line_whose_title_means_none_is_no_fault(tmp_path: Path) -> None:
    pin, line = '<annotation type="pin"><x>1</x><y>1</y></annotation>', freehand(SQUARE, closed=0)
    text = file_of(view(pin, title="Ink"), view(line, title="Ink"), view(freehand(SQUARE), title="Stroma"))
    assert np.array_equal(read_text(tmp_path / "a.ndpa", text, SLIDE)[Kind.STROMA], boxes_mask((5, 5, 25, 25)))


def test_a_file_without_annotations_marks_nothing(tmp_path: Path) -> None:
    assert not read_text(tmp_path / "a.ndpa", file_of(), SLIDE)[Kind.TUMORNEST].any()


class Refused(NamedTuple):
    """An NDPA file that is refused, and what is said about it."""

    text: str
    says: str
    properties: Mapping[str, str] = PROPERTIES


REFUSED = {
    "open line": Refused(file_of(view(freehand(SQUARE, closed=0))), r"annotation 4 \('Tumornest'\) is an open line"),
    "pin": Refused(file_of(view('<annotation type="pin"/>')), "is a pin, which has no area"),
    "ruler": Refused(file_of(view('<annotation type="linearmeasure"/>')), "is a linearmeasure, which has no area"),
    "nothing drawn": Refused(file_of(view("")), "is a None, which has no area"),
    "pixels": Refused(
        file_of(view(freehand(SQUARE), unit="pixels")), "coordinates in 'pixels', expected 'nanometers'"
    ),
    "no title": Refused(file_of(view(freehand(SQUARE), title="")), "annotation 4 .* has no title; give it the name"),
    "unknown title": Refused(
        file_of(view(freehand(SQUARE), title="b"), view("", title="a")), r"\['a', 'b'\] has no meaning"
    ),
    "two corners": Refused(file_of(view(freehand(SQUARE[:2]))), r"has 2 corner\(s\)"),
    "flat": Refused(file_of(view(freehand([(1, 1), (9, 9), (5, 5)]))), "is a Polygon without area"),
    "no number": Refused(file_of(view(circle(60, 40, "wide"))), "coordinate that is not a number"),
    "no radius": Refused(file_of(view(circle(60, 40, ""))), "coordinate that is not a number"),
    "radius nan": Refused(file_of(view(circle(60, 40, "nan"))), "coordinate that is infinite, absurd or no number"),
    "radius 0": Refused(file_of(view(circle(60, 40, "0"))), "circle of radius 0 nm without area"),
    "another scanner": Refused(
        file_of(view(freehand(SQUARE))),
        r"blank\.ndpi does not say .*hamamatsu\.XOffsetFromSlideCentre, hamamatsu\.YOffset.*; name the \.ndpi file",
        {"openslide.mpp-x": "0.46", "openslide.mpp-y": "0.46"},
    ),
    "no scale": Refused(
        file_of(view(freehand(SQUARE))),
        r"without openslide\.mpp-x\)",
        {name: text for name, text in PROPERTIES.items() if name != "openslide.mpp-x"},
    ),
    "no scale at all": Refused(
        file_of(view(freehand(SQUARE))), r"blank\.ndpi says 0 x 0\.46 um/px", {**PROPERTIES, "openslide.mpp-x": "0"}
    ),
    "offset of another slide": Refused(
        file_of(view(freehand(SQUARE))),
        "1 of 1 polygons lie outside",
        {**PROPERTIES, "hamamatsu.XOffsetFromSlideCentre": "0"},
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_area_on_this_slide_is_refused(tmp_path: Path, case: Refused) -> None:
    with pytest.raises(AnnotationError, match=case.says) as error:
        read_text(tmp_path / "a.ndpa", case.text, blank_slide(properties=case.properties))
    assert str(error.value).startswith(str(tmp_path / "a.ndpa"))
