"""Some cells of a heatmap are computed anew in another way, the rest stays: a heatmap with a certificate."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX
from bccdist.heatmaps.certificate import HeatmapCertificate
from bccdist.heatmaps.predict import HeatmapRows, PredictionTally, SlidePass, predict_rows
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, HeatmapWriter, pixels_of_cells, writing_heatmap
from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide

_CELLS_AT_ONCE = 8
"""Rows of cells that are copied at once where nothing is computed."""


def merge_exact(
    slide: Slide,
    tissue: NDArray[np.bool_],
    base: Heatmap,
    wanted: NDArray[np.bool_],
    how: SlidePass,
    *,
    certificate: HeatmapCertificate,
    path: Path,
    told: Callable[[float], None] | None = None,
) -> PredictionTally:
    """Write a heatmap that holds exact values in some cells, and those of another heatmap elsewhere.

    Args:
        slide: open.
        tissue: its mask at `TISSUE_MPP`, bool [h, w].
        base: the fast heatmap, or one that was merged before, which may lie at `path` itself.
        wanted: bool [rows, cols]: the cells to compute.
        how: the exact way, with one network that gives what the base holds.
        certificate: what the heatmap is to say.
        path: where it goes.
        told: called now and then with the share of the wanted cells that is done, 0 to 1.

    Returns:
        What the exact way took.

    Raises:
        HeatmapError: the base cannot be read, or the new one cannot be written.
        SlideError: the slide cannot be read.
        NotFiniteError: the network gave something else than probabilities.
    """
    attributes, tally = base.attributes, PredictionTally.of(how)
    with ExitStack() as stack:
        writer = stack.enter_context(
            writing_heatmap(
                path,
                outputs=attributes.outputs,
                size_target_px=attributes.size_target_px,
                mpp=attributes.mpp,
                # One that was merged before goes on in the new one, with all its exact cells.
                may_replace=attributes.certificate is not None,
            )
        )
        rows = stack.enter_context(closing(_exact_rows(slide, tissue, base, wanted, how, tally)))
        # A fast patch may count as one where four of the paper's do.
        times = how.layout.full_coverage // attributes.full_coverage
        coverage = np.minimum(base.coverage * times, how.layout.full_coverage).astype(np.uint8)
        first = 0
        for found in rows:
            here = slice(first, first + len(found.coverage))
            coverage[here] = np.where(wanted[here], found.coverage, coverage[here])
            _append_merged(writer, base, found, wanted[here], first_row=first)
            first = here.stop
            if told is not None:
                told(float(wanted[:first].sum() / max(1, wanted.sum())))
        writer.finish(
            _with_exact(replace(attributes, full_coverage=how.layout.full_coverage, certificate=certificate), tally),
            coverage=coverage,
            tissue_cells=base.tissue_cells,
            exact_cells=base.exact_cells | wanted,
            # Measured where the slide was read whole, by the fast way.
            quality=base.quality,
        )
    return tally


def _with_exact(attributes: HeatmapAttributes, tally: PredictionTally) -> HeatmapAttributes:
    """The attributes of what was there, with what the exact way took."""
    return replace(
        attributes,
        num_patches=attributes.num_patches + tally.num_patches,
        num_unread_cells=max(attributes.num_unread_cells, tally.reading.num_unread_cells),
        unread_reason=attributes.unread_reason or tally.reading.unread_reason,
        read_s=attributes.read_s + tally.reading.read_s,
        network_s=attributes.network_s + sum(tally.network_s),
    )


def _exact_rows(
    slide: Slide,
    tissue: NDArray[np.bool_],
    base: Heatmap,
    wanted: NDArray[np.bool_],
    how: SlidePass,
    tally: PredictionTally,
) -> Generator[HeatmapRows, None, None]:
    """Rows of cells of the exact way, from top to bottom; without maps where no cell of the slide is wanted."""
    if wanted.any():
        yield from predict_rows(slide, base.tissue_cells, how, tally, tissue, wanted=wanted)
        return
    for first in range(0, len(wanted), _CELLS_AT_ONCE):
        yield HeatmapRows(np.zeros(wanted[first : first + _CELLS_AT_ONCE].shape, dtype=np.uint8), [{}])


def _append_merged(
    writer: HeatmapWriter,
    base: Heatmap,
    found: HeatmapRows,
    wanted: NDArray[np.bool_],
    *,
    first_row: int,
) -> None:
    """Add the same rows of cells of every output; `wanted` is bool [rows, cols] of these rows."""
    (maps,) = found.maps
    box_px = Box(0, first_row * CELL_PX, base.attributes.size_target_px[0], len(wanted) * CELL_PX)
    merged = {}
    for psi in base.outputs:
        pixels = base.read(psi, box_px)
        if wanted.any():
            height, width = pixels.shape
            pixels = np.where(pixels_of_cells(wanted, psi, pixels.shape), maps[psi][:height, :width], pixels)
        merged[psi] = pixels
    writer.append(merged)
