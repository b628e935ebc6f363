"""Aperio ImageScope XML: layers of regions in level-0 px, the layer's name is the class.

A region with NegativeROA="1" is a hole in the regions of its layer. A region without a type, as other programs
write it, is an outline.
"""

import re
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import openslide
import shapely
from numpy.typing import NDArray

from bccdist.errors import AnnotationError
from bccdist.slides.annotations.shapes import Marking, Shape, ellipse, points, ring_polygon, valid_polygons
from bccdist.slides.slide import Slide

LARGEST_SCALE_DEVIATION = 0.1
"""Relative, of the file's um/px and the slide's."""
_SCALES = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y, "aperio.MPP")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?")
_IN_LAYER = {"Attributes", "Regions", "Plots"}
_IN_REGIONS = {"Region", "RegionAttributeHeaders"}
_OUTLINE, _RECTANGLE, _ELLIPSE = "0", "1", "2"
_WITHOUT_AREA = {"3": "arrow", "4": "ruler"}
_CORNER_COUNTS = (2, 4)
"""A box is given by two opposite corners or by all four."""


def read_imagescope(path: Path, root: Element, slide: Slide) -> list[Marking]:
    """What an ImageScope file marks, by layer; layers without regions are empty ones that the program adds.

    Raises:
        AnnotationError: the file was drawn at another scale than the slide's.
    """
    _refuse_other_scale(path, root.get("MicronsPerPixel"), slide)
    layers = [layer for layer in root.findall("Annotation") if _holds_regions(path, layer)]
    return [Marking(_name_of(layer), partial(_layer_shapes, path, layer)) for layer in layers]


def _refuse_other_scale(path: Path, text: str | None, slide: Slide) -> None:
    """A file that does not say its scale, or says 0, is taken as it is: its coordinates are pixels.

    They are also where it repeats the slide's own file, whose um/px slides.csv may have corrected since.
    """
    mpp = points(f"{path}: MicronsPerPixel", [(text or "0", "0")])[0, 0]
    corrected, own = slide.resolution.mpp_level0, _own_mpps(slide)
    if mpp and not any(abs(mpp / known - 1) <= LARGEST_SCALE_DEVIATION for known in (corrected, *own)):
        says = f", and its file says {own[0]:.4g}" if own and abs(own[0] / corrected - 1) > 1e-3 else ""
        raise AnnotationError(
            f"{path}: drawn at {mpp:.4g} um/px, but {slide.path} has {corrected:.4g} um/px{says}: it belongs to "
            "another slide, or the column mpp in slides.csv is wrong; if its coordinates are this slide's level-0 px "
            "all the same, take MicronsPerPixel out of it"
        )


def _own_mpps(slide: Slide) -> list[float]:
    """Every um/px that the slide's own file states, right or wrong."""
    texts = (slide.properties.get(name) for name in _SCALES)
    numbers = [float(text) for text in texts if text is not None and _NUMBER.fullmatch(text)]
    return [number for number in numbers if number > 0]


def _holds_regions(path: Path, layer: Element) -> bool:
    """Whether a layer has regions; one with what no version of ImageScope writes is refused, not taken for empty."""
    strange = {child.tag for child in layer} - _IN_LAYER
    strange |= {child.tag for child in layer.findall("Regions/*")} - _IN_REGIONS
    if strange:
        raise AnnotationError(
            f"{path}: layer {_name_of(layer)!r} holds {sorted(strange)[:10]}, which ImageScope never writes: it is "
            "another program's; export GeoJSON from QuPath, or XML from ImageScope"
        )
    return layer.find("Regions/Region") is not None


def _name_of(layer: Element) -> str:
    return (layer.get("Name") or "").strip() or f"Layer {layer.get('Id')}"


def _layer_shapes(path: Path, layer: Element) -> list[Shape]:
    """The regions of a layer, its holes cut out."""
    regions = layer.findall("Regions/Region")
    areas: list[Shape] = []
    holes: list[Shape] = []
    for number, region in enumerate(regions, start=1):
        place = f"{path}: region {region.get('Id', number)} of layer {_name_of(layer)!r}"
        shape = Shape(place, shapely.union_all(valid_polygons(_region_shape(place, region))))
        (holes if _is_hole(place, region) else areas).append(shape)
    covered = shapely.union_all([area.geometry for area in areas])
    for hole in holes:
        if not hole.geometry.intersects(covered):
            raise AnnotationError(
                f"{hole.place} is negative but cuts no region of its layer; move it to the layer that it is a hole of"
            )
    missing = shapely.union_all([hole.geometry for hole in holes])
    return [_cut(area, missing) for area in areas]


def _cut(area: Shape, missing: shapely.Geometry) -> Shape:
    left = area.geometry.difference(missing)
    if left.is_empty:
        raise AnnotationError(
            f"{area.place} lies wholly in a negative region of its layer; if it is an island in a hole, "
            "move it to a second layer of the same meaning"
        )
    return Shape(area.place, left)


def _is_hole(place: str, region: Element) -> bool:
    flag = region.get("NegativeROA", "0")
    if flag not in ("0", "1"):
        raise AnnotationError(f"{place} has NegativeROA={flag!r}, expected 0 or 1")
    return flag == "1"


def _region_shape(place: str, region: Element) -> Shape:
    kind_of_shape = region.get("Type", _OUTLINE)
    vertices = region.findall("Vertices/Vertex")
    corners = points(place, ((vertex.get("X"), vertex.get("Y")) for vertex in vertices))
    if kind_of_shape == _ELLIPSE:
        return Shape(place, _ellipse_in(place, corners))
    if kind_of_shape == _RECTANGLE and len(corners) == _CORNER_COUNTS[0]:
        return Shape(place, shapely.box(*corners.min(axis=0), *corners.max(axis=0)))
    if kind_of_shape in (_OUTLINE, _RECTANGLE):
        return Shape(place, ring_polygon(place, corners))
    raise AnnotationError(
        f"{place} is of type {kind_of_shape} ({_WITHOUT_AREA.get(kind_of_shape, 'unknown')}), which has no area; "
        "expected an outline (0), a rectangle (1) or an ellipse (2): take it out, or move it to a layer that "
        "means 'none' in kinds.toml"
    )


def _ellipse_in(place: str, corners: NDArray[np.float64]) -> shapely.Polygon:
    if len(corners) not in _CORNER_COUNTS:
        raise AnnotationError(
            f"{place} is an ellipse with {len(corners)} vertices, expected {_CORNER_COUNTS[0]} or {_CORNER_COUNTS[1]} "
            "of the box around it; draw it as an outline"
        )
    (x, y), (x_end, y_end) = corners.min(axis=0), corners.max(axis=0)
    return ellipse(((x + x_end) / 2, (y + y_end) / 2), ((x_end - x) / 2, (y_end - y) / 2))
