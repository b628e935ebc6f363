"""Boxes, patch grids and tissue coverage as pure arithmetic: no pixel is read here.

Two frames are in use. *Level 0* is the scanner's finest level. The *target frame* is the slide at the
resolution that the network sees (10x, about 0.92 um/px); its origin is the slide's top left corner, and
one of its pixels is `downsample` level-0 pixels wide.
"""

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class Box(NamedTuple):
    """An axis-parallel box in pixels of the frame that the variable's name says."""

    x: int
    y: int
    width: int
    height: int

    @property
    def x_end(self) -> int:
        """One past the last column."""
        return self.x + self.width

    @property
    def y_end(self) -> int:
        """One past the last row."""
        return self.y + self.height

    @property
    def area(self) -> int:
        """Pixels inside."""
        return self.width * self.height

    def intersection(self, other: Self) -> "Box":
        """The shared box; width or height is 0 where there is none."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width = max(0, min(self.x_end, other.x_end) - x)
        height = max(0, min(self.y_end, other.y_end) - y)
        return Box(x, y, width, height)

    def overlap(self, other: Self) -> float:
        """The shared area as a share of what both cover together, 0 to 1; 1 where they are the same."""
        shared = self.intersection(other).area
        return shared / (self.area + other.area - shared) if shared else 0.0

    def hull(self, other: Self) -> "Box":
        """The smallest box that holds both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        return Box(x, y, max(self.x_end, other.x_end) - x, max(self.y_end, other.y_end) - y)

    def grown(self, margin: int) -> "Box":
        """The box with a margin around it; it may begin below 0."""
        return Box(self.x - margin, self.y - margin, self.width + 2 * margin, self.height + 2 * margin)

    def scaled(self, factor: float) -> "Box":
        """The smallest box that holds this one after multiplication by `factor`."""
        x, y = int(np.floor(self.x * factor)), int(np.floor(self.y * factor))
        x_end, y_end = int(np.ceil(self.x_end * factor)), int(np.ceil(self.y_end * factor))
        return Box(x, y, x_end - x, y_end - y)

    def slices(self) -> tuple[slice, slice]:
        """Row and column slices into an array of this frame."""
        return slice(self.y, self.y_end), slice(self.x, self.x_end)


def grid_starts(length_px: int, *, patch_px: int, stride_px: int) -> list[int]:
    """The starts of patches that cover `length_px`: multiples of the stride, the last one reaching the end.

    The last patch may stick out; pixels outside the slide count as white.
    """
    num_steps = max(0, -(-(length_px - patch_px) // stride_px))
    return [step * stride_px for step in range(num_steps + 1)]


def patch_grid(width_px: int, height_px: int, *, patch_px: int, stride_px: int) -> list[Box]:
    """The patches that cover an area of `width_px` x `height_px`, row by row."""
    xs = grid_starts(width_px, patch_px=patch_px, stride_px=stride_px)
    ys = grid_starts(height_px, patch_px=patch_px, stride_px=stride_px)
    return [Box(x, y, patch_px, patch_px) for y in ys for x in xs]


def cell_shape(width_px: int, height_px: int, *, cell_px: int) -> tuple[int, int]:
    """Rows and columns of the cells of `cell_px` that cover an area."""
    return -(-height_px // cell_px), -(-width_px // cell_px)


def tissue_cells(tissue: NDArray[np.bool_], *, shape: tuple[int, int], pixels_per_cell: float) -> NDArray[np.bool_]:
    """The cells that hold any tissue.

    Args:
        tissue: mask [h, w] in a coarse frame.
        shape: rows and columns of cells.
        pixels_per_cell: edge of a cell in pixels of the coarse frame; need not be whole.

    Returns:
        bool [rows, cols]. A tissue pixel that lies across a border marks the cells on both sides.
    """
    cells = np.zeros(shape, dtype=bool)
    rows, cols = np.nonzero(tissue)
    last_row, last_col = shape[0] - 1, shape[1] - 1
    for row_edge in (rows, rows + 1 - 1e-6):
        for col_edge in (cols, cols + 1 - 1e-6):
            cell_rows = np.minimum((row_edge / pixels_per_cell).astype(np.int64), last_row)
            cell_cols = np.minimum((col_edge / pixels_per_cell).astype(np.int64), last_col)
            cells[cell_rows, cell_cols] = True
    return cells


def runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """The stretches of True in a row, as (start, end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        yield int(start), int(end)
