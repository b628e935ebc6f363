"""What figures would have been on other slides: resampling by slide (the paper gives no intervals).

Sections of one slide are alike: one patient, one stain, one scan. So whole slides are drawn with replacement, as many
as there are, and every figure is computed anew from each drawn set. Different settings and outputs are judged on the
same drawn slides, so that what they have in common does not blur their difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.evidence.confusion import Confusion
from bccdist.parts import Label
from bccdist.sections.verdicts import Verdict

NUM_RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
"""The share of resamples that every interval holds."""
FEW_SLIDES = 20
"""Intervals over fewer slides are known to be too narrow, and tables say so."""
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


def interval_of(value: float, samples: NDArray[np.float64]) -> Interval:
    """Take the middle `LEVEL` of the samples; NaN where no sample has a value."""
    known = samples[~np.isnan(samples)]
    if not known.size:
        return Interval(value=value, low=float("nan"), high=float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def intervals(by_slide: Confusion, draws: NDArray[np.int64], beta: float) -> dict[str, Interval]:
    """The four figures with their intervals.

    Where every section is right, resampling finds no other outcome, and an interval of no width would claim a
    certainty that is not there. Then the bound is Clopper and Pearson's, with each slide that has such sections as one
    trial. Of F_beta it is the value at the lower bounds of sensitivity and specificity.
    """
    found = figures_of(total(by_slide), beta)
    samples = figures_of(resampled(by_slide, draws), beta)
    result = {name: interval_of(float(found[name]), samples[name]) for name in FIGURES}
    return _with_bounds_where_all_agree(result, by_slide, beta)


def _with_bounds_where_all_agree(
    found: Mapping[str, Interval], by_slide: Confusion, beta: float
) -> dict[str, Interval]:
    """Bounds for proportions of exactly 0 or 1."""
    num_trials = {
        "accuracy": int(np.count_nonzero(by_slide.total)),
        "sensitivity": int(np.count_nonzero(by_slide.tp + by_slide.fn)),
        "specificity": int(np.count_nonzero(by_slide.fp + by_slide.tn)),
    }
    result = dict(found)
    for name, num in num_trials.items():
        result[name] = _bounded(found[name], num)
    if found["f_beta"].value == 1:
        result["f_beta"] = Interval(value=1.0, low=_f_beta_bound(result, total(by_slide), beta), high=1.0)
    return result


def _bounded(found: Interval, num_trials: int) -> Interval:
    if found.value not in (0.0, 1.0):
        return found
    tail = (1 - LEVEL) / 2
    if found.value == 1.0:
        return Interval(value=1.0, low=tail ** (1 / num_trials), high=1.0)
    return Interval(value=0.0, low=0.0, high=1 - tail ** (1 / num_trials))


def _f_beta_bound(found: Mapping[str, Interval], confusion: Confusion, beta: float) -> float:
    """F_beta where sensitivity and specificity are both as low as their intervals allow."""
    weight = (1 + beta**2) * confusion.tp * found["sensitivity"].low
    missed = beta**2 * confusion.tp * (1 - found["sensitivity"].low)
    false = confusion.tn * (1 - found["specificity"].low) if confusion.tn else 0.0
    return float(weight / (weight + missed + false))


def few_slides_notes(num_slides: int) -> tuple[str, ...]:
    """The note below intervals that rest on few slides."""
    if num_slides >= FEW_SLIDES:
        return ()
    slides = "1 slide" if num_slides == 1 else f"{num_slides} slides"
    return (f"Only {slides}: intervals over so few are narrower than they should be.",)


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
