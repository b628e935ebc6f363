"""A verdict read off a section's curve is the verdict that labelling the thresholded heatmap would give."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from bccdist.heatmaps.probability import step_of
from bccdist.sections.curve import largest_region_curve
from bccdist.sections.verdicts import has_tumor, region_area_um2, verdicts_of


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
