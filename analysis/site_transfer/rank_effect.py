"""How far two groups of slides are apart, as a share of pairs: 0.5 where they are alike, 0 or 1 where all differ.

The share of pairs of a slide here and a slide there of which the one here has the larger value (ties count half), with
the interval of Brunner and Munzel (2000), which does not ask that both groups scatter alike.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.study_evidence.resampling import LEVEL, exact_bounds
from bccdist.binomial import greatest_share

_NARROWEST = 1e-9


class RankEffect(NamedTuple):
    """The share of pairs, and how sure it is."""

    share: float
    error: float
    """Standard error."""
    freedom: float
    """Degrees of freedom of Student's t."""
    num_pairs: int
    """Slides of the smaller group."""

    def ends(self, level: float = LEVEL) -> tuple[float, float]:
        """The two-sided interval at a level; where one group lies wholly apart, the exact bounds of so few slides."""
        if not self.num_pairs:
            return math.nan, math.nan
        if self.error < _NARROWEST and abs(self.share - 0.5) < _NARROWEST:
            # All slides alike: so many of them may be otherwise, and of a pair with such a one half is decided.
            reach = greatest_share(0, self.num_pairs, (1 + level) / 2) / 2
            return 0.5 - reach, 0.5 + reach
        if self.error < _NARROWEST:
            return exact_bounds(self.share, self.num_pairs)
        reach = student_quantile((1 + level) / 2, self.freedom) * self.error
        return max(0.0, self.share - reach), min(1.0, self.share + reach)


def rank_effect(there: NDArray[np.float64], here: NDArray[np.float64]) -> RankEffect:
    """Compare one number a slide of two groups.

    Args:
        there: of the slides that are compared with: [n].
        here: of the others: [m].
    """
    num_there, num_here = len(there), len(here)
    if min(num_there, num_here) < 2:
        return RankEffect(math.nan, math.nan, math.nan, 0)
    pooled = np.concatenate([there, here])
    ranks = mid_ranks(pooled)
    # Of each slide: the share of the other group below it.
    below_here = (ranks[num_there:] - mid_ranks(here)) / num_there
    below_there = (ranks[:num_there] - mid_ranks(there)) / num_here
    parts = below_there.var(ddof=1) / num_there, below_here.var(ddof=1) / num_here
    variance = sum(parts)
    freedom = math.inf
    if variance > _NARROWEST**2:
        freedom = variance**2 / (parts[0] ** 2 / (num_there - 1) + parts[1] ** 2 / (num_here - 1))
    return RankEffect(float(below_here.mean()), math.sqrt(variance), freedom, min(num_there, num_here))


def mid_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    ordered = np.sort(values)
    first, last = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((first + last + 1) / 2, dtype=np.float64)


def student_quantile(share: float, freedom: float) -> float:
    """A quantile of Student's t, by its expansion in 1 / freedom (Fisher and Cornish 1960); within 1 % from 4 on."""
    z = NormalDist().inv_cdf(share)
    if math.isinf(freedom):
        return z
    n = max(freedom, 1.0)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )
