"""Drawn shapes become valid polygons in level-0 px; what has no area is refused, never dropped."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.errors import AnnotationError

LARGEST_COORDINATE = 1e10
"""Pixels or nanometres; a glass slide is 7.6e7 nm long."""
LARGEST_SAGITTA_PX = 0.01
"""Level-0 pixels by which the polygon of an ellipse may miss it."""
_FEWEST_CORNERS = 3
_FEWEST_EDGES, _MOST_EDGES = 16, 25_000
"""Edges of the polygon of an ellipse; the most is enough for a radius of a million pixels."""


class Shape(NamedTuple):
    """One drawn shape as the file has it."""

    place: str
    """File, number and name, for messages."""
    geometry: shapely.Geometry
    """The shape in level-0 px."""


class Marking(NamedTuple):
    """What a file marks under one name."""

    name: str
    shapes: Callable[[], list[Shape]]
    """Parses them. It is called only if the name means a kind, so that a pin or a ruler may mean 'none'."""


def points(place: str, pairs: Iterable[tuple[str | None, str | None]]) -> NDArray[np.float64]:
    """Coordinates from their texts: [n, 2].

    Raises:
        AnnotationError: one of them is no number.
    """
    texts = list(pairs)
    try:
        numbers = np.array([[float(x or ""), float(y or "")] for x, y in texts], dtype=np.float64).reshape(-1, 2)
    except ValueError as error:
        raise AnnotationError(
            f"{place} has a coordinate that is not a number ({error}); save the file again from its program"
        ) from None
    if not _are_plausible(numbers):
        raise AnnotationError(
            f"{place} has a coordinate that is infinite, absurd or no number; save the file again from its program"
        )
    return numbers


def _are_plausible(numbers: NDArray[np.float64]) -> bool:
    return bool((np.abs(numbers) <= LARGEST_COORDINATE).all())


def ring_polygon(place: str, corners: NDArray[np.float64]) -> shapely.Polygon:
    """The polygon inside a ring of corners [n, 2], which need not be closed.

    Raises:
        AnnotationError: it has fewer than three corners.
    """
    if len(corners) < _FEWEST_CORNERS:
        raise AnnotationError(
            f"{place} has {len(corners)} corner(s), at least {_FEWEST_CORNERS} enclose an area; "
            "draw it again or take it out"
        )
    return shapely.Polygon(corners)


def ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> shapely.Polygon:
    """An axis-parallel ellipse as a polygon that misses it by no more than 0.01 px."""
    # An edge of angle 2 a misses a circle by r (1 - cos a), which is r a^2 / 2 at most.
    num_edges = math.pi / math.sqrt(2 * LARGEST_SAGITTA_PX / max(*radii, LARGEST_SAGITTA_PX))
    num_corners = math.ceil(min(max(num_edges, _FEWEST_EDGES), _MOST_EDGES))
    angles = np.arange(num_corners) * 2 * np.pi / num_corners
    return shapely.Polygon(centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii)


def valid_polygons(shape: Shape) -> list[shapely.Polygon]:
    """The polygons of a shape, self-crossings repaired.

    What an outline winds round is inside, also where it does so twice: the end of a freehand outline that
    overlaps its beginning must not become a hole. A hole that is joined to the border by a cut stays one.

    Raises:
        AnnotationError: a part of it has no area, or a coordinate is not finite.
    """
    if not _are_plausible(shapely.get_coordinates(shape.geometry)):
        raise AnnotationError(
            f"{shape.place} has no readable geometry: a coordinate is infinite, absurd or no number; draw it again, "
            "or take it out, and export the file again"
        )
    parts = _simple_parts(shapely.force_2d(shape.geometry))
    polygons = [polygon for part in parts for polygon in _repaired(shape.place, part)]
    if not polygons:
        raise AnnotationError(f"{shape.place} is an empty {shape.geometry.geom_type} without area, expected a polygon")
    return polygons


def _simple_parts(geometry: shapely.Geometry) -> list[shapely.Geometry]:
    """What a geometry is made of: collections can hold collections."""
    if not hasattr(geometry, "geoms"):
        return [geometry]
    return [part for member in geometry.geoms for part in _simple_parts(member)]


def _repaired(place: str, part: shapely.Geometry) -> list[shapely.Polygon]:
    valid = part if part.is_valid or part.geom_type != "Polygon" else _made_valid(place, part)
    if valid.area <= 0:
        raise AnnotationError(
            f"{place} is a {part.geom_type} without area, expected a polygon; "
            "draw it again, or take it out, or let its name mean 'none' in kinds.toml"
        )
    return [polygon for polygon in _simple_parts(valid) if polygon.area > 0]


def _made_valid(place: str, polygon: shapely.Polygon) -> shapely.Geometry:
    """What the outline winds round without what the holes wind round; a stray hole would become an area."""
    outline, *holes = (
        shapely.make_valid(shapely.Polygon(ring), method="structure", keep_collapsed=False)
        for ring in (polygon.exterior, *polygon.interiors)
    )
    if any(hole.disjoint(outline) for hole in holes):
        raise AnnotationError(f"{place} has a hole that lies outside its outline; draw it again")
    return outline.difference(shapely.union_all(holes))
