"""QuPath's GeoJSON becomes areas: holes, collections and repairs included; what is not understood is refused."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import shapely
from annotated_slides import (
    HEIGHT_PX,
    KINDS,
    WIDTH_PX,
    blank_slide,
    boxes_mask,
    feature,
    polygon,
    read_features,
    read_text,
    square,
)

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations import UnknownNamesError, read_annotations
from bccdist.slides.manifest import Kinds

SLIDE = blank_slide()


def test_holes_are_holes(tmp_path: Path) -> None:
    masks = read_features(tmp_path, SLIDE, feature(polygon(square(10, 10, 40), square(20, 20, 10))))
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((5, 5, 25, 25), (10, 10, 15, 15)))
    assert not masks[Kind.STROMA].any()
    assert not masks[Kind.NORMAL].any()


TWO_POLYGONS = [[square(0, 0, 20), square(4, 4, 8)], [square(60, 40, 20)]]
COLLECTIONS = {
    "multipolygon": {"type": "MultiPolygon", "coordinates": TWO_POLYGONS},
    "collection": {"type": "GeometryCollection", "geometries": [polygon(*rings) for rings in TWO_POLYGONS]},
    "collection in a collection": {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "GeometryCollection", "geometries": [polygon(*TWO_POLYGONS[0])]},
            {"type": "MultiPolygon", "coordinates": TWO_POLYGONS[1:]},
        ],
    },
}


@pytest.mark.parametrize("geometry", COLLECTIONS.values(), ids=COLLECTIONS.keys())
def test_a_collection_is_all_its_polygons(tmp_path: Path, geometry: dict[str, Any]) -> None:
    masks = read_features(tmp_path, SLIDE, feature(geometry, "Stroma"))
    assert np.array_equal(masks[Kind.STROMA], boxes_mask((0, 0, 10, 10), (2, 2, 6, 6), (30, 20, 40, 30)))


def test_overlapping_annotations_are_joined_and_kinds_stay_apart(tmp_path: Path) -> None:
    masks = read_features(
        tmp_path,
        SLIDE,
        feature(polygon(square(0, 0, 20))),
        feature(polygon(square(10, 0, 20)), "BCC"),
        feature(polygon(square(0, 0, 10)), "Normal"),
        feature(polygon(square(60, 40, 20)), "Ink"),
    )
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((0, 0, 15, 10)))
    assert np.array_equal(masks[Kind.NORMAL], boxes_mask((0, 0, 5, 5)))
    assert not masks[Kind.STROMA].any()


@pytest.mark.parametrize("wrapped", ["list", "feature", "empty"])
def test_a_list_or_a_single_feature_is_read_too(tmp_path: Path, wrapped: str) -> None:
    one = feature(polygon(square(0, 0, 20)))
    content: Any = {"list": [one], "feature": one, "empty": []}[wrapped]
    masks = read_text(tmp_path / "a.geojson", json.dumps(content), SLIDE)
    expected = boxes_mask() if wrapped == "empty" else boxes_mask((0, 0, 10, 10))
    assert np.array_equal(masks[Kind.TUMORNEST], expected)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings_and_suffixes_are_read_too(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "annotation"
    path.write_text(json.dumps([feature(polygon(square(0, 0, 20)))]), encoding=encoding)
    assert read_annotations([path], SLIDE, KINDS).num_polygons[Kind.TUMORNEST] == 1


@pytest.mark.parametrize("object_type", ["annotation", "detection", "cell", "tile"])
def test_every_classified_object_counts(tmp_path: Path, object_type: str) -> None:
    masks = read_features(tmp_path, SLIDE, feature(polygon(square(0, 0, 20)), objectType=object_type))
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((0, 0, 10, 10)))


@pytest.mark.parametrize("classification", [{"name": "Tumor: Positive"}, {"names": ["Tumor", "Positive"]}])
def test_a_derived_class_is_named_as_qupath_shows_it(tmp_path: Path, classification: dict[str, Any]) -> None:
    kinds = Kinds(names={"Tumor: Positive": Kind.TUMORNEST}, mask_values={})
    derived = feature(polygon(square(0, 0, 20)), None, classification=classification)
    masks = read_text(tmp_path / "a.json", json.dumps([derived]), SLIDE, kinds)
    assert masks[Kind.TUMORNEST].any()


def test_a_feature_without_a_class_has_the_name_of_its_collection(tmp_path: Path) -> None:
    features = [feature(polygon(square(0, 0, 20)), None), feature(polygon(square(60, 40, 20)), "Normal")]
    content = {"type": "FeatureCollection", "properties": {"name": "Stroma"}, "features": features}
    masks = read_text(tmp_path / "a.json", json.dumps(content), SLIDE)
    assert np.array_equal(masks[Kind.STROMA], boxes_mask((0, 0, 10, 10)))
    assert np.array_equal(masks[Kind.NORMAL], boxes_mask((30, 20, 40, 30)))


def test_heights_are_left_out_and_open_rings_closed(tmp_path: Path) -> None:
    ring = [[x, y, 7.0] for x, y in square(0, 0, 20)[:-1]]
    masks = read_features(tmp_path, SLIDE, feature(polygon(ring)))
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((0, 0, 10, 10)))


SELF_CROSSING = {
    "bow": [[0, 0], [40, 40], [40, 0], [0, 40], [0, 0]],
    "bow with a spike": [[0, 0], [40, 40], [40, 0], [0, 40], [0, 0], [-9, 0], [0, 0]],
}


@pytest.mark.parametrize("ring", SELF_CROSSING.values(), ids=SELF_CROSSING.keys())
def test_a_self_crossing_outline_is_repaired(tmp_path: Path, ring: list[list[float]]) -> None:
    masks = read_features(tmp_path, SLIDE, feature(polygon(ring)))
    triangles = shapely.MultiPolygon([(((0, 0), (20, 20), (0, 40)), []), (((40, 0), (20, 20), (40, 40)), [])])
    x, y = np.meshgrid(np.arange(WIDTH_PX) + 0.5, np.arange(HEIGHT_PX) + 0.5)
    different = masks[Kind.TUMORNEST] != shapely.contains_xy(triangles, 2 * x, 2 * y)
    assert 150 < masks[Kind.TUMORNEST].sum() < 250
    # Pixel centres on the diagonals may count as inside or not.
    rows, cols = np.nonzero(different)
    assert all(row == col or row + col == 19 for row, col in zip(rows, cols, strict=True))


def test_an_outline_drawn_twice_or_past_its_beginning_is_no_hole(tmp_path: Path) -> None:
    ring = square(10, 10, 40)
    overrun = [[10, 10], [50, 10], [50, 50], [10, 50], [10, 10], [30, 10], [30, 30], [10, 30]]
    expected = boxes_mask((5, 5, 25, 25))
    for outline in (ring + [[x + 0.1, y + 0.1] for x, y in ring[1:-1]], overrun):
        masks = read_features(tmp_path, SLIDE, feature(polygon(outline)))
        assert np.array_equal(masks[Kind.TUMORNEST], expected)


def test_a_hole_that_reaches_over_the_border_or_is_drawn_twice_is_cut_out(tmp_path: Path) -> None:
    twice = square(30, 30, 10) + square(30, 30, 10)[1:]
    masks = read_features(tmp_path, SLIDE, feature(polygon(square(10, 10, 40), square(40, 40, 40), twice)))
    expected = boxes_mask((5, 5, 25, 25), (20, 20, 25, 25), (15, 15, 20, 20))
    assert np.array_equal(masks[Kind.TUMORNEST], expected)


def test_a_hole_joined_to_the_border_by_a_cut_stays_a_hole(tmp_path: Path) -> None:
    ring = [[10, 10], [50, 10], [50, 50], [10, 50], [10, 20], [20, 20], [20, 30], [30, 30], [30, 20], [10, 20]]
    masks = read_features(tmp_path, SLIDE, feature(polygon([*ring, [10, 10]])))
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((5, 5, 25, 25), (10, 10, 15, 15)))


def test_classes_without_a_meaning_are_named_together(tmp_path: Path) -> None:
    features = [feature(polygon(square(0, 0, 9)), name) for name in ("Stroma", "Muscle", "Fat", "Muscle")]
    with pytest.raises(UnknownNamesError) as error:
        read_features(tmp_path, SLIDE, *features)
    message = str(error.value)
    assert "['Fat', 'Muscle'] has no meaning in the table [names]" in message
    assert "'BCC', 'Ink', 'Normal', 'Stroma', 'Tumornest'" in message
    assert "kinds.toml" in message
    assert error.value.unknown == ("Fat", "Muscle")
    assert error.value.path == tmp_path / "a.geojson"


def test_a_line_of_a_class_that_means_none_is_no_fault(tmp_path: Path) -> None:
    line = feature({"type": "LineString", "coordinates": [[0, 0], [9, 9]]}, "Ink")
    assert not read_features(tmp_path, SLIDE, line)[Kind.TUMORNEST].any()


def test_all_faults_of_a_file_are_listed_and_a_great_many_counted(tmp_path: Path) -> None:
    point = feature({"type": "Point", "coordinates": [1, 1]})
    with pytest.raises(AnnotationError) as error:
        read_features(tmp_path, SLIDE, *[point] * 12)
    lines = str(error.value).splitlines()
    assert len(lines) == 11
    assert "feature 9 ('Tumornest') is a Point without area" in lines[9]
    assert lines[10].endswith("and 2 faults more")


def test_the_name_of_a_single_feature_is_no_class(tmp_path: Path) -> None:
    one = feature(polygon(square(0, 0, 20)), None, name="Stroma")
    with pytest.raises(AnnotationError, match="it is called 'Stroma', which is no class"):
        read_text(tmp_path / "a.geojson", json.dumps(one), SLIDE)


class Refused(NamedTuple):
    """GeoJSON that is refused, and what is said about it."""

    content: Any
    says: str


NO_AREA = "without area, expected a polygon"
NO_GEOMETRY = r"feature 0 \('[A-Za-z]+'\) has no readable geometry"
NO_CLASS = r"feature 0 has no properties\.classification\.name; give it a class"
FLAT = [[0, 0], [9, 9], [5, 5], [0, 0]]
REFUSED = {
    "no class": Refused([feature(polygon(square(0, 0, 9)), None)], NO_CLASS),
    "a name but no class": Refused(
        [feature(polygon(square(0, 0, 9)), None, name="Stroma")],
        r"it is called 'Stroma', which is no class\); give it",
    ),
    "class null": Refused([{"geometry": None, "properties": {"classification": None}}], NO_CLASS),
    "no properties": Refused([{"type": "Feature"}], NO_CLASS),
    "a word as feature": Refused(["x"], NO_CLASS),
    "a number": Refused(3, "expected GeoJSON with a list of features, got int"),
    "features null": Refused({"features": None}, "expected GeoJSON with a list of features, got NoneType"),
    "another object": Refused({"a": 1}, r"expected GeoJSON, got a JSON object with the keys \['a'\]"),
    "a line": Refused([feature({"type": "LineString", "coordinates": [[0, 0], [9, 9]]})], f"a LineString {NO_AREA}"),
    "a point": Refused([feature({"type": "Point", "coordinates": [1, 1]})], f"a Point {NO_AREA}"),
    "points": Refused([feature({"type": "MultiPoint", "coordinates": [[1, 1], [2, 2]]})], f"a Point {NO_AREA}"),
    "a flat polygon": Refused([feature(polygon(FLAT))], f"a Polygon {NO_AREA}"),
    "a flat part": Refused(
        [feature({"type": "MultiPolygon", "coordinates": [[square(0, 0, 9)], [FLAT]]})], f"a Polygon {NO_AREA}"
    ),
    "a line among polygons": Refused(
        [
            feature(
                {
                    "type": "GeometryCollection",
                    "geometries": [
                        polygon(square(0, 0, 9)),
                        {"type": "LineString", "coordinates": [[0, 0], [9, 9]]},
                    ],
                }
            )
        ],
        f"a LineString {NO_AREA}",
    ),
    "a hole as large as its outline": Refused([feature(polygon(square(0, 0, 9), square(0, 0, 9)))], NO_AREA),
    "a hole elsewhere": Refused(
        [feature(polygon(square(0, 0, 9), square(20, 20, 9)))], "has a hole that lies outside its outline"
    ),
    "absurd corners": Refused([feature(polygon(square(0, 0, 1e200)))], NO_GEOMETRY),
    "a number beyond numbers": Refused([feature(polygon([[0, 0], [10**400, 0], [9, 9], [0, 0]]))], NO_GEOMETRY),
    "an empty polygon": Refused([feature(polygon())], f"a Polygon {NO_AREA}"),
    "an empty collection": Refused([feature({"type": "GeometryCollection", "geometries": []})], NO_AREA),
    "two corners": Refused([feature(polygon([[0, 0], [9, 9]]))], NO_GEOMETRY),
    "geometry null": Refused([feature(None)], NO_GEOMETRY),
    "geometry missing": Refused([{"properties": {"classification": {"name": "BCC"}}}], NO_GEOMETRY),
    "unknown geometry": Refused([feature({"type": "Circle", "coordinates": []})], NO_GEOMETRY),
    "words as corners": Refused([feature(polygon([["a", "b"]] * 4))], NO_GEOMETRY),  # type: ignore[list-item]
    "infinite corner": Refused([feature(polygon([[0, 0], [float("inf"), 0], [9, 9], [0, 0]]))], NO_GEOMETRY),
    "corner nan": Refused([feature(polygon([[0, 0], [float("nan"), 0], [9, 9], [0, 0]]))], NO_GEOMETRY),
    "a word in a named collection": Refused(
        {"properties": {"name": "Stroma"}, "features": ["x"]}, NO_GEOMETRY.replace("Tumornest", "Stroma")
    ),
}


CORNERS = [[0, 0], [9, 0], [9, 9], [0, 0]]
PLAINLY = {
    "null": (None, "it is null or missing"),
    "a word": ("x", "it is 'x', expected an object"),
    "an unknown type": ({"type": "Circle"}, "its type is 'Circle', expected Polygon or MultiPolygon"),
    "no coordinates": ({"type": "Polygon"}, "it is a Polygon without coordinates"),
    "two corners": (polygon([[0, 0], [9, 9]]), r"an outline has 2 corner\(s\), at least 3 enclose an area"),
    "two corners of a part": (
        {"type": "MultiPolygon", "coordinates": [[CORNERS], [[[0, 0], [9, 9]]]]},
        r"an outline has 2 corner\(s\)",
    ),
    "two corners of a hole": (polygon(square(0, 0, 20), [[1, 1], [2, 2]]), r"an outline has 2 corner\(s\)"),
    "a list missing": ({"type": "Polygon", "coordinates": CORNERS}, "its coordinates have 0 in place of a list"),
    "a corner of null": (polygon([[0, 0], [None, 0], [9, 9]]), r"the corner \[None, 0\] is no pair of numbers"),  # type: ignore[list-item]
    "a corner of one number": (polygon([[0], [9], [9], [0]]), r"the corner \[0\] is no pair of numbers"),
    "a number beyond numbers": (polygon([[0, 0], [10**400, 0], [9, 9]]), "is infinite, absurd or no number"),
    "not a number": (polygon([[0, 0], [float("nan"), 0], [9, 9]]), "is infinite, absurd or no number"),
    "some heights": (polygon([[0, 0, 1], *CORNERS]), "some corners have a height and others none"),
    "a collection of nothing": ({"type": "GeometryCollection", "geometries": None}, "its geometries are no list"),
    "a fault in a collection": (
        {"type": "GeometryCollection", "geometries": [polygon(CORNERS), {"type": "Circle"}]},
        "its type is 'Circle'",
    ),
}


@pytest.mark.parametrize(("geometry", "says"), PLAINLY.values(), ids=PLAINLY.keys())
def test_why_a_geometry_is_none_is_said_in_one_plain_line(tmp_path: Path, geometry: Any, says: str) -> None:
    with pytest.raises(AnnotationError, match=f"feature 1 .* has no readable geometry: .*{says}.*; draw it") as error:
        read_features(tmp_path, SLIDE, feature(polygon(CORNERS)), feature(geometry))
    assert "\n" not in str(error.value)
    assert "Error" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_annotated_area_is_refused(tmp_path: Path, case: Refused) -> None:
    with pytest.raises(AnnotationError, match=case.says) as error:
        read_text(tmp_path / "a.geojson", json.dumps(case.content), SLIDE)
    assert str(error.value).startswith(str(tmp_path / "a.geojson"))


@pytest.mark.parametrize("content", [b'{"features": [', b"\xff\xfe\x00", b"[" * 100_000, b"features"])
def test_broken_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match="not valid JSON"):
        read_annotations([path], SLIDE, KINDS)
