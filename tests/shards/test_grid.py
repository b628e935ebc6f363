"""The tissue under a patch is measured exactly, its cells are exactly those it touches, its section covers it most."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bccdist.slides.geometry import Box, patch_grid
from bccdist.slides.section_map import share_out
from bccdist.slides.sections import Section
from bccdist.slides.tissue import TISSUE_MPP
from shards.grid import needed_cells, section_under, tissue_shares


@given(
    rows=st.integers(1, 12),
    cols=st.integers(1, 12),
    scale=st.integers(1, 9),
    stride_px=st.integers(1, 16),
    seed=st.integers(0, 9),
)
def test_tissue_share_equals_the_mean_of_the_mask_in_the_target_frame(
    rows: int, cols: int, scale: int, stride_px: int, seed: int
) -> None:
    tissue = np.random.default_rng(seed).random((rows, cols)) < 0.5
    full = np.kron(tissue, np.ones((scale, scale)))
    boxes = patch_grid(full.shape[1], full.shape[0], patch_px=16, stride_px=stride_px)
    shares = tissue_shares(tissue, boxes, width_px=full.shape[1], height_px=full.shape[0])
    expected = [full[box.slices()].sum() / box.area for box in boxes]
    assert shares == pytest.approx(expected, abs=1e-9)


def test_tissue_share_is_exact_where_pixels_of_the_mask_are_cut() -> None:
    tissue = np.array([[True, False, True, True]])
    # A slide of 10 px under 4 mask pixels: each is 2.5 px wide, and the patch ends inside the third.
    shares = tissue_shares(tissue, [Box(0, 0, 6, 6)], width_px=10, height_px=6)
    assert shares == pytest.approx([3.5 / 6])


@given(
    width_px=st.integers(1, 200), height_px=st.integers(1, 200), stride_px=st.integers(8, 32), seed=st.integers(0, 9)
)
def test_needed_cells_are_those_that_kept_patches_touch(
    width_px: int, height_px: int, stride_px: int, seed: int
) -> None:
    boxes = patch_grid(width_px, height_px, patch_px=32, stride_px=stride_px)
    rng = np.random.default_rng(seed)
    kept = [box for box in boxes if rng.random() < 0.3] or boxes[:1]
    touched = np.zeros((400, 400), dtype=bool)
    for box in kept:
        touched[box.slices()] = True
    needed = needed_cells(kept, cell_px=16)
    expected = np.asarray(touched.reshape(25, 16, 25, 16).any(axis=(1, 3)))
    assert np.array_equal(expected[: needed.shape[0], : needed.shape[1]], needed)
    assert expected.sum() == needed.sum()


@pytest.mark.parametrize(
    ("x", "expected"),
    [(0, "left"), (90, "left"), (110, "right"), (100, "left"), (400, "")],
    ids=["inside one", "mostly left", "mostly right", "equal: the first", "none"],
)
def test_section_under_a_patch_is_the_one_with_most_tissue_in_it(x: int, expected: str) -> None:
    """Boxes overlap, but not the pieces; the slide has a tissue pixel for each level-0 pixel."""
    sections = [
        Section(section_id="left", box_level0_px=Box(0, 0, 250, 160)),
        Section(section_id="right", box_level0_px=Box(50, 0, 250, 160)),
    ]
    tissue = np.zeros((160, 600), dtype=bool)
    tissue[:160, :140] = tissue[:160, 160:300] = True
    shares = share_out(tissue, [section.box_level0_px for section in sections], mpp_level0=TISSUE_MPP)
    assert section_under(Box(x, 50, 100, 100), shares, sections, mpp_level0=TISSUE_MPP) == expected
