"""Patches cover every cell of tissue as often as their layout says, on slides of any shape."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.heatmaps.layout import (
    PAPER,
    Layout,
    PatchRow,
    cells_under,
    dense_layout,
    dense_layouts,
    group_rows,
    grouped,
    place_patches,
)
from bccdist.slides.geometry import cell_shape, tissue_cells

_LAYOUTS = st.sampled_from([PAPER, *dense_layouts(0), *dense_layouts(96), *dense_layouts(256)])
_CELLS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


def _counts(rows: list[PatchRow], layout: Layout, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Patches that keep each cell, with one cell more on each side; counted patch by patch."""
    counts = np.zeros((shape[0] + 2 * layout.kept_cells, shape[1] + 2 * layout.kept_cells), dtype=int)
    for patches in rows:
        for col in patches.cols:
            top, left = patches.row + layout.kept_cells, col + layout.kept_cells
            counts[top : top + layout.kept_cells, left : left + layout.kept_cells] += 1
    inside = slice(layout.kept_cells, -layout.kept_cells)
    return counts[inside, inside]


@given(_CELLS, _LAYOUTS)
def test_every_marked_cell_is_fully_covered(cells: NDArray[np.bool_], layout: Layout) -> None:
    counts = _counts(place_patches(cells, layout), layout, cells.shape)
    assert (counts[cells] == layout.full_coverage).all()
    assert counts.max() <= layout.full_coverage


@given(_CELLS, _LAYOUTS)
def test_no_patch_is_without_a_marked_cell(cells: NDArray[np.bool_], layout: Layout) -> None:
    for patches in place_patches(cells, layout):
        assert list(patches.cols) == sorted(set(patches.cols))
        rows = slice(max(0, patches.row), patches.row + layout.kept_cells)
        assert all(cells[rows, max(0, col) : col + layout.kept_cells].any() for col in patches.cols)


@given(
    tissue=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=60)),
    pixels_per_cell=st.floats(1, 40),
    layout=_LAYOUTS,
)
def test_tissue_of_any_slide_is_fully_covered(
    tissue: NDArray[np.bool_], pixels_per_cell: float, layout: Layout
) -> None:
    shape = cell_shape(tissue.shape[1], tissue.shape[0], cell_px=int(pixels_per_cell))
    cells = tissue_cells(tissue, shape=shape, pixels_per_cell=pixels_per_cell)
    assert cells.any() == tissue.any()
    assert (_counts(place_patches(cells, layout), layout, shape)[cells] == layout.full_coverage).all()


@given(_CELLS, _LAYOUTS)
def test_what_patches_touch_is_what_they_keep_and_their_halo(cells: NDArray[np.bool_], layout: Layout) -> None:
    rows = place_patches(cells, layout)
    touched = cells_under(rows, layout, cells.shape)
    kept = np.pad(_counts(rows, layout, cells.shape) > 0, 1)
    if not layout.halo_px:
        assert (touched == kept[1:-1, 1:-1]).all()
        return
    around = [np.roll(kept, (down, right), axis=(0, 1))[1:-1, 1:-1] for down in (-1, 0, 1) for right in (-1, 0, 1)]
    # A patch that sticks out of the slide touches, outside of it, the cells next to the border's.
    assert (touched >= np.any(around, axis=0)).all()
    assert touched.sum() <= np.any(around, axis=0).sum() + 2 * (cells.shape[0] + cells.shape[1])


@given(_CELLS, _LAYOUTS, st.integers(1, 16))
def test_groups_hold_all_rows_in_order_and_fit_into_what_is_held(
    cells: NDArray[np.bool_], layout: Layout, batch: int
) -> None:
    rows = place_patches(cells, layout)
    groups = grouped(rows, layout, num_cols=cells.shape[1], batch=batch)
    assert [row for group in groups for row in group] == rows
    reach = (group_rows(layout, num_cols=cells.shape[1], batch=batch) - 1) * layout.step_cells
    assert all(group[-1].row - group[0].row <= reach for group in groups)


def test_a_wide_slide_holds_one_row_of_patches() -> None:
    assert group_rows(PAPER, num_cols=100, batch=8) == 1
    assert group_rows(PAPER, num_cols=8, batch=8) == 4


@pytest.mark.parametrize(("halo_px", "patch_px", "batch"), [(0, 1024, 2), (64, 1152, 1), (256, 1536, 1)])
def test_dense_patches_keep_four_cells(halo_px: int, patch_px: int, batch: int) -> None:
    layout = dense_layouts(halo_px)[1]
    assert (layout.patch_px, layout.full_coverage, layout.batch(8)) == (patch_px, 1, batch)
    assert (PAPER.patch_px, PAPER.full_coverage, PAPER.batch(8)) == (512, 4, 8)


@pytest.mark.parametrize(("shape", "kept_cells"), [((3, 3), 3), ((6, 6), 3), ((8, 8), 4), ((12, 60), 4)])
def test_dense_patches_are_as_large_as_saves_most(shape: tuple[int, int], kept_cells: int) -> None:
    cells = np.ones(shape, dtype=bool)
    assert dense_layout(160, cells).kept_cells == kept_cells
    areas = {
        layout.kept_cells: sum(len(row.cols) for row in place_patches(cells, layout)) * layout.patch_px**2
        for layout in dense_layouts(160)
    }
    assert areas[kept_cells] == min(areas.values())


def test_a_slide_without_tissue_has_a_layout_too() -> None:
    assert dense_layout(64, np.zeros((3, 3), dtype=bool)) in dense_layouts(64)
