"""Overlapping patches of probabilities become rows of a heatmap (paper, section 2.4): pure arithmetic.

A slide is cut into cells of 256 px, half a patch. Patch (i, j) covers cells (i-1, j-1) to (i, j), so a cell of
tissue lies under four patches, and their Tumor probabilities are averaged, each patch alike [open]. An output
whose pixel is `pixel_px` wide has 256 / `pixel_px` pixels along a cell, so the lattices of all outputs align.

Patches arrive row by row. After patch row i no later patch touches cell row i-1: it is divided by its count
and handed on. So two rows of cells are all that is ever held, whatever the slide's height.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, PATCH_PX
from bccdist.heatmaps.curve import quantise
from bccdist.slides.geometry import runs
from bccdist.slides.level import WHITE

FULL_COVERAGE = 4
"""Patches over a cell whose surroundings could all be read."""


def patches_per_cell(patches: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """How many of the patches lie over each cell: uint8 [rows, cols], 0 to 4, from bool [rows + 1, cols + 1]."""
    count = patches.astype(np.uint8)
    return count[:-1, :-1] + count[:-1, 1:] + count[1:, :-1] + count[1:, 1:]


def cut_patches(upper: NDArray[np.uint8], lower: NDArray[np.uint8], patch_cols: Sequence[int]) -> NDArray[np.uint8]:
    """The patches between two rows of cells.

    Args:
        upper, lower: uint8 RGB [256, cols * 256, 3].
        patch_cols: columns of the patches, 0 to cols; patch j covers the cells j-1 and j.

    Returns:
        uint8 RGB [n, 512, 512, 3]; white where a patch sticks out at the left or right.
    """
    width_px = upper.shape[1]
    images = np.full((len(patch_cols), PATCH_PX, PATCH_PX, 3), WHITE, dtype=np.uint8)
    for image, col in zip(images, patch_cols, strict=True):
        x = (col - 1) * CELL_PX
        start, end = max(0, x), min(width_px, x + PATCH_PX)
        image[:CELL_PX, start - x : end - x] = upper[:, start:end]
        image[CELL_PX:, start - x : end - x] = lower[:, start:end]
    return images


class RowStitcher:
    """Sums of overlapping patches of one output: two rows of cells, and one more cell at either side."""

    def __init__(self, num_cols: int, *, pixels_per_cell: int) -> None:
        """Start above the first row of patches.

        Args:
            num_cols: cells along the slide's width.
            pixels_per_cell: heatmap pixels along a cell's edge.
        """
        self._pixels = pixels_per_cell
        self._num_cols = num_cols
        shape = (pixels_per_cell, (num_cols + 2) * pixels_per_cell)
        self._upper = np.zeros(shape, dtype=np.float32)
        self._lower = np.zeros(shape, dtype=np.float32)

    def add(self, patch_cols: Sequence[int], probability: NDArray[np.float32]) -> None:
        """Add patches of the row at hand.

        Args:
            patch_cols: their columns, 0 to `num_cols`.
            probability: float32 [n, 2 * pixels_per_cell, 2 * pixels_per_cell], 0 to 1.
        """
        for col, patch in zip(patch_cols, probability, strict=True):
            span = slice(col * self._pixels, (col + 2) * self._pixels)
            self._upper[:, span] += patch[: self._pixels]
            self._lower[:, span] += patch[self._pixels :]

    def finish_row(self, counts: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """End a row of patches, and take the row of cells that is complete with it.

        Args:
            counts: uint8 [num_cols]: patches that were added over each of these cells.

        Returns:
            uint8 [pixels_per_cell, num_cols * pixels_per_cell]: the mean, quantised; 0 where no patch lies.
        """
        means = np.zeros((self._pixels, self._num_cols * self._pixels), dtype=np.uint8)
        for start, end in runs(counts > 0):
            span = slice(start * self._pixels, end * self._pixels)
            sums = self._upper[:, span.start + self._pixels : span.stop + self._pixels]
            divisors = np.repeat(counts[start:end], self._pixels).astype(np.float32)
            means[:, span] = quantise(sums / divisors)
        self._upper.fill(0)
        self._upper, self._lower = self._lower, self._upper
        return means
