"""QuPath GeoJSON: the classification of an object is its class, coordinates are level-0 px.

All objects count, whether annotations, detections, cells or tiles: what they mean is in their class.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import shapely.geometry

from bccdist.errors import AnnotationError
from bccdist.slides.annotations.shapes import Marking, Shape

_GEOMETRIES = (
    "Point",
    "MultiPoint",
    "LineString",
    "MultiLineString",
    "Polygon",
    "MultiPolygon",
    "GeometryCollection",
)
_FOREIGN = (
    (("schema_ref", "item"), "V7 Darwin JSON"),
    (("study_id", "image_id"), "SlideScore JSON"),
    (("categories", "images"), "COCO JSON"),
    (("annotation",), "Digital Slide Archive (HistomicsUI) JSON"),
    (("elements",), "Digital Slide Archive (HistomicsUI) JSON"),
)
"""Keys by which the JSON of other programs is known."""
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


def read_json(path: Path, content: bytes) -> Any:
    """Any JSON in UTF-8, UTF-16 or UTF-32.

    Raises:
        AnnotationError: it is none.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: not valid JSON: {error}; it may be cut off: export it again") from error


def foreign_format(content: Any) -> str | None:
    """The program that wrote a JSON file which is no GeoJSON, if its keys tell."""
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict):
        return None
    return next((name for keys, name in _FOREIGN if all(key in first for key in keys)), None)


def read_geojson(path: Path, content: Any) -> list[Marking]:
    """What a GeoJSON file marks, by class: a FeatureCollection, a list of features or a single one.

    A feature without a class has the name of its collection, where that has one.

    Raises:
        AnnotationError: it is no GeoJSON, or a feature has no class.
    """
    if isinstance(content, dict) and not content.keys() & {"features", "geometry", "coordinates"}:
        raise AnnotationError(f"{path}: expected GeoJSON, got a JSON object with the keys {sorted(content)[:10]}")
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
