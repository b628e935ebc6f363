"""Where patches lie on a slide (paper, section 2.4): pure arithmetic, no pixel is read here.

A slide is cut into cells of 256 px, half a patch of the paper. A patch keeps a square of whole cells of what it
computes. In the paper's tiling that is all of it, 2 x 2 cells, and patches are one cell apart, so that each cell of
tissue lies under four. A dense patch is larger and keeps its centre alone; its kept squares do not overlap, so that
each cell lies under one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX

_DENSE_CELLS = (3, 4)
"""Cells along the edge of what a dense patch keeps: larger ones compute less twice, and take more memory."""
_BATCHES_PER_GROUP = 4


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How large patches are, what is kept of them, and how far they are apart."""

    kept_cells: int
    """Cells along the edge of the square that a patch keeps."""
    step_cells: int
    """Cells from one patch to the next, in both directions."""
    halo_px: int = 0
    """Margin around the kept square that is computed and not kept: a multiple of 32, at most a cell."""

    @property
    def patch_px(self) -> int:
        """The edge of what the network sees."""
        return self.kept_cells * CELL_PX + 2 * self.halo_px

    @property
    def margin_cells(self) -> int:
        """Cells that a patch touches beyond what it keeps, on each side."""
        return 1 if self.halo_px else 0

    @property
    def full_coverage(self) -> int:
        """Patches over a cell whose surroundings could all be read."""
        return (self.kept_cells // self.step_cells) ** 2

    def batch(self, batch: int) -> int:
        """Patches per forward pass that have about as many pixels as `batch` patches of the paper."""
        return max(1, batch * PAPER.patch_px**2 // self.patch_px**2)


PAPER = Layout(kept_cells=2, step_cells=1)


def dense_layouts(halo_px: int) -> list[Layout]:
    """Large patches of which the centre is kept, from small to large."""
    return [Layout(kept_cells=cells, step_cells=cells, halo_px=halo_px) for cells in _DENSE_CELLS]


def dense_layout(halo_px: int, cells: NDArray[np.bool_]) -> Layout:
    """The dense patches that compute the least area over these cells, bool [rows, cols]."""
    return min(dense_layouts(halo_px), key=lambda layout: _computed_px(cells, layout))


def _computed_px(cells: NDArray[np.bool_], layout: Layout) -> int:
    return sum(len(row.cols) for row in place_patches(cells, layout)) * layout.patch_px**2


@dataclass(frozen=True)
class PatchRow:
    """Patches side by side, by the first cell that they keep; -1 is the one before the slide."""

    row: int
    cols: Sequence[int]


def place_patches(cells: NDArray[np.bool_], layout: Layout) -> list[PatchRow]:
    """The patches that cover every marked cell as often as the layout says.

    Args:
        cells: bool [rows, cols].
        layout: where patches may lie.

    Returns:
        the rows that have any, from the top.
    """
    marked_rows = np.flatnonzero(cells.any(axis=1))
    if not marked_rows.size:
        return []
    # Where patches do not overlap, the first row of them begins where the tissue begins.
    first = 0 if layout.step_cells < layout.kept_cells else int(marked_rows[0])
    # The first one may stick out above, so that the topmost cells, too, lie under as many patches as all others.
    starts = range(first + layout.step_cells - layout.kept_cells, cells.shape[0], layout.step_cells)
    rows = [PatchRow(start, _first_cols(cells[max(0, start) : start + layout.kept_cells], layout)) for start in starts]
    return [row for row in rows if row.cols]


def _first_cols(cells: NDArray[np.bool_], layout: Layout) -> list[int]:
    """Where the patches of a row begin, by the cells [kept, cols] that it may keep."""
    marked = np.asarray(cells.any(axis=0))
    cols: list[int] = []
    if layout.step_cells < layout.kept_cells:
        # A patch begins wherever one of the cells that it would keep is marked.
        near = np.convolve(marked, np.ones(layout.kept_cells, dtype=int)) > 0
        return [int(start) + 1 - layout.kept_cells for start in np.flatnonzero(near)]
    # Kept squares do not overlap: the next one begins at the first marked cell beyond the last.
    for col in np.flatnonzero(marked).tolist():
        if not cols or col >= cols[-1] + layout.kept_cells:
            cols.append(col)
    return cols


def cells_under(rows: Iterable[PatchRow], layout: Layout, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The cells that any of the patches touches, also by its halo: bool [rows, cols] of this shape."""
    touched = np.zeros(shape, dtype=bool)
    margin = layout.margin_cells
    for patches in rows:
        # Patches may begin before the slide, where a slice would count from the far side.
        across = slice(max(0, patches.row - margin), max(0, patches.row + layout.kept_cells + margin))
        for col in patches.cols:
            touched[across, max(0, col - margin) : max(0, col + layout.kept_cells + margin)] = True
    return touched


def grouped(rows: Sequence[PatchRow], layout: Layout, *, num_cols: int, batch: int) -> list[list[PatchRow]]:
    """Neighbouring rows of patches that are held at once, so that batches are full on narrow slides, too.

    On wide slides each row is a group of its own: a group's area is bounded by the slide's width or by a few batches.
    """
    reach = group_rows(layout, num_cols=num_cols, batch=batch) * layout.step_cells
    groups: list[list[PatchRow]] = []
    for row in rows:
        if groups and row.row < groups[-1][0].row + reach:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def group_rows(layout: Layout, *, num_cols: int, batch: int) -> int:
    """The most rows of patches in a group."""
    patches_across = -(-num_cols // layout.step_cells)
    return max(1, _BATCHES_PER_GROUP * batch // patches_across)
