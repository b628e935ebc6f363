"""What lies over a slide on the page: pieces of heatmaps, and annotations; predicted.py has the predicted regions.

Of a slide with a blind section that this reviewer has not answered yet nothing is shown; whoever asks knows which.
"""

from typing import NamedTuple

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from analysis.review.geojson import Feature, feature
from bccdist.configuration import CELL_PX, Psi, pixel_px
from bccdist.errors import ConfigurationError, HeatmapError
from bccdist.heatmaps.store import Heatmap
from bccdist.parts import Kind
from bccdist.sections.regions import find_regions
from bccdist.sections.sampling import pixels_under
from bccdist.slides.annotations import read_annotations
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Kinds, SlideRecord
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP

LONGEST_ANNOTATION_PX = 3072
"""The longer side of a slide, in the pixels that annotations are shown with."""
_ANNOTATION_BAND_PX = 512
_DECIMALS = 2
"""A coordinate in level-0 px is rounded to so many."""


class Piece(NamedTuple):
    """A piece of a heatmap."""

    png: bytes
    """8-bit grey: probability 0 to 255."""
    box_level0_px: tuple[float, float, float, float]
    """x, y, width and height of what it really covers."""


def heatmap_piece(
    heatmap: Heatmap,
    psi: Psi,
    box_level0_px: Box,
    *,
    max_px: int,
    is_hidden: bool = False,
    tissue: NDArray[np.bool_] | None = None,
) -> Piece:
    """A box of a heatmap as a picture.

    It comes from the finest pyramid level at which it has at most `max_px` pixels on its longer side, and is reduced
    further only where there is none. A pixel is the mean of those below it: right for showing how likely tumor is,
    while single pixels above t_p can fade in a coarse level; they are seen again further in. It is 0 where a verdict
    does not count: outside of tissue, and where not all patches were read.

    Args:
        heatmap: the slide's.
        psi: one of its outputs.
        box_level0_px: what to show; it is cut to the slide and widened to whole pixels.
        max_px: greatest length of the picture's longer side.
        is_hidden: whether nothing of it may be seen: the picture is 0 all over.
        tissue: the slide's tissue mask, bool [h, w] at `TISSUE_MPP`; beside it the picture is 0, as in the verdict.
            None leaves out only the cells without any.

    Raises:
        HeatmapError: the output is not stored or damaged.
        ConfigurationError: the box lies outside of the slide.
    """
    downsample = heatmap.attributes.downsample
    box_target_px = box_level0_px.scaled(1 / downsample).intersection(heatmap.box_target_px)
    if psi not in heatmap.outputs:
        raise HeatmapError(f"{heatmap.path.name}: holds {', '.join(heatmap.outputs)}, but {psi} is asked for")
    if not box_target_px.area:
        raise ConfigurationError(f"{heatmap.path.name}: the box {tuple(box_level0_px)} lies outside of the slide")
    level, box_px = _level_to_show(heatmap, psi, box_target_px, max_px)
    edge_target_px = pixel_px(psi) << level
    if is_hidden:
        values = np.zeros((box_px.height, box_px.width), dtype=np.uint8)
    else:
        values = _read_level(heatmap, psi, level, box_px) * _counted(heatmap, box_px, edge_target_px)
    if tissue is not None:
        scale = heatmap.attributes.mpp / TISSUE_MPP
        values *= tissue[np.ix_(*pixels_under(box_px, tissue.shape, edge_px=edge_target_px, scale=scale))]
    edge_level0_px = edge_target_px * downsample
    x, y, width, height = (round(side * edge_level0_px, _DECIMALS) for side in box_px)
    return Piece(_png(_shrunk(values, max_px)), (x, y, width, height))


def _level_to_show(heatmap: Heatmap, psi: Psi, box_target_px: Box, max_px: int) -> tuple[int, Box]:
    """The finest level with at most `max_px` pixels along the box, or the coarsest, and the box in its pixels."""
    last = len(heatmap.levels(psi)) - 1
    for level in range(last + 1):
        box_px = box_target_px.scaled(1 / (pixel_px(psi) << level))
        if max(box_px.width, box_px.height) <= max_px or level == last:
            break
    return level, box_px


def _read_level(heatmap: Heatmap, psi: Psi, level: int, box_px: Box) -> NDArray[np.uint8]:
    if not level:
        return heatmap.read(psi, Box(*(side * pixel_px(psi) for side in box_px)))
    rows, cols = box_px.slices()
    return np.ascontiguousarray(heatmap.read_rows(psi, level, rows)[:, cols])


def _counted(heatmap: Heatmap, box_px: Box, edge_target_px: int) -> NDArray[np.bool_]:
    """Which pixels a verdict counts: bool [h, w]."""
    cells = heatmap.counted_cells
    rows, cols = pixels_under(box_px, cells.shape, edge_px=edge_target_px, scale=1 / CELL_PX)
    return np.asarray(cells[np.ix_(rows, cols)], dtype=bool)


def _shrunk(values: NDArray[np.uint8], max_px: int) -> NDArray[np.uint8]:
    factor = max_px / max(values.shape)
    if factor >= 1:
        return values
    size = (max(1, round(values.shape[1] * factor)), max(1, round(values.shape[0] * factor)))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _png(values: NDArray[np.uint8]) -> bytes:
    # Little compression: it goes no further than to this machine's browser.
    _, content = cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return content.tobytes()


def annotation_features(record: SlideRecord, kinds: Kinds, mpp: float) -> list[Feature]:
    """What is annotated on a slide, as outlines that are right to about a pixel of `LONGEST_ANNOTATION_PX`.

    Drawn files and mask images come out alike: both are rasterised, and outlined.

    Args:
        record: the slide.
        kinds: what the names and values in its annotations mean.
        mpp: um per level-0 pixel.

    Raises:
        SlideError: the slide cannot be read.
        AnnotationError: its annotations cannot be read or do not fit the slide.
    """
    if not record.annotations:
        return []
    # Opened twice: the scale at which outlines are drawn follows from the slide's size.
    with Slide(record.path, target_mpp=mpp, mpp=mpp, by_tile=False) as slide:
        downsample = max(1.0, max(slide.level0_size) / LONGEST_ANNOTATION_PX)
    with Slide(record.path, target_mpp=mpp * downsample, tolerance=1e-6, mpp=mpp, by_tile=False) as slide:
        annotation = read_annotations(record.annotations, slide, kinds)
        size_px, downsample = (slide.width_px, slide.height_px), slide.resolution.downsample
    bands = [
        annotation.masks(Box(0, y, size_px[0], min(_ANNOTATION_BAND_PX, size_px[1] - y)))
        for y in range(0, size_px[1], _ANNOTATION_BAND_PX)
    ]
    return [
        feature(_smoothed(region.outline, downsample), {"kind": kind.value})
        for kind in Kind
        for region in find_regions([band[kind].astype(np.uint8) for band in bands], step=1)
    ]


def _smoothed(outline: shapely.Geometry, edge_level0_px: float) -> shapely.Geometry:
    """An outline in level-0 px without the steps of its pixels, where there are any."""
    plain = shapely.simplify(outline, 1.0 if edge_level0_px > 1 else 0.0)
    return shapely.transform(plain, lambda xy: np.round(xy * edge_level0_px, _DECIMALS))
