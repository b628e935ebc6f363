"""Overlapping patches of probabilities become rows of a heatmap (paper, section 2.4).

Each pixel is the weighted mean of the patches over it; in the paper each patch counts alike [open]. An output whose
pixel is `pixel_px` wide has 256 / `pixel_px` pixels along a cell, so the lattices of all outputs align. A few rows of
cells are all that is ever held, whatever the slide's height.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bccdist.configuration import CELL_PX, Blending, Psi, pixel_px
from bccdist.errors import NotFiniteError
from bccdist.heatmaps.layout import Layout
from bccdist.heatmaps.probability import NUM_STEPS


def blending_weights(blending: Blending, num_pixels: int) -> Tensor:
    """The weight of each pixel along the edge of a patch: float32 [num_pixels].

    The weights of two patches that overlap by half add up to 1 with `hann` and `centre`.
    """
    places = (torch.arange(num_pixels, dtype=torch.float64) + 0.5) / num_pixels
    if blending == "hann":
        weights = torch.sin(torch.pi * places) ** 2
    elif blending == "centre":
        weights = (places > 0.25) & (places < 0.75)
    else:
        weights = torch.ones_like(places)
    return weights.float()


def to_steps(probability: Tensor) -> Tensor:
    """Probabilities from 0 to 1 as they are stored, rounded to the nearest step: uint8 of the same shape.

    Raises:
        NotFiniteError: some are none: NaN would become 0, which is Normal.
    """
    if not are_probabilities([probability]):
        raise NotFiniteError("a mean of probabilities is infinite, no number, or not within 0 to 1; it is not stored")
    return (probability * NUM_STEPS).round_().to(torch.uint8)


def are_probabilities(maps: Iterable[Tensor]) -> Tensor:
    """Whether all numbers are finite and, but for what storing rounds away, from 0 to 1: a bool on their device.

    A mask of every number takes ten times as long. NaN wins in the smallest and the largest, and fails both
    comparisons.
    """
    ends = torch.stack([end for each in maps if each.numel() for end in (each.amin(), each.amax())])
    return ((ends > -0.5 / NUM_STEPS) & (ends < 1 + 0.5 / NUM_STEPS)).all()


class PatchCounts:
    """Which patches lie over each cell of the rows that are held."""

    def __init__(self, layout: Layout, *, num_rows: int, num_cols: int) -> None:
        self._kept = layout.kept_cells
        # One flag for each patch over a cell: for the one that keeps it as its (down, right)-th cell.
        self._flags = np.zeros((num_rows, self._kept, self._kept, num_cols), dtype=bool)

    def add(self, row: int, col: int) -> None:
        """Add the patch whose kept square begins at this cell; `row` counts from the first one held."""
        num_cols = self._flags.shape[-1]
        each = np.arange(self._kept)
        for right in range(self._kept):
            # A column outside the slide belongs to no cell, and a negative one would be taken from the right.
            if 0 <= col + right < num_cols:
                self._flags[row + each, each, right, col + right] = True

    @property
    def flags(self) -> NDArray[np.bool_]:
        """Whether the patch is there that keeps a cell as its (down, right)-th: [rows, kept, kept, cols]."""
        return self._flags

    def drop(self, num_rows: int) -> None:
        """Go down by so many rows of cells."""
        self._flags = np.roll(self._flags, -num_rows, axis=0)
        self._flags[-num_rows:] = False


class RowStitcher:
    """Adds up the patches of one output over a few rows of cells, where the network is."""

    def __init__(
        self, psi: Psi, layout: Layout, blending: Blending, *, num_rows: int, num_cols: int, device: torch.device
    ) -> None:
        """Begin above the slide's first row of cells.

        Args:
            psi: the output.
            layout: of the patches.
            blending: how they are weighted.
            num_rows: of cells that are held.
            num_cols: cells across the slide's width.
            device: where the sums are kept.
        """
        self._pixels = CELL_PX // pixel_px(psi)
        self._halo = layout.halo_px // pixel_px(psi)
        self._edge = layout.kept_cells * self._pixels
        self._kept = layout.kept_cells
        self._num_cols = num_cols
        # Patches may stick out of the slide at the left and right.
        self._left = layout.kept_cells - layout.step_cells
        width = (self._left + num_cols + layout.kept_cells - 1) * self._pixels
        self._sums = torch.zeros((num_rows * self._pixels, width), device=device)
        weights = blending_weights(blending, self._edge).to(device)
        # With equal weights, dividing by the count of patches is enough: no outer products on every pixel.
        self._weights = None if blending == "mean" else torch.outer(weights, weights)

    def add(self, places: Sequence[tuple[int, int]], probability: Tensor) -> None:
        """Add patches.

        Args:
            places: for each the (row, col) of the first cell that it keeps; the row counts from the first one held.
            probability: float32 [n, h, h], 0 to 1, over the whole patch.
        """
        inside = slice(self._halo, self._halo + self._edge)
        for (row, col), patch in zip(places, probability[:, inside, inside], strict=True):
            top, left = row * self._pixels, (col + self._left) * self._pixels
            view = self._sums[top : top + self._edge, left : left + self._edge]
            view += patch if self._weights is None else patch * self._weights

    def take(self, flags: NDArray[np.bool_]) -> Tensor:
        """The means over the first rows of cells, which are complete and are let go.

        Args:
            flags: bool [rows, kept, kept, cols] of `PatchCounts`.

        Returns:
            uint8 [rows * pixels, cols * pixels]: 255 times the mean, to the nearest; 0 where no patch lies.
        """
        # One row of cells after the other: what is needed on the way is as large as several times what is held.
        stored = torch.cat([self._means(row, flags[row : row + 1]) for row in range(len(flags))])
        self._drop(len(flags))
        return stored

    def _means(self, row: int, flags: NDArray[np.bool_]) -> Tensor:
        """The means over one row of cells, as `take` gives them."""
        top, left = row * self._pixels, self._left * self._pixels
        sums = self._sums[top : top + self._pixels, left : left + self._num_cols * self._pixels]
        divisors = self._divisors(flags)
        # 0 / 0 where no patch lies.
        return to_steps(torch.where(divisors > 0, sums / divisors, 0.0))

    def _drop(self, num_rows: int) -> None:
        """Go down by so many rows of cells: those that went out make room for those below, however tall the slide."""
        rows = self._sums.view(-1, self._pixels, self._sums.shape[1])
        for row in range(len(rows) - num_rows):
            rows[row] = rows[row + num_rows]
        rows[-num_rows:] = 0

    def _divisors(self, flags: NDArray[np.bool_]) -> Tensor:
        """The sum of the weights over each pixel, or a shape that spreads to it."""
        present = torch.from_numpy(flags.astype(np.float32)).to(self._sums.device)
        if self._weights is None:
            counts = present.sum(dim=(1, 2))
            return counts.repeat_interleave(self._pixels, dim=0).repeat_interleave(self._pixels, dim=1)
        # A pixel's weight depends on which cell of the patch it is in: summed over the patches that are there.
        by_cell = self._weights.reshape(self._kept, self._pixels, self._kept, self._pixels)
        sums = torch.einsum("ryxc,yhxw->rhcw", present, by_cell)
        return sums.reshape(len(flags) * self._pixels, self._num_cols * self._pixels)
