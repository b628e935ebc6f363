"""QuPath GeoJSON: the classification of an object is its class, coordinates are level-0 px from QuPath's corner.

All objects count, whether annotations, detections, cells or tiles: what they mean is in their class. Files that
bccdist wrote say themselves what they count from.
"""

from collections.abc import Mapping
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
_GEOMETRIES = (
    "Point",
    "MultiPoint",
    "LineString",
    "MultiLineString",
    "Polygon",
    "MultiPolygon",
    "GeometryCollection",
)
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
        if geometry["type"] not in _GEOMETRIES:
            raise ValueError(f"unknown type {geometry['type']!r}")
        with np.errstate(invalid="ignore"):  # a coordinate that is no number is refused later, by its place
            return [Shape(place, shapely.geometry.shape(geometry))]
    except _UNREADABLE as error:
        raise AnnotationError(
            f"{place} has no readable geometry: {type(error).__name__}: {error}; export it again from QuPath"
        ) from error
