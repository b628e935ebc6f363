"""A slide's heatmap becomes rows of the section ledger (paper, section 2.4).

One section of one output is held in memory at a time.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, Psi, pixel_px
from bccdist.heatmaps.curve import NUM_LEVELS, largest_region_curve
from bccdist.heatmaps.store import Heatmap
from bccdist.parts import Part
from bccdist.slides.geometry import Box
from bccdist.slides.tissue import TISSUE_MPP, Section


def section_rows(
    heatmap: Heatmap, sections: Sequence[Section], tissue: NDArray[np.bool_], *, part: Part
) -> Iterator[dict[str, Any]]:
    """The ledger's rows of one heatmap: one per section and output.

    Args:
        heatmap: the slide's.
        sections: their boxes and labels.
        tissue: the slide's mask, bool [h, w] at `TISSUE_MPP`.
        part: which part of the data the slide is in.

    Yields:
        a row with every column of the ledger's schema.
    """
    covered = heatmap.coverage == heatmap.attributes.full_coverage
    counted = covered & heatmap.tissue_cells
    for section in sections:
        box_px = section.box_level0_px.scaled(1 / heatmap.attributes.downsample)
        about_section = {
            **_identity_columns(heatmap, section, part),
            **_tissue_columns(tissue, covered, box_px, mpp=heatmap.attributes.mpp),
        }
        for psi in heatmap.outputs:
            probabilities = _no_probabilities()
            if about_section["tissue_um2"]:
                probabilities = _probability_columns(
                    *_section_pixels(heatmap, psi, box_px, counted=counted, tissue=tissue)
                )
            yield {
                **about_section,
                "psi": psi,
                "pixel_px": pixel_px(psi),
                "is_final": psi == heatmap.outputs[-1],
                **probabilities,
            }


def _identity_columns(heatmap: Heatmap, section: Section, part: Part) -> dict[str, Any]:
    attributes = heatmap.attributes
    x, y, width, height = section.box_level0_px
    return {
        "slide_id": attributes.slide_id,
        "section_id": section.section_id,
        "part": part.value,
        "setting": attributes.setting,
        "epoch": attributes.epoch,
        "x_level0_px": x,
        "y_level0_px": y,
        "width_level0_px": width,
        "height_level0_px": height,
        "label": None if section.label is None else section.label.value,
        "labelled_by": section.labelled_by,
        "labelled_at": section.labelled_at,
        "prefilled": section.prefilled,
        "mpp": attributes.mpp,
        "read_s": attributes.read_s,
        "network_s": attributes.network_s,
        "weights_digest": attributes.weights_digest,
        "config_digest": attributes.config_digest,
        "slide_fingerprint": attributes.slide_fingerprint,
        "phantom": attributes.phantom,
    }


def _tissue_columns(
    tissue: NDArray[np.bool_], covered: NDArray[np.bool_], box_target_px: Box, *, mpp: float
) -> dict[str, float]:
    """Area of the tissue in a section's box, and the share of it that lies in fully covered cells."""
    mask_box = box_target_px.scaled(mpp / TISSUE_MPP).intersection(Box(0, 0, tissue.shape[1], tissue.shape[0]))
    rows, cols = np.nonzero(tissue[mask_box.slices()])
    if not rows.size:
        return {"tissue_um2": 0.0, "coverage": 0.0}
    tissue_px_per_cell = CELL_PX * mpp / TISSUE_MPP
    cell_rows = _indices(rows + mask_box.y + 0.5, 1 / tissue_px_per_cell, covered.shape[0])
    cell_cols = _indices(cols + mask_box.x + 0.5, 1 / tissue_px_per_cell, covered.shape[1])
    return {
        "tissue_um2": rows.size * TISSUE_MPP**2,
        "coverage": float(covered[cell_rows, cell_cols].mean()),
    }


def _section_pixels(
    heatmap: Heatmap,
    psi: Psi,
    box_target_px: Box,
    *,
    counted: NDArray[np.bool_],
    tissue: NDArray[np.bool_],
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The heatmap in a section's box, 0 outside the counted cells, and which of its pixels are counted tissue.

    Args:
        heatmap: the slide's.
        psi: the output.
        box_target_px: the section's box.
        counted: bool [rows, cols]: tissue cells with full coverage.
        tissue: the slide's mask at `TISSUE_MPP`.

    Returns:
        uint8 [h, w] and bool [h, w].
    """
    pixels = heatmap.read(psi, box_target_px)
    box = heatmap.lattice_box(psi, box_target_px)
    centres_y_px = (np.arange(box.y, box.y_end) + 0.5) * pixel_px(psi)
    centres_x_px = (np.arange(box.x, box.x_end) + 0.5) * pixel_px(psi)
    is_counted = _sampled(counted, centres_y_px, centres_x_px, scale=1 / CELL_PX)
    pixels *= is_counted
    on_tissue = _sampled(tissue, centres_y_px, centres_x_px, scale=heatmap.attributes.mpp / TISSUE_MPP)
    return pixels, is_counted & on_tissue


def _sampled(
    mask: NDArray[np.bool_], y_px: NDArray[np.floating], x_px: NDArray[np.floating], *, scale: float
) -> NDArray[np.bool_]:
    """A coarse mask at points of the target frame: bool [len(y_px), len(x_px)]."""
    return mask[np.ix_(_indices(y_px, scale, mask.shape[0]), _indices(x_px, scale, mask.shape[1]))]


def _indices(positions: NDArray[np.floating], scale: float, length: int) -> NDArray[np.int64]:
    """The pixels of a coarse frame under positions of a fine one; rounding at the far edge is held inside."""
    return np.minimum((positions * scale).astype(np.int64), length - 1)


def _probability_columns(pixels: NDArray[np.uint8], on_tissue: NDArray[np.bool_]) -> dict[str, Any]:
    values = pixels[on_tissue]
    p99 = float(np.percentile(values, 99)) if values.size else 0.0
    return {
        "largest_region_px": largest_region_curve(pixels).tolist(),
        "max_probability": float(pixels.max(initial=0)) / (NUM_LEVELS - 1),
        "p99_probability": p99 / (NUM_LEVELS - 1),
    }


def _no_probabilities() -> dict[str, Any]:
    return {"largest_region_px": [0] * NUM_LEVELS, "max_probability": 0.0, "p99_probability": 0.0}
