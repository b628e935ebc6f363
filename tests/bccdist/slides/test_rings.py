"""A thin closed line around pieces of tissue is told from tissue in a ring, and from lines that close nothing."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bccdist.slides.rings import has_line_around_pieces

MPP = 8.0


def mask_with(*, ring_px: int, is_closed: bool = True, num_inside: int = 2) -> NDArray[np.bool_]:
    """A ring 250 px wide, and pieces of 60 x 40 px inside of it."""
    mask = np.zeros((400, 400), dtype=np.uint8)
    cv2.ellipse(mask, (200, 200), (150, 150), 0, 0, 360 if is_closed else 300, 1, ring_px)
    for number in range(num_inside):
        mask[150 + 70 * number : 190 + 70 * number, 170:230] = 1
    return mask.astype(bool)


@pytest.mark.parametrize("ring_px", [3, 12, 60])
@pytest.mark.parametrize("num_inside", [1, 2])
def test_a_closed_line_around_pieces_is_found(ring_px: int, num_inside: int) -> None:
    assert has_line_around_pieces(mask_with(ring_px=ring_px, num_inside=num_inside), mpp=MPP)


def test_a_line_with_a_gap_that_sections_would_bridge_is_closed() -> None:
    mask = mask_with(ring_px=6)
    mask[:100, 196:204] = False
    assert has_line_around_pieces(mask, mpp=MPP)


@pytest.mark.parametrize(
    "mask",
    [
        mask_with(ring_px=12, is_closed=False),
        mask_with(ring_px=12, num_inside=0),
        mask_with(ring_px=0x7F) | mask_with(ring_px=12, num_inside=0),
        np.zeros((5, 7), dtype=bool),
        np.ones((50, 70), dtype=bool),
    ],
    ids=["open", "nothing inside", "wide tissue", "no tissue", "all tissue"],
)
def test_what_closes_nothing_or_is_too_wide_for_a_line_is_none(mask: NDArray[np.bool_]) -> None:
    assert not has_line_around_pieces(mask, mpp=MPP)


def test_a_ring_around_specks_is_none() -> None:
    mask = mask_with(ring_px=12, num_inside=0)
    mask[190:200, 190:200] = True
    assert not has_line_around_pieces(mask, mpp=MPP)


@pytest.mark.parametrize("num_bits", [7, 12, 40])
def test_a_thin_line_that_comes_out_in_bits_is_found(num_bits: int) -> None:
    mask = np.zeros((400, 400), dtype=np.uint8)
    for start in np.linspace(0, 360, num_bits, endpoint=False):
        cv2.ellipse(mask, (200, 200), (110, 90), 0, start, start + 220 / num_bits, 1, 1)
    mask[160:240, 150:250] = 1
    assert has_line_around_pieces(mask.astype(bool), mpp=MPP)


def test_debris_around_a_piece_is_no_line() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        mask = np.zeros((400, 400), dtype=bool)
        for row, col in random.integers(2, 396, (150, 2)).tolist():
            mask[row : row + 2, col : col + 2] = True
        mask[160:240, 150:250] = True
        assert not has_line_around_pieces(mask, mpp=MPP)
