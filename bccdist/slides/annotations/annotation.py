"""All that is annotated on a slide, kept as drawn and rasterised box by box."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.parts import Kind
from bccdist.slides.annotations.mask_image import MaskImage
from bccdist.slides.annotations.rasterising import fill_polygon
from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide

KindMasks = dict[Kind, NDArray[np.bool_]]
"""A bool [height, width] for each kind, of a box in the target frame."""


class Annotation:
    """The annotated areas of one slide. Nothing of the size of the slide is held, but a mask image as it is.

    Of the slide only sizes and scale are kept: it may be closed, and an annotation may go to another process.
    """

    def __init__(
        self, slide: Slide, *, polygons: Sequence[tuple[Kind, shapely.Polygon]], mask_images: Sequence[MaskImage]
    ) -> None:
        """Unite what the files of a slide hold; polygons are valid and in level-0 px."""
        self._frame_px = Box(0, 0, slide.width_px, slide.height_px)
        self._slide_area = shapely.box(0, 0, *slide.level0_size)
        self._downsample = slide.resolution.downsample
        self._mpp_level0 = slide.resolution.mpp_level0
        self._kinds = [kind for kind, _ in polygons]
        self._polygons = [polygon for _, polygon in polygons]
        self._tree = shapely.STRtree(self._polygons)
        self._mask_images = tuple(mask_images)

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
            fill_polygon(
                masks[self._kinds[index]],
                self._polygons[index],
                downsample=self._downsample,
                origin_px=(box_px.x, box_px.y),
            )
        for image in self._mask_images:
            image.mark(masks, box_px)

    @property
    def num_polygons(self) -> Mapping[Kind, int]:
        """How many polygons there are of each kind; the pieces of a multipolygon count."""
        return {kind: self._kinds.count(kind) for kind in Kind}

    @cached_property
    def areas_um2(self) -> Mapping[Kind, float]:
        """The annotated area of each kind on the slide. Overlapping polygons count once, mask images are added."""
        return {kind: self._area_level0_px2(kind) * self._mpp_level0**2 for kind in Kind}

    def _area_level0_px2(self, kind: Kind) -> float:
        drawn = [polygon for polygon, its_kind in zip(self._polygons, self._kinds, strict=True) if its_kind is kind]
        drawn_px2 = shapely.union_all(drawn).intersection(self._slide_area).area
        share = sum(image.share_of(kind) for image in self._mask_images)
        return float(drawn_px2 + share * self._slide_area.area)
