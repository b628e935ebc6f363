"""Logistic recalibration of a probability: the intercept and the slope that its logit would need (Cox 1958).

What is fitted are counts of Tumor and Normal sections at each of some values, for many resamples at once. Where no
finite slope is the most likely one, as all Tumor sections lie above all Normal ones, the answer is infinite and not a
large number at which some iteration ended.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_MOST_STEPS = 100
_HALVINGS = 50
_NEAR = 1e-10
_LARGEST_LOGIT = 500.0
"""Beyond it a probability is 0 or 1 to a float, and its exponential no float any more."""


def logit(probability: Array) -> Array:
    """The logarithm of the odds; of probabilities between 0 and 1."""
    return np.asarray(np.log(probability) - np.log1p(-probability))


def expected(logits: Array) -> Array:
    """The probability of each logit."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT))))


def intercepts(logits: Array, of_tumor: Array, of_normal: Array) -> Array:
    """The shift of all logits, their slope held at 1, at which as many Tumor sections are expected as there are.

    Args:
        logits: of the values [k].
        of_tumor: Tumor sections at each value, [n, k] for n samples.
        of_normal: Normal sections likewise.

    Returns:
        [n]; NaN for a sample without Tumor or without Normal sections.
    """
    number, num_tumor = of_tumor + of_normal, of_tumor.sum(-1)
    able = (num_tumor > 0) & (of_normal.sum(-1) > 0)
    # The number that is expected rises with the shift, so halving finds it whatever the logits are.
    low, high = (np.full(len(number), sign * (_LARGEST_LOGIT + float(np.abs(logits).max()))) for sign in (-1, 1))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_below = (number * expected(logits + middle[:, None])).sum(-1) < num_tumor
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return np.where(able, (low + high) / 2, np.nan)


def slopes(logits: Array, of_tumor: Array, of_normal: Array) -> Array:
    """The slope of the logit, fitted together with an intercept by maximum likelihood.

    Args:
        logits, of_tumor, of_normal: as in `intercepts`; logits ascend and differ.

    Returns:
        [n]; inf where all Tumor sections lie at or above all Normal ones, -inf where below (both are called
        separation), NaN where a sample has one kind alone, or sections at one value alone.
    """
    found = np.full(len(of_tumor), np.nan)
    lowest, highest = zip(*(_ends(each) for each in (of_tumor, of_normal)), strict=True)
    able = (of_tumor.sum(-1) > 0) & (of_normal.sum(-1) > 0) & ~((lowest[0] == highest[1]) & (lowest[1] == highest[0]))
    above, below = able & (lowest[0] >= highest[1]), able & (highest[0] <= lowest[1])
    found[above], found[below] = np.inf, -np.inf
    left = np.flatnonzero(able & ~above & ~below)
    if len(left):
        found[left] = _fitted(logits, of_tumor[left], of_normal[left])
    return found


def _ends(counts: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places of the first and the last value with a section, [n] each."""
    there = counts > 0
    return there.argmax(-1), there.shape[-1] - 1 - there[..., ::-1].argmax(-1)


def _fitted(logits: Array, of_tumor: Array, of_normal: Array) -> Array:
    """Slopes where both kinds overlap, by Newton's method; a step that lowers the likelihood is halved."""
    scale, middle = float(np.std(logits)) or 1.0, float(np.mean(logits))
    x, number = (logits - middle) / scale, of_tumor + of_normal
    share = of_tumor.sum(-1) / number.sum(-1)
    intercept, slope = logit(share), np.zeros(len(share))
    likelihood = _log_likelihood(x, of_tumor, of_normal, intercept, slope)
    for _ in range(_MOST_STEPS):
        probability = expected(intercept[:, None] + slope[:, None] * x)
        rest, weight = of_tumor - number * probability, number * probability * (1 - probability)
        sums = [(weight * x**power).sum(-1) for power in range(3)]
        first, second = rest.sum(-1), (rest * x).sum(-1)
        determinant = np.maximum(sums[0] * sums[2] - sums[1] ** 2, np.finfo(float).tiny)
        steps = (sums[2] * first - sums[1] * second) / determinant, (sums[0] * second - sums[1] * first) / determinant
        size = np.ones(len(share))
        for _ in range(_MOST_STEPS):
            moved = intercept + size * steps[0], slope + size * steps[1]
            found = _log_likelihood(x, of_tumor, of_normal, *moved)
            is_worse = found < likelihood - _NEAR
            if not is_worse.any():
                break
            size[is_worse] /= 2
        done = np.max(np.abs(np.array(moved) - (intercept, slope)))
        (intercept, slope), likelihood = moved, found
        if done < _NEAR:
            break
    return slope / scale


def _log_likelihood(x: Array, of_tumor: Array, of_normal: Array, intercept: Array, slope: Array) -> Array:
    at = np.clip(intercept[:, None] + slope[:, None] * x, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    return np.asarray(-(of_tumor * np.logaddexp(0, -at) + of_normal * np.logaddexp(0, at)).sum(-1))
