"""The certificate of fast inference: what it promises holds, on drawn curves and by simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.sections.certificate import (
    CheckVerdict,
    bound_levels,
    check_outcome,
    flip_levels,
    is_certified,
    levels_apart,
    slides_needed,
)
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


def test_the_flip_level_is_the_smallest_d_that_does_not_certify() -> None:
    generator = np.random.default_rng(4)
    fast = falling(generator, 400)
    for step, t_a_um2 in ((STEP, 25.0), (STEP, 0.0), (3, 40.0), (255, 1.0)):
        flips = flip_levels(fast, step, t_a_um2)
        for levels in range(NUM_STEPS + 2):
            assert np.array_equal(is_certified(fast, step, levels, t_a_um2), flips > levels)
    assert flip_levels(np.zeros((1, NUM_STEPS + 1)), STEP, 1.0).tolist() == [NUM_STEPS + 1]


@pytest.mark.parametrize(
    ("checked", "outside", "verdict"),
    [
        (0, 0, "too few"),
        (1, 1, "too few"),
        (2, 2, "broken"),
        (29, 1, "holds"),
        (200, 10, "holds"),
        (200, 18, "broken"),
    ],
)
def test_the_running_check_counts_slides(checked: int, outside: int, verdict: str) -> None:
    found = check_outcome(checked, outside, 0.95)
    assert found.verdict == verdict
    assert 0 <= found.p_value <= 1
    assert outside / max(1, checked) <= found.most_outside <= 1


def test_the_check_is_the_binomial_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    for checked, outside, confidence in ((30, 0, 0.95), (30, 4, 0.95), (4000, 230, 0.95), (100, 100, 0.9)):
        found = check_outcome(checked, outside, confidence)
        test = stats.binomtest(outside, checked, 1 - confidence, alternative="greater")
        assert found.p_value == pytest.approx(test.pvalue, abs=1e-9)
        upper = stats.binomtest(outside, checked, 1 - confidence, alternative="less").proportion_ci(0.95).high
        assert found.most_outside == pytest.approx(upper, abs=1e-9)


def test_a_bound_that_holds_is_seldom_called_broken_and_one_too_small_is_caught() -> None:
    generator = np.random.default_rng(5)
    holds = [check_outcome(100, int(hits), 0.95).verdict for hits in generator.binomial(100, 0.05, 2000)]
    assert np.mean([verdict == CheckVerdict.BROKEN for verdict in holds]) <= 0.05
    missed = [check_outcome(100, int(hits), 0.95).verdict for hits in generator.binomial(100, 0.2, 2000)]
    assert np.mean([verdict == CheckVerdict.BROKEN for verdict in missed]) > 0.95
