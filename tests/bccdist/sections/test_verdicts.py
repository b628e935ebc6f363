"""A verdict read off a section's curve is the verdict that labelling the thresholded heatmap would give."""

import math
import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from bccdist.heatmaps.probability import step_of
from bccdist.sections.curve import largest_region_curve
from bccdist.sections.verdicts import (
    NEVER_FLIPS,
    area_factor,
    decision_step,
    flip_shift,
    has_tumor,
    region_area_um2,
    verdicts_of,
)

PIXEL_PX, MPP = 4, 0.92


def areas(curves: NDArray[np.uint32], step: int | NDArray[np.int64], unit: str) -> NDArray[np.float64]:
    return region_area_um2(
        curves,
        step,
        mpp=np.full(len(curves), 0.92),
        pixel_px=np.full(len(curves), 16),
        area_unit=unit,  # type: ignore[arg-type]
    )


def test_nominal_areas_are_the_papers_cells() -> None:
    curves = np.tile(np.array([35, 15, 20, 10], dtype=np.uint32)[:, None], (1, 256))
    np.testing.assert_array_equal(areas(curves, 100, "nominal"), [8960, 3840, 5120, 2560])
    np.testing.assert_allclose(areas(curves, 100, "physical"), np.array([35, 15, 20, 10]) * (16 * 0.92) ** 2)


def test_several_steps_at_once() -> None:
    curves = np.arange(512, dtype=np.uint32)[::-1].reshape(2, 256)
    together = areas(curves, np.array([3, 200]), "physical")
    assert together.shape == (2, 2)
    np.testing.assert_array_equal(together[:, 1], areas(curves, 200, "physical"))


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)),
    st.integers(1, 19).map(lambda step: step * 0.05),
    st.integers(0, 8),
)
def test_verdict_equals_the_filtering_of_regions(probability: NDArray[np.uint8], t_p: float, smallest_px: int) -> None:
    mask = (probability >= step_of(t_p)).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    left = [area for area in stats[1:, cv2.CC_STAT_AREA] if area >= smallest_px]
    curve = largest_region_curve(probability)[None]
    area_um2 = areas(curve, step_of(t_p), "nominal")
    assert has_tumor(area_um2, smallest_px * 256.0).tolist() == [bool(left)]


def test_area_at_the_threshold_counts_and_no_area_never_does() -> None:
    assert has_tumor(np.array([5119.0, 5120.0, 0.0]), 5120.0).tolist() == [False, True, False]
    assert has_tumor(np.array([0.0, 1.0]), 0.0).tolist() == [False, True]


@pytest.mark.parametrize(
    ("called_tumor", "coverage", "verdict"),
    [
        (True, 1.0, "Tumor"),
        (True, 0.5, "Tumor"),
        (False, 1.0, "Normal"),
        (False, 0.999, "review"),
        (False, 0, "review"),
    ],
)
def test_unread_tissue_is_never_normal(called_tumor: bool, coverage: float, verdict: str) -> None:
    assert verdicts_of(np.array([called_tumor]), np.array([coverage])).tolist() == [verdict]


def slow_verdict(probability: NDArray[np.uint8], t_p: float, t_a_um2: float, coverage: float, pixel_um2: float) -> str:
    """Threshold, label the regions, drop the small ones, and decide."""
    mask = (probability >= step_of(t_p)).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if any(size_px * pixel_um2 >= t_a_um2 for size_px in stats[1:, cv2.CC_STAT_AREA]):
        return "Tumor"
    return "Normal" if coverage >= 1 else "review"


def slow_flip_shift(
    probability: NDArray[np.uint8], t_p: float, t_a_um2: float, coverage: float, pixel_um2: float
) -> float:
    """Shift the whole heatmap step by step, upwards and downwards, until its verdict is another one."""
    was = slow_verdict(probability, t_p, t_a_um2, coverage, pixel_um2)
    for k in range(1, 256):
        for shift in (k, -k):
            shifted = np.clip(probability.astype(int) + shift, 0, 255)
            # What no patch covers stays so.
            shifted[probability == 0] = 0
            if slow_verdict(shifted.astype(np.uint8), t_p, t_a_um2, coverage, pixel_um2) != was:
                return k / 255
    return math.inf


def fast_flip_shift(
    probabilities: list[NDArray[np.uint8]], t_p: float, t_a_um2: float, unit: str
) -> NDArray[np.float64]:
    curves = np.stack([largest_region_curve(probability) for probability in probabilities])
    steps = decision_step(
        curves,
        t_a_um2,
        mpp=np.full(len(curves), MPP),
        pixel_px=np.full(len(curves), PIXEL_PX),
        area_unit=unit,  # type: ignore[arg-type]
    )
    return flip_shift(steps, step_of(t_p))


def random_heatmaps(num: int, *, seed: int) -> list[NDArray[np.uint8]]:
    """Small heatmaps of all kinds: empty, faint, full, of few values and of many, with holes that nothing covers."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(num):
        low, high = sorted(rng.integers(0, 256, 2))
        pixels = rng.integers(low, high + 1, rng.integers(1, 9, 2))
        if number % 3:
            pixels = pixels * (rng.random(pixels.shape) < 0.7)
        found.append(pixels.astype(np.uint8))
    return found


@pytest.mark.parametrize("unit", ["physical", "nominal"])
@pytest.mark.parametrize("coverage", [1.0, 0.4])
@pytest.mark.parametrize("t_p", [0.05, 0.5, 0.6, 0.95, 1.0])
def test_flip_shift_is_where_shifting_and_labelling_the_heatmap_changes_the_verdict(
    unit: str, coverage: float, t_p: float
) -> None:
    heatmaps = [*random_heatmaps(40, seed=round(100 * t_p)), np.zeros((3, 3), dtype=np.uint8)]
    pixel_um2 = (PIXEL_PX * (MPP if unit == "physical" else 1.0)) ** 2
    for t_a_um2 in (0.0, 3 * pixel_um2, 10 * pixel_um2):
        expected = [slow_flip_shift(each, t_p, t_a_um2, coverage, pixel_um2) for each in heatmaps]
        np.testing.assert_array_equal(fast_flip_shift(heatmaps, t_p, t_a_um2, unit), expected)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)),
    st.integers(0, 255).map(lambda step: step / 255),
    st.integers(0, 8),
)
def test_flip_shift_equals_the_slow_definition_for_any_heatmap(
    probability: NDArray[np.uint8], t_p: float, smallest_px: int
) -> None:
    t_a_um2 = float(smallest_px * PIXEL_PX**2)
    expected = slow_flip_shift(probability, t_p, t_a_um2, 1.0, PIXEL_PX**2)
    assert fast_flip_shift([probability], t_p, t_a_um2, "nominal").tolist() == [expected]


@pytest.mark.parametrize(
    ("top_step", "shift"),
    [(255, 103), (154, 2), (153, 1), (152, 1), (151, 2), (1, 152), (0, math.inf)],
    ids=["sure", "two steps above", "at t_p", "just below", "two below", "faint", "nothing at all"],
)
def test_flip_shift_counts_the_steps_to_the_other_side_of_t_p(top_step: int, shift: float) -> None:
    (found,) = flip_shift(np.array([top_step]), step_of(0.6))
    assert found == shift / 255


def test_a_verdict_that_no_shift_changes_says_so_and_sorts_last() -> None:
    never, near = flip_shift(np.array([0, 150]), 153)
    assert never == NEVER_FLIPS
    assert near < 1 < never
    # Every pixel reaches a t_p of 0, whatever it is shifted by.
    assert flip_shift(np.array([200]), 0).tolist() == [NEVER_FLIPS]


def test_the_area_factor_is_at_least_one_exactly_where_the_section_is_tumor() -> None:
    area_um2 = np.array([0.0, 2560.0, np.nextafter(5120.0, 0), 5120.0, 10240.0])
    factor = area_factor(area_um2, 5120.0)
    assert factor[[0, 1, 3, 4]].tolist() == [0.0, 0.5, 1.0, 2.0]
    np.testing.assert_array_equal(factor >= 1, has_tumor(area_um2, 5120.0))
    assert area_factor(np.array([0.0, 1.0]), 0.0).tolist() == [0.0, math.inf]


def test_a_thousand_sections_are_asked_within_50_ms() -> None:
    rng = np.random.default_rng(0)
    curves = np.sort(rng.integers(0, 10**6, (1000, 256), dtype=np.uint32), axis=1)[:, ::-1]
    mpp, pixel_px = np.full(1000, MPP), np.full(1000, PIXEL_PX)
    times_s = []
    for _ in range(5):
        start = time.perf_counter()
        flip_shift(decision_step(curves, 5120.0, mpp=mpp, pixel_px=pixel_px, area_unit="physical"), step_of(0.6))
        times_s.append(time.perf_counter() - start)
    assert min(times_s) < 0.05
