"""A slide goes through one or several networks and comes out as rows of heatmaps (paper, section 2.4).

Shape suffixes: N patches, H and W pixels, 3 colours.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, pairwise
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bccdist.configuration import CELL_PX, Psi, pixel_px
from bccdist.heatmaps.reading import CellRow, ReadingTally, blank_row, readable_rows
from bccdist.heatmaps.stitching import RowStitcher, cut_patches, patches_per_cell
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import tumor_probability
from bccdist.slides.geometry import cells_under, covering_patches
from bccdist.slides.slide import Slide

Network = Callable[[Tensor], Mapping[Psi, Tensor]]
"""Normalised patches [n, 3, 512, 512] to score maps [n, 2, h, w] per output; in evaluation mode, on the device."""


@dataclass(kw_only=True)
class PredictionTally:
    """What one slide took, counted while it goes on."""

    reading: ReadingTally = field(default_factory=ReadingTally)
    num_patches: int = 0
    """Patches cut from the slide; each goes through every network."""
    network_s: list[float]
    """For each network."""


class HeatmapRow(NamedTuple):
    """One row of cells of every network's heatmaps."""

    coverage: NDArray[np.uint8]
    """[cols]: patches that were averaged over each cell, 0 to 4."""
    maps: list[dict[Psi, NDArray[np.uint8]]]
    """For each network and output [256 / pixel_px, cols * 256 / pixel_px]: 255 times the Tumor probability."""


def predict_rows(
    slide: Slide,
    cells: NDArray[np.bool_],
    networks: Sequence[Network],
    *,
    outputs: Sequence[Psi],
    batch: int,
    device: torch.device,
    tally: PredictionTally,
) -> Generator[HeatmapRow, None, None]:
    """The heatmaps of a slide from top to bottom, a row of cells at a time.

    Every pixel is read once, whatever the number of networks. A patch that would need an unreadable cell is
    left out, so the coverage around it stays below 4.

    Args:
        slide: open; not to be used by others until the last row is out.
        cells: bool [rows, cols]: the cells that hold tissue.
        networks: each is given every patch.
        outputs: which of the networks' outputs to keep.
        batch: patches per forward pass.
        device: where the networks are.
        tally: counts on.

    Yields:
        one HeatmapRow per row of cells.
    """
    patches = covering_patches(cells)
    stitchers = [{psi: _stitcher(psi, cells.shape[1]) for psi in outputs} for _ in networks]
    outside = blank_row(cells.shape[1])
    computed_above = np.zeros(patches.shape[1], dtype=bool)
    # Closed here, so that no thread still reads when the slide is closed after an error.
    with closing(readable_rows(slide, cells_under(patches), tally.reading)) as rows:
        for patch_row, (upper, lower) in enumerate(pairwise(chain([outside], rows, [outside]))):
            computed = patches[patch_row] & ~_blocked(upper, lower)
            cols = np.flatnonzero(computed).tolist()
            tally.num_patches += len(cols)
            for start in range(0, len(cols), batch):
                batch_cols = cols[start : start + batch]
                images = torch.from_numpy(cut_patches(upper.pixels, lower.pixels, batch_cols)).to(device)
                _predict_batch(images, batch_cols, networks, stitchers, tally)
            counts = patches_per_cell(np.stack([computed_above, computed]))[0]
            maps = [{psi: stitcher.finish_row(counts) for psi, stitcher in group.items()} for group in stitchers]
            if patch_row > 0:  # before that it is the row of cells above the slide
                yield HeatmapRow(counts, maps)
            computed_above = computed


def _stitcher(psi: Psi, num_cols: int) -> RowStitcher:
    return RowStitcher(num_cols, pixels_per_cell=CELL_PX // pixel_px(psi))


def _blocked(upper: CellRow, lower: CellRow) -> NDArray[np.bool_]:
    """The patches between two rows of cells that touch an unread cell: bool [cols + 1]."""
    patches = covering_patches(np.stack([upper.unread, lower.unread]))
    return np.asarray(patches[1], dtype=bool)


@torch.inference_mode()
def _predict_batch(
    images_NHW3: Tensor,
    patch_cols: Sequence[int],
    networks: Sequence[Network],
    stitchers: Sequence[Mapping[Psi, RowStitcher]],
    tally: PredictionTally,
) -> None:
    """One batch through every network, added to the stitchers of its row."""
    inputs = to_network_input(images_NHW3)
    for index, (network, group) in enumerate(zip(networks, stitchers, strict=True)):
        started = perf_counter()
        scores = network(inputs)
        probabilities = {psi: tumor_probability(scores[psi]).float().cpu().numpy() for psi in group}
        tally.network_s[index] += perf_counter() - started
        for psi, stitcher in group.items():
            stitcher.add(patch_cols, probabilities[psi])
