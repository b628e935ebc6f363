"""New thresholds for a site from its labelled sections, by the study's own rule (paper, section 2.5).

What the thresholds do is measured on slides that did not choose them: each slide is judged by those that the other
labelled slides choose. How sure the choice is, whole slides say that are drawn anew. And whether any threshold mends
the model here: the highest sensitivity that any cell of the grid reaches at an acceptable specificity, at its best.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.site_transfer.labels import SiteLabels
from analysis.study_evidence.confusion import Confusion
from analysis.study_evidence.resampling import Interval, draw_slides, exact_bounds, intervals
from analysis.tables.sample_size import effective_number
from analysis.tables.selection import best_cell, called_on_grid, cells_of
from bccdist.binomial import at_most, greatest_share
from bccdist.configuration import SelectConfig
from bccdist.sections.choices import Thresholds

NUM_RESAMPLES = 1_000
_NUM_CHOSEN = 200
"""Resamples in each of which the whole grid is searched."""
_SEED = 0
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What verdicts are to reach before they are relied upon."""

    sensitivity: float = 0.9
    specificity: float = 0.8


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A share of the random labelled sections, with one-sided bounds that hold with a confidence of 95 % each.

    Exact binomial (Clopper and Pearson), of as many independent sections as they count for.
    """

    value: float
    low: float
    high: float
    num: int
    """Sections."""
    num_slides: int
    effect: float
    """Sections for each independent one."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What some thresholds do on the labelled sections."""

    figures: Mapping[str, Interval]
    """The paper's four, weighted to the cohort, with 95 % intervals over slides."""
    bounds: Mapping[str, Bound]
    """Sensitivity and specificity on the random ones alone; what a promise rests on."""


@dataclass(frozen=True, kw_only=True)
class SiteThresholds:
    """What labelled sections say about thresholds here."""

    model: Thresholds
    site: Thresholds
    t_p_range: tuple[float, float]
    """Where the middle 95 % of resamples choose it."""
    t_a_range_um2: tuple[float, float]
    agreement: float
    """Share of resamples that choose the same cell."""
    before: Judged
    """At the model's thresholds."""
    after: Judged
    """Each slide at those that the others choose."""
    best_sensitivity: Interval
    """The highest of any cell at the goal's specificity; its upper end is what it may be with 95 %."""
    goal: Goal

    @property
    def is_same(self) -> bool:
        """Whether the labels here choose the model's own thresholds."""
        # As they are told: the grid's numbers may differ in their last bit.
        return str(self.site) == str(self.model)

    @property
    def is_beyond_mending(self) -> bool:
        """Whether no threshold reaches the goal, at its best."""
        return self.best_sensitivity.high < self.goal.sensitivity


def site_thresholds(labels: SiteLabels, config: SelectConfig, *, goal: Goal) -> SiteThresholds:
    """Choose thresholds on labelled sections, and say what they do.

    Args:
        labels: of both kinds, of two slides or more.
        config: the grid that the model's own were chosen from, and beta.
        goal: what is to be reached.
    """
    sections = labels.sections
    slides, codes = _slides_of(labels)
    called = called_on_grid(
        sections.curves,
        config,
        mpp=sections.frame["mpp"].to_numpy(),
        pixel_px=sections.frame["pixel_px"].to_numpy(),
    ).reshape(sections.num, -1)
    by_slide = _counted(called, labels, codes)
    site = _choose({name: each.sum(axis=0) for name, each in by_slide.items()}, config)
    chosen = _resampled_choices(by_slide, config)
    return SiteThresholds(
        model=Thresholds.of(sections.choice),
        site=Thresholds(t_p=site["t_p"], t_a_um2=site["t_a_um2"], area_unit=config.area_unit),
        t_p_range=_range(chosen["t_p"]),
        t_a_range_um2=_range(chosen["t_a_um2"]),
        agreement=float(((chosen["t_p"] == site["t_p"]) & (chosen["t_a_um2"] == site["t_a_um2"])).mean()),
        before=judged(sections.frame["tumor_share"].to_numpy() > 0, labels, config.beta),
        after=judged(_held_out(called, by_slide, codes, config), labels, config.beta),
        best_sensitivity=_best_sensitivity(by_slide, goal, len(slides)),
        goal=goal,
    )


def choose(labels: SiteLabels, config: SelectConfig) -> Thresholds:
    """The thresholds that labelled sections choose, and nothing else of them."""
    sections = labels.sections
    mpp, pixel_px = sections.frame["mpp"].to_numpy(), sections.frame["pixel_px"].to_numpy()
    called = called_on_grid(sections.curves, config, mpp=mpp, pixel_px=pixel_px).reshape(sections.num, -1)
    counted = _counted(called, labels, np.zeros(sections.num, dtype=np.int64))
    cell = _choose({name: each.sum(axis=0) for name, each in counted.items()}, config)
    return Thresholds(t_p=cell["t_p"], t_a_um2=cell["t_a_um2"], area_unit=config.area_unit)


def judged(called_tumor: NDArray[np.bool_], labels: SiteLabels, beta: float) -> Judged:
    """The figures of verdicts on labelled sections.

    Args:
        called_tumor: bool [n].
        labels: of the n sections.
        beta: of F_beta.
    """
    slides, codes = _slides_of(labels)
    counted = {name: each[:, 0] for name, each in _counted(called_tumor[:, None], labels, codes).items()}
    draws = draw_slides(len(slides), num_resamples=NUM_RESAMPLES)
    mine = labels.is_random
    kinds = {
        "sensitivity": (labels.sections.is_tumor & mine, called_tumor),
        "specificity": (labels.sections.is_normal & mine, ~called_tumor),
    }
    return Judged(
        figures=intervals(_confusion(counted), draws, beta),
        bounds={name: _bound(is_of, right, codes) for name, (is_of, right) in kinds.items()},
    )


def _bound(is_of: NDArray[np.bool_], is_right: NDArray[np.bool_], codes: NDArray[np.int64]) -> Bound:
    number = np.bincount(codes[is_of], minlength=codes.max(initial=0) + 1)
    right = np.bincount(codes[is_of & is_right], minlength=len(number))
    num = int(number.sum())
    if not num:
        return Bound(value=math.nan, low=0.0, high=1.0, num=0, num_slides=0, effect=math.nan)
    share, effective = right.sum() / num, max(1.0, effective_number(right, number))
    low, high = one_sided(share, math.floor(effective))
    return Bound(
        value=float(share),
        low=low,
        high=high,
        num=num,
        num_slides=int(np.count_nonzero(number)),
        effect=num / effective,
    )


def one_sided(share: float, num: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Clopper and Pearson's bounds of a share of `num`, each one-sided; of a part of a trial the wider ones."""
    least, most = math.floor(share * num + 1e-9), math.ceil(share * num - 1e-9)
    return 1 - greatest_share(num - least, num, confidence), greatest_share(most, num, confidence)


@cache
def sections_needed(share: float, promise: float, effect: float, *, most: int = 20_000) -> int | None:
    """How many labelled sections of a kind bear a promise, if as large a share is right as was found.

    Args:
        share: that is right.
        promise: of which the lower one-sided bound is to be no lower.
        effect: sections for each independent one.
        most: None where so many independent ones are not enough, or the share is no greater than the promise.
    """
    if math.isnan(share) or share <= promise:
        return None
    num = math.ceil(math.log(1 - CONFIDENCE) / math.log(promise))
    while num <= most:
        wrong = math.ceil((1 - share) * num - 1e-9)
        # The lower bound is the promise or more where so few wrong ones would be as rare under the promise.
        if at_most(wrong, num, 1 - promise) <= 1 - CONFIDENCE + 1e-12:
            return math.ceil(num * effect)
        num = math.ceil(num * 1.02)
    return None


def _slides_of(labels: SiteLabels) -> tuple[pd.Index, NDArray[np.int64]]:
    codes, slides = pd.factorize(labels.sections.frame["slide_id"], sort=True)
    return pd.Index(slides), np.asarray(codes, dtype=np.int64)


def _counted(
    called: NDArray[np.bool_], labels: SiteLabels, codes: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """tp, fn, fp and tn of each slide in each of k cells, weighted: [slides, k]; `called` is [n, k]."""
    of_slide = np.zeros((codes.max(initial=0) + 1, len(codes)))
    of_slide[codes, np.arange(len(codes))] = labels.weights
    is_tumor = labels.sections.is_tumor[:, None]
    kinds = {"tp": is_tumor & called, "fn": is_tumor & ~called, "fp": ~is_tumor & called, "tn": ~is_tumor & ~called}
    return {name: of_slide @ wanted.astype(np.float64) for name, wanted in kinds.items()}


def _confusion(counted: Mapping[str, Any]) -> Confusion:
    return Confusion(**counted)


def _choose(counted: Mapping[str, NDArray[np.float64]], config: SelectConfig) -> dict[str, Any]:
    """The cell that the study's rule takes: [k] counts of the grid's cells."""
    return best_cell(cells_of(_confusion(counted), config).assign(epoch=0), [0])


def _resampled_choices(by_slide: Mapping[str, NDArray[np.float64]], config: SelectConfig) -> pd.DataFrame:
    draws = draw_slides(len(by_slide["tp"]), num_resamples=_NUM_CHOSEN, seed=_SEED)
    cells = [_choose({name: draw @ each for name, each in by_slide.items()}, config) for draw in draws]
    return pd.DataFrame(cells)


def _held_out(
    called: NDArray[np.bool_],
    by_slide: Mapping[str, NDArray[np.float64]],
    codes: NDArray[np.int64],
    config: SelectConfig,
) -> NDArray[np.bool_]:
    """The verdict on each section at the thresholds that the other slides choose: bool [n]."""
    totals = {name: each.sum(axis=0) for name, each in by_slide.items()}
    verdicts = np.zeros(len(codes), dtype=bool)
    cells = cells_of(_confusion(totals), config)
    place = {(row.t_p, row.t_a_um2): number for number, row in enumerate(cells.itertuples())}
    for slide in range(len(by_slide["tp"])):
        rest = {name: np.maximum(totals[name] - each[slide], 0.0) for name, each in by_slide.items()}
        cell = _choose(rest, config)
        mine = codes == slide
        verdicts[mine] = called[mine, place[cell["t_p"], cell["t_a_um2"]]]
    return verdicts


def _best_sensitivity(by_slide: Mapping[str, NDArray[np.float64]], goal: Goal, num_slides: int) -> Interval:
    """The highest sensitivity of any cell with an acceptable specificity, and how high and low it may be.

    In each resample the best cell is looked for anew, so that the upper end is rather too high than too low.
    """
    draws = draw_slides(num_slides, num_resamples=NUM_RESAMPLES, seed=_SEED)

    def best(confusion: Confusion) -> NDArray[np.float64]:
        able = confusion.specificity >= goal.specificity - 1e-9
        return np.asarray(np.where(able, confusion.sensitivity, 0.0).max(axis=-1))

    value = float(best(_confusion({name: each.sum(axis=0) for name, each in by_slide.items()})))
    samples = best(_confusion({name: draws @ each for name, each in by_slide.items()}))
    low, high = np.nanquantile(samples, [1 - CONFIDENCE, CONFIDENCE])
    num_tumor_slides = int(np.count_nonzero((by_slide["tp"] + by_slide["fn"]).max(axis=1)))
    # Few slides that are all alike do not make sure of it.
    exact = exact_bounds(value, num_tumor_slides)
    return Interval(value=value, low=min(float(low), exact[0]), high=max(float(high), exact[1]))


def _range(values: pd.Series) -> tuple[float, float]:
    low, high = np.quantile(values.to_numpy(), [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)
