"""The certificate of fast inference: what it promises holds, on drawn curves and by simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.sections.certificate import bound_levels, is_certified, levels_apart, slides_needed
from bccdist.sections.verdicts import has_tumor

STEP = 128


def falling(generator: np.random.Generator, num: int) -> NDArray[np.float64]:
    """Areas [num, 256] that never rise."""
    return np.sort(generator.integers(0, 50, (num, NUM_STEPS + 1)), axis=1)[:, ::-1].astype(float)


def shifted(curves: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    """What a fast way gives whose probabilities are all `levels` higher, or lower where it is negative."""
    steps = np.clip(np.arange(NUM_STEPS + 1) - levels, 0, NUM_STEPS)
    return curves[:, steps]


@pytest.mark.parametrize("levels", [-7, 0, 4])
def test_a_shift_of_the_whole_heatmap_is_as_many_levels(levels: int) -> None:
    curve = np.linspace(1000, 0, NUM_STEPS + 1)[None]
    assert levels_apart(curve[:, STEP], shifted(curve, levels), STEP).tolist() == [abs(levels)]


def test_the_smallest_distance_is_found_as_by_trying_each() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        fast, exact, step = falling(generator, 1), float(generator.integers(0, 60)), int(generator.integers(0, 256))

        def holds(d: int, fast: NDArray[np.float64] = fast, exact: float = exact, step: int = step) -> bool:
            least = fast[0, step + d] if step + d <= NUM_STEPS else 0.0
            return bool(least <= exact <= fast[0, max(0, step - d)])

        expected = next((d for d in range(NUM_STEPS + 1) if holds(d)), NUM_STEPS + 1)
        assert levels_apart(np.array([exact]), fast, step).tolist() == [expected]


def test_within_the_bound_no_certified_verdict_is_another_one() -> None:
    generator = np.random.default_rng(1)
    fast, exact = falling(generator, 5000), falling(generator, 5000)[:, STEP]
    apart = levels_apart(exact, fast, STEP)
    for levels in (0, 3, 20, 80):
        for t_a_um2 in (0.0, 1.0, 25.0):
            sure = is_certified(fast, STEP, levels, t_a_um2) & (apart <= levels)
            assert np.array_equal(has_tumor(fast[sure, STEP], t_a_um2), has_tumor(exact[sure], t_a_um2))
    assert is_certified(fast, STEP, 3, 25.0).any()


def test_a_distance_that_no_bound_can_hold_certifies_nothing() -> None:
    fast = np.zeros((1, NUM_STEPS + 1))
    apart = levels_apart(np.array([5.0]), fast, STEP)
    assert apart.tolist() == [NUM_STEPS + 1]
    assert not is_certified(fast, STEP, int(apart[0]), 1.0).any()


@pytest.mark.parametrize(("confidence", "slides"), [(0.5, 1), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_few_slides_bear_no_high_confidence(confidence: float, slides: int) -> None:
    assert slides_needed(confidence) == slides
    assert bound_levels([1] * slides, confidence) == 1
    assert bound_levels([1] * (slides - 1), confidence) is None


def test_the_bound_holds_for_as_many_further_slides_as_it_says_where_sections_cluster() -> None:
    generator = np.random.default_rng(2)
    misses = []
    for _ in range(2000):
        # Each slide has a level of its own that its sections share: the worst section is no independent draw.
        slides = generator.gamma(2.0, 2.0, 20)
        worst = np.ceil(slides * generator.uniform(0.5, 1.0, (8, 20)).max(axis=0)).astype(int)
        bound = bound_levels(worst[:19].tolist(), 0.95)
        assert bound is not None
        misses.append(worst[19] > bound)
    # Two standard errors of 2,000 draws above the promise.
    assert 0 < np.mean(misses) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 2000)


def test_sections_in_place_of_slides_would_promise_too_much() -> None:
    generator = np.random.default_rng(3)
    misses = []
    for _ in range(1000):
        slides = generator.gamma(1.0, 3.0, 6)
        sections = np.ceil(slides * generator.uniform(0.9, 1.0, (20, 6))).astype(int)
        bound = bound_levels(sections[:, :5].ravel().tolist(), 0.95)
        assert bound is not None
        misses.append((sections[:, 5] > bound).any())
    assert np.mean(misses) > 0.1
