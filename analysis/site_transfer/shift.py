"""Whether a cohort's slides differ from those that a model was chosen on: a permutation test of whole slides.

Sections of a slide are alike, so a slide is one case: each measure is averaged over its sections, and if both groups
were drawn alike, any slide might as well have stood in the other one (`permutation`). Of one number the share of pairs
is compared, in its standard errors; of the features the energy distance. A third of the error may be spent on the
share of sections called Tumor: it has the least power, as a section is Tumor or not, and shows another prevalence
best. Slides of one patient count each: a reference does not say whose they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.site_transfer.permutation import (
    adjusted,
    deal_out,
    divided,
    energy,
    feature_distances,
    p_values,
    rank_distances,
    share_statistic,
    statistics,
)
from analysis.site_transfer.rank_effect import rank_effect
from analysis.site_transfer.sections import FEATURES, MEASURES, SCORES, MeasuredSections
from analysis.study_evidence.resampling import smallest_p_of_groups
from bccdist.sections.assessable import channel_scale

ALPHA = 0.05
"""How often the test may find a difference in any of its measures where there is none."""
FIRST_MEASURE = "tumor_share"
FIRST_SHARE = 1 / 3
"""Of ALPHA, for that measure; the others have equal shares of the rest."""
NUM_PERMUTATIONS = 9_999
SEED = 0
TOLERANCE = 0.15
"""How far the share of pairs may be from one half before two groups of slides are not called alike."""
FEWEST_SLIDES = 3
MOST_SLIDES = 640
"""With more slides nobody would wait for a shift to be refuted."""
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
        not_measured: measures that no slide of one of the groups has.
        too_few: measures that one slide alone of one of the groups has, so that nothing can be compared.
        influence: by slide of the cohort: the share of the found distances that goes with the slide.
    """

    frame: pd.DataFrame
    not_measured: tuple[str, ...]
    influence: pd.Series
    tolerance: float
    too_few: tuple[str, ...] = ()

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
        return bool(len(self.frame)) and bool(self.frame["is_alike"].all()) and not self.not_measured + self.too_few

    @property
    def could_find(self) -> bool:
        """Whether so few slides can give a p-value that survives the adjustment at all."""
        return bool((self.frame["smallest_p"] <= ALPHA * shares_of_error(list(self.frame["measure"]))).any())


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
    there, mine = reference.slide_means(), here.slide_means()
    pooled = {name: np.concatenate([there[name], mine[name]]) for name in MEASURES}
    pooled[FEATURES] = _pooled_features(reference, here)
    is_here = np.repeat([False, True], [len(there), len(mine)])
    orders = deal_out(len(is_here), num_permutations, np.random.default_rng(seed))
    rows, distances, p, not_measured = [], {}, [], []
    for name, values in pooled.items():
        has = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        num_there, num_here = int((has & ~is_here).sum()), int((has & is_here).sum())
        if min(num_there, num_here) < 2:
            not_measured += [name] if min(num_there, num_here) == 0 else []
            continue
        known, division = values[has], divided(orders, has, num_there)
        distances[name] = feature_distances(known) if name == FEATURES else rank_distances(known)
        apart = partial(energy, distances[name]) if name == FEATURES else share_statistic(known)
        p.append(p_values(statistics(division, apart)))
        rows.append(
            {
                "distance": float(energy(distances[name], is_here[has][None].astype(np.float64))[0]),
                "p": p[-1][0],
                "smallest_p": _smallest_p(name, num_there, num_here, num_permutations),
                **_effect(name, known[:num_there], known[num_there:], tolerance),
            }
        )
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    frame["p_adjusted"] = adjusted(np.array(p), shares_of_error(list(distances))) if p else np.empty(0)
    frame["is_found"] = frame["p_adjusted"] <= ALPHA
    return Shift(
        frame=frame,
        not_measured=tuple(not_measured),
        too_few=tuple(name for name in pooled if name not in distances and name not in not_measured),
        influence=_influence(frame, distances, mine.index),
        tolerance=tolerance,
    )


_COLUMNS = (
    *("measure", "kind", "num_reference", "num_here", "reference", "here"),
    *("distance", "share", "share_low", "share_high", "p", "smallest_p", "is_alike"),
)


def kind_of(measure: str) -> str:
    """What a measure is of."""
    return FEATURES if measure == FEATURES else "scores" if measure in SCORES else "picture"


def shares_of_error(measures: Sequence[str]) -> NDArray[np.float64]:
    """How much of ALPHA each measure may spend: [measures], 1 together."""
    if FIRST_MEASURE not in measures or len(measures) == 1:
        return np.full(len(measures), 1 / max(1, len(measures)))
    rest = (1 - FIRST_SHARE) / (len(measures) - 1)
    return np.array([FIRST_SHARE if name == FIRST_MEASURE else rest for name in measures])


def _pooled_features(reference: MeasuredSections, here: MeasuredSections) -> NDArray[np.float64]:
    """The features of each slide of both, those of the reference first: [n + m, c]; NaN where one side lacks them."""
    there, mine = reference.slide_features(), here.slide_features()
    if there is None or mine is None or there.shape[1] != mine.shape[1]:
        return np.full((reference.num_slides + here.num_slides, 1), np.nan)
    return np.concatenate([there, mine])


def _smallest_p(name: str, num_there: int, num_here: int, num_permutations: int) -> float:
    """What so few slides give at best; of features one division alone may be the furthest, of numbers it is two."""
    exact = smallest_p_of_groups(num_there, num_here)
    return max(exact / 2 if name == FEATURES else exact, 1 / (1 + num_permutations))


def _effect(name: str, there: NDArray[np.float64], mine: NDArray[np.float64], tolerance: float) -> dict[str, object]:
    """How far one measure differs, as a share of pairs; of features, the distance from the reference's middle."""
    values = middle_distances(there, mine) if name == FEATURES else (there, mine)
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
    low, high = rank_effect(*(middle_distances(there, mine) if is_features else (there, mine))).ends(_POWER_LEVEL)
    # Features nearer to the reference's middle than its own slides are no fault.
    return high < 0.5 + tolerance and (is_features or low > 0.5 - tolerance)


def middle_distances(
    there: NDArray[np.float64], mine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each slide's features lie from the middle of the reference's, in its own scatter by channel: [n], [m].

    A slide of the reference is set beside the middle of the others, so that it does not meet itself. This compares
    groups; whether a section is like any of the reference, `assessable.NearestSections` says.
    """
    num, middle, scale = len(there), there.mean(axis=0), channel_scale(there)
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
        whole = float(energy(matrix, is_here[None])[0])
        for place in range(num_here):
            kept = np.arange(len(matrix)) != first + place
            without = float(energy(matrix[np.ix_(kept, kept)], is_here[kept][None])[0])
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
