"""GeoJSON as plain dictionaries, in level-0 px."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import shapely

Feature = dict[str, Any]
"""A feature or a collection of them, in level-0 px."""


def feature(geometry: shapely.Geometry, properties: Mapping[str, Any]) -> Feature:
    """A shape with properties."""
    return {
        "type": "Feature",
        "geometry": json.loads(shapely.to_geojson(geometry)),
        "properties": dict(properties),
    }


def geometry_of(each: Mapping[str, Any]) -> shapely.Geometry:
    """The shape of a feature."""
    return shapely.from_geojson(json.dumps(each["geometry"]))


def collection(features: Iterable[Feature]) -> Feature:
    """Some features as one."""
    return {"type": "FeatureCollection", "features": list(features)}
