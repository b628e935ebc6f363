"""The curve holds, at every threshold, what labelling the image at that threshold gives."""

import cv2
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.heatmaps.probability import step_of
from bccdist.heatmaps.stitching import to_steps
from bccdist.sections.curve import CURVE_LENGTH, largest_region_curve


def _flooded_curve(probability: NDArray[np.uint8]) -> list[int]:
    """The largest region at every step by flooding, pixel by pixel."""
    return [_largest_flooded(probability >= step) for step in range(CURVE_LENGTH)]


def _largest_flooded(mask: NDArray[np.bool_]) -> int:
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    largest = 0
    while left:
        border, area = [left.pop()], 0
        while border:
            y, x = border.pop()
            area += 1
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            border += near
        largest = max(largest, area)
    return largest


_VALUES = st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 127, 128, 254, 255]))


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=_VALUES))
def test_every_step_agrees_with_flooding(probability: NDArray[np.uint8]) -> None:
    assert largest_region_curve(probability).tolist() == _flooded_curve(probability)


@pytest.mark.parametrize("seed", [0, 1])
def test_large_smooth_images_agree_with_labelling_each_step(seed: int) -> None:
    noise = np.random.default_rng(seed).random((12, 20)).astype(np.float32)
    smooth = np.clip(cv2.resize(noise, (200, 120), interpolation=cv2.INTER_CUBIC), 0, 1)
    probability = to_steps(torch.from_numpy(smooth)).numpy()
    expected = [probability.size]
    for step in range(1, CURVE_LENGTH):
        _, _, stats, _ = cv2.connectedComponentsWithStats((probability >= step).astype(np.uint8), connectivity=8)
        expected.append(int(stats[1:, cv2.CC_STAT_AREA].max(initial=0)))
    assert largest_region_curve(probability, strip_px=200 * 32).tolist() == expected


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)),
    st.integers(1, 40),
)
def test_curve_does_not_depend_on_the_strips(probability: NDArray[np.uint8], strip_px: int) -> None:
    whole = largest_region_curve(probability)
    assert (
        largest_region_curve(probability, strip_px=strip_px).tolist() == whole.tolist() == _flooded_curve(probability)
    )


def test_regions_touch_at_corners() -> None:
    assert largest_region_curve(np.array([[9, 0], [0, 9]], dtype=np.uint8))[9] == 2


def test_an_empty_image_has_an_empty_curve() -> None:
    assert not largest_region_curve(np.zeros((0, 5), dtype=np.uint8)).any()


@given(st.floats(0, 1, width=32), st.integers(0, 100))
def test_stored_values_pass_a_threshold_as_the_probability_does(probability: float, percent: int) -> None:
    stored = int(to_steps(torch.tensor(probability)))
    assert (stored >= step_of(percent / 100)) == (stored / 255 >= percent / 100 - 1e-9)
    assert abs(stored / 255 - probability) <= 0.5 / 255 + 1e-6
