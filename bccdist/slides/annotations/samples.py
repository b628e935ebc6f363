"""What a file marks, as points with areas: what may be moved, turned and scaled, and held against the tissue."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.parts import Kind
from bccdist.slides.annotations.annotation import Annotation
from bccdist.slides.annotations.mask_image import MaskImage
from bccdist.slides.annotations.rasterising import fill_polygon
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP

_NUM_POINTS = 1000
"""In a polygon, about."""
_MOST_POINTS = 1_000_000
"""In all polygons of a file; those of many thousand polygons have fewer each."""
_FEWEST_POINTS = 10
_MOST_STEPS = 2000
"""Steps of the lattice of points along a polygon."""


class Samples(NamedTuple):
    """Points of what is marked, and for how much each of them stands."""

    points_level0_px: NDArray[np.float64]
    """(x, y), [n, 2]."""
    areas_px2: NDArray[np.float64]
    """In square level-0 px, [n]; what is drawn twice counts twice."""

    @classmethod
    def of_polygons(cls, polygons: Sequence[shapely.Polygon]) -> Self:
        """Points of a lattice in each polygon, which are in level-0 px."""
        num = min(_NUM_POINTS, max(_FEWEST_POINTS, _MOST_POINTS // max(1, len(polygons))))
        points = [_points_in(polygon, num) for polygon in polygons]
        return cls._joined(points, [polygon.area for polygon in polygons])

    @classmethod
    def of(cls, annotation: Annotation, slide: Slide, kinds: Collection[Kind] = tuple(Kind)) -> Self:
        """Points of all that is annotated as one of some kinds."""
        drawn = cls.of_polygons([polygon for kind, polygon in annotation.polygons if kind in kinds])
        # Each kind for itself: all of a small one may lie between the points of a large one.
        masks = [_points_of_mask(image, kind, slide) for image in annotation.mask_images for kind in kinds]
        seen = cls._joined([points for points, _ in masks], [area for _, area in masks])
        return cls(*(np.concatenate(pair) for pair in zip(drawn, seen, strict=True)))

    @classmethod
    def _joined(cls, points: Sequence[NDArray[np.float64]], areas: Sequence[float]) -> Self:
        each = [np.full(len(some), area / max(1, len(some))) for some, area in zip(points, areas, strict=True)]
        return cls(np.concatenate([np.empty((0, 2)), *points]), np.concatenate([np.empty(0), *each]))

    @property
    def area_px2(self) -> float:
        """Of all that is marked."""
        return float(self.areas_px2.sum())

    def some(self, num: int) -> Self:
        """About so many of the points, evenly over the list."""
        step = max(1, len(self.areas_px2) // num)
        return type(self)(self.points_level0_px[::step], self.areas_px2[::step])

    def share_on(self, mask: NDArray[np.bool_], slide: Slide) -> float | None:
        """The share of the area that lies on a mask at `TISSUE_MPP`, which ends with the slide; None without area."""
        total = self.area_px2
        return float(self.areas_px2[self._is_on(mask, slide)].sum() / total) if total else None

    def _is_on(self, mask: NDArray[np.bool_], slide: Slide) -> NDArray[np.bool_]:
        points = self.points_level0_px
        inside = ((points >= 0) & (points < slide.level0_size)).all(axis=1)
        pixels = (points[inside] * slide.resolution.mpp_level0 / TISSUE_MPP).astype(np.int64)
        cols, rows = np.minimum(pixels, np.array(mask.shape[::-1]) - 1).T
        found = np.zeros(len(points), dtype=bool)
        found[inside] = mask[rows, cols]
        return found


def _points_in(polygon: shapely.Polygon, num: int) -> NDArray[np.float64]:
    """About so many points of a lattice in a polygon, at least one: [n, 2]."""
    longest_px = max(np.ptp(np.array(polygon.bounds).reshape(2, 2), axis=0))
    # A long thin one fills little of its box, for which a fine lattice would be large.
    step_px = max(math.sqrt(polygon.area / num), longest_px / _MOST_STEPS)
    (x, y), (x_end, y_end) = (np.array(polygon.bounds) / step_px).reshape(2, 2)
    origin = (math.floor(x), math.floor(y))
    mask = np.zeros((math.ceil(y_end) - origin[1], math.ceil(x_end) - origin[0]), dtype=bool)
    fill_polygon(mask, polygon, downsample=step_px, origin_px=origin)
    if not mask.any():
        return np.array(polygon.representative_point().coords)
    points: NDArray[np.float64] = (np.argwhere(mask)[:, ::-1] + origin + 0.5) * step_px
    return points


def _points_of_mask(image: MaskImage, kind: Kind, slide: Slide) -> tuple[NDArray[np.float64], float]:
    """The centres of the tissue mask's pixels that are of a kind in a mask image, [n, 2], and their area."""
    if kind not in image.meanings.values():
        return np.empty((0, 2)), 0.0
    width, height = (max(1, round(edge * slide.resolution.mpp_level0 / TISSUE_MPP)) for edge in slide.level0_size)
    marked = image.annotated((width, height), [kind])
    if not marked.any():
        # All of it lies between these centres: the mask's own are taken.
        marked = image.annotated(image.values.shape[::-1], [kind])
    points = (np.argwhere(marked)[:, ::-1] + 0.5) * slide.level0_size / marked.shape[::-1]
    return points, len(points) / marked.size * math.prod(slide.level0_size)
