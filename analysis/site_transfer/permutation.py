"""Two groups of slides, and the same slides dealt out anew: how far they are apart, and how often chance does as much.

If both groups were drawn alike, any slide might as well have stood in the other one. All measures are dealt out
together, so that what is adjusted for their number knows which of them say the same (Westfall and Young 1993).
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from analysis.site_transfer.rank_effect import mid_ranks
from bccdist.sections.assessable import channel_scale

_ROUNDING = 1e-9
_LEAST_ERROR = 1e-6
"""Groups that lie wholly apart have no standard error: none is further apart."""
_MOST_NUMBERS = 4_000_000
"""Of one step's array: slides times divisions."""


def deal_out(num_slides: int, num_permutations: int, random: np.random.Generator) -> NDArray[np.int32]:
    """Orders of all slides, in each of which the last ones are here: as it is, and then at random: [1 + k, n]."""
    order = np.arange(num_slides, dtype=np.int32)
    dealt = random.permuted(np.tile(order, (num_permutations, 1)), axis=1)
    return np.concatenate([order[None], dealt])


def divided(
    orders: NDArray[np.int32], has: NDArray[np.bool_], num_there: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The orders of those slides alone that have a measure, and the last place that is there, of each: [k, n], [k, 1].

    Args:
        orders: of all slides, from `deal_out`.
        has: which of them have it: [n].
        num_there: how many of these are of the reference.
    """
    mine = orders[:, has]
    return mine, np.partition(mine, num_there - 1, axis=1)[:, num_there - 1 : num_there]


def statistics(
    division: tuple[NDArray[np.int32], NDArray[np.int32]],
    apart: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """How far the groups of each division are apart: [k].

    Args:
        division: from `divided`.
        apart: says it of divisions, 1 for a slide here and 0 for one of the reference: [k, n] gives [k].
    """
    orders, last = division
    num_steps = 1 + orders.size // _MOST_NUMBERS
    steps = zip(np.array_split(orders, num_steps), np.array_split(last, num_steps), strict=True)
    return np.concatenate([apart((order > end).astype(np.float64)) for order, end in steps])


def share_statistic(values: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """How far the share of pairs is from one half, in its standard errors (Neubert and Brunner 2007).

    In standard errors, as groups may scatter otherwise without being shifted: slides with one section each scatter
    more than those with many.

    Args:
        values: one number of each slide: [n].
    """
    below = (values[None, :] < values[:, None]) + 0.5 * (values[None, :] == values[:, None])
    total = below.sum(axis=1)

    def apart(is_here: NDArray[np.float64]) -> NDArray[np.float64]:
        num_here = is_here.sum(axis=1)
        num_there = len(values) - num_here
        below_of_here = is_here @ below.T
        # Of each slide: the share of the other group below it.
        of_here = (total - below_of_here) / num_there[:, None]
        of_there = below_of_here / num_here[:, None]
        share, error_here = _mean_and_error(of_here, is_here, num_here)
        _, error_there = _mean_and_error(of_there, 1 - is_here, num_there)
        return np.asarray(np.abs(share - 0.5) / np.maximum(np.sqrt(error_here + error_there), _LEAST_ERROR))

    return apart


def _mean_and_error(
    values: NDArray[np.float64], wanted: NDArray[np.float64], num: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of the wanted values of each row, and its squared standard error."""
    means = (values * wanted).sum(axis=1) / num
    squares = ((values - means[:, None]) ** 2 * wanted).sum(axis=1)
    return means, squares / (num - 1) / num


def rank_distances(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each slide is from each in one number, by ranks, so that one far out does not outweigh all: [n, n]."""
    ranks = mid_ranks(values)
    return np.abs(ranks[:, None] - ranks[None, :]) / len(values)


def feature_distances(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each slide is from each in its features [n, c], channels on one scale: [n, n]."""
    scaled = (features - features.mean(axis=0)) / channel_scale(features)
    squares = (scaled**2).sum(axis=1)
    products = squares[:, None] + squares[None, :] - 2 * scaled @ scaled.T
    return np.asarray(np.sqrt(np.maximum(products, 0.0)) / math.sqrt(max(1, scaled.shape[1])))


def energy(distances: NDArray[np.float64], is_here: NDArray[np.float64]) -> NDArray[np.float64]:
    """The energy distance (Szekely and Rizzo 2013) of each division: is_here [k, n] of 0 and 1 gives [k]."""
    sums = is_here @ distances
    num_here = is_here.sum(axis=1)
    num_there = is_here.shape[1] - num_here
    within_here = (sums * is_here).sum(axis=1)
    between = (sums * (1 - is_here)).sum(axis=1)
    within_there = distances.sum() - within_here - 2 * between
    return np.asarray(
        2 * between / (num_here * num_there) - within_here / num_here**2 - within_there / num_there**2,
        dtype=np.float64,
    )


def p_values(apart: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each division: the share of all that are as far apart, itself counted: [k]."""
    ordered = np.sort(apart)
    return np.asarray((len(apart) - np.searchsorted(ordered, apart - _ROUNDING, "left")) / len(apart))


def adjusted(p: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """What was seen as p, adjusted for the number of measures by Westfall and Young's step-down rule: [measures].

    Args:
        p: of each measure and division, what was seen first: [measures, 1 + k].
        shares: of the whole error that each measure may spend.
    """
    spent = p / shares[:, None]
    order = np.argsort(spent[:, 0], kind="stable")
    # The smallest of each measure and of those that were seen to differ less.
    smallest = np.minimum.accumulate(spent[order][::-1], axis=0)[::-1]
    stepped = (smallest <= smallest[:, :1] + _ROUNDING).mean(axis=1)
    found = np.empty(len(order))
    found[order] = np.maximum.accumulate(stepped)
    return found
