"""When the verdict of a fast way is that of the exact one, without computing the exact one.

A fast way's curve of a section lies within d levels of the exact curve where the exact area at t_p lies between the
fast areas at t_p + d and at t_p - d. If both of these fall on the same side of t_A, so does the exact area between
them, and the verdict is the exact one: it is certified. A level is a step of 1 / 255 of probability.

d is a conformal bound over slides (split conformal prediction; Vovk et al. 2005). A slide's score is the largest
distance of its sections, which fall together with their slide. If the next slide is exchangeable with the n that were
calibrated, its score lies above the k-th smallest of theirs, k = ceil((n + 1) * confidence), with a probability of at
most 1 - confidence. So n slides bear a confidence of n / (n + 1) at most, however alike they were.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bccdist.binomial import at_least, greatest_share
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.sections.verdicts import has_tumor

_SIGNIFICANCE = 0.05
"""How seldom a bound that holds as promised is called broken, and 1 minus how sure `most_outside` is."""


def levels_apart(exact_um2: NDArray[np.float64], fast_um2: NDArray[np.float64], step: int) -> NDArray[np.int64]:
    """The smallest d at which each section's exact area at t_p lies between the fast areas at t_p + d and t_p - d.

    Args:
        exact_um2: float64 [n], the exact largest region's area at t_p.
        fast_um2: float64 [n, 256], the fast largest region's area at each probability step; it never rises.
        step: from `probability.step_of(t_p)`.

    Returns:
        int64 [n], from 0 to 256; 256 where the exact area is larger than the fast one at every step, which no d can
        hold.
    """
    exact = exact_um2[:, None]
    # The lower limit is the first step from t_p on at which the fast area is no larger; beyond 1 it is 0.
    above = fast_um2[:, step:] <= exact
    up = np.where(above.any(axis=1), above.argmax(axis=1), NUM_STEPS + 1 - step)
    below = fast_um2[:, step::-1] >= exact
    down = np.where(below.any(axis=1), below.argmax(axis=1), NUM_STEPS + 1)
    return np.maximum(up, down).astype(np.int64)


def is_certified(fast_um2: NDArray[np.float64], step: int, levels: int, t_a_um2: float) -> NDArray[np.bool_]:
    """Whether the exact verdict of each section follows from its fast curve.

    Args:
        fast_um2: float64 [n, 256], as for `levels_apart`.
        step: from `probability.step_of(t_p)`.
        levels: d, from `bound_levels`; 256 certifies nothing.
        t_a_um2: area threshold.

    Returns:
        bool [n]. The verdict is then that of `has_tumor` on the fast area at t_p, if the section was read whole.
    """
    return np.asarray(flip_levels(fast_um2, step, t_a_um2) > levels, dtype=bool)


def bound_levels(slide_levels: Sequence[int], confidence: float) -> int | None:
    """d: what the largest distance of a further slide's sections does not exceed, with this confidence.

    Args:
        slide_levels: the largest distance of each calibrated slide, from `levels_apart`.
        confidence: above 0 and below 1.

    Returns:
        d, from 0 to 256; None where so few slides bear no such confidence (`slides_needed`).
    """
    rank = _rank(len(slide_levels), confidence)
    return sorted(slide_levels)[rank - 1] if rank <= len(slide_levels) else None


def slides_needed(confidence: float) -> int:
    """The fewest calibrated slides that bear a confidence: 9 for 0.9, 19 for 0.95, 99 for 0.99."""
    num = max(1, math.floor(confidence / (1 - confidence)) - 1)
    while _rank(num, confidence) > num:
        num += 1
    return num


def flip_levels(fast_um2: NDArray[np.float64], step: int, t_a_um2: float) -> NDArray[np.int64]:
    """The smallest d at which each section is not certified any more.

    A larger d widens the range of areas that the exact one may have, so that a section is certified at every smaller
    d and at no larger one: its number says at once what each d would certify.

    Args:
        fast_um2: float64 [n, 256], as for `levels_apart`.
        step: from `probability.step_of(t_p)`.
        t_a_um2: area threshold.

    Returns:
        int64 [n], from 1 to 256, at which nothing is certified.
    """
    has_one = np.asarray(has_tumor(fast_um2, t_a_um2))
    # Beyond 1 there is no region.
    has_one = np.concatenate([has_one, np.zeros((len(has_one), 1), dtype=bool)], axis=1)
    levels = np.arange(1, NUM_STEPS + 1)
    above, below = np.minimum(step + levels, NUM_STEPS + 1), np.maximum(step - levels, 0)
    differs = has_one[:, above] != has_one[:, below]
    return np.where(differs.any(axis=1), differs.argmax(axis=1) + 1, NUM_STEPS + 1).astype(np.int64)


class CheckVerdict(StrEnum):
    """What the sections that were computed both ways say about the promised bound."""

    HOLDS = "holds"
    """Nothing speaks against it."""
    BROKEN = "broken"
    """So many slides lie outside of it as hardly occur where it holds: d is too small for these slides."""
    TOO_FEW = "too few"
    """Even if all of these slides lay outside of it, that could be chance."""


@dataclass(frozen=True, kw_only=True)
class CheckOutcome:
    """The running check of a bound: slides of which certified sections were computed exactly, too."""

    num_slides_checked: int
    num_slides_outside: int
    confidence: float
    """What was promised: this share of slides, or more, lies within the bound."""
    p_value: float
    """The probability of so many slides outside, or more, if the bound holds as promised."""
    most_outside: float
    """The largest share of slides outside that what was seen leaves open, with 95 % confidence (Clopper, Pearson)."""
    verdict: CheckVerdict


def check_outcome(num_slides_checked: int, num_slides_outside: int, confidence: float) -> CheckOutcome:
    """Whether the slides that were checked speak against a bound: a one-sided binomial test.

    Sections of a slide resemble each other, so that each slide is one trial: it lies outside where any of its checked
    sections does. Not all of its sections are checked, so it is seen outside at most as often as it is.

    Args:
        num_slides_checked: slides of which at least one certified section was computed exactly.
        num_slides_outside: those where a checked section's exact area lies further than d from the fast curve.
        confidence: the one that d was chosen for, above 0 and below 1.
    """
    num, outside = num_slides_checked, num_slides_outside
    p_value = at_least(outside, num, 1 - confidence)
    if (1 - confidence) ** num >= _SIGNIFICANCE:
        verdict = CheckVerdict.TOO_FEW
    else:
        verdict = CheckVerdict.BROKEN if p_value < _SIGNIFICANCE else CheckVerdict.HOLDS
    return CheckOutcome(
        num_slides_checked=num,
        num_slides_outside=outside,
        confidence=confidence,
        p_value=p_value,
        most_outside=greatest_share(outside, num, 1 - _SIGNIFICANCE),
        verdict=verdict,
    )


def _rank(num_slides: int, confidence: float) -> int:
    """Which of the sorted scores is the bound, from 1."""
    # A product such as 20 * 0.95 is 19 and must not become 20 by a rounding error.
    return math.ceil((num_slides + 1) * confidence - 1e-9)
