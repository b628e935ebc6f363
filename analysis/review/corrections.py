"""Regions that a reviewer drew or corrected: checked when they come, kept in the journal, written for QuPath."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from analysis.review.geojson import Feature, collection, feature, geometry_of
from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations.geojson import ABOUT, ORIGIN
from bccdist.slides.annotations.shapes import Shape, valid_polygons

MOST_FEATURES = 2000
MOST_CORNERS = 500_000
"""Regions of a slide, and corners of all of them together."""
MOST_CROSSINGS = 1000
"""Of an outline with itself, up to which it is mended; those of a hand are few. Time grows with their square."""
MOST_CORNERS_CROSSING = 20_000
"""Corners of an outline that crosses itself."""
LONGEST_ID = 500
_CROSSINGS_AT_ONCE = 1 << 20
"""Pairs of sides whose boxes are compared at a time, which bounds the memory."""
_COLOURS = {Kind.TUMORNEST: (215, 25, 28), Kind.STROMA: (253, 174, 97), Kind.NORMAL: (26, 150, 65)}
_DECIMALS = 2
"""A coordinate in level-0 px is rounded to so many."""
_ABOUT = ("section_id", "copied_from")
"""What an outline says of itself beside its kind: the section it belongs to, and the predicted region it was."""
_UNREADABLE = (ValueError, AttributeError, KeyError, TypeError, IndexError, shapely.errors.ShapelyError)


def checked_ids(ids: Any) -> tuple[str, ...]:
    """Ids of outlines as the page sends them.

    Raises:
        AnnotationError: it is no list of ids.
    """
    if not isinstance(ids, list) or len(ids) > MOST_FEATURES or not all(map(_is_id, ids)):
        raise AnnotationError(f"removed: expected a list of at most {MOST_FEATURES} ids of outlines")
    return tuple(ids)


def _is_id(given: Any) -> bool:
    return isinstance(given, str) and 0 < len(given) <= LONGEST_ID and given.isprintable()


def checked_regions(features: Any, *, size_level0_px: tuple[int, int]) -> tuple[Feature, ...]:
    """GeoJSON features as the page sends them, made valid and cut to the slide.

    Args:
        features: a list of features in level-0 px, each with an `id` of its own; `properties.kind` is Tumornest
            where it is not given.
        size_level0_px: width and height of the slide.

    Raises:
        AnnotationError: it is no list of features, one is no area on the slide, or there are too many.
    """
    if not isinstance(features, list) or len(features) > MOST_FEATURES:
        raise AnnotationError(f"features: expected a list of at most {MOST_FEATURES} GeoJSON features")
    checked = tuple(_checked(number, each, size_level0_px) for number, each in enumerate(features))
    if len({each["id"] for each in checked}) < len(checked):
        raise AnnotationError("features: two of them have the same id; give each its own")
    num_corners = sum(int(shapely.get_num_coordinates(geometry_of(each))) for each in checked)
    if num_corners > MOST_CORNERS:
        raise AnnotationError(f"features: they have {num_corners} corners, expected at most {MOST_CORNERS}")
    return checked


def _checked(number: int, each: Any, size_level0_px: tuple[int, int]) -> Feature:
    place = f"feature {number}"
    try:
        feature_id = each["id"]
        if not _is_id(feature_id):
            raise ValueError(f"id is {feature_id!r}")
        properties = each.get("properties") or {}
        kind = Kind(properties.get("kind") or Kind.TUMORNEST.value)
        about = {name: value for name in _ABOUT if isinstance(value := properties.get(name), str)}
        geometry = shapely.from_geojson(json.dumps(each["geometry"]))
    except _UNREADABLE as error:
        kinds = ", ".join(Kind)
        raise AnnotationError(
            f"{place}: expected GeoJSON with an id, a geometry, and a kind of {kinds} "
            f"({type(error).__name__}: {error})"
        ) from error
    _refuse_tangle(place, geometry)
    slide_area = shapely.box(0, 0, *size_level0_px)
    pieces = [polygon.intersection(slide_area) for polygon in valid_polygons(Shape(place, geometry))]
    on_slide = shapely.union_all([piece for piece in pieces if piece.area > 0])
    if not on_slide.area:
        raise AnnotationError(f"{place}: it lies outside the slide's {size_level0_px} level-0 px; draw it on tissue")
    rounded = shapely.transform(on_slide, lambda xy: np.round(xy, _DECIMALS))
    return {**feature(rounded, {"kind": kind.value, **about}), "id": feature_id}


def _refuse_tangle(place: str, geometry: shapely.Geometry) -> None:
    """Refuse what crosses itself so often that mending it takes minutes.

    Raises:
        AnnotationError: it does.
    """
    # Whether there is any crossing is soon known; how many there are is not, so counting stops at the most.
    if geometry is None or shapely.is_valid(geometry):
        return
    rings = shapely.get_rings(shapely.get_parts(geometry))
    num_corners = int(shapely.get_num_coordinates(rings).sum())
    if num_corners > MOST_CORNERS_CROSSING or _crossings_up_to(MOST_CROSSINGS, rings) > MOST_CROSSINGS:
        raise AnnotationError(
            f"{place}: it crosses itself, and has more than {MOST_CROSSINGS} crossings or {MOST_CORNERS_CROSSING} "
            "corners; draw its border once around"
        )


def _crossings_up_to(most: int, rings: NDArray[Any]) -> int:
    """How many pairs of sides cross, touch or overlap; once there are more than `most`, no more are looked for."""
    corners = [shapely.get_coordinates(ring) for ring in rings]
    sides = shapely.linestrings(np.concatenate([np.stack([xy[:-1], xy[1:]], axis=1) for xy in corners]))
    tree, num = shapely.STRtree(sides), 0
    at_once = max(1, _CROSSINGS_AT_ONCE // len(sides))
    for start in range(0, len(sides), at_once):
        asked = sides[start : start + at_once]
        # Each side meets itself and its two neighbours.
        num += tree.query(asked, predicate="intersects").shape[1] - 3 * len(asked)
        # Each pair is found from both of its sides.
        if num > 2 * most:
            break
    return num // 2


def qupath_collection(
    features: Sequence[Mapping[str, Any]], *, reviewer: str, at: str, origin_level0_px: tuple[int, int]
) -> Feature:
    """Regions as QuPath opens them: annotation objects whose class is their kind.

    Args:
        features: regions of a journal, in level-0 px.
        reviewer: who drew them.
        at: when.
        origin_level0_px: the level-0 pixel that QuPath counts from on their slide; the collection says it, too.
    """
    origin = np.array(origin_level0_px)
    moved = collection(
        feature(
            shapely.transform(geometry_of(each), lambda xy: xy - origin),
            {
                "objectType": "annotation",
                "name": f"{each['properties'].get('section_id', 'region')}, by {reviewer}",
                "classification": {
                    "name": each["properties"]["kind"],
                    "color": list(_COLOURS[Kind(each["properties"]["kind"])]),
                },
                "metadata": {"reviewer": reviewer, "at": at},
            },
        )
        for each in features
    )
    return {**moved, ABOUT: {ORIGIN: list(origin_level0_px)}}
