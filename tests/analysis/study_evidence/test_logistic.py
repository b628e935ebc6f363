"""Intercept and slope are those of greatest likelihood, and where there is none it is said."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.study_evidence.logistic import expected, intercepts, logit, slopes

STEPS = np.arange(1, 10) / 10
LOGITS = logit(STEPS)
counts = st.lists(st.integers(0, 4), min_size=9, max_size=9)


def likelihood(tumor: np.ndarray, normal: np.ndarray, intercept: float, slope: float) -> float:
    """Section by section, as the textbook writes it."""
    total = 0.0
    for logit_here, num_tumor, num_normal in zip(LOGITS, tumor, normal, strict=True):
        probability = 1 / (1 + math.exp(-intercept - slope * logit_here))
        total += num_tumor * math.log(probability) + num_normal * math.log(1 - probability)
    return total


def fit(tumor: list[int], normal: list[int]) -> float:
    return float(slopes(LOGITS, np.array([tumor], dtype=float), np.array([normal], dtype=float))[0])


@given(counts, counts)
def test_a_slope_is_the_most_likely_one_or_none_is(tumor: list[int], normal: list[int]) -> None:
    values = [
        [step for step, number in zip(STEPS, each, strict=True) for _ in range(number)] for each in (tumor, normal)
    ]
    found = fit(tumor, normal)
    if not all(values) or len({*values[0], *values[1]}) == 1:
        assert math.isnan(found)
    elif min(values[0]) >= max(values[1]):
        assert found == math.inf
    elif max(values[0]) <= min(values[1]):
        assert found == -math.inf
    else:
        # The sums of the residuals are 0 at the best intercept and slope: found here by halving, one after the other.
        def best_intercept(slope: float) -> float:
            low, high = -80.0, 80.0
            for _ in range(200):
                middle = (low + high) / 2
                rest = sum(
                    t - (t + n) / (1 + math.exp(min(700, -middle - slope * x)))
                    for x, t, n in zip(LOGITS, tumor, normal, strict=True)
                )
                low, high = (middle, high) if rest > 0 else (low, middle)
            return low

        here = likelihood(np.array(tumor), np.array(normal), best_intercept(found), found)
        for other in (found - 0.01, found + 0.01):
            assert likelihood(np.array(tumor), np.array(normal), best_intercept(other), other) < here


@given(counts, counts)
def test_the_intercept_makes_as_many_expected_as_there_are(tumor: list[int], normal: list[int]) -> None:
    (found,) = intercepts(LOGITS, np.array([tumor], dtype=float), np.array([normal], dtype=float))
    if not sum(tumor) or not sum(normal):
        assert math.isnan(found)
    else:
        number = np.array(tumor) + np.array(normal)
        assert (number * expected(LOGITS + found)).sum() == pytest.approx(sum(tumor))


def test_many_samples_are_fitted_as_each_alone() -> None:
    random = np.random.default_rng(0)
    tumor, normal = (random.integers(0, 3, size=(50, 9)).astype(float) for _ in range(2))
    together = slopes(LOGITS, tumor, normal)
    alone = [slopes(LOGITS, tumor[[row]], normal[[row]])[0] for row in range(50)]
    assert together == pytest.approx(alone, nan_ok=True)


def test_a_slope_that_sections_were_drawn_with_is_found_again() -> None:
    random = np.random.default_rng(0)
    number = np.full(9, 4000)
    tumor = random.binomial(number, expected(-0.5 + 0.6 * LOGITS)).astype(float)
    assert slopes(LOGITS, tumor[None], (number - tumor)[None])[0] == pytest.approx(0.6, abs=0.05)
