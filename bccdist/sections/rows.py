"""A slide's heatmap becomes rows of the section ledger (paper, section 2.4).

One section of one output is held in memory at a time.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, Psi, pixel_px
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.heatmaps.store import Heatmap
from bccdist.parts import Part
from bccdist.sections.assessable import QualityLimits
from bccdist.sections.curve import CURVE_LENGTH, largest_region_curve
from bccdist.sections.margins import edge_distances_um, margin_curve
from bccdist.sections.quality_columns import QualityOfSections
from bccdist.sections.reached import SectionsReached
from bccdist.sections.sampling import indices_of, is_own_under, map_of_sections, pixels_under
from bccdist.slides.geometry import Box
from bccdist.slides.section_map import SectionMap
from bccdist.slides.sections import Section
from bccdist.slides.tissue import TISSUE_MPP


def section_rows(
    heatmap: Heatmap,
    sections: Sequence[Section],
    tissue: NDArray[np.bool_],
    *,
    part: Part,
    phantom_weights: bool,
    limits: QualityLimits | None = None,
) -> Iterator[dict[str, Any]]:
    """The ledger's rows of one heatmap: one per section and output.

    Args:
        heatmap: the slide's.
        sections: all of the slide, which share out its tissue by their boxes.
        tissue: the slide's mask, bool [h, w] at `TISSUE_MPP`.
        part: which part of the data the slide is in.
        phantom_weights: whether the network was trained on drawn slides.
        limits: what a section may be like to be assessable; None judges none, as in a study, whose own sections are
            what others are compared with.

    Yields:
        a row with every column of the ledger's schema.

    Raises:
        LedgerError: the verdict on a section of a fast heatmap is neither certified nor exact.
    """
    # On tissue, a cell has fewer patches than usual only where the slide could not be read: it does not count.
    covered, counted = heatmap.covered_cells, heatmap.counted_cells
    distances_um = edge_distances_um(tissue)
    shares = map_of_sections(heatmap, tissue, [section.box_level0_px for section in sections])
    reached = SectionsReached(heatmap, shares, len(sections))
    quality = QualityOfSections(heatmap, shares)
    for number, section in enumerate(sections, start=1):
        box_px = shares.reading_level0_px[number - 1].scaled(1 / heatmap.attributes.downsample)
        measured = quality.columns(number)
        about_section = {
            **_identity_columns(heatmap, section, part),
            "phantom_weights": phantom_weights,
            **_tissue_columns(shares, number, covered, box_px, mpp=heatmap.attributes.mpp),
            **measured,
            "not_assessable": None if limits is None else limits.judge(measured),
        }
        probabilities = {}
        for psi in heatmap.outputs:
            # A box without tissue of its own has no pixel to look at; it is entered all the same.
            probabilities[psi] = _no_probabilities()
            if about_section["tissue_um2"]:
                pixels = _section_pixels(heatmap, psi, box_px, shares, number, counted=counted)
                probabilities[psi] = _probability_columns(pixels, distances_um)
        curves = {psi: columns["largest_region_px"] for psi, columns in probabilities.items()}
        how = reached.columns(number - 1, section.box_level0_px, about_section, curves)
        for psi in heatmap.outputs:
            yield {
                **about_section,
                "psi": psi,
                "pixel_px": pixel_px(psi),
                "is_final": psi == heatmap.outputs[-1],
                **probabilities[psi],
                **how[psi],
            }


class FastSections(NamedTuple):
    """The sections of a fast heatmap, as far as their verdicts may follow from it."""

    tissue_um2: NDArray[np.float64]
    """[n]"""
    coverage: NDArray[np.float64]
    """Share of the tissue that was read: [n]."""
    curves: NDArray[np.uint32]
    """Of one output: [n, 256]."""


def fast_sections(heatmap: Heatmap, shares: SectionMap, psi: Psi) -> FastSections:
    """The curves of one output of all sections, as the ledger would hold them.

    Args:
        heatmap: the slide's.
        shares: whose the slide's tissue is.
        psi: the output.
    """
    covered, counted = heatmap.covered_cells, heatmap.counted_cells
    curves = np.zeros((len(shares.reading_level0_px), CURVE_LENGTH), dtype=np.uint32)
    columns = []
    for number, box_level0_px in enumerate(shares.reading_level0_px, start=1):
        box_px = box_level0_px.scaled(1 / heatmap.attributes.downsample)
        columns.append(_tissue_columns(shares, number, covered, box_px, mpp=heatmap.attributes.mpp))
        if columns[-1]["tissue_um2"]:
            pixels = _section_pixels(heatmap, psi, box_px, shares, number, counted=counted)
            curves[number - 1] = largest_region_curve(pixels.values)
    tissue_um2, coverage = (np.array([each[name] for each in columns]) for name in ("tissue_um2", "coverage"))
    return FastSections(tissue_um2, coverage, curves)


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
        "reader": attributes.reader,
        "why_openslide": attributes.why_openslide,
        "read_s": attributes.read_s,
        "network_s": attributes.network_s,
        "weights_digest": attributes.weights_digest,
        "config_digest": attributes.config_digest,
        "slide_fingerprint": attributes.slide_fingerprint,
        "phantom": attributes.phantom,
    }


def _tissue_columns(
    shares: SectionMap, number: int, covered: NDArray[np.bool_], box_target_px: Box, *, mpp: float
) -> dict[str, float]:
    """Area of a section's own tissue, which its box holds, and the share of it that lies in fully covered cells."""
    height, width = shares.tissue.shape
    mask_box = box_target_px.scaled(mpp / TISSUE_MPP).intersection(Box(0, 0, width, height))
    inside = mask_box.slices()
    rows, cols = np.nonzero(shares.tissue[inside] & (shares.number[inside] == number))
    if not rows.size:
        return {"tissue_um2": 0.0, "coverage": 0.0}
    tissue_px_per_cell = CELL_PX * mpp / TISSUE_MPP
    cell_rows = indices_of(rows + mask_box.y + 0.5, covered.shape[0], scale=1 / tissue_px_per_cell)
    cell_cols = indices_of(cols + mask_box.x + 0.5, covered.shape[1], scale=1 / tissue_px_per_cell)
    return {
        "tissue_um2": rows.size * TISSUE_MPP**2,
        "coverage": float(covered[cell_rows, cell_cols].mean()),
    }


class _SectionPixels(NamedTuple):
    """One output in the box that holds a section."""

    values: NDArray[np.uint8]
    """Stored probabilities, 0 outside the counted cells and where it is another section's: [h, w]."""
    on_tissue: NDArray[np.bool_]
    """Whether a pixel is counted, and on the section's tissue itself: [h, w]."""
    tissue_rows: NDArray[np.int64]
    """Rows of the tissue mask under the pixels: [h]."""
    tissue_cols: NDArray[np.int64]
    """Columns of the tissue mask under the pixels: [w]."""


def _section_pixels(
    heatmap: Heatmap,
    psi: Psi,
    box_target_px: Box,
    shares: SectionMap,
    number: int,
    *,
    counted: NDArray[np.bool_],
) -> _SectionPixels:
    """The heatmap in the box that holds a section.

    Args:
        heatmap: the slide's.
        psi: the output.
        box_target_px: the box.
        shares: whose the slide's tissue is.
        number: the section's in `shares`.
        counted: bool [rows, cols]: tissue cells with full coverage.
    """
    values = heatmap.read(psi, box_target_px)
    box, edge_px = heatmap.lattice_box(psi, box_target_px), pixel_px(psi)
    is_counted = counted[np.ix_(*pixels_under(box, counted.shape, edge_px=edge_px, scale=1 / CELL_PX))]
    scale = heatmap.attributes.mpp / TISSUE_MPP
    rows, cols = pixels_under(box, shares.tissue.shape, edge_px=edge_px, scale=scale)
    is_counted &= is_own_under(shares, number, rows, cols)
    # 0 is below every threshold, so that regions end where tissue, coverage or what is the section's does.
    values *= is_counted
    return _SectionPixels(values, is_counted & shares.tissue[np.ix_(rows, cols)], rows, cols)


def _probability_columns(pixels: _SectionPixels, distances_um: NDArray[np.float32]) -> dict[str, Any]:
    """What the values say; `distances_um` are the slide's."""
    on_tissue = pixels.values[pixels.on_tissue]
    p99 = float(np.percentile(on_tissue, 99)) if on_tissue.size else 0.0
    margins_um = margin_curve(
        pixels.values, distances_um, tissue_rows=pixels.tissue_rows, tissue_cols=pixels.tissue_cols
    )
    return {
        "largest_region_px": largest_region_curve(pixels.values).tolist(),
        "margin_um": margins_um.tolist(),
        "max_probability": float(pixels.values.max(initial=0)) / NUM_STEPS,
        "p99_probability": p99 / NUM_STEPS,
    }


def _no_probabilities() -> dict[str, Any]:
    return {
        "largest_region_px": [0] * CURVE_LENGTH,
        "margin_um": [math.nan] * CURVE_LENGTH,
        "max_probability": 0.0,
        "p99_probability": 0.0,
    }
