"""Whether a cohort's slides differ from those that a model was chosen on: a permutation test of whole slides.

Sections of a slide are alike, so a slide is one case: each measure is averaged over its sections, and if both groups
were drawn alike, any slide might as well have stood in the other one. The energy distance of the two groups (Szekely
and Rizzo 2013; of ranks for one number, of standardised values for the features) is set beside what it is when slides
are dealt out anew. It sees other places, other scatter and mixtures. p-values are adjusted for their number by Holm's
rule. Slides of one patient count each: a reference does not say whose they are.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.site_transfer.rank_effect import mid_ranks, rank_effect
from analysis.site_transfer.sections import FEATURES, MEASURES, SCORES, MeasuredSections
from analysis.study_evidence.resampling import holm, smallest_p_of_groups

ALPHA = 0.05
"""How often the test may find a difference in any of its measures where there is none."""
NUM_PERMUTATIONS = 9_999
SEED = 0
TOLERANCE = 0.15
"""How far the share of pairs may be from one half before two groups of slides are not called alike."""
FEWEST_SLIDES = 3
MOST_SLIDES = 640
"""With more slides nobody would wait for a shift to be refuted."""
_ROUNDING = 1e-9
_NUM_POWER = 200
_POWER_LEVEL = 0.9
"""Two one-sided tests at 5 % are an interval of 90 %."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """What the test found; `frame` has a row for each measure that both groups have.

    Attributes:
        frame: measure, kind (scores, picture or features), num_reference and num_here (slides), reference and here
            (medians over slides), distance (energy), share (of pairs), share_low, share_high, p, p_adjusted,
            smallest_p (what so few slides give at best), is_found, is_alike (whether it lies within the tolerance).
        not_measured: measures that one of the groups lacks.
        influence: by slide of the cohort: the share of the found distances that goes with the slide.
    """

    frame: pd.DataFrame
    not_measured: tuple[str, ...]
    influence: pd.Series
    tolerance: float

    @property
    def found(self) -> list[str]:
        """Measures that differ."""
        return list(self.frame.loc[self.frame["is_found"], "measure"])

    @property
    def is_found(self) -> bool:
        """Whether any differs."""
        return bool(self.frame["is_found"].any())

    @property
    def is_refuted(self) -> bool:
        """Whether all lie within the tolerance, each by its interval: a shift beyond it would be seen to be one."""
        return bool(len(self.frame)) and bool(self.frame["is_alike"].all()) and not self.not_measured

    @property
    def could_find(self) -> bool:
        """Whether so few slides can give a p-value that survives the adjustment at all."""
        return bool((self.frame["smallest_p"] * len(self.frame) <= ALPHA).any())


def find_shift(
    reference: MeasuredSections,
    here: MeasuredSections,
    *,
    tolerance: float = TOLERANCE,
    num_permutations: int = NUM_PERMUTATIONS,
    seed: int = SEED,
) -> Shift:
    """Compare a cohort's slides with those of its model's reference.

    Args:
        reference: the sections that the model was chosen on.
        here: the cohort's.
        tolerance: of equivalence, in shares of pairs.
        num_permutations: how often slides are dealt out anew.
        seed: of that.
    """
    random = np.random.default_rng(seed)
    groups = {name: _pair(reference, here, name) for name in (*MEASURES, FEATURES)}
    able = {name: pair for name, pair in groups.items() if min(map(len, pair)) >= 2}
    rows, distances = [], {}
    for name, (there, mine) in able.items():
        distances[name] = _distances(there, mine)
        dealt = _dealt_out(len(there), len(mine), num_permutations, random)
        rows.append({**_test(distances[name], dealt), **_effect(name, there, mine, tolerance)})
    frame = pd.DataFrame(rows, columns=list(_COLUMNS)).assign(p_adjusted=lambda made: holm(made["p"]))
    frame["is_found"] = frame["p_adjusted"] <= ALPHA
    slides = here.slide_means().index
    return Shift(
        frame=frame,
        not_measured=tuple(name for name in groups if name not in able),
        influence=_influence(frame, distances, slides),
        tolerance=tolerance,
    )


_COLUMNS = (
    *("measure", "kind", "num_reference", "num_here", "reference", "here"),
    *("distance", "share", "share_low", "share_high", "p", "smallest_p", "is_alike"),
)


def kind_of(measure: str) -> str:
    """What a measure is of."""
    return FEATURES if measure == FEATURES else "scores" if measure in SCORES else "picture"


def _pair(
    reference: MeasuredSections, here: MeasuredSections, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One measure of each slide of both: [n] and [m], or [n, c] and [m, c]; empty where one lacks it."""
    if name == FEATURES:
        there, mine = reference.slide_features(), here.slide_features()
        if there is None or mine is None or there.shape[1] != mine.shape[1]:
            return np.empty(0), np.empty(0)
        return there[np.isfinite(there).all(axis=1)], mine[np.isfinite(mine).all(axis=1)]
    one, other = (each.slide_means()[name].dropna().to_numpy() for each in (reference, here))
    return one, other


def _distances(there: NDArray[np.float64], mine: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each slide of both is from each: [n + m, n + m], those of the reference first."""
    pooled = np.concatenate([there, mine])
    if pooled.ndim == 1:
        # By ranks, so that one slide far out does not weigh more than that it is.
        ranks = mid_ranks(pooled)
        return np.abs(ranks[:, None] - ranks[None, :]) / len(pooled)
    scale = pooled.std(axis=0)
    scaled = (pooled - pooled.mean(axis=0))[:, scale > 0] / scale[scale > 0]
    squares = (scaled**2).sum(axis=1)
    products = squares[:, None] + squares[None, :] - 2 * scaled @ scaled.T
    return np.asarray(np.sqrt(np.maximum(products, 0.0)) / math.sqrt(max(1, scaled.shape[1])))


def _energy(distances: NDArray[np.float64], is_here: NDArray[np.float64]) -> NDArray[np.float64]:
    """The energy distance of each division: is_here [k, n] of 0 and 1 gives [k]."""
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


def _dealt_out(
    num_there: int, num_here: int, num_permutations: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Which slides are here: as it is, and below that as often dealt out anew: 0 and 1 [1 + k, n + m]."""
    observed = np.repeat([0.0, 1.0], [num_there, num_here])
    return np.concatenate([observed[None], random.permuted(np.tile(observed, (num_permutations, 1)), axis=1)])


def _test(distances: NDArray[np.float64], dealt: NDArray[np.float64]) -> dict[str, object]:
    """How far the groups are apart, and how often they are as far when slides are dealt out anew."""
    energies = _energy(distances, dealt)
    num_here, num = int(dealt[0].sum()), len(energies)
    return {
        "distance": float(energies[0]),
        # What was seen counts as one of the ways to deal.
        "p": float((energies >= energies[0] - _ROUNDING).sum() / num),
        "smallest_p": max(smallest_p_of_groups(dealt.shape[1] - num_here, num_here) / 2, 1 / num),
    }


def _effect(name: str, there: NDArray[np.float64], mine: NDArray[np.float64], tolerance: float) -> dict[str, object]:
    """How far one measure differs, as a share of pairs; of features, the distance from the reference's middle."""
    values = novelty(there, mine) if name == FEATURES else (there, mine)
    effect = rank_effect(*values)
    low, high = effect.ends()
    return {
        "measure": name,
        "kind": kind_of(name),
        "num_reference": len(there),
        "num_here": len(mine),
        "reference": float(np.median(values[0])),
        "here": float(np.median(values[1])),
        "share": effect.share,
        "share_low": low,
        "share_high": high,
        "is_alike": _is_alike(there, mine, tolerance, is_features=name == FEATURES),
    }


def _is_alike(
    there: NDArray[np.float64], mine: NDArray[np.float64], tolerance: float, *, is_features: bool = False
) -> bool:
    """Whether the share of pairs lies within the tolerance, by two one-sided tests at 5 %."""
    low, high = rank_effect(*(novelty(there, mine) if is_features else (there, mine))).ends(_POWER_LEVEL)
    # Features nearer to the reference's middle than its own slides are no fault.
    return high < 0.5 + tolerance and (is_features or low > 0.5 - tolerance)


def novelty(there: NDArray[np.float64], mine: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each slide's features lie from the middle of the reference's, in its own scatter by channel.

    A slide of the reference is set beside the middle of the others, so that it does not meet itself.
    """
    num = len(there)
    scale = there.std(axis=0, ddof=1)
    scale = np.maximum(scale, 1e-6 + 0.1 * float(np.median(scale)))
    middle = there.mean(axis=0)
    others = (middle * num - there) / (num - 1)
    one, other = (
        np.sqrt((((values - middles) / scale) ** 2).mean(axis=1))
        for values, middles in ((there, others), (mine, middle))
    )
    return one, other


def _influence(frame: pd.DataFrame, distances: dict[str, NDArray[np.float64]], slides: pd.Index) -> pd.Series:
    """By how much the found distances fall without each slide, on average over the measures."""
    found = [name for name in frame.loc[frame["is_found"], "measure"] if len(distances[name]) >= len(slides)]
    shares = np.zeros(len(slides))
    for name in found:
        num_here = int(frame.loc[frame["measure"] == name, "num_here"].iloc[0])
        if num_here != len(slides) or num_here < FEWEST_SLIDES:
            continue
        matrix = distances[name]
        first = len(matrix) - num_here
        is_here = np.repeat([0.0, 1.0], [first, num_here])
        whole = float(_energy(matrix, is_here[None])[0])
        for place in range(num_here):
            kept = np.arange(len(matrix)) != first + place
            without = float(_energy(matrix[np.ix_(kept, kept)], is_here[kept][None])[0])
            shares[place] += (whole - without) / whole / len(found)
    return pd.Series(shares, index=slides)


def power_of_refuting(
    reference: MeasuredSections,
    measures: list[str],
    num_here: int,
    *,
    tolerance: float = TOLERANCE,
    num: int = _NUM_POWER,
    seed: int = SEED,
) -> float:
    """How often a site of so many slides without any shift would be called alike, by drawing from the reference.

    Two groups are drawn from the reference's slides, with replacement, as large as the reference and as the site.
    """
    random = np.random.default_rng(seed)
    means, features = reference.slide_means(), reference.slide_features()
    num_there = len(means)
    if min(num_there, num_here) < 2:
        return 0.0
    columns = {name: means[name].to_numpy() for name in measures if name != FEATURES}
    known = None if features is None or FEATURES not in measures else features[np.isfinite(features).all(axis=1)]
    hits = 0
    for _ in range(num):
        one, other = (random.integers(0, num_there, size) for size in (num_there, num_here))
        alike = all(
            _is_alike(_measured(values[one]), _measured(values[other]), tolerance) for values in columns.values()
        )
        if alike and known is not None:
            there, here = (known[random.integers(0, len(known), size)] for size in (len(known), num_here))
            alike = _is_alike(there, here, tolerance, is_features=True)
        hits += alike
    return hits / num


def _measured(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values[~np.isnan(values)], dtype=np.float64)


def slides_to_refute(
    reference: MeasuredSections,
    measures: list[str],
    *,
    power: float = 0.8,
    tolerance: float = TOLERANCE,
    most: int = MOST_SLIDES,
) -> int | None:
    """About how many slides a site without any shift needs until it is called alike so often; None where none do."""

    def is_enough(num: int) -> bool:
        return power_of_refuting(reference, measures, num, tolerance=tolerance, num=_NUM_POWER // 2) >= power

    # More slides only help: the whole range first, and then halves of it.
    if not is_enough(most):
        return None
    low, high = 2, most
    while high > 1.15 * low:
        middle = round(math.sqrt(low * high))
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
