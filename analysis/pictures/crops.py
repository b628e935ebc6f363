"""Boxes of a slide as pictures, with the heatmap and the annotated tumor of the same box (paper, Figures 4, 6 to 8).

A picture has a frame of its own: level 0 divided by `downsample`. It is read at about the resolution at which it is
shown, and heatmaps in bands, so memory stays bounded whatever the box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from analysis.pictures.drawing import PictureBox
from bccdist.configuration import Psi, pixel_px
from bccdist.heatmaps.probability import NUM_STEPS, step_of
from bccdist.heatmaps.store import Heatmap
from bccdist.parts import Kind
from bccdist.sections.chosen_heatmap import require_same_slide
from bccdist.sections.chosen_output import ChosenOutput, SectionVerdict, section_box
from bccdist.sections.sampling import is_own_under, pixels_under
from bccdist.slides.annotations import read_annotations
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Kinds, SlideRecord
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP

_BAND_PIXELS = 1 << 24
"""Heatmap pixels that are held at once."""
_SAME_MPP = 1e-6
"""Relative difference of two um/px that are the same but for rounding."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A box of a slide as a picture."""

    tissue: NDArray[np.uint8]
    """RGB [h, w, 3]."""
    box_px: Box
    """Where it lies, in its own frame."""
    downsample: float
    """Level-0 pixels per pixel of the picture."""
    um_per_px: float
    size_level0_px: tuple[int, int]
    """Width and height of the slide."""

    def place(self, box_level0_px: Box) -> PictureBox:
        """Where a box of the slide lies on the picture, cut to what the picture shows."""
        x, y, x_end, y_end = (
            min(max(edge / self.downsample - start, 0.0), float(length))
            for edge, start, length in zip(
                (box_level0_px.x, box_level0_px.y, box_level0_px.x_end, box_level0_px.y_end),
                (self.box_px.x, self.box_px.y) * 2,
                (self.box_px.width, self.box_px.height) * 2,
                strict=True,
            )
        )
        return PictureBox(x, y, x_end - x, y_end - y)


class Heat(NamedTuple):
    """An output of the network in the pixels of a picture."""

    probability: NDArray[np.float32]
    """Mean over each pixel, [h, w], 0 to 1; 0 outside the slide."""
    mask_share: NDArray[np.float32]
    """[h, w]: the share of each pixel with a probability of at least t_p, 0 to 1."""


def mpp_to_fit(box_level0_px: Box, mpp_level0: float, *, width_px: int, height_px: int) -> float:
    """Um per pixel at which a box fits into a picture of this size, but not finer than it was scanned."""
    return mpp_level0 * max(1.0, box_level0_px.width / width_px, box_level0_px.height / height_px)


def read_crop(record: SlideRecord, box_level0_px: Box, *, mpp: float) -> Crop:
    """A box of a slide at `mpp` um per pixel.

    Args:
        record: the slide.
        box_level0_px: may reach outside the slide, where all is white and nothing is annotated.
        mpp: um per pixel of the picture; not finer than level 0.

    Raises:
        SlideError: the slide cannot be read, or was scanned coarser than `mpp`.
    """
    with _open_at(record, mpp) as slide:
        return _cut(slide, box_level0_px)


def read_annotated_crop(
    record: SlideRecord, box_level0_px: Box, *, mpp: float, kinds: Kinds
) -> tuple[Crop, NDArray[np.bool_]]:
    """A box of an annotated slide as `read_crop` reads it, and which of its pixels are Tumornest: bool [h, w].

    Args:
        record: the slide.
        box_level0_px: may reach outside the slide, where nothing is annotated.
        mpp: um per pixel of the picture; not finer than level 0.
        kinds: what the names in the annotations mean.

    Raises:
        SlideError: the slide cannot be read, or was scanned coarser than `mpp`.
        AnnotationError: its annotations cannot be read or do not fit the slide.
    """
    with _open_at(record, mpp) as slide:
        crop = _cut(slide, box_level0_px)
        return crop, read_annotations(record.annotations, slide, kinds).masks(crop.box_px)[Kind.TUMORNEST]


def _open_at(record: SlideRecord, mpp: float) -> Slide:
    return Slide(record.path, target_mpp=mpp, tolerance=_SAME_MPP, mpp=record.mpp)


def _cut(slide: Slide, box_level0_px: Box) -> Crop:
    """The box in the slide's target frame, at least one pixel wide and high."""
    x, y, width, height = (round(length / slide.resolution.downsample) for length in box_level0_px)
    box_px = Box(x, y, max(1, width), max(1, height))
    return Crop(
        tissue=slide.read(box_px),
        box_px=box_px,
        downsample=slide.resolution.downsample,
        um_per_px=slide.resolution.mpp,
        size_level0_px=slide.level0_size,
    )


def read_heat(heatmap: Heatmap, psi: Psi, crop: Crop, *, t_p: float) -> Heat:
    """An output of the network in the pixels of a picture, each the mean over its area.

    Args:
        heatmap: the heatmap of the picture's slide.
        psi: one of its outputs.
        crop: the picture.
        t_p: prediction threshold, 0 to 1, of the mask.

    Raises:
        SlideError: the heatmap is of another slide.
        HeatmapError: the output is not stored, or is damaged.
    """
    require_same_slide(heatmap, crop.size_level0_px)
    box_px, step = crop.box_px, crop.downsample / heatmap.attributes.downsample / pixel_px(psi)
    probability = np.zeros((box_px.height, box_px.width), dtype=np.float32)
    mask_share = np.zeros_like(probability)
    rows_at_once = max(1, int(_BAND_PIXELS / (box_px.width * step * step)))
    for start in range(0, box_px.height, rows_at_once):
        end = min(start + rows_at_once, box_px.height)
        band_px = Box(box_px.x, box_px.y + start, box_px.width, end - start)
        values = _read_padded(heatmap, psi, band_px.scaled(step))
        probability[start:end] = _means(values, band_px, step) / NUM_STEPS
        mask_share[start:end] = _means(values >= step_of(t_p), band_px, step)
    return Heat(probability, mask_share)


def _means(values: NDArray[Any], box_px: Box, step: float) -> NDArray[np.float64]:
    """The mean of heatmap pixels over each pixel of a picture, to the share that each has in it.

    Args:
        values: the pixels that `box_px.scaled(step)` holds.
        box_px: a box of the picture.
        step: heatmap pixels per pixel of the picture.

    Returns:
        [box height, box width].
    """
    across = _means_along(values, np.arange(box_px.x, box_px.x_end + 1) * step)
    return _means_along(across.T, np.arange(box_px.y, box_px.y_end + 1) * step).T


def _means_along(values: NDArray[Any], edges: NDArray[Any]) -> NDArray[np.float64]:
    """The mean of each row between neighbouring edges; the first column begins at the whole number below them."""
    # Running sums make it as fast for a whole slide as for a patch: a mean is the difference of two of them.
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    places = edges - np.floor(edges[0])
    column = np.minimum(places.astype(int), values.shape[1] - 1)
    at_edges = sums[:, column] + (places - column) * values[:, column]
    return np.asarray(np.diff(at_edges, axis=1) / np.diff(edges), dtype=np.float64)


def _read_padded(heatmap: Heatmap, psi: Psi, box: Box) -> NDArray[np.uint8]:
    """A box in pixels of an output: uint8 [h, w], 0 outside the slide."""
    values = np.zeros((box.height, box.width), dtype=np.uint8)
    box_target_px = box.scaled(pixel_px(psi)).intersection(heatmap.box_target_px)
    if box_target_px.area:
        inside = heatmap.lattice_box(psi, box_target_px)
        values[inside._replace(x=inside.x - box.x, y=inside.y - box.y).slices()] = heatmap.read(psi, box_target_px)
    return values


class ShownSections(NamedTuple):
    """A picture of sections, with what their verdicts stand on."""

    crop: Crop
    heat: Heat
    """0 where no verdict of these sections counts it: on white glass, and on the tissue of others."""
    decided: NDArray[np.bool_]
    """The regions of at least t_A, which decided: bool [h, w]."""


def read_section(
    record: SlideRecord, output: ChosenOutput, section: SectionVerdict, *, width_px: int, height_px: int
) -> ShownSections:
    """A section with what its verdict stands on, as large as fits into a picture of this size.

    What belongs to another section is shown as tissue, without its heatmap: it does not count.

    Args:
        record: the slide.
        output: the slide's.
        section: its verdict.
        width_px: of the picture at most.
        height_px: of the picture at most.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap is damaged, or is not the one that the ledger was made of.
    """
    return read_sections(record, output, section_box(section), [section], width_px=width_px, height_px=height_px)


def read_sections(
    record: SlideRecord,
    output: ChosenOutput,
    box_level0_px: Box,
    sections: Sequence[SectionVerdict],
    *,
    width_px: int,
    height_px: int,
) -> ShownSections:
    """A box of a slide with what the verdicts on some of its sections stand on; see `read_section`."""
    attributes = output.heatmap.attributes
    mpp = mpp_to_fit(box_level0_px, attributes.mpp / attributes.downsample, width_px=width_px, height_px=height_px)
    crop = read_crop(record, box_level0_px, mpp=mpp)
    heat = read_heat(output.heatmap, output.psi, crop, t_p=output.choice.t_p)
    under = pixels_under(crop.box_px, output.slide.tissue.shape, edge_px=1, scale=crop.um_per_px / TISSUE_MPP)
    own = np.zeros(heat.probability.shape, dtype=bool)
    for section in sections:
        own |= is_own_under(output.section_map, list(output.boxes_level0_px).index(section["section_id"]) + 1, *under)
    # Regions may reach over the tissue's edge, and have their outlines there; heat is of tissue alone.
    own &= output.slide.tissue[np.ix_(*under)]
    regions = [region for section in sections for region in output.regions_in(section)]
    decided = _mask_of(crop, [output.placed(region.outline) for region in regions])
    return ShownSections(crop, Heat(heat.probability * own, heat.mask_share * own), decided)


def _mask_of(crop: Crop, outlines_level0_px: Sequence[shapely.Geometry]) -> NDArray[np.bool_]:
    """The pixels of a picture under polygons of level-0 px, at least one for each: bool [h, w]."""
    mask = np.zeros(crop.tissue.shape[:2], dtype=np.uint8)
    corner_px = np.array((crop.box_px.x, crop.box_px.y))
    for polygon in shapely.get_parts(outlines_level0_px):
        rings = [shapely.get_coordinates(ring) for ring in (polygon.exterior, *polygon.interiors)]
        one = np.zeros_like(mask)
        cv2.fillPoly(one, [np.round(ring / crop.downsample - corner_px - 0.5).astype(np.int32) for ring in rings], 1)
        mask |= one
    return mask.astype(bool)
