"""Grids cover every pixel, and cells hold what lies in them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.slides.geometry import (
    Box,
    cell_shape,
    grid_starts,
    patch_grid,
    runs,
    tissue_cells,
)

boxes = st.builds(Box, st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 40), st.integers(0, 40))
lengths_px = st.integers(1, 300)


@st.composite
def masks(draw: st.DrawFn, *, longest: int = 12) -> NDArray[np.bool_]:
    """Bool arrays of any shape, from empty to full."""
    shape = draw(st.tuples(st.integers(1, longest), st.integers(1, longest)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.asarray(rng.random(shape) < draw(st.floats(0, 1)))


@given(length_px=lengths_px, patch_px=st.integers(1, 64), data=st.data())
def test_starts_cover_the_length_without_a_patch_too_many(length_px: int, patch_px: int, data: st.DataObject) -> None:
    stride_px = data.draw(st.integers(1, patch_px))
    starts = grid_starts(length_px, patch_px=patch_px, stride_px=stride_px)
    assert starts == [number * stride_px for number in range(len(starts))]
    assert starts[-1] + patch_px >= length_px
    assert len(starts) == 1 or starts[-2] + patch_px < length_px


@given(width_px=lengths_px, height_px=lengths_px, stride_px=st.integers(8, 32))
def test_the_grid_covers_every_pixel(width_px: int, height_px: int, stride_px: int) -> None:
    grid = patch_grid(width_px, height_px, patch_px=32, stride_px=stride_px)
    covered = np.zeros((height_px, width_px), dtype=bool)
    for box in grid:
        covered[box.slices()] = True
    assert covered.all()
    assert len(set(grid)) == len(grid)
    assert [(box.y, box.x) for box in grid] == sorted((box.y, box.x) for box in grid)


@given(width_px=lengths_px, height_px=lengths_px, cell_px=st.integers(1, 64))
def test_cells_cover_the_area_without_one_too_many(width_px: int, height_px: int, cell_px: int) -> None:
    rows, cols = cell_shape(width_px, height_px, cell_px=cell_px)
    assert (rows - 1) * cell_px < height_px <= rows * cell_px
    assert (cols - 1) * cell_px < width_px <= cols * cell_px


@given(tissue=masks(longest=30), pixels_per_cell=st.integers(1, 8))
def test_cells_of_whole_pixels_hold_exactly_the_tissue(tissue: NDArray[np.bool_], pixels_per_cell: int) -> None:
    shape = cell_shape(tissue.shape[1], tissue.shape[0], cell_px=pixels_per_cell)
    padded = np.zeros((shape[0] * pixels_per_cell, shape[1] * pixels_per_cell), dtype=bool)
    padded[: tissue.shape[0], : tissue.shape[1]] = tissue
    expected = padded.reshape(shape[0], pixels_per_cell, shape[1], pixels_per_cell).any(axis=(1, 3))
    assert np.array_equal(tissue_cells(tissue, shape=shape, pixels_per_cell=pixels_per_cell), expected)


@given(tissue=masks(longest=30), pixels_per_cell=st.floats(1, 9))
def test_no_tissue_lies_outside_the_cells(tissue: NDArray[np.bool_], pixels_per_cell: float) -> None:
    shape = tuple(int(np.ceil(length / pixels_per_cell)) for length in tissue.shape)
    cells = tissue_cells(tissue, shape=(shape[0], shape[1]), pixels_per_cell=pixels_per_cell)
    assert cells.any() == tissue.any()
    for row, col in np.argwhere(tissue):
        for y, x in ((row, col), (row + 0.999, col), (row, col + 0.999), (row + 0.999, col + 0.999)):
            assert cells[int(y / pixels_per_cell), int(x / pixels_per_cell)]


def test_a_tissue_pixel_across_a_border_marks_both_cells() -> None:
    tissue = np.array([[False, True, False, False, False]])
    assert tissue_cells(tissue, shape=(1, 4), pixels_per_cell=1.5).tolist() == [[True, True, False, False]]


@given(flags=st.lists(st.booleans(), max_size=40))
def test_runs_are_the_longest_stretches_of_true(flags: list[bool]) -> None:
    found = list(runs(np.array(flags, dtype=bool)))
    assert [any(start <= place < end for start, end in found) for place in range(len(flags))] == flags
    assert all(end < start for (_, end), (start, _) in pairwise(found))
    assert all(start < end for start, end in found)


@given(first=boxes, second=boxes)
def test_an_intersection_holds_the_shared_pixels(first: Box, second: Box) -> None:
    def pixels(box: Box) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box.x, box.x_end) for y in range(box.y, box.y_end)}

    shared = first.intersection(second)
    assert pixels(shared) == pixels(first) & pixels(second)
    assert shared.area == len(pixels(shared)) == second.intersection(first).area


@given(box=boxes, factor=st.floats(0.01, 20))
def test_a_scaled_box_holds_the_box_and_is_the_smallest(box: Box, factor: float) -> None:
    scaled = box.scaled(factor)
    assert scaled.x <= box.x * factor < scaled.x + 1
    assert scaled.y <= box.y * factor < scaled.y + 1
    assert scaled.x_end - 1 < box.x_end * factor <= scaled.x_end
    assert scaled.y_end - 1 < box.y_end * factor <= scaled.y_end


def test_slices_are_rows_then_columns() -> None:
    array = np.zeros((10, 20))
    array[Box(3, 1, 5, 2).slices()] = 1
    assert array[1:3, 3:8].all()
    assert array.sum() == Box(3, 1, 5, 2).area == 10


@pytest.mark.parametrize(("length_px", "expected"), [(1, [0]), (512, [0]), (513, [0, 256]), (1024, [0, 256, 512])])
def test_the_papers_patches_overlap_by_half(length_px: int, expected: list[int]) -> None:
    assert grid_starts(length_px, patch_px=512, stride_px=256) == expected
