"""Regions that a reviewer drew or corrected: checked when they come, kept in the journal, written for QuPath."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely

from analysis.review.geojson import Feature, collection, feature, geometry_of
from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations.geojson import ABOUT, ORIGIN
from bccdist.slides.annotations.shapes import Shape, valid_polygons

MOST_FEATURES = 2000
MOST_CORNERS = 500_000
"""Regions of a slide, and corners of all of them together."""
_COLOURS = {Kind.TUMORNEST: (215, 25, 28), Kind.STROMA: (253, 174, 97), Kind.NORMAL: (26, 150, 65)}
_DECIMALS = 2
"""A coordinate in level-0 px is rounded to so many."""
_UNREADABLE = (ValueError, AttributeError, KeyError, TypeError, IndexError, shapely.errors.ShapelyError)


def checked_regions(features: Any, *, size_level0_px: tuple[int, int]) -> tuple[Feature, ...]:
    """GeoJSON features as the page sends them, made valid and cut to the slide.

    Args:
        features: a list of features in level-0 px; `properties.kind` is Tumornest where it is not given.
        size_level0_px: width and height of the slide.

    Raises:
        AnnotationError: it is no list of features, one is no area on the slide, or there are too many.
    """
    if not isinstance(features, list) or len(features) > MOST_FEATURES:
        raise AnnotationError(f"features: expected a list of at most {MOST_FEATURES} GeoJSON features")
    checked = tuple(_checked(number, each, size_level0_px) for number, each in enumerate(features))
    num_corners = sum(int(shapely.get_num_coordinates(geometry_of(each))) for each in checked)
    if num_corners > MOST_CORNERS:
        raise AnnotationError(f"features: they have {num_corners} corners, expected at most {MOST_CORNERS}")
    return checked


def _checked(number: int, each: Any, size_level0_px: tuple[int, int]) -> Feature:
    place = f"feature {number}"
    try:
        properties = each.get("properties") or {}
        kind = Kind(properties.get("kind") or Kind.TUMORNEST.value)
        section_id = properties.get("section_id")
        geometry = shapely.from_geojson(json.dumps(each["geometry"]))
    except _UNREADABLE as error:
        kinds = ", ".join(Kind)
        raise AnnotationError(
            f"{place}: expected GeoJSON with a geometry and a kind of {kinds} ({type(error).__name__}: {error})"
        ) from error
    slide_area = shapely.box(0, 0, *size_level0_px)
    pieces = [polygon.intersection(slide_area) for polygon in valid_polygons(Shape(place, geometry))]
    on_slide = shapely.union_all([piece for piece in pieces if piece.area > 0])
    if not on_slide.area:
        raise AnnotationError(f"{place}: it lies outside the slide's {size_level0_px} level-0 px; draw it on tissue")
    about = {"kind": kind.value} | ({"section_id": section_id} if isinstance(section_id, str) else {})
    rounded = shapely.transform(on_slide, lambda xy: np.round(xy, _DECIMALS))
    return feature(rounded, about)


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
