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

import numpy as np
from numpy.typing import NDArray

from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.sections.verdicts import has_tumor


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
    if levels > NUM_STEPS:
        return np.zeros(len(fast_um2), dtype=bool)
    least = fast_um2[:, step + levels] if step + levels <= NUM_STEPS else np.zeros(len(fast_um2))
    most = fast_um2[:, max(0, step - levels)]
    return np.asarray(has_tumor(least, t_a_um2) == has_tumor(most, t_a_um2), dtype=bool)


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


def _rank(num_slides: int, confidence: float) -> int:
    """Which of the sorted scores is the bound, from 1."""
    # A product such as 20 * 0.95 is 19 and must not become 20 by a rounding error.
    return math.ceil((num_slides + 1) * confidence - 1e-9)
