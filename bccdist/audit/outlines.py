"""The outlines of a slide's annotation, whatever its files are: drawn ones as they are, mask images by their areas."""

from collections.abc import Iterator

import numpy as np
import shapely

from bccdist.audit.findings import Outline
from bccdist.parts import Kind
from bccdist.sections.regions import find_regions
from bccdist.slides.annotations import Annotation, KindMasks, read_annotations
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Kinds, SlideRecord
from bccdist.slides.slide import Slide

_BAND_PX = 512


def read_outlines(record: SlideRecord, slide: Slide, kinds: Kinds) -> list[Outline]:
    """All outlines of a slide, in the order of its files; their numbers hold as long as these do.

    Raises:
        AnnotationError: a file cannot be read, or does not fit the slide.
    """
    annotation = read_annotations(record.annotations, slide, kinds)
    drawn = [Outline(kind, polygon) for kind, polygon in annotation.polygons]
    if not annotation.mask_images:
        return drawn
    images = Annotation(slide, polygons=[], mask_images=annotation.mask_images)
    return [*drawn, *(outline for kind in Kind for outline in _outlines_in(images, kind, slide))]


def _outlines_in(images: Annotation, kind: Kind, slide: Slide) -> Iterator[Outline]:
    strips = (masks[kind].view(np.uint8) for masks in _bands(images, slide))
    for region in find_regions(strips, step=1):
        outline = shapely.transform(region.outline, lambda xy: xy * slide.resolution.downsample)
        # Areas that touch in a corner alone are one region, and several outlines.
        yield from (Outline(kind, piece) for piece in getattr(outline, "geoms", [outline]))


def _bands(images: Annotation, slide: Slide) -> Iterator[KindMasks]:
    for y in range(0, slide.height_px, _BAND_PX):
        yield images.masks(Box(0, y, slide.width_px, min(_BAND_PX, slide.height_px - y)))
