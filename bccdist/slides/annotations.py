"""Annotations as masks in the target frame: QuPath GeoJSON polygons and mask images (paper, section 2.1)."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
import shapely.geometry
from numpy.typing import NDArray

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.manifest import Kinds
from bccdist.slides.slide import Slide

KindMasks = dict[Kind, NDArray[np.bool_]]
"""For each kind a bool [height, width] in the target frame."""

_MASK_SUFFIXES = (".png", ".tif", ".tiff")
_GEOJSON_SUFFIXES = (".geojson", ".json")
_LARGEST_ASPECT_DEVIATION = 0.01


def read_annotation(path: Path, slide: Slide, kinds: Kinds) -> KindMasks:
    """The annotated areas of a slide, rasterised in its target frame.

    Args:
        path: a GeoJSON file with polygons in level-0 px, or a mask image of any resolution.
        slide: the slide that the annotation belongs to.
        kinds: what the file's names or values mean.

    Raises:
        AnnotationError: the file cannot be read, names something unknown, or does not fit the slide.
    """
    suffix = path.suffix.lower()
    if suffix in _GEOJSON_SUFFIXES:
        polygons = _read_geojson(path, kinds)
        _refuse_outside(path, polygons, slide)
        return _rasterise(polygons, slide)
    if suffix in _MASK_SUFFIXES:
        return _read_mask_image(path, slide, kinds)
    known = ", ".join(_GEOJSON_SUFFIXES + _MASK_SUFFIXES)
    raise AnnotationError(f"{path}: unknown annotation format {suffix!r}; known: {known}")


def _read_mask_image(path: Path, slide: Slide, kinds: Kinds) -> KindMasks:
    try:
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise AnnotationError(f"{path}: OpenCV refuses it: {error.err}; save it at a lower resolution") from error
    if values is None or values.ndim != 2 or values.dtype.kind not in "ui":
        raise AnnotationError(
            f"{path}: expected a single-channel mask image, got {_describe(values)}; its values are whole numbers"
        )
    height, width = values.shape
    aspect = (width / height) / (slide.level0_size[0] / slide.level0_size[1])
    if abs(aspect - 1) > _LARGEST_ASPECT_DEVIATION:
        raise AnnotationError(
            f"{path}: {width} x {height} px does not fit the slide's {slide.level0_size[0]} x "
            f"{slide.level0_size[1]} level-0 px: a mask covers the whole slide"
        )
    _refuse_unknown(path, {int(value) for value in np.unique(values)}, kinds.mask_values, "mask_values")
    size = (slide.width_px, slide.height_px)
    values = cv2.resize(values, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return {
        kind: np.isin(values, [value for value, meaning in kinds.mask_values.items() if meaning is kind])
        for kind in Kind
    }


def _describe(image: NDArray[Any] | None) -> str:
    return "no image" if image is None else f"shape {image.shape} of {image.dtype}"


def _refuse_unknown(path: Path, found: Iterable[Any], known: Mapping[Any, Kind | None], table: str) -> None:
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise AnnotationError(
            f"{path}: {unknown} has no meaning in the table [{table}], which knows {sorted(known)}; "
            f"add it to kinds.toml beside slides.csv as a kind or as 'none'"
        )


def _read_geojson(path: Path, kinds: Kinds) -> list[tuple[Kind, shapely.Geometry]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AnnotationError(f"{path}: not valid JSON: {error}") from error
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list):
        raise AnnotationError(f"{path}: expected GeoJSON with a list of features, got {type(features).__name__}")
    named = [(_class_name(path, number, feature), feature) for number, feature in enumerate(features)]
    _refuse_unknown(path, {name for name, _ in named}, kinds.names, "names")
    polygons = []
    for number, (name, feature) in enumerate(named):
        kind = kinds.names[name]
        if kind is not None:
            polygons.append((kind, _valid_area(path, number, feature.get("geometry"))))
    return polygons


def _class_name(path: Path, number: int, feature: Any) -> str:
    try:
        return str(feature["properties"]["classification"]["name"])
    except (KeyError, TypeError):
        raise AnnotationError(
            f"{path}: feature {number} has no properties.classification.name; give it a class in QuPath"
        ) from None


def _valid_area(path: Path, number: int, geometry: Any) -> shapely.Geometry:
    """A polygon or multipolygon; self-crossings are repaired, anything without area is refused."""
    try:
        shape = shapely.geometry.shape(geometry)
        repaired = shape if shape.is_valid else shapely.make_valid(shape)
    except (ValueError, AttributeError, KeyError, TypeError, shapely.errors.ShapelyError) as error:
        raise AnnotationError(f"{path}: feature {number} has no readable geometry: {error}") from error
    if repaired.area <= 0:
        raise AnnotationError(f"{path}: feature {number} is a {shape.geom_type} without area, expected a polygon")
    return repaired


def _refuse_outside(path: Path, polygons: list[tuple[Kind, shapely.Geometry]], slide: Slide) -> None:
    slide_area = shapely.box(0, 0, *slide.level0_size)
    num_outside = sum(not polygon.intersects(slide_area) for _, polygon in polygons)
    if num_outside:
        raise AnnotationError(
            f"{path}: {num_outside} of {len(polygons)} polygons lie outside the slide's {slide.level0_size[0]} x "
            f"{slide.level0_size[1]} level-0 px: it belongs to another slide, or is not in level-0 px"
        )


def _rasterise(polygons: list[tuple[Kind, shapely.Geometry]], slide: Slide) -> KindMasks:
    masks = {kind: np.zeros((slide.height_px, slide.width_px), dtype=bool) for kind in Kind}
    for kind, polygon in polygons:
        # Twice: a repaired polygon can be a collection that holds a multipolygon.
        for part in shapely.get_parts(shapely.get_parts(polygon)):
            if part.geom_type == "Polygon":
                fill_polygon(masks[kind], part, downsample=slide.resolution.downsample)
    return masks


def fill_polygon(mask: NDArray[np.bool_], polygon: shapely.Polygon, *, downsample: float) -> None:
    """Set the pixels of a mask whose centres lie inside a polygon.

    Every edge toggles, in each row that it crosses, all pixels to its right; holes come out by themselves.

    Args:
        mask: bool [h, w] in the target frame, changed in place.
        polygon: with or without holes, in level-0 px.
        downsample: level-0 pixels per target pixel.
    """
    rings = [np.asarray(ring.coords)[:, :2] / downsample for ring in (polygon.exterior, *polygon.interiors)]
    x_min, y_min = np.maximum(np.floor(rings[0].min(axis=0)), 0).astype(int)
    x_max, y_max = np.minimum(np.ceil(rings[0].max(axis=0)), mask.shape[::-1]).astype(int)
    if x_min >= x_max or y_min >= y_max:
        return
    window = mask[y_min:y_max, x_min:x_max]
    toggles = np.zeros((window.shape[0], window.shape[1] + 1), dtype=np.int32)
    for ring in rings:
        rows, cols = _crossings(ring - (x_min, y_min), num_rows=window.shape[0])
        np.add.at(toggles, (rows, np.clip(cols, 0, window.shape[1])), 1)
    window |= (np.cumsum(toggles[:, :-1], axis=1) & 1).astype(bool)


def _crossings(ring: NDArray[np.float64], *, num_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row of pixels that an edge crosses: the row, and the first column whose centre is not left of it.

    Args:
        ring: closed, (x, y) in pixels, [n, 2].
        num_rows: rows from 0 on are of interest.
    """
    # Every edge runs down, so that neighbours round alike along a shared edge: no pixel is in both or in neither.
    runs_down = (ring[:-1, 1] <= ring[1:, 1])[:, None]
    x, y = np.where(runs_down, ring[:-1], ring[1:]).T
    x_next, y_next = np.where(runs_down, ring[1:], ring[:-1]).T
    # A row belongs to an edge if its centre line lies in [upper end, lower end).
    first = np.clip(np.ceil(y - 0.5), 0, num_rows).astype(np.int64)
    last = np.clip(np.ceil(y_next - 0.5), 0, num_rows).astype(np.int64)
    edge = np.repeat(np.arange(len(x)), last - first)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
    slope = (x_next - x)[edge] / (y_next - y)[edge]
    crossing = x[edge] + (rows + 0.5 - y[edge]) * slope
    return rows, np.ceil(crossing - 0.5).astype(np.int64)
