"""Areas, lines and places of the page's drawing tools, computed by node as the browser computes them."""

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

STATIC = Path(__file__).resolve().parents[3] / "analysis" / "review" / "static"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not here; the browser's tests draw, too")


def run(script: str, given_values: Any) -> Any:
    """What a script prints as JSON; `given` is a value, and everything of the modules is there by name."""
    imports = "".join(
        f"import * as {name} from {json.dumps((STATIC / f'{name}.js').as_uri())};\n"
        for name in ("shapes", "geometry", "place", "magnification", "light")
    )
    whole = (
        f"{imports}const given = {json.dumps(given_values)};\nconsole.log(JSON.stringify((() => {{ {script} }})()));"
    )
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", whole], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def polygon(geometry: shapely.Geometry) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shapely.to_geojson(geometry))
    return found


def shape(geometry: dict[str, Any] | None) -> shapely.Geometry:
    return shapely.Polygon() if geometry is None else shapely.from_geojson(json.dumps(geometry))


def pairs() -> list[tuple[shapely.Geometry, shapely.Geometry]]:
    """Areas side by side, across, within, touching, apart, with holes, in pieces."""
    square, ring = shapely.box(0, 0, 100, 100), shapely.box(0, 0, 100, 100) - shapely.box(30, 30, 70, 70)
    disc = shapely.Point(100, 50).buffer(40)
    pieces = shapely.union_all([square, shapely.box(300, 0, 400, 50)])
    return [
        (square, shapely.box(50, 50, 150, 150)),
        (square, shapely.box(25, 25, 75, 75)),
        (square, shapely.box(-10, -10, 200, 200)),
        (square, shapely.box(100, 0, 200, 100)),
        (square, shapely.box(500, 0, 600, 100)),
        (ring, disc),
        (ring, shapely.box(40, 40, 60, 60)),
        (pieces, shapely.box(50, 10, 350, 30)),
        (pieces.reverse(), ring),
    ]


def test_areas_are_joined_and_cut_as_by_another_library() -> None:
    found = run(
        "return given.map(([a, b]) => [shapes.joined(a, b), shapes.cut(a, b), shapes.shared(a, b)]);",
        [[polygon(one), polygon(other)] for one, other in pairs()],
    )
    for (one, other), results in zip(pairs(), found, strict=True):
        for expected, result in zip((one | other, one - other, one & other), results, strict=True):
            got = shape(result)
            assert got.is_valid
            assert got.symmetric_difference(expected).area < 0.5 + 0.001 * expected.area


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=3, max_size=25))
def test_a_line_around_an_area_is_valid_however_it_crosses_itself(points: list[tuple[int, int]]) -> None:
    result = shape(run("return shapes.areaWithin(given);", points))
    assert result.is_valid
    if result.area:
        assert result.area <= shapely.convex_hull(shapely.MultiPoint(points)).area + 1


def test_a_stroke_is_as_wide_as_its_brush() -> None:
    line = [[0, 0], [120, 0], [120, 90], [30, 20]]
    for radius in (3, 20, 75):
        got = shape(run("return shapes.strokeArea(given[0], given[1]);", [line, radius]))
        expected = shapely.LineString(line).buffer(radius)
        assert got.symmetric_difference(expected).area < 0.03 * expected.area
    dot = shape(run("return shapes.strokeArea([[50, 60]], 10);", None))
    assert dot.area == pytest.approx(math.pi * 100, rel=0.05)


def test_an_outline_must_not_cross_itself_and_a_point_is_in_it_or_not() -> None:
    ring = polygon(shapely.box(0, 0, 10, 10) - shapely.box(4, 4, 6, 6))
    found = run(
        """
        const places = [[1, 1], [5, 5], [11, 5], [9.9, 9.9]];
        return places.map((place) => geometry.holdsPoint(given, place));
        """,
        ring,
    )
    assert found == [True, False, False, True]


@settings(max_examples=6, deadline=None)
@given(
    degrees=st.floats(0, 360),
    is_mirrored=st.booleans(),
    scale=st.floats(0.001, 8),
    point=st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)),
)
def test_a_place_on_the_screen_is_the_place_of_level_0_that_it_came_from(
    degrees: float, is_mirrored: bool, scale: float, point: tuple[float, float]
) -> None:
    asked = {"scale": scale, "degrees": degrees, "isMirrored": is_mirrored, "centre": [5e4, 4e4], "size": [800, 600]}
    middle, there, seen = run(
        """
        const at = new place.Place(given[0]);
        return [at.screen([5e4, 4e4]), at.level0(at.screen(given[1])), at.seenBox];
        """,
        [asked, point],
    )
    assert middle == pytest.approx([400, 300], abs=1e-3)
    assert there == pytest.approx(point, abs=1e-3)
    assert seen[2] >= 600 / scale * 0.99 or seen[3] >= 600 / scale * 0.99


def test_magnification_is_a_label_of_um_per_px() -> None:
    texts, up, down, ends = run(
        """
        const { magnificationOf, nextStop } = magnification;
        return [
          [10, 1, 0.5, 0.25, 0.46, 1.9].map(magnificationOf),
          [12, 10, 3, 1.1, 0.25].map((um) => nextStop(um, 1)),
          [12, 10, 3, 0.99, 0.1].map((um) => nextStop(um, -1)),
          [magnification.umPerPxOf(40), magnification.STOPS[0], magnification.STOPS.at(-1)],
        ];
        """,
        None,
    )
    assert texts == ["1\u00d7", "10\u00d7", "20\u00d7", "40\u00d7", "22\u00d7", "5.3\u00d7"]
    assert up == [1, 2, 5, 10, 40]
    assert down == [1, 1, 2, 5, 40]
    assert ends == [0.25, 1, 40]


def test_light_that_is_neutral_changes_no_value_and_other_light_keeps_their_order() -> None:
    neutral, bright, bent = run(
        """
        const of = (light_) => [...light.lightTable({ ...light.NEUTRAL, ...light_ })];
        return [of({}), of({ brightness: 0.2, contrast: 1.5 }), of({ gamma: 2 })];
        """,
        None,
    )
    assert neutral == list(range(256))
    assert bright == sorted(bright)
    assert bent == sorted(bent)
    assert bent[64] == pytest.approx(255 * (64 / 255) ** 0.5, abs=1)
