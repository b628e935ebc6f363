"""Margins are the true distances to what is outside the tissue, holes are no edge, and the curve misses no pixel."""

import cv2
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.sections.curve import CURVE_LENGTH
from bccdist.sections.margins import edge_distances_um, margin_curve
from bccdist.slides.tissue import TISSUE_MPP

_MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


def _outside(tissue: NDArray[np.bool_]) -> set[tuple[int, int]]:
    """The pixels from which a way over glass leads beyond the slide, with a frame of two pixels around it."""
    height, width = tissue.shape
    frame = {(y, x) for y in range(-2, height + 2) for x in range(-2, width + 2)}
    glass = {(y, x) for y, x in frame if not (0 <= y < height and 0 <= x < width and tissue[y, x])}
    outside, border = set(), [(-2, -2)]
    while border:
        y, x = border.pop()
        outside.add((y, x))
        border += [place for place in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)) if place in glass - outside]
    return outside


def _measured_um(tissue: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Every distance by looking at every pixel outside."""
    outside = _outside(tissue)
    distance_px = np.array(
        [
            [min(np.hypot(y - row, x - col) for y, x in outside) for col in range(tissue.shape[1])]
            for row in range(tissue.shape[0])
        ]
    )
    return np.maximum(distance_px - 0.5, 0) * TISSUE_MPP


@given(_MASKS)
def test_distances_are_those_of_looking_at_every_pixel(tissue: NDArray[np.bool_]) -> None:
    np.testing.assert_allclose(edge_distances_um(tissue), _measured_um(tissue), rtol=1e-6)


def test_a_slide_full_of_tissue_ends_at_its_border() -> None:
    distances_um = edge_distances_um(np.ones((5, 9), dtype=bool))
    assert distances_um[2].tolist() == [4, 12, 20, 20, 20, 20, 20, 12, 4]


def test_distances_have_the_same_bits_whatever_the_number_of_threads() -> None:
    tissue = cv2.GaussianBlur(np.random.default_rng(0).random((400, 500)), (0, 0), 9) > 0.5
    before = cv2.getNumThreads()
    found = []
    try:
        for num_threads in (1, 2, 1):
            cv2.setNumThreads(num_threads)
            found.append(edge_distances_um(tissue).tobytes())
    finally:
        cv2.setNumThreads(before)
    assert len(set(found)) == 1


def test_holes_are_no_edge_and_open_cracks_are() -> None:
    whole = np.zeros((30, 30), dtype=bool)
    whole[5:25, 5:25] = True
    hole, crack = whole.copy(), whole.copy()
    hole[10:20, 10:20] = False
    hole[14, 14] = True
    crack[5:15, 15] = False
    np.testing.assert_array_equal(edge_distances_um(hole), edge_distances_um(whole))
    assert edge_distances_um(crack)[12, 14] == TISSUE_MPP / 2


def test_tissue_that_touches_in_a_corner_encloses() -> None:
    tissue = np.ones((9, 9), dtype=bool)
    tissue[0] = tissue[-1] = tissue[:, 0] = tissue[:, -1] = False
    tissue[4, 4] = tissue[4, 3] = tissue[3, 2] = tissue[2, 1] = False
    # Only the last of them is beside the glass.
    assert edge_distances_um(tissue)[2, 1] == 0
    assert (edge_distances_um(tissue)[[4, 4, 3], [4, 3, 2]] > 0).all()


_RATIOS = st.floats(0.05, 3)
"""Tissue pixels per heatmap pixel: psi_4 has about 0.1, psi_0 about 1.8."""


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)), _RATIOS, _RATIOS, st.integers(0, 9)
)
def test_the_curve_is_the_minimum_over_all_pixels_of_each_step(
    pixels: NDArray[np.uint8], down: float, right: float, seed: int
) -> None:
    rows, cols = (
        ((np.arange(length) + 0.5) * ratio + 2).astype(np.int64)
        for length, ratio in zip(pixels.shape, (down, right), strict=True)
    )
    distances_um = np.random.default_rng(seed).random((rows[-1] + 2, cols[-1] + 2), np.float32)
    curve = margin_curve(pixels, distances_um, tissue_rows=rows, tissue_cols=cols)
    of_pixels = distances_um[np.ix_(rows, cols)]
    expected = [of_pixels[pixels >= step].min(initial=np.inf) for step in range(CURVE_LENGTH)]
    np.testing.assert_array_equal(np.nan_to_num(curve, nan=np.inf), np.array(expected))


@pytest.mark.parametrize("shape", [(0, 5), (4, 0)])
def test_an_empty_box_has_no_margin_at_any_step(shape: tuple[int, int]) -> None:
    rows, cols = (np.arange(length) for length in shape)
    curve = margin_curve(np.zeros(shape, np.uint8), np.ones((9, 9), np.float32), tissue_rows=rows, tissue_cols=cols)
    assert np.isnan(curve).all()
