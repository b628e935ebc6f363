"""All that is annotated on a slide, kept as drawn and rasterised box by box."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.parts import Kind
from bccdist.slides.annotations.mask_image import MaskImage
from bccdist.slides.annotations.rasterising import fill_polygon, num_pixels
from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide

KindMasks = dict[Kind, NDArray[np.bool_]]
"""A bool [height, width] for each kind, of a box in the target frame."""


class Annotation:
    """The annotated areas of one slide. Nothing of the size of the slide is held, but a mask image as it is.

    Of the slide only sizes and scale are kept: it may be closed, and an annotation may go to another process.
    """

    def __init__(
        self,
        slide: Slide,
        *,
        polygons: Sequence[tuple[Kind, shapely.Polygon]],
        mask_images: Sequence[MaskImage],
        notes: Sequence[str] = (),
    ) -> None:
        """Unite what the files of a slide hold.

        Args:
            slide: the slide that they belong to.
            polygons: valid and in level-0 px.
            mask_images: they cover the slide.
            notes: what had to be taken for granted when the files were read.
        """
        self._frame_px = Box(0, 0, slide.width_px, slide.height_px)
        self._slide_area = shapely.box(0, 0, *slide.level0_size)
        self._downsample = slide.resolution.downsample
        self._mpp_level0 = slide.resolution.mpp_level0
        self.polygons = tuple(polygons)
        self.mask_images = tuple(mask_images)
        self._tree = shapely.STRtree([polygon for _, polygon in polygons])
        self.notes = tuple(notes)

    @classmethod
    def joined(cls, slide: Slide, parts: Sequence[Self]) -> Self:
        """All that several annotations of a slide mark."""
        return cls(
            slide,
            polygons=[pair for part in parts for pair in part.polygons],
            mask_images=[image for part in parts for image in part.mask_images],
            notes=[note for part in parts for note in part.notes],
        )

    def masks(self, box_px: Box) -> KindMasks:
        """The pixels of a box of the target frame that are annotated, for each kind.

        A pixel counts by its centre, and is the same in every box that holds it.

        Args:
            box_px: may reach outside the slide, where nothing is annotated.

        Returns:
            For each kind a bool [box height, box width].
        """
        masks = {kind: np.zeros((box_px.height, box_px.width), dtype=bool) for kind in Kind}
        inside_px = box_px.intersection(self._frame_px)
        if inside_px.area:
            rows, cols = inside_px._replace(x=inside_px.x - box_px.x, y=inside_px.y - box_px.y).slices()
            self._draw({kind: mask[rows, cols] for kind, mask in masks.items()}, inside_px)
        return masks

    def _draw(self, masks: KindMasks, box_px: Box) -> None:
        box_level0_px = shapely.box(*np.array([box_px.x, box_px.y, box_px.x_end, box_px.y_end]) * self._downsample)
        for index in self._tree.query(box_level0_px):
            kind, polygon = self.polygons[index]
            fill_polygon(
                masks[kind],
                polygon,
                downsample=self._downsample,
                origin_px=(box_px.x, box_px.y),
            )
        for image in self.mask_images:
            image.mark(masks, box_px)

    def holds(self, kind: Kind, points_level0_px: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points (x, y) of the slide, [n, 2] in level-0 px, are annotated as a kind: bool [n]."""
        is_held = np.zeros(len(points_level0_px), dtype=bool)
        drawn = shapely.STRtree(self.polygons_of(kind))
        is_held[drawn.query(shapely.points(points_level0_px), predicate="intersects")[0]] = True
        width, height = self._slide_area.bounds[2:]
        for image in self.mask_images:
            is_held |= image.is_at(kind, points_level0_px / (width, height))
        return is_held

    def polygons_of(self, kind: Kind) -> list[shapely.Polygon]:
        """The polygons of a kind, in level-0 px."""
        return [polygon for its_kind, polygon in self.polygons if its_kind is kind]

    @property
    def unmarked_kinds(self) -> list[Kind]:
        """The kinds that are drawn, but mark no pixel of the target frame."""
        return [kind for kind in Kind if self._draws(kind) and not self._marks(kind)]

    @property
    def num_unmarked_polygons(self) -> int:
        """How many polygons mark no pixel of the target frame, because they lie between the centres of pixels."""
        return sum(not self._num_pixels(polygon) for _, polygon in self.polygons)

    def _draws(self, kind: Kind) -> bool:
        return bool(self.polygons_of(kind)) or any(kind in image.meanings.values() for image in self.mask_images)

    def _marks(self, kind: Kind) -> bool:
        return any(self._num_pixels(polygon) for polygon in self.polygons_of(kind)) or any(
            image.marks(kind) for image in self.mask_images
        )

    def _num_pixels(self, polygon: shapely.Polygon) -> int:
        return num_pixels(polygon, downsample=self._downsample, size_px=(self._frame_px.width, self._frame_px.height))

    @property
    def num_polygons(self) -> Mapping[Kind, int]:
        """How many polygons there are of each kind; the pieces of a multipolygon count."""
        return {kind: len(self.polygons_of(kind)) for kind in Kind}

    @cached_property
    def areas_um2(self) -> Mapping[Kind, float]:
        """The annotated area of each kind on the slide. Overlapping polygons count once, mask images are added."""
        return {kind: self._area_level0_px2(kind) * self._mpp_level0**2 for kind in Kind}

    def _area_level0_px2(self, kind: Kind) -> float:
        drawn_px2 = shapely.union_all(self.polygons_of(kind)).intersection(self._slide_area).area
        share = sum(image.share_of(kind) for image in self.mask_images)
        return float(drawn_px2 + share * self._slide_area.area)
