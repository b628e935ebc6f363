"""What figures would have been on other slides: resampling by slide (the paper gives no intervals).

Sections of one slide are alike: one patient, one stain, one scan. So whole slides are drawn with replacement, as many
as there are, and every figure is computed anew from each drawn set. Different settings and outputs are judged on the
same drawn slides, so that what they have in common does not blur their difference.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.study_evidence.confusion import Confusion
from analysis.study_evidence.table import NOT_KNOWN
from bccdist.binomial import greatest_share
from bccdist.parts import Label
from bccdist.sections.verdicts import Verdict

NUM_RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
"""The share of resamples that every interval holds."""
FEW_SLIDES = 20
"""Intervals over fewer slides are known to be too narrow, and tables say so."""
EXACT_NOTE = "Where no section is wrong, or every slide alike: Clopper and Pearson's bounds, each slide one trial."
"""What tables say below intervals of this module."""
_ROUNDING = 1e-9
FIGURES = ("accuracy", "sensitivity", "specificity", "f_beta")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with the range that it has over resampled slides."""

    value: float
    low: float
    high: float

    def columns(self, name: str) -> dict[str, float]:
        """Make three columns of a table: the value, and two more for the ends."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    @classmethod
    def from_columns(cls, row: Mapping[Any, Any], name: str) -> Self:
        """Read the interval from three such columns."""
        return cls(value=row[name], low=row[f"{name}_low"], high=row[f"{name}_high"])

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference of 0 is not among the likely ones."""
        return self.low > 0 or self.high < 0


def draw_slides(num_slides: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = SEED) -> NDArray[np.int64]:
    """How often each slide was drawn in each resample: int64 [num_resamples, num_slides]."""
    random = np.random.default_rng(seed)
    return np.asarray(random.multinomial(num_slides, np.full(num_slides, 1 / num_slides), size=num_resamples))


def counts_by_slide(verdicts: pd.DataFrame, slide_ids: pd.Index) -> Confusion:
    """The confusion of each slide, arrays [num_slides] in the order of `slide_ids`.

    Args:
        verdicts: rows with slide_id, label and verdict; those without a label or for review count nowhere.
        slide_ids: every slide of the rows.
    """
    place = slide_ids.get_indexer(pd.Index(verdicts["slide_id"]))
    is_tumor = np.asarray(verdicts["label"] == Label.TUMOR.value, dtype=bool)
    is_normal = np.asarray(verdicts["label"] == Label.NORMAL.value, dtype=bool)
    called_tumor = np.asarray(verdicts["verdict"] == Verdict.TUMOR.value, dtype=bool)
    called_normal = np.asarray(verdicts["verdict"] == Verdict.NORMAL.value, dtype=bool)

    def num(wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(place[wanted], minlength=len(slide_ids))

    return Confusion(
        tp=num(is_tumor & called_tumor),
        fn=num(is_tumor & called_normal),
        fp=num(is_normal & called_tumor),
        tn=num(is_normal & called_normal),
    )


def resampled(by_slide: Confusion, draws: NDArray[np.int64]) -> Confusion:
    """The confusion of each resample: arrays [num_resamples]."""
    return Confusion(**{each.name: draws @ getattr(by_slide, each.name) for each in fields(Confusion)})


def total(by_slide: Confusion) -> Confusion:
    """The confusion of all slides together."""
    return Confusion(**{each.name: int(np.sum(getattr(by_slide, each.name))) for each in fields(Confusion)})


def figures_of(confusion: Confusion, beta: float) -> dict[str, NDArray[np.float64]]:
    """The paper's four figures, by name."""
    return {name: np.asarray(confusion.figures(beta)[name], dtype=np.float64) for name in FIGURES}


def interval_of(
    value: float, samples: NDArray[np.float64], *, num_trials: int, is_difference: bool = False
) -> Interval:
    """Take the middle `LEVEL` of the samples; where that is one outcome, the exact bounds.

    Where every section is right, or every slide alike, resampling finds no other outcome, and an interval of no width
    would claim a certainty that is not there. Then the bounds are Clopper and Pearson's for a share of `value`, or for
    a difference of shares of `value`, with each slide as one trial.

    Args:
        value: a share, or a difference of two shares of the same trials.
        samples: the value over resampled slides; NaN where it is not defined.
        num_trials: slides that the value rests on.
        is_difference: whether it is one of two shares; 0 then has a bound on either side.

    Returns:
        The interval; its ends are NaN where no sample has a value.
    """
    return _interval_of(value, samples, num_trials=num_trials, is_difference=is_difference)[0]


def _interval_of(
    value: float, samples: NDArray[np.float64], *, num_trials: int, is_difference: bool = False
) -> tuple[Interval, bool]:
    """As `interval_of`; and whether its ends are the exact bounds."""
    if np.isnan(samples).all():
        return Interval(value=value, low=float("nan"), high=float("nan")), False
    low, high = _ends(samples)
    is_exact = high - low < _ROUNDING
    if is_exact:
        low, high = exact_bounds(abs(value), num_trials)
        if is_difference and value <= 0:
            low, high = -high, (-low if value else high)
    return Interval(value=value, low=low, high=high), is_exact


def band_of(
    values: NDArray[np.float64], samples: NDArray[np.float64], *, num_trials: int, rises: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The interval at each place of a curve of shares, as the lower and the upper edge of a band around it.

    Exact bounds are wider than what resampling finds a place further on, where a single section is wrong. So that the
    band makes no step inwards there, they hold on to where the curve is lower (the lower one) or higher (the upper).

    Args:
        values: shares [n].
        samples: the same over resampled slides, [num_resamples, n].
        num_trials: as in `interval_of`.
        rises: whether the curve rises with its places, or falls.

    Returns:
        Two arrays [n].
    """
    found = [_interval_of(float(value), samples[:, at], num_trials=num_trials) for at, value in enumerate(values)]
    is_exact = np.array([exact for _, exact in found])
    low, high = (np.array([getattr(each, end) for each, _ in found]) for end in ("low", "high"))
    lower, upper = np.where(is_exact, low, np.inf), np.where(is_exact, high, -np.inf)
    if rises:
        lower, upper = np.minimum.accumulate(lower[::-1])[::-1], np.maximum.accumulate(upper)
    else:
        lower, upper = np.minimum.accumulate(lower), np.maximum.accumulate(upper[::-1])[::-1]
    return np.minimum(low, lower), np.maximum(high, upper)


def are_alike(samples: NDArray[np.float64]) -> bool:
    """Whether the middle `LEVEL` of what resampling found is one outcome, but for rounding."""
    low, high = _ends(samples)
    return high - low < _ROUNDING


def middle_of(samples: NDArray[np.float64]) -> tuple[float, float]:
    """Where the middle `LEVEL` of samples ends, by values that occur, since between infinite ones there is nothing."""
    known = samples[~np.isnan(samples)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return float(low), float(high)


def _ends(samples: NDArray[np.float64]) -> tuple[float, float]:
    """Where the middle `LEVEL` of the samples that have a value ends."""
    low, high = np.quantile(samples[~np.isnan(samples)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def exact_bounds(share: float, num_trials: int) -> tuple[float, float]:
    """Clopper and Pearson's two-sided bounds of a share of `num_trials`; of a part of a trial the wider ones."""
    confidence, count = (1 + LEVEL) / 2, share * num_trials
    least, most = math.floor(count + _ROUNDING), math.ceil(count - _ROUNDING)
    low = 1 - greatest_share(num_trials - least, num_trials, confidence) if least else 0.0
    return low, greatest_share(most, num_trials, confidence)


def trials_of(by_slide: Confusion) -> dict[str, int]:
    """Slides that each figure rests on, by its name."""
    return {
        "accuracy": int(np.count_nonzero(by_slide.total)),
        "sensitivity": int(np.count_nonzero(by_slide.tp + by_slide.fn)),
        "specificity": int(np.count_nonzero(by_slide.fp + by_slide.tn)),
        "f_beta": int(np.count_nonzero(by_slide.tp + by_slide.fn + by_slide.fp)),
    }


def intervals(by_slide: Confusion, draws: NDArray[np.int64], beta: float) -> dict[str, Interval]:
    """The four figures with their intervals.

    F_beta is no share: where resampling finds one value alone, its ends are those at the ends of sensitivity and
    specificity.
    """
    confusion = total(by_slide)
    found, samples = figures_of(confusion, beta), figures_of(resampled(by_slide, draws), beta)
    trials = trials_of(by_slide)
    result = {name: interval_of(float(found[name]), samples[name], num_trials=trials[name]) for name in FIGURES}
    if np.isfinite(found["f_beta"]) and are_alike(samples["f_beta"]):
        low, high = (_f_beta_at(result, end, confusion, beta) for end in ("low", "high"))
        result["f_beta"] = Interval(value=float(found["f_beta"]), low=low, high=high)
    return result


def differences(one: Confusion, other: Confusion, draws: NDArray[np.int64], beta: float) -> dict[str, Interval]:
    """The four figures of the first less those of the second, with their intervals.

    Args:
        one, other: of the same sections by slide, judged by two models.
        draws: from `draw_slides`.
        beta: of F_beta; where no resample shows a difference, its ends are what one model could lose of it if
            sections were discordant as often as the exact bounds allow.
    """
    found, samples = (
        [figures_of(change(each), beta) for each in (one, other)]
        for change in (total, lambda each: resampled(each, draws))
    )
    trials = trials_of(one)
    result = {}
    for name in FIGURES:
        value = float(found[0][name] - found[1][name])
        result[name] = interval_of(
            value, samples[0][name] - samples[1][name], num_trials=trials[name], is_difference=True
        )
    if result["f_beta"].value == 0 and are_alike(samples[0]["f_beta"] - samples[1]["f_beta"]):
        lost = _most_lost(float(found[0]["f_beta"]), result, found[0], total(one), beta)
        result["f_beta"] = Interval(value=0.0, low=-lost, high=lost)
    return result


def _most_lost(
    f_beta: float,
    found: Mapping[str, Interval],
    figures: Mapping[str, NDArray[np.float64]],
    confusion: Confusion,
    beta: float,
) -> float:
    """How much of F_beta is lost where sensitivity and specificity fall by the ends of their differences."""
    fallen = {}
    for name in ("sensitivity", "specificity"):
        value = max(0.0, float(figures[name]) - found[name].high)
        fallen[name] = Interval(value=value, low=value, high=value)
    return f_beta - _f_beta_at(fallen, "low", confusion, beta)


def _f_beta_at(found: Mapping[str, Interval], end: str, confusion: Confusion, beta: float) -> float:
    """F_beta where sensitivity and specificity are both at one end of their intervals; NaN without Tumor sections."""
    num_tumor, num_normal = confusion.tp + confusion.fn, confusion.fp + confusion.tn
    sensitivity = getattr(found["sensitivity"], end)
    weight = (1 + beta**2) * num_tumor * sensitivity
    missed = beta**2 * num_tumor * (1 - sensitivity)
    false = num_normal * (1 - getattr(found["specificity"], end)) if num_normal else 0.0
    return float(weight / (weight + missed + false))


def p_of_difference(samples: NDArray[np.float64], smallest: float) -> float:
    """Two-sided p-value that a difference is 0, from what it is over resampled slides; NaN where it is never known.

    Args:
        samples: the difference over resampled slides; NaN where it is not defined.
        smallest: what an exact test of so few slides gives at best (`smallest_p_of_pairs`, `smallest_p_of_groups`):
            resampling takes a few slides that are all alike for as sure as many.
    """
    known = samples[~np.isnan(samples)]
    if not known.size:
        return math.nan
    # One is added to both, since a p-value of resamples is never 0.
    below, above = ((known <= _ROUNDING).sum() + 1, (known >= -_ROUNDING).sum() + 1)
    return float(min(1.0, max(smallest, 2 * min(below, above) / (len(known) + 1))))


def smallest_p_of_pairs(num_slides: int) -> float:
    """What an exact test gives where all slides say the same of two models, which might as well have been swapped."""
    return min(1.0, 2.0 ** (1 - num_slides))


def smallest_p_of_groups(num_one: int, num_other: int) -> float:
    """What an exact test gives of two groups of so many slides, which might have been dealt out in any other way."""
    return min(1.0, float(Fraction(2, math.comb(num_one + num_other, num_one))))


def holm(p: pd.Series) -> pd.Series:
    """p-values adjusted for their number, by Holm's step-down rule (1979); NaN stays so and does not count.

    The one rule of all tables with p-values: each adjusts for all comparisons that stand in it.
    """
    known = p.dropna().sort_values(kind="stable")
    scaled = known * np.arange(len(known), 0, -1)
    return scaled.cummax().clip(upper=1.0).reindex(p.index)


def holm_note(p: pd.Series) -> str:
    """What a table of p-values says of their number, as the end of a sentence."""
    return f"adjusted for the {int(p.notna().sum())} comparison(s) of this table by Holm's rule (1979)."


def p_texts(p: pd.Series) -> list[str]:
    """p-values as texts; NaN is not known."""
    return [NOT_KNOWN if math.isnan(each) else f"{each:.4f}" if each >= 0.0001 else "< 0.0001" for each in p]


def few_slides_notes(num_slides: Mapping[str, int]) -> tuple[str, ...]:
    """The note below intervals some of which rest on few slides, and which those are.

    Args:
        num_slides: how many slides the intervals rest on, by what they are of.
    """
    few = {name: num for name, num in num_slides.items() if num < FEW_SLIDES}
    if not few:
        return ()
    named = ", ".join(f"{name} {num}" for name, num in few.items())
    return (f"Intervals over fewer than {FEW_SLIDES} slides are narrower than they should be; slides: {named}.",)


def judged_by_both(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the labelled sections that both call Tumor or Normal, in one order."""
    keys = ["slide_id", "section_id"]
    judged = [
        each[each["label"].notna() & (each["verdict"] != Verdict.REVIEW.value)].set_index(keys)
        for each in (one, other)
    ]
    common = judged[0].index.intersection(judged[1].index)
    first, second = (each.loc[common].reset_index() for each in judged)
    return first, second
