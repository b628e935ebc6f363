"""Whether a section's probability means what it says, on Test: `python analysis/make.py reliability STUDY`.

A section's probability is the highest t_p at which it is Tumor with the chosen t_A. Among sections of about one
probability the share of Tumor would be that probability, if it were calibrated. The focal loss and the balanced
training patches (paper, section 2.3) give no reason to expect it; this says how far it is off: by tenths of
probability, and by the intercept and the slope that the logit would need (calibration in the large, and whether high
and low probabilities are too extreme).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.logistic import intercepts, logit, slopes
from analysis.study_evidence.resampling import (
    EXACT_NOTE,
    LEVEL,
    NUM_RESAMPLES,
    SEED,
    Interval,
    draw_slides,
    few_slides_notes,
    interval_of,
    middle_of,
)
from analysis.study_evidence.scored_sections import ScoredSections, all_scored, unread_notes
from analysis.study_evidence.table import NOT_KNOWN, Table, rounded, warning_of, write_frame
from analysis.study_evidence.verdict_table import fast_notes
from analysis.tables.chart import STYLES, new_figure, tidy, write_chart
from analysis.tables.roc import Counts, counts_at_steps
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.parts import Part
from bccdist.sections.curve import CURVE_LENGTH

NUM_BINS = 10
PROBABILITIES = np.arange(CURVE_LENGTH) / NUM_STEPS
LOGITS = logit(np.clip(PROBABILITIES, 0.5 / NUM_STEPS, 1 - 0.5 / NUM_STEPS))
"""Of the stored probabilities; 0 and 1, which have none, stand half a step from their ends."""
_BIN_OF_STEP = np.minimum((PROBABILITIES * NUM_BINS).astype(int), NUM_BINS - 1)
FITTED, SEPARATED, ONE_VALUE = "fitted", "separated", "one value"


def build_bins(every: Sequence[ScoredSections]) -> pd.DataFrame:
    """One row per setting and tenth of probability that has sections, with its interval over resampled slides."""
    return pd.DataFrame([row for sections in every for row in _bins(sections)])


def _bins(sections: ScoredSections) -> Iterator[dict[str, Any]]:
    of_tumor, of_normal = counts_at_steps(sections)
    draws = draw_slides(len(of_tumor))
    for number in range(NUM_BINS):
        inside = number == _BIN_OF_STEP
        tumor, all_there = of_tumor[:, inside].sum(-1), (of_tumor + of_normal)[:, inside].sum(-1)
        if not all_there.any():
            continue
        num_slides = int(np.count_nonzero(all_there))
        samples = _shares(draws @ tumor, draws @ all_there)
        share = interval_of(float(tumor.sum() / all_there.sum()), samples, num_trials=num_slides)
        mean = (of_tumor + of_normal).sum(0)[inside] @ PROBABILITIES[inside] / all_there.sum()
        yield {
            "setting": sections.choice.setting,
            "probability_low": number / NUM_BINS,
            "probability_high": (number + 1) / NUM_BINS,
            "mean_probability": float(mean),
            **share.columns("tumor_share"),
            "num_sections": int(all_there.sum()),
            "num_slides": num_slides,
            **sections.marks,
        }


def _shares(counts: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """NaN where there is nothing to have a share of."""
    return np.asarray(np.divide(counts, numbers, out=np.full(len(counts), np.nan), where=numbers > 0))


@dataclass(frozen=True, kw_only=True)
class Recalibration:
    """What would have to be done to the logits of a setting's sections to make them calibrated."""

    intercept: Interval
    """To be added to all of them, their slope held at 1: above 0 probabilities are too low on the whole."""
    slope: Interval
    """To multiply them by, with an intercept of its own: below 1 they are too extreme. NaN where not fitted."""
    outcome: str
    """Whether the slope could be fitted: `FITTED`, `SEPARATED` or `ONE_VALUE`."""


def recalibration(of_tumor: Counts, of_normal: Counts, draws: Counts) -> Recalibration:
    """Fit intercept and slope, and both again on each set of resampled slides.

    Args:
        of_tumor, of_normal: sections of each slide at each step, from `counts_at_steps`; there are some of both.
        draws: from `draw_slides`.
    """
    there = (of_tumor + of_normal).any(axis=0)
    by_slide = [each[:, there].astype(np.float64) for each in (of_tumor, of_normal)]

    def fit(fitted: Callable[..., NDArray[np.float64]]) -> tuple[float, NDArray[np.float64]]:
        value = fitted(LOGITS[there], *(each.sum(0, keepdims=True) for each in by_slide))
        return float(value[0]), fitted(LOGITS[there], *(draws.astype(np.float64) @ each for each in by_slide))

    slope, slope_samples = fit(slopes)
    outcome = ONE_VALUE if math.isnan(slope) else SEPARATED if math.isinf(slope) else FITTED
    nothing = Interval(value=math.nan, low=math.nan, high=math.nan)
    return Recalibration(
        intercept=_interval_of(*fit(intercepts)),
        slope=_interval_of(slope, slope_samples) if outcome == FITTED else nothing,
        outcome=outcome,
    )


def _interval_of(value: float, samples: NDArray[np.float64]) -> Interval:
    """No shares, so there are no exact bounds where resampling finds one value alone: nothing is known then."""
    low, high = middle_of(samples)
    if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-9):
        return Interval(value=value, low=math.nan, high=math.nan)
    return Interval(value=value, low=low, high=high)


def build_reliability(every: Sequence[ScoredSections], bins: pd.DataFrame) -> Table:
    """One row per setting: calibration error, Brier score, and the intercept and slope of recalibration."""
    frame = pd.DataFrame([_row(each, bins[bins["setting"] == each.choice.setting]) for each in every])
    rows = frame.to_dict("records")
    printed = pd.DataFrame(
        {
            "setting": frame["setting"],
            "calibration error": rounded(frame["calibration_error"], 3),
            "Brier score": rounded(frame["brier_score"], 3),
            "by Tumor's share alone": rounded(frame["brier_score_of_share"], 3),
            "intercept": [_text(Interval.from_columns(row, "intercept")) for row in rows],
            "slope": [
                _text(Interval.from_columns(row, "slope")) if row["slope_outcome"] == FITTED else row["slope_outcome"]
                for row in rows
            ],
            "sections": frame["num_sections"].astype(str),
            "slides": frame["num_slides"].astype(str),
        }
    )
    return Table(
        name="reliability",
        title="Calibration of the sections' probabilities on Test; best are 0, and a slope of 1.",
        frame=frame,
        printed=printed,
        notes=(
            f"Calibration error: mean distance of probability and Tumor's share over {NUM_BINS} bins, by sections.",
            "Brier score: mean squared distance to the label; beside it that of always saying Tumor's share.",
            (
                "Intercept: what the logits lack on the whole, above 0 where probabilities are too low. Slope: below "
                f"1 where they are too extreme. {LEVEL:.0%} intervals over {NUM_RESAMPLES:,} resamples of whole "
                f"slides, seed {SEED}; {NOT_KNOWN} where all slides are alike."
            ),
            f"Lines of the picture: the {LEVEL:.0%} interval of Tumor's share, from the same resamples. {EXACT_NOTE}",
            *_outcome_notes(frame),
            *few_slides_notes({row["setting"]: row["num_slides"] for row in rows}),
            *unread_notes(every),
            *fast_notes(pd.concat([each.frame for each in every])),
        ),
    )


def _outcome_notes(frame: pd.DataFrame) -> Iterator[str]:
    """Why a slope or an end of its interval is no number."""
    outcomes = set(frame["slope_outcome"])
    if SEPARATED in outcomes:
        yield "Separated: a probability tells all Tumor from all Normal sections, so no finite slope fits best."
    if ONE_VALUE in outcomes:
        yield "One value: all sections have the same probability, so that there is no slope."
    if np.isinf(frame[["slope_low", "slope_high"]]).any(axis=None):
        yield "An infinite end: so many of the resamples are separated that the slope has no bound there."


def _text(found: Interval) -> str:
    ends = NOT_KNOWN if math.isnan(found.low) else f"{found.low:.2f} to {found.high:.2f}"
    return f"{found.value:.2f} ({ends})"


def _row(sections: ScoredSections, bins: pd.DataFrame) -> dict[str, Any]:
    probability, is_tumor = sections.steps / NUM_STEPS, sections.is_tumor
    by_slide = counts_at_steps(sections)
    recalibrated = recalibration(*by_slide, draw_slides(len(by_slide[0])))
    off = (bins["mean_probability"] - bins["tumor_share"]).abs() * bins["num_sections"]
    return {
        "setting": sections.choice.setting,
        "calibration_error": float(off.sum() / bins["num_sections"].sum()),
        "brier_score": float(np.mean((probability - is_tumor) ** 2)),
        "brier_score_of_share": float(is_tumor.mean() * (1 - is_tumor.mean())),
        **recalibrated.intercept.columns("intercept"),
        **recalibrated.slope.columns("slope"),
        "slope_outcome": recalibrated.outcome,
        "num_sections": len(probability),
        "num_slides": len(by_slide[0]),
        **sections.marks,
    }


def draw(bins: pd.DataFrame) -> Figure:
    """Share of Tumor with its interval against probability, and below it how many sections there are."""
    figure = new_figure(6.4, 6.4, "Calibration of the sections' probabilities, Test", warning=warning_of(bins))
    axes, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    axes.plot([0, 1], [0, 1], color="#b0b0b0", linestyle="dotted")
    settings = list(bins["setting"].unique())
    for number, setting in enumerate(settings):
        mine = bins[bins["setting"] == setting]
        colour, marker = STYLES[str(setting)]
        axes.vlines(
            mine["mean_probability"], mine["tumor_share_low"], mine["tumor_share_high"], color=colour, alpha=0.6
        )
        axes.plot(mine["mean_probability"], mine["tumor_share"], marker=marker, color=colour, label=setting)
        width = 0.08 / len(settings)
        below.bar(mine["probability_low"] + 0.01 + (number + 0.5) * width, mine["num_sections"], width, color=colour)
    axes.set_ylabel("share of Tumor")
    axes.legend(loc="upper left")
    below.set_ylabel("sections")
    below.set_yscale("symlog")
    below.set_xlabel("highest t_p at which a section is Tumor")
    tidy(axes)
    tidy(below)
    return figure


def write_reliability(study: Evidence) -> Table:
    """Draw and write whether the sections' probabilities on Test mean what they say.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, or Test has not both Tumor and Normal sections.
    """
    every = all_scored(study.ledger, study.choices, [Part.TEST])
    bins = build_bins(every)
    write_frame(study.paths.tables / "reliability_bins.parquet", bins, "reliability_bins")
    write_chart(study.paths.figure("reliability"), draw(bins))
    return study.write(build_reliability(every, bins))
