"""QuPath GeoJSON: the classification of an object is its class, coordinates are level-0 px from QuPath's corner.

All objects count, whether annotations, detections, cells or tiles: what they mean is in their class. Files that
bccdist wrote say themselves what they count from.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import shapely.geometry

from bccdist.errors import AnnotationError
from bccdist.slides.annotations.shapes import LARGEST_COORDINATE, Marking, Shape

ABOUT, ORIGIN = "bccdist", "origin_level0_px"
"""A member of the collection that GeoJSON leaves to programs, and what is in it: the level-0 pixel to count from."""
_DEPTHS = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}
"""Lists round each corner, by the type of a geometry."""
_FEWEST_CORNERS = 3
_UNKNOWN_FAULT = "its coordinates are no outlines, or some corners have a height and others none"
_UNREADABLE = (
    ValueError,
    AttributeError,
    KeyError,
    TypeError,
    IndexError,
    OverflowError,
    RecursionError,
    shapely.errors.ShapelyError,
)
"""What shapely raises for something that is no geometry."""


def stated_origin(path: Path, content: Any) -> tuple[float, float] | None:
    """The level-0 pixel (x, y) that a file says it counts from, as those do that bccdist wrote.

    Raises:
        AnnotationError: it says something else than two numbers.
    """
    about = content.get(ABOUT) if isinstance(content, dict) else None
    if not isinstance(about, dict) or ORIGIN not in about:
        return None
    origin = about[ORIGIN]
    is_pair = isinstance(origin, list) and len(origin) == 2 and all(type(side) in (int, float) for side in origin)
    if not is_pair or not all(abs(side) <= LARGEST_COORDINATE for side in origin):
        raise AnnotationError(f"{path}: {ABOUT}.{ORIGIN} is {origin!r}, expected two numbers; export it again")
    return float(origin[0]), float(origin[1])


def is_geojson(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object may be a collection, a feature or a geometry."""
    return bool(content.keys() & {"features", "geometry", "coordinates"})


def read_geojson(path: Path, content: Any) -> list[Marking]:
    """What a GeoJSON file marks, by class: a FeatureCollection, a list of features or a single one.

    A feature without a class has the name of its collection, where that has one.

    Raises:
        AnnotationError: it is no GeoJSON, or a feature has no class.
    """
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list):
        raise AnnotationError(f"{path}: expected GeoJSON with a list of features, got {type(features).__name__}")
    is_collection = isinstance(content, dict) and "features" in content
    collection_name = _text_at(content, "properties", "name") if is_collection else None
    return [_marking(path, number, feature, collection_name) for number, feature in enumerate(features)]


def _marking(path: Path, number: int, feature: Any, collection_name: str | None) -> Marking:
    name = _class_of(feature) or collection_name
    if name is None:
        own_name = _text_at(feature, "properties", "name")
        called = "" if own_name is None else f" (it is called {own_name!r}, which is no class)"
        raise AnnotationError(
            f"{path}: feature {number} has no properties.classification.name{called}; give it a class in QuPath"
        )
    place = f"{path}: feature {number} ({name!r})"
    return Marking(name, partial(_shapes, place, feature))


def _class_of(feature: Any) -> str | None:
    """A derived class, whose parts some versions list, is written as QuPath shows it: 'Tumor: Positive'."""
    try:
        names = feature["properties"]["classification"]["names"]
    except (KeyError, TypeError):
        return _text_at(feature, "properties", "classification", "name")
    return ": ".join(map(str, names)) or None


def _text_at(content: Any, *keys: str) -> str | None:
    """The text under nested keys, if there is one."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content.strip() or None if isinstance(content, str) else None


def _shapes(place: str, feature: Any) -> list[Shape]:
    try:
        geometry = feature["geometry"]
        with np.errstate(invalid="ignore"):  # a coordinate that is no number is refused later, by its place
            return [Shape(place, shapely.geometry.shape(geometry))]
    except _UNREADABLE:
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        raise AnnotationError(
            f"{place} has no readable geometry: {_fault_of(geometry)}; draw it again, or take it out, and export the "
            "file again"
        ) from None


def _fault_of(geometry: Any) -> str:
    """Why something is no geometry, in words of the format."""
    if not isinstance(geometry, dict):
        return "it is null or missing" if geometry is None else f"it is {geometry!r:.40}, expected an object"
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        members = geometry.get("geometries")
        faults = map(_fault_of, members) if isinstance(members, list) else ["its geometries are no list"]
        return next((fault for fault in faults if fault != _UNKNOWN_FAULT), _UNKNOWN_FAULT)
    if kind not in _DEPTHS:
        return f"its type is {kind!r}, expected Polygon or MultiPolygon"
    if "coordinates" not in geometry:
        return f"it is a {kind} without coordinates"
    return next(_faults_in(geometry["coordinates"], _DEPTHS[kind]), _UNKNOWN_FAULT)


def _faults_in(coordinates: Any, depth: int) -> Iterator[str]:
    """What is wrong with lists nested so deep, the innermost being corners."""
    if not isinstance(coordinates, list):
        yield f"its coordinates have {coordinates!r:.40} in place of a list"
    elif depth == 0:
        if len(coordinates) < 2 or not all(type(number) in (int, float) for number in coordinates):
            yield f"the corner {coordinates!r:.40} is no pair of numbers"
        elif not all(abs(number) <= LARGEST_COORDINATE for number in coordinates):
            yield f"the corner {coordinates!r:.40} is infinite, absurd or no number"
    else:
        for each in coordinates:
            yield from _faults_in(each, depth - 1)
        if depth == 1 and len(coordinates) < _FEWEST_CORNERS:
            yield f"an outline has {len(coordinates)} corner(s), at least {_FEWEST_CORNERS} enclose an area"
