"""Each format counts from its own corner where a slide names what was scanned, unless the file or lab says so."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from annotated_slides import blank_slide, boxes_mask, feature, polygon, scanned, square, whole

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations import read_annotations
from bccdist.slides.frames import Frame
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import DEFAULT_KINDS, Kinds

X, Y = 20, 10
BOUNDS = scanned(Box(X, Y, 80, 60))
"""Of a canvas of 120 x 80 level-0 px, which is 60 x 40 in the target frame."""
BOUNDED, PLAIN = blank_slide(properties=BOUNDS), blank_slide()
FROM_LEVEL0, FROM_QUPATH = boxes_mask((5, 5, 15, 15)), boxes_mask((15, 10, 25, 20))
"""A square from (10, 10) of 20 level-0 px, counted from either corner."""


def geojson(**members: Any) -> str:
    features = [feature(polygon(square(10, 10, 20)))]
    return json.dumps({"type": "FeatureCollection", "features": features, **members})


IMAGESCOPE = (
    '<Annotations><Annotation Name="Tumornest"><Regions><Region Type="0"><Vertices>'
    + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in square(10, 10, 20))
    + "</Vertices></Region></Regions></Annotation></Annotations>"
)
ASAP = (
    '<ASAP_Annotations><Annotations><Annotation Name="1" Type="Polygon" PartOfGroup="Tumornest"><Coordinates>'
    + "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate(square(10, 10, 20)[:-1]))
    + "</Coordinates></Annotation></Annotations></ASAP_Annotations>"
)


class Framed(NamedTuple):
    """A file, what kinds.toml says of frames, and where its square lies then."""

    text: str
    frames: Mapping[str, Frame]
    is_from_qupath: bool
    is_noted: bool


FRAMED = {
    "qupath": Framed(geojson(), {}, is_from_qupath=True, is_noted=True),
    "qupath, said": Framed(geojson(), {"geojson": Frame.QUPATH}, is_from_qupath=True, is_noted=False),
    "geojson of a lab that does not crop": Framed(
        geojson(), {"geojson": Frame.LEVEL0}, is_from_qupath=False, is_noted=False
    ),
    "ours for qupath": Framed(
        geojson(bccdist={"origin_level0_px": [X, Y]}), {"geojson": Frame.LEVEL0}, is_from_qupath=True, is_noted=False
    ),
    "ours from level 0": Framed(
        geojson(bccdist={"origin_level0_px": [0, 0]}), {}, is_from_qupath=False, is_noted=False
    ),
    "ours without an origin": Framed(geojson(bccdist={"psi": "psi_4"}), {}, is_from_qupath=True, is_noted=True),
    "imagescope": Framed(IMAGESCOPE, {}, is_from_qupath=False, is_noted=True),
    "imagescope by a script of QuPath": Framed(
        IMAGESCOPE, {"imagescope": Frame.QUPATH}, is_from_qupath=True, is_noted=False
    ),
    "asap": Framed(ASAP, {"geojson": Frame.QUPATH}, is_from_qupath=False, is_noted=True),
    "asap, said": Framed(ASAP, {"asap": Frame.LEVEL0}, is_from_qupath=False, is_noted=False),
}


@pytest.mark.parametrize("case", FRAMED.values(), ids=FRAMED.keys())
def test_a_file_counts_from_its_formats_corner_unless_something_says_another(tmp_path: Path, case: Framed) -> None:
    path = tmp_path / "a.file"
    path.write_text(case.text, encoding="utf-8")
    kinds = Kinds(names=DEFAULT_KINDS.names, mask_values={}, frames=case.frames)
    annotation = read_annotations([path], BOUNDED, kinds)
    expected = FROM_QUPATH if case.is_from_qupath else FROM_LEVEL0
    assert np.array_equal(annotation.masks(whole(BOUNDED))[Kind.TUMORNEST], expected)
    assert len(annotation.notes) == case.is_noted
    assert all("a.file is taken to count from" in note for note in annotation.notes)


@pytest.mark.parametrize("case", FRAMED.values(), ids=FRAMED.keys())
def test_on_a_slide_that_names_no_area_all_frames_are_one(tmp_path: Path, case: Framed) -> None:
    path = tmp_path / "a.file"
    path.write_text(case.text.replace(f"[{X}, {Y}]", "[0, 0]"), encoding="utf-8")
    kinds = Kinds(names=DEFAULT_KINDS.names, mask_values={}, frames=case.frames)
    annotation = read_annotations([path], PLAIN, kinds)
    assert np.array_equal(annotation.masks(whole(PLAIN))[Kind.TUMORNEST], FROM_LEVEL0)
    assert not annotation.notes


def test_a_multipolygon_with_a_hole_is_moved_as_a_whole(tmp_path: Path) -> None:
    rings = [[square(10, 10, 40), square(20, 20, 10)], [square(60, 10, 10)]]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps([feature({"type": "MultiPolygon", "coordinates": rings})]))
    mask = read_annotations([path], BOUNDED, DEFAULT_KINDS).masks(whole(BOUNDED))[Kind.TUMORNEST]
    assert np.array_equal(mask, boxes_mask((15, 10, 35, 30), (20, 15, 25, 20), (40, 10, 45, 15)))


@pytest.mark.parametrize("origin", [None, "corner", [1], [1, 2, 3], [1, "2"], [True, 0], [1e300, 0], {"x": 1}])
def test_an_origin_that_is_no_pixel_is_refused(tmp_path: Path, origin: Any) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(geojson(bccdist={"origin_level0_px": origin}))
    with pytest.raises(AnnotationError, match=r"bccdist\.origin_level0_px is .*, expected two numbers"):
        read_annotations([path], BOUNDED, DEFAULT_KINDS)


def test_what_qupath_draws_beyond_the_canvas_is_refused_as_on_any_slide(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps([feature(polygon(square(100, 60, 15)))]))
    assert read_annotations([path], PLAIN, DEFAULT_KINDS).num_polygons[Kind.TUMORNEST] == 1
    with pytest.raises(AnnotationError, match="1 of 1 polygons lie outside the slide's 120 x 80"):
        read_annotations([path], BOUNDED, DEFAULT_KINDS)


def test_a_mask_covers_the_whole_of_level_0_and_one_of_the_scanned_area_is_refused(tmp_path: Path) -> None:
    values = np.zeros((40, 60), dtype=np.uint8)
    values[5:15, 5:15] = 1
    cv2.imwrite(str(tmp_path / "whole.png"), values)
    masks = read_annotations([tmp_path / "whole.png"], BOUNDED, DEFAULT_KINDS).masks(whole(BOUNDED))
    assert np.array_equal(masks[Kind.TUMORNEST], FROM_LEVEL0)
    cv2.imwrite(str(tmp_path / "area.png"), values[:30, :40])
    with pytest.raises(AnnotationError, match=r"40 x 30 px .* scanned area \(20, 10, 80, 60\) alone.*: pad it"):
        read_annotations([tmp_path / "area.png"], BOUNDED, DEFAULT_KINDS)
