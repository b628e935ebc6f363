"""ASAP's groups become kinds; what has no area is refused."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from annotated_slides import blank_slide, boxes_mask, read_text

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.manifest import Kinds

SLIDE = blank_slide()
SQUARE = [(10.0, 10.0), (50.0, 10.0), (50.0, 50.0), (10.0, 50.0)]


def coordinate(order: int, corner: tuple[float, float]) -> str:
    return f'<Coordinate Order="{order}" X="{corner[0]}" Y="{corner[1]}"/>'


def annotation(coordinates: list[str], *, shape: str = "Polygon", group: str = "Tumornest") -> str:
    return (
        f'<Annotation Name="A" Type="{shape}" PartOfGroup="{group}"><Coordinates>{"".join(coordinates)}'
        "</Coordinates></Annotation>"
    )


def file_of(*annotations: str) -> str:
    groups = '<AnnotationGroups><Group Name="Tumornest" PartOfGroup="None"/></AnnotationGroups>'
    return f"<ASAP_Annotations><Annotations>{''.join(annotations)}</Annotations>{groups}</ASAP_Annotations>"


CORNERS = [coordinate(order, corner) for order, corner in enumerate(SQUARE)]


@pytest.mark.parametrize("shape", ["Polygon", "Spline", "Rectangle"])
def test_polygons_splines_and_rectangles_are_areas(tmp_path: Path, shape: str) -> None:
    masks = read_text(tmp_path / "a.xml", file_of(annotation(CORNERS, shape=shape)), SLIDE)
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((5, 5, 25, 25)))


def test_corners_are_taken_by_their_order(tmp_path: Path) -> None:
    many = [(10.0 + x, 10.0) for x in range(12)] + [(21.0, 30.0), (10.0, 30.0)]
    corners = [coordinate(order, corner) for order, corner in enumerate(many)]
    straight = read_text(tmp_path / "a.xml", file_of(annotation(corners)), SLIDE)
    shuffled = read_text(tmp_path / "b.xml", file_of(annotation(corners[::2] + corners[1::2])), SLIDE)
    assert np.array_equal(shuffled[Kind.TUMORNEST], straight[Kind.TUMORNEST])
    assert straight[Kind.TUMORNEST].any()


def test_the_group_none_can_have_a_meaning_and_a_dot_mean_none(tmp_path: Path) -> None:
    kinds = Kinds(names={"None": Kind.NORMAL, "dots": None}, mask_values={})
    text = file_of(annotation(CORNERS, group="None"), annotation(CORNERS[:1], shape="Dot", group="dots"))
    assert np.array_equal(read_text(tmp_path / "a.xml", text, SLIDE, kinds)[Kind.NORMAL], boxes_mask((5, 5, 25, 25)))


class Refused(NamedTuple):
    """An ASAP file that is refused, and what is said about it."""

    text: str
    says: str


REFUSED = {
    "dot": Refused(
        file_of(annotation(CORNERS[:1], shape="Dot")),
        r"annotation 0 \('A', group 'Tumornest'\) is a Dot, which has no",
    ),
    "points": Refused(file_of(annotation(CORNERS, shape="PointSet")), "is a PointSet, which has no area"),
    "ruler": Refused(file_of(annotation(CORNERS[:2], shape="Measurement")), "is a Measurement, which has no area"),
    "no group": Refused(file_of(annotation(CORNERS, group="")), "has no group"),
    "unknown groups": Refused(
        file_of(annotation(CORNERS, group="None"), annotation(CORNERS, group="Fat")),
        r"\['Fat', 'None'\] has no meaning",
    ),
    "two corners": Refused(file_of(annotation(CORNERS[:2])), r"has 2 corner\(s\)"),
    "no order": Refused(file_of(annotation([corner.replace("Order", "O") for corner in CORNERS])), "not a number"),
    "comma": Refused(file_of(annotation([corner.replace("10.0", "10,0") for corner in CORNERS])), "not a number"),
    "infinite": Refused(
        file_of(annotation([corner.replace("10.0", "1e999") for corner in CORNERS])),
        "is infinite, absurd or no number",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_area_on_this_slide_is_refused(tmp_path: Path, case: Refused) -> None:
    with pytest.raises(AnnotationError, match=case.says) as error:
        read_text(tmp_path / "a.xml", case.text, SLIDE)
    assert str(error.value).startswith(str(tmp_path / "a.xml"))
