"""What a verdict means where tumor is as frequent as elsewhere: `python analysis/make.py predictive_values STUDY`.

Sensitivity and specificity of Test, carried to other prevalences by Bayes' rule: predictive values at each, and
likelihood ratios, which have no prevalence. It takes for granted that the model errs there as often as here.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.resampling import (
    LEVEL,
    NUM_RESAMPLES,
    SEED,
    Interval,
    are_alike,
    counts_by_slide,
    draw_slides,
    few_slides_notes,
    figures_of,
    intervals,
    middle_of,
    resampled,
    total,
)
from analysis.study_evidence.table import NOT_KNOWN, Table, phantom_marks
from analysis.study_evidence.verdict_table import needs_labels
from bccdist.errors import ConfigurationError, NothingToShowError
from bccdist.parts import Part
from bccdist.sections.choices import Choice

PREVALENCES = (0.05, 0.1, 0.2, 0.5)
VALUES = ("ppv", "npv", "lr_positive", "lr_negative")


def values_at(
    sensitivity: NDArray[np.float64], specificity: NDArray[np.float64], prevalence: float
) -> dict[str, NDArray[np.float64]]:
    """Predictive values and likelihood ratios, of one shape with what is given; NaN where 0 is divided by 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
        missed, right = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
        return {
            "ppv": true / (true + false),
            "npv": right / (right + missed),
            "lr_positive": sensitivity / (1 - specificity),
            "lr_negative": (1 - sensitivity) / specificity,
        }


def build_predictive_values(
    verdicts: pd.DataFrame, choices: list[Choice], prevalences: tuple[float, ...] = PREVALENCES
) -> Table:
    """One row per setting and prevalence, the study's own first.

    Args:
        verdicts: from `all_verdicts`, of Test.
        choices: the chosen models.
        prevalences: shares of Tumor among the sections, each above 0 and below 1.

    Raises:
        NothingToShowError: Test has not both Tumor and Normal sections with a verdict.
        ConfigurationError: a prevalence is no such share.
    """
    if bad := [share for share in prevalences if not 0 < share < 1]:
        raise ConfigurationError(f"prevalence is {bad[0]}, expected a share of Tumor sections between 0 and 1")
    labelled = verdicts[verdicts["label"].notna()]
    if labelled.empty:
        raise needs_labels(verdicts, [Part.TEST])
    beta = {choice.setting: choice.beta for choice in choices}
    rows = [
        row
        for setting, mine in labelled.groupby("setting", sort=False)
        for row in _rows(mine, beta[str(setting)], prevalences)
    ]
    if not rows:
        raise NothingToShowError(
            "needs both Tumor and Normal sections of Test that are labelled and have a verdict: sensitivity or "
            "specificity is not known"
        )
    frame = pd.DataFrame(rows)
    return Table(
        name="predictive_values",
        title=f"Predictive values of section verdicts on Test, with {LEVEL:.0%} intervals.",
        frame=frame,
        printed=_printed(frame),
        notes=(
            (
                "The first prevalence is that of Test's labelled sections. The others take for granted that "
                "sensitivity and specificity are the same there, which other patients, stain or scanner may break."
            ),
            (
                f"{NUM_RESAMPLES:,} resamples of whole slides, seed {SEED}. Where no section of a kind is wrong, or "
                "every slide is alike, the ends are those of Clopper and Pearson's bounds of sensitivity and "
                "specificity together."
            ),
            *few_slides_notes({"Test": int(verdicts["slide_id"].nunique())}),
        ),
    )


def _rows(verdicts: pd.DataFrame, beta: float, prevalences: tuple[float, ...]) -> Iterator[dict[str, Any]]:
    slide_ids = pd.Index(sorted(set(verdicts["slide_id"])))
    by_slide = counts_by_slide(verdicts, slide_ids)
    draws, sums = draw_slides(len(slide_ids)), total(by_slide)
    num_tumor, num_judged = int(sums.tp + sums.fn), int(sums.total)
    if num_tumor in (0, num_judged):
        return
    bounds, samples = intervals(by_slide, draws, beta), figures_of(resampled(by_slide, draws), beta)
    own = num_tumor / num_judged
    for number, prevalence in enumerate((own, *prevalences)):
        found = _with_intervals(bounds, samples, prevalence)
        yield {
            "setting": verdicts["setting"].iloc[0],
            "prevalence": prevalence,
            "is_own": number == 0,
            **{key: value for name in VALUES for key, value in found[name].columns(name).items()},
            "num_sections": num_judged,
            "num_slides": len(slide_ids),
            **phantom_marks(verdicts),
        }


def _with_intervals(
    bounds: Mapping[str, Interval], samples: Mapping[str, NDArray[np.float64]], prevalence: float
) -> dict[str, Interval]:
    sensitivity, specificity = bounds["sensitivity"], bounds["specificity"]
    point = _at(sensitivity.value, specificity.value, prevalence)
    if are_alike(samples["sensitivity"]) or are_alike(samples["specificity"]):
        # Resampling finds nothing between: all of these rise or fall with both shares, so their ends are at the ends.
        worst, best = (
            _at(sensitivity.low, specificity.low, prevalence),
            _at(sensitivity.high, specificity.high, prevalence),
        )
        ends = {name: (min(worst[name], best[name]), max(worst[name], best[name])) for name in VALUES}
    else:
        drawn = values_at(samples["sensitivity"], samples["specificity"], prevalence)
        ends = {name: middle_of(drawn[name]) for name in VALUES}
    return {name: Interval(value=point[name], low=ends[name][0], high=ends[name][1]) for name in VALUES}


def _at(sensitivity: float, specificity: float, prevalence: float) -> dict[str, float]:
    found = values_at(np.array(sensitivity), np.array(specificity), prevalence)
    return {name: float(value) for name, value in found.items()}


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame.to_dict("records")
    return pd.DataFrame(
        {
            "setting": frame["setting"],
            "prevalence": [f"{row['prevalence']:.1%}{' (Test)' if row['is_own'] else ''}" for row in rows],
            **{
                title: [_text(Interval.from_columns(row, name), digits) for row in rows]
                for name, title, digits in (
                    ("ppv", "PPV", 3),
                    ("npv", "NPV", 3),
                    ("lr_positive", "LR+", 1),
                    ("lr_negative", "LR-", 3),
                )
            },
        }
    )


def _text(found: Interval, digits: int) -> str:
    """Rounded, with its interval; a ratio to nothing is infinite."""
    if math.isnan(found.value):
        return NOT_KNOWN
    value, low, high = (
        "inf" if math.isinf(each) else f"{each:.{digits}f}" for each in (found.value, found.low, found.high)
    )
    return f"{value} ({low} to {high})"


def write_predictive_values(study: Evidence, prevalences: tuple[float, ...] = PREVALENCES) -> Table:
    """Write predictive values and likelihood ratios of the verdicts on Test.

    Args:
        study: The study's folder.
        prevalences: Shares of Tumor sections to carry them to, beside Test's own.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or it has no labels of both kinds.
        ConfigurationError: a prevalence is not between 0 and 1.
    """
    return study.write(build_predictive_values(study.verdicts(Part.TEST), study.choices, prevalences))
