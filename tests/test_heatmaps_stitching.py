"""Stitching averages what lies over a cell, in memory that does not grow with the slide's height."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.heatmaps.curve import quantise
from bccdist.heatmaps.stitching import FULL_COVERAGE, RowStitcher, cut_patches, patches_per_cell
from bccdist.slides.geometry import cell_shape, cells_under, covering_patches, tissue_cells

_PIXELS = 4


@given(
    tissue=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=60)),
    pixels_per_cell=st.floats(1, 40),
)
def test_every_tissue_cell_lies_under_four_patches(tissue: NDArray[np.bool_], pixels_per_cell: float) -> None:
    shape = cell_shape(tissue.shape[1], tissue.shape[0], cell_px=int(pixels_per_cell))
    cells = tissue_cells(tissue, shape=shape, pixels_per_cell=pixels_per_cell)
    assert cells.any() == tissue.any()
    counts = patches_per_cell(covering_patches(cells))
    assert (counts[cells] == FULL_COVERAGE).all()
    assert counts.max() <= FULL_COVERAGE
    assert ((counts > 0) == cells_under(covering_patches(cells))).all()


def _stitched(patches: NDArray[np.bool_], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The heatmap of patches that are each constant, at 4 pixels per cell."""
    num_rows, num_cols = patches.shape[0] - 1, patches.shape[1] - 1
    stitcher = RowStitcher(num_cols, pixels_per_cell=_PIXELS)
    rows = []
    for row in range(num_rows + 1):
        cols = np.flatnonzero(patches[row]).tolist()
        stitcher.add(cols, np.ones((len(cols), 2 * _PIXELS, 2 * _PIXELS), np.float32) * values[row, cols, None, None])
        counts = patches_per_cell(patches[max(0, row - 1) : row + 1])[0] if row else np.zeros(num_cols, np.uint8)
        rows.append(stitcher.finish_row(counts))
    return np.concatenate(rows[1:])


_PATCHES = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=7))


@given(_PATCHES, st.floats(0, 1, width=32))
def test_a_constant_gives_that_constant(patches: NDArray[np.bool_], value: float) -> None:
    heatmap = _stitched(patches, np.full(patches.shape, value, np.float32))
    expected = quantise(np.array([value], np.float32))[0]
    covered = (patches_per_cell(patches) > 0).repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)
    assert (heatmap[covered] == expected).all()
    assert not heatmap[~covered].any()


@given(_PATCHES, st.integers(0, 2**32 - 1))
def test_a_cell_is_the_mean_of_its_patches(patches: NDArray[np.bool_], seed: int) -> None:
    values = np.random.default_rng(seed).random(patches.shape).astype(np.float32)
    heatmap = _stitched(patches, values)
    for row, col in np.argwhere(patches_per_cell(patches) > 0):
        over = patches[row : row + 2, col : col + 2]
        mean = 255 * values[row : row + 2, col : col + 2][over].mean()
        assert heatmap[row * _PIXELS, col * _PIXELS] == pytest.approx(mean, abs=0.51)


def test_patches_land_where_they_were_cut() -> None:
    upper, lower = (np.random.default_rng(row).integers(0, 255, (256, 768, 3), np.uint8) for row in (0, 1))
    first, second, last = cut_patches(upper, lower, [0, 2, 3])
    assert (second == np.concatenate([upper, lower])[:, 256:768]).all()
    assert (first[:, :256] == 255).all()
    assert (first[:256, 256:] == upper[:, :256]).all()
    assert (last[:, 256:] == 255).all()
    assert (last[256:, :256] == lower[:, 512:]).all()


def test_memory_is_two_rows_of_cells() -> None:
    stitcher = RowStitcher(10, pixels_per_cell=16)
    for _ in range(5):
        stitcher.add([0, 10], np.ones((2, 32, 32), np.float32))
        stitcher.finish_row(np.ones(10, np.uint8))
    arrays = [value for value in vars(stitcher).values() if isinstance(value, np.ndarray)]
    assert [array.shape for array in arrays] == [(16, 12 * 16)] * 2
