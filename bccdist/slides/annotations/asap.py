"""ASAP XML: the class of an annotation is its group, coordinates are level-0 px.

The format knows no holes. A spline is read as the polygon through its points, as a polygon is.
"""

from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from bccdist.errors import AnnotationError
from bccdist.slides.annotations.shapes import Marking, Shape, points, ring_polygon

_AREA_TYPES = ("Polygon", "Spline", "Rectangle")


def read_asap(path: Path, root: Element) -> list[Marking]:
    """What an ASAP file marks, by group; 'None' is the group of what was put into none.

    Raises:
        AnnotationError: an annotation names no group.
    """
    annotations = root.findall("Annotations/Annotation")
    return [_marking(path, number, annotation) for number, annotation in enumerate(annotations)]


def _marking(path: Path, number: int, annotation: Element) -> Marking:
    group = (annotation.get("PartOfGroup") or "").strip()
    place = f"{path}: annotation {number} ({annotation.get('Name', 'without name')!r}, group {group!r})"
    if not group:
        raise AnnotationError(f"{place} has no group (PartOfGroup); put it into one in ASAP")
    return Marking(group, partial(_shapes, place, annotation))


def _shapes(place: str, annotation: Element) -> list[Shape]:
    kind_of_shape = annotation.get("Type")
    if kind_of_shape not in _AREA_TYPES:
        raise AnnotationError(
            f"{place} is a {kind_of_shape}, which has no area; expected one of {', '.join(_AREA_TYPES)}: "
            "take it out, or let its group mean 'none' in kinds.toml"
        )
    coordinates = annotation.findall("Coordinates/Coordinate")
    order = points(place, ((corner.get("Order"), "0") for corner in coordinates))[:, 0]
    corners = points(place, ((corner.get("X"), corner.get("Y")) for corner in coordinates))
    return [Shape(place, ring_polygon(place, corners[order.argsort(kind="stable")]))]
