"""ImageScope's layers become kinds, negative regions holes; what has no area or another scale is refused."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from annotated_slides import KINDS, blank_slide, boxes_mask, read_text

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.manifest import Kinds

SLIDE = blank_slide()
Corners = list[tuple[float, float]]


def box(x: float, y: float, x_end: float, y_end: float) -> Corners:
    return [(x, y), (x_end, y), (x_end, y_end), (x, y_end)]


def region(corners: Corners, attributes: str = 'Type="0" NegativeROA="0"') -> str:
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners)
    return f'<Region Id="7" {attributes} Text=""><Attributes/><Vertices>{vertices}</Vertices></Region>'


def hole(corners: Corners) -> str:
    return region(corners, 'Type="0" NegativeROA="1"')


def layer(*regions: str, name: str = "Tumornest") -> str:
    headers = "<RegionAttributeHeaders><AttributeHeader/></RegionAttributeHeaders>"
    return f'<Annotation Id="3" Name="{name}"><Regions>{headers}{"".join(regions)}</Regions><Plots/></Annotation>'


def file_of(*layers: str, scale: str = 'MicronsPerPixel="0.46"') -> str:
    return f"<Annotations {scale}>{''.join(layers)}</Annotations>"


TARGET = boxes_mask((5, 5, 25, 25))
SQUARES = {
    "outline": region(box(10, 10, 50, 50)),
    "closed outline": region([*box(10, 10, 50, 50), (10, 10)]),
    "without a type": region(box(10, 10, 50, 50), ""),
    "rectangle of four corners": region(box(10, 10, 50, 50), 'Type="1" NegativeROA="0"'),
    "rectangle of two corners": region([(50, 10), (10, 50)], 'Type="1" NegativeROA="0"'),
}


@pytest.mark.parametrize("drawn", SQUARES.values(), ids=SQUARES.keys())
def test_outlines_and_rectangles_are_areas(tmp_path: Path, drawn: str) -> None:
    masks = read_text(tmp_path / "a.xml", file_of(layer(drawn)), SLIDE)
    assert np.array_equal(masks[Kind.TUMORNEST], TARGET)


@pytest.mark.parametrize("corners", [[(90, 10), (30, 70)], box(30, 10, 90, 70)])
def test_an_ellipse_fills_the_box_that_its_vertices_give(tmp_path: Path, corners: Corners) -> None:
    text = file_of(layer(region(corners, 'Type="2" NegativeROA="0"')))
    rows, cols = np.mgrid[:40, :60]
    expected = np.hypot(2 * cols + 1 - 60, 2 * rows + 1 - 40) < 30
    assert np.array_equal(read_text(tmp_path / "a.xml", text, SLIDE)[Kind.TUMORNEST], expected)


def test_a_negative_region_is_a_hole_in_its_own_layer_only(tmp_path: Path) -> None:
    text = file_of(
        layer(hole(box(20, 20, 30, 30)), region(box(10, 10, 50, 50)), region(box(24, 10, 60, 50))),
        layer(region(box(10, 10, 50, 36)), name="Normal"),
    )
    masks = read_text(tmp_path / "a.xml", text, SLIDE)
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((5, 5, 30, 25), (10, 10, 15, 15)))
    assert np.array_equal(masks[Kind.NORMAL], boxes_mask((5, 5, 25, 18)))


def test_a_hole_may_reach_over_the_border(tmp_path: Path) -> None:
    text = file_of(layer(region(box(10, 10, 50, 50)), hole(box(0, 30, 90, 79))))
    masks = read_text(tmp_path / "a.xml", text, SLIDE)
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((5, 5, 25, 15)))


def test_a_layer_without_a_name_is_called_by_its_number(tmp_path: Path) -> None:
    kinds = Kinds(names={"Layer 3": Kind.STROMA}, mask_values={})
    masks = read_text(tmp_path / "a.xml", file_of(layer(region(box(10, 10, 50, 50)), name="")), SLIDE, kinds)
    assert np.array_equal(masks[Kind.STROMA], TARGET)


def test_layers_that_are_empty_or_mean_none_are_no_fault(tmp_path: Path) -> None:
    arrow = region([(1, 1), (9, 9)], 'Type="3" NegativeROA="0"')
    text = file_of(layer(name="Layer 1"), layer(arrow, name="Ink"), layer(region(box(10, 10, 50, 50))))
    assert np.array_equal(read_text(tmp_path / "a.xml", text, SLIDE)[Kind.TUMORNEST], TARGET)


@pytest.mark.parametrize("scale", ["", 'MicronsPerPixel="0"', 'MicronsPerPixel="0.5"', 'MicronsPerPixel="0.42"'])
def test_a_scale_that_is_near_or_not_said_is_accepted(tmp_path: Path, scale: str) -> None:
    masks = read_text(tmp_path / "a.xml", file_of(layer(region(box(10, 10, 50, 50))), scale=scale), SLIDE, KINDS)
    assert np.array_equal(masks[Kind.TUMORNEST], TARGET)


OWN_MPPS = [{"openslide.mpp-x": "46", "openslide.mpp-y": "46"}, {"aperio.MPP": "0.0046"}]


@pytest.mark.parametrize("own", OWN_MPPS)
def test_pixels_are_read_where_the_file_repeats_the_wrong_scale_of_the_slides_own_file(
    tmp_path: Path, own: dict[str, str]
) -> None:
    """The scanner wrote it into both, and slides.csv corrected the slide alone."""
    slide = blank_slide(properties=own)
    for scale in (next(iter(own.values())), "0.46", ""):
        text = file_of(layer(region(box(10, 10, 50, 50))), scale=f'MicronsPerPixel="{scale}"')
        assert np.array_equal(read_text(tmp_path / "a.xml", text, slide)[Kind.TUMORNEST], TARGET)


@pytest.mark.parametrize("scale", ["4.6", "0.23", "1.0"])
def test_a_scale_that_neither_the_slide_nor_its_file_has_is_refused_with_a_way_out(tmp_path: Path, scale: str) -> None:
    slide = blank_slide(properties={"openslide.mpp-x": "46", "openslide.mpp-y": "46"})
    text = file_of(layer(region(box(10, 10, 50, 50))), scale=f'MicronsPerPixel="{scale}"')
    with pytest.raises(
        AnnotationError,
        match=r"has 0\.46 um/px, and its file says 46: .* level-0 px all the same, take MicronsPerPixel out",
    ):
        read_text(tmp_path / "a.xml", text, slide)


class Refused(NamedTuple):
    """An ImageScope file that is refused, and what is said about it."""

    text: str
    says: str


SQUARE = region(box(10, 10, 50, 50))
REFUSED = {
    "another scale": Refused(
        file_of(layer(SQUARE), scale='MicronsPerPixel="0.23"'),
        r"drawn at 0\.23 um/px, but blank\.ndpi has 0\.46 um/px: it belongs to another slide",
    ),
    "scale no number": Refused(
        file_of(layer(SQUARE), scale='MicronsPerPixel="x"'), "MicronsPerPixel has a coordinate"
    ),
    "arrow": Refused(
        file_of(layer(region([(1, 1), (9, 9)], 'Type="3"'))), r"region 7 of layer 'Tumornest' is of type 3 \(arrow\)"
    ),
    "unknown type": Refused(file_of(layer(region(box(1, 1, 9, 9), 'Type="6"'))), r"type 6 \(unknown\)"),
    "ellipse of three": Refused(file_of(layer(region(box(1, 1, 9, 9)[:3], 'Type="2"'))), "ellipse with 3 vertices"),
    "flat ellipse": Refused(file_of(layer(region([(1, 1), (9, 1)], 'Type="2"'))), "a Polygon without area"),
    "two corners": Refused(file_of(layer(region([(1, 1), (9, 9)]))), r"has 2 corner\(s\)"),
    "no vertices": Refused(file_of(layer(region([]))), r"has 0 corner\(s\)"),
    "no number": Refused(file_of(layer(SQUARE.replace('X="10"', 'X="1,5"'))), "not a number"),
    "no coordinate": Refused(file_of(layer(SQUARE.replace('X="10"', ""))), "not a number"),
    "a flag of its own": Refused(
        file_of(layer(region(box(1, 1, 9, 9), 'NegativeROA="2"'))), "NegativeROA='2', expected 0 or 1"
    ),
    "a hole in nothing": Refused(
        file_of(layer(SQUARE), layer(hole(box(20, 20, 30, 30)), name="Stroma")),
        "region 7 of layer 'Stroma' is negative but cuts no region of its layer",
    ),
    "an island in a hole": Refused(
        file_of(layer(SQUARE, hole(box(20, 20, 40, 40)), region(box(25, 25, 30, 30)))),
        "region 7 of layer 'Tumornest' lies wholly in a negative region of its layer",
    ),
    "coordinates of another program": Refused(
        "<Annotations><Annotation Name='Tumornest'><Coordinates><Coordinate X='1' Y='1'/></Coordinates></Annotation>"
        "</Annotations>",
        r"layer 'Tumornest' holds \['Coordinates'\], which ImageScope never writes",
    ),
    "regions of another program": Refused(
        file_of(layer(SQUARE.replace("Region", "region"))), r"layer 'Tumornest' holds \['region'\]"
    ),
    "names": Refused(
        file_of(layer(SQUARE, name="b"), layer(SQUARE, name="")), r"\['Layer 3', 'b'\] has no meaning in the table"
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_area_on_this_slide_is_refused(tmp_path: Path, case: Refused) -> None:
    with pytest.raises(AnnotationError, match=case.says) as error:
        read_text(tmp_path / "a.xml", case.text, SLIDE)
    assert str(error.value).startswith(str(tmp_path / "a.xml"))
