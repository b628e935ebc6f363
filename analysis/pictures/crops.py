"""Boxes of a slide as pictures, with the heatmap and the annotated tumor of the same box (paper, Figures 4, 6 to 8).

A picture has a frame of its own: level 0 divided by `downsample`. It is read at about the resolution at which it is
shown, and heatmaps in bands, so memory stays bounded whatever the box.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.pictures.drawing import PictureBox
from bccdist.configuration import Psi, pixel_px
from bccdist.heatmaps.probability import NUM_STEPS, step_of
from bccdist.heatmaps.store import Heatmap
from bccdist.parts import Kind
from bccdist.sections.chosen_heatmap import require_same_slide
from bccdist.sections.chosen_output import SectionVerdict, section_box
from bccdist.sections.sampling import is_own_under, map_of_sections, pixels_under
from bccdist.slides.annotations import read_annotations
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Kinds, SlideRecord
from bccdist.slides.section_map import REACH_UM
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask

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


def read_section(
    record: SlideRecord,
    heatmap: Heatmap,
    section: SectionVerdict,
    boxes_level0_px: Mapping[str, Box],
    *,
    width_px: int,
    height_px: int,
) -> tuple[Crop, Heat]:
    """A section with the heatmap that its verdict stands on, as large as fits into a picture of this size.

    What belongs to another section is shown as tissue, without its heatmap: it does not count.

    Args:
        record: the slide.
        heatmap: the slide's.
        section: its verdict.
        boxes_level0_px: of all sections of the slide, by section_id.
        width_px: of the picture at most.
        height_px: of the picture at most.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap is damaged.
    """
    box_level0_px = section_box(section)
    crop, heat = read_heated(record, heatmap, box_level0_px, section, width_px=width_px, height_px=height_px)
    reach_level0_px = math.ceil(REACH_UM * crop.downsample / crop.um_per_px)
    others = [box for section_id, box in boxes_level0_px.items() if section_id != section["section_id"]]
    if not any(box.intersection(box_level0_px.grown(reach_level0_px)).area for box in others):
        return crop, heat
    with _open_at(record, TISSUE_MPP) as slide:
        shares = map_of_sections(heatmap, tissue_mask(slide), list(boxes_level0_px.values()))
    under = pixels_under(crop.box_px, shares.tissue.shape, edge_px=1, scale=crop.um_per_px / TISSUE_MPP)
    own = is_own_under(shares, list(boxes_level0_px).index(section["section_id"]) + 1, *under)
    return crop, Heat(heat.probability * own, heat.mask_share * own)


def read_heated(
    record: SlideRecord,
    heatmap: Heatmap,
    box_level0_px: Box,
    section: SectionVerdict,
    *,
    width_px: int,
    height_px: int,
) -> tuple[Crop, Heat]:
    """A box of a slide with the output and at the t_p that a section's verdict stands on; see `read_section`."""
    mpp_level0 = heatmap.attributes.mpp / heatmap.attributes.downsample
    mpp = mpp_to_fit(box_level0_px, mpp_level0, width_px=width_px, height_px=height_px)
    crop = read_crop(record, box_level0_px, mpp=mpp)
    return crop, read_heat(heatmap, section["psi"], crop, t_p=section["t_p"])
