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
_SUBPIXEL_BITS = 4


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
        return _rasterise(_read_geojson(path, kinds), slide)
    if suffix in _MASK_SUFFIXES:
        return _read_mask_image(path, slide, kinds)
    known = ", ".join(_GEOJSON_SUFFIXES + _MASK_SUFFIXES)
    raise AnnotationError(f"{path}: unknown annotation format {suffix!r}; known: {known}")


def _read_mask_image(path: Path, slide: Slide, kinds: Kinds) -> KindMasks:
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 2:
        raise AnnotationError(f"{path}: expected a single-channel mask image, got {_describe(values)}")
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
    return "no image" if image is None else f"shape {image.shape}"


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
    named = [(_class_name(path, number, feature), feature) for number, feature in enumerate(features)]
    _refuse_unknown(path, {name for name, _ in named}, kinds.names, "names")
    polygons = []
    for number, (name, feature) in enumerate(named):
        kind = kinds.names[name]
        if kind is not None:
            polygons.append((kind, _valid_area(path, number, feature["geometry"])))
    return polygons


def _class_name(path: Path, number: int, feature: Any) -> str:
    try:
        return str(feature["properties"]["classification"]["name"])
    except (KeyError, TypeError):
        raise AnnotationError(
            f"{path}: feature {number} has no properties.classification.name; give it a class in QuPath"
        ) from None


def _valid_area(path: Path, number: int, geometry: dict[str, Any]) -> shapely.Geometry:
    """A polygon or multipolygon; self-crossings are repaired, anything without area is refused."""
    try:
        shape = shapely.geometry.shape(geometry)
    except (ValueError, AttributeError, KeyError, TypeError, shapely.errors.ShapelyError) as error:
        raise AnnotationError(f"{path}: feature {number} has no readable geometry: {error}") from error
    repaired = shape if shape.is_valid else shapely.make_valid(shape)
    if repaired.area <= 0:
        raise AnnotationError(f"{path}: feature {number} is a {shape.geom_type} without area, expected a polygon")
    return repaired


def _rasterise(polygons: list[tuple[Kind, shapely.Geometry]], slide: Slide) -> KindMasks:
    shape = (slide.height_px, slide.width_px)
    masks = {kind: np.zeros(shape, dtype=np.uint8) for kind in Kind}
    for kind, polygon in polygons:
        for part in shapely.get_parts(polygon):
            if part.geom_type == "Polygon":
                _fill(masks[kind], part, slide.resolution.downsample)
    return {kind: mask.astype(bool) for kind, mask in masks.items()}


def _fill(mask: NDArray[np.uint8], polygon: shapely.Polygon, downsample: float) -> None:
    """Add a polygon with holes, given in level-0 px, to a mask in the target frame."""
    scale = (1 << _SUBPIXEL_BITS) / downsample
    half_pixel = (1 << _SUBPIXEL_BITS) / 2
    rings = [
        np.rint(np.asarray(ring.coords)[:, :2] * scale - half_pixel).astype(np.int32)
        for ring in (polygon.exterior, *polygon.interiors)
    ]
    filled = np.zeros_like(mask)
    cv2.fillPoly(filled, rings, 1, shift=_SUBPIXEL_BITS)
    np.maximum(mask, filled, out=mask)
