"""ROC and precision-recall of section verdicts on Test: `python analysis/make.py roc STUDY`.

t_p runs over all 256 stored probabilities while t_A stays as chosen: all of it comes from the curves in the ledger.
Bands say what the curves would have been on other slides: at each 1 - specificity the range of sensitivity, at each
sensitivity that of precision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.study_evidence.confusion import Confusion
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.resampling import (
    EXACT_NOTE,
    LEVEL,
    NUM_RESAMPLES,
    SEED,
    Interval,
    band_of,
    draw_slides,
    few_slides_notes,
    interval_of,
)
from analysis.study_evidence.scored_sections import ScoredSections, all_scored, unread_notes
from analysis.study_evidence.table import Table, warning_of, write_frame
from analysis.study_evidence.verdict_table import fast_notes
from analysis.tables.chart import BAND_ALPHA, STYLES, new_figure, tidy, write_chart
from analysis.tables.intervals import interval_text
from bccdist.heatmaps.probability import NUM_STEPS, step_of
from bccdist.parts import Part
from bccdist.sections.choices import Choice
from bccdist.sections.curve import CURVE_LENGTH

Counts = NDArray[np.int64]
Shares = NDArray[np.float64]
GRID = np.arange(101) / 100
"""Where bands are given: 1 - specificity of ROC, and sensitivity of precision-recall."""
BAND_NOTE = (
    f"Bands of the picture: the {LEVEL:.0%} interval of sensitivity at each 1 - specificity, and of precision at each "
    "sensitivity, one place at a time, from the same resamples. Near the ends of a curve, where less than one section "
    "decides, they are too narrow."
)
_MOST_AT_ONCE = 1 << 22
"""Numbers of resampled counts that are in memory at once."""


def counts_at_steps(sections: ScoredSections) -> tuple[Counts, Counts]:
    """How many Tumor and Normal sections of each slide have each probability step: int64 [num_slides, 256], twice."""
    place, slide_ids = pd.factorize(sections.frame["slide_id"], sort=True)
    shape = (len(slide_ids), CURVE_LENGTH)
    index = place * CURVE_LENGTH + sections.steps
    of_tumor, of_normal = (
        np.bincount(index[wanted], minlength=shape[0] * CURVE_LENGTH).reshape(shape)
        for wanted in (sections.is_tumor, ~sections.is_tumor)
    )
    return of_tumor, of_normal


def confusion_at_steps(of_tumor: Counts, of_normal: Counts) -> Confusion:
    """The confusion with each step as threshold, from the counts of sections at each step: arrays [..., 256]."""
    tp, fp = (np.flip(np.cumsum(np.flip(each, -1), -1), -1) for each in (of_tumor, of_normal))
    return Confusion(tp=tp, fn=tp[..., :1] - tp, fp=fp, tn=fp[..., :1] - fp)


def roc_area(of_tumor: Counts, of_normal: Counts) -> NDArray[np.float64]:
    """The area under the ROC curve, [...]: how often a Tumor section has the higher step, ties counting half."""
    below = np.cumsum(of_normal, -1) - of_normal
    wins = (of_tumor * (below + of_normal / 2)).sum(-1)
    pairs = of_tumor.sum(-1) * of_normal.sum(-1)
    return np.asarray(np.divide(wins, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0))


def average_precision(of_tumor: Counts, of_normal: Counts) -> NDArray[np.float64]:
    """The mean precision over the Tumor sections, each at its own step as the threshold, [...]."""
    precision = confusion_at_steps(of_tumor, of_normal).precision
    hits, num_tumor = np.nansum(of_tumor * precision, -1), of_tumor.sum(-1)
    return np.asarray(np.divide(hits, num_tumor, out=np.full(num_tumor.shape, np.nan), where=num_tumor > 0))


def sensitivity_at(of_tumor: Counts, of_normal: Counts) -> Shares:
    """The ROC curve read at each of `GRID` as 1 - specificity, [..., 101]: the highest there, straight in between."""
    confusion = confusion_at_steps(of_tumor, of_normal)
    # With a threshold above all steps nothing is called Tumor, and there the curve begins.
    false, found = (
        np.insert(np.flip(each, -1), 0, 0.0, axis=-1) for each in (1 - confusion.specificity, confusion.sensitivity)
    )
    return _read_rows(lambda x, y: np.interp(GRID, x, y), false, found)


def precision_at(of_tumor: Counts, of_normal: Counts) -> Shares:
    """Precision at each of `GRID` as the sensitivity that is asked for, [..., 101]; NaN at 0, where none is.

    It is that of the highest threshold that finds so many, so that its mean is the average precision.
    """
    confusion = confusion_at_steps(of_tumor, of_normal)
    found, precision = (np.flip(each, -1) for each in (confusion.sensitivity, confusion.precision))
    read = _read_rows(lambda x, y: y[np.searchsorted(x, GRID)], found, precision)
    read[..., 0] = np.nan
    return read


def _read_rows(read: Callable[[Shares, Shares], Shares], x: Shares, y: Shares) -> Shares:
    """Read each curve [..., n] at `GRID`; NaN where a curve is not defined, as it lacks a kind of section."""
    flat_x, flat_y = (each.reshape(-1, each.shape[-1]) for each in (x, y))
    found = np.full((len(flat_x), len(GRID)), np.nan)
    for row in np.flatnonzero(~np.isnan(flat_x[:, -1])):
        found[row] = read(flat_x[row], flat_y[row])
    return found.reshape(*x.shape[:-1], len(GRID))


CURVES: dict[str, Callable[[Counts, Counts], Shares]] = {
    "roc": sensitivity_at,
    "precision_recall": precision_at,
}
_AREAS: dict[str, Callable[[Counts, Counts], Shares]] = {
    "roc_auc": roc_area,
    "average_precision": average_precision,
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the counts of one setting's sections say, with what resampled slides would."""

    sections: ScoredSections
    areas: dict[str, Interval]
    """`roc_auc` and `average_precision`."""
    bands: pd.DataFrame
    """A row for each curve and each of `GRID`: curve, x, y, low, high."""


def measure(sections: ScoredSections) -> Measured:
    """Areas and curves, all judged on the same resampled slides."""
    by_slide = counts_at_steps(sections)
    draws = draw_slides(len(by_slide[0]))
    # Both rest on pairs of a Tumor and a Normal section: there are no more independent ones than slides of the rarer.
    num_trials = min(int(each.any(axis=1).sum()) for each in by_slide)
    asked = _AREAS | CURVES
    whole = {name: ask(by_slide[0].sum(0), by_slide[1].sum(0)) for name, ask in asked.items()}
    samples = resampled_figures(by_slide, draws, asked)
    areas = {name: interval_of(float(whole[name]), samples[name], num_trials=num_trials) for name in _AREAS}
    bands = [_band(name, whole[name], samples[name], num_trials) for name in CURVES]
    return Measured(sections=sections, areas=areas, bands=pd.concat(bands, ignore_index=True))


def resampled_figures(
    by_slide: tuple[Counts, Counts], draws: Counts, asked: Mapping[str, Callable[[Counts, Counts], Shares]]
) -> dict[str, Shares]:
    """What is asked for of each resample, [num_resamples, ...]; some at a time, for the memory that they take."""
    found: dict[str, list[Shares]] = {name: [] for name in asked}
    for part in np.array_split(draws, max(1, draws.shape[0] * CURVE_LENGTH // _MOST_AT_ONCE)):
        # Products of floats are many times as fast as those of whole numbers, and exact for counts.
        drawn = part.astype(np.float64)
        counts = (drawn @ by_slide[0]).astype(np.int64), (drawn @ by_slide[1]).astype(np.int64)
        for name, ask in asked.items():
            found[name].append(ask(*counts))
    return {name: np.concatenate(each) for name, each in found.items()}


def _band(name: str, y: Shares, samples: Shares, num_trials: int) -> pd.DataFrame:
    low, high = band_of(y, samples, num_trials=num_trials, rises=name == "roc")
    return pd.DataFrame({"curve": name, "x": GRID, "y": y, "low": low, "high": high}).dropna(subset="y")


def build_curves(every: Sequence[ScoredSections]) -> pd.DataFrame:
    """One row per setting and stored probability as t_p."""
    return pd.concat([_curve(each) for each in every], ignore_index=True)


def _curve(sections: ScoredSections) -> pd.DataFrame:
    confusion = confusion_at_steps(*(each.sum(0) for each in counts_at_steps(sections)))
    return pd.DataFrame(
        {
            "setting": sections.choice.setting,
            "t_p": np.arange(CURVE_LENGTH) / NUM_STEPS,
            "t_a_um2": sections.choice.t_a_um2,
            **{name: getattr(confusion, name) for name in ("tp", "fn", "fp", "tn")},
            "sensitivity": confusion.sensitivity,
            "specificity": confusion.specificity,
            "precision": confusion.precision,
            **sections.marks,
        }
    )


def build_bands(measured: Sequence[Measured]) -> pd.DataFrame:
    """One row per setting, curve and place."""
    bands = {each.sections.choice.setting: each.bands.assign(**each.sections.marks) for each in measured}
    return pd.concat(bands, names=["setting"]).reset_index("setting").reset_index(drop=True)


def build_roc(measured: Sequence[Measured]) -> Table:
    """The areas under the curves, one row per setting."""
    every = [each.sections for each in measured]
    found = [each.areas for each in measured]
    frame = pd.DataFrame([_row(each, area) for each, area in zip(every, found, strict=True)])
    printed = pd.DataFrame(
        {
            "setting": frame["setting"],
            "ROC area": [interval_text(area["roc_auc"]) for area in found],
            "average precision": [interval_text(area["average_precision"]) for area in found],
            "Tumor": frame["num_tumor"].astype(str),
            "Normal": frame["num_normal"].astype(str),
        }
    )
    return Table(
        name="roc",
        title="Areas under the ROC and precision-recall curves on Test, over all t_p at the chosen t_A.",
        frame=frame,
        printed=printed,
        notes=(
            f"{LEVEL:.0%} intervals over {NUM_RESAMPLES:,} resamples of whole slides, seed {SEED}.",
            f"{EXACT_NOTE} A trial is a slide of the label that fewer slides have.",
            BAND_NOTE,
            *few_slides_notes({row["setting"]: int(row["num_slides"]) for row in frame.to_dict("records")}),
            *unread_notes(every),
            *fast_notes(pd.concat([each.frame for each in every])),
        ),
    )


def _row(sections: ScoredSections, area: dict[str, Interval]) -> dict[str, Any]:
    return {
        "setting": sections.choice.setting,
        "t_a_um2": sections.choice.t_a_um2,
        **{key: value for name, each in area.items() for key, value in each.columns(name).items()},
        "num_tumor": int(sections.is_tumor.sum()),
        "num_normal": int((~sections.is_tumor).sum()),
        "num_slides": int(sections.frame["slide_id"].nunique()),
        **sections.marks,
    }


def draw(curves: pd.DataFrame, bands: pd.DataFrame, choices: Sequence[Choice]) -> Figure:
    """Both curves with their bands, and a mark at each setting's chosen t_p."""
    figure = new_figure(11, 5.2, "Section verdicts on Test over all t_p", warning=warning_of(curves))
    roc, precision_recall = figure.subplots(1, 2)
    for choice in choices:
        curve = curves[curves["setting"] == choice.setting]
        if not curve.empty:
            band = bands[bands["setting"] == choice.setting]
            _draw_band(roc, band[band["curve"] == "roc"], choice)
            _draw_band(precision_recall, band[band["curve"] == "precision_recall"], choice)
            _draw_setting(roc, 1 - curve["specificity"], curve["sensitivity"], choice)
            _draw_setting(precision_recall, curve["sensitivity"], curve["precision"], choice)
    _finish(roc, "1 - specificity", "sensitivity")
    _finish(precision_recall, "sensitivity (recall)", "precision")
    roc.plot([0, 1], [0, 1], color="#b0b0b0", linewidth=1, linestyle="dotted", zorder=0)
    roc.legend(loc="lower right", title="setting, and its chosen t_p")
    return figure


def _draw_setting(axes: Axes, x: pd.Series, y: pd.Series, choice: Choice) -> None:
    colour, marker = STYLES[choice.setting]
    at_t_p = step_of(choice.t_p)
    axes.plot(x, y, color=colour, linewidth=1.8)
    axes.plot(
        x.iloc[[at_t_p]],
        y.iloc[[at_t_p]],
        marker,
        color=colour,
        markersize=9,
        markeredgecolor="black",
        label=f"{choice.setting}, {choice.t_p:.2f}",
    )


def _draw_band(axes: Axes, band: pd.DataFrame, choice: Choice) -> None:
    colour, _ = STYLES[choice.setting]
    axes.fill_between(band["x"], band["low"], band["high"], color=colour, alpha=BAND_ALPHA, linewidth=0)


def _finish(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    tidy(axes)


def write_roc(study: Evidence) -> Table:
    """Draw ROC and precision-recall of the section verdicts on Test, and write the curves, bands and areas.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, or Test has not both Tumor and Normal sections.
    """
    every = all_scored(study.ledger, study.choices, [Part.TEST])
    measured = [measure(each) for each in every]
    curves, bands = build_curves(every), build_bands(measured)
    write_frame(study.paths.tables / "roc_curves.parquet", curves, "roc_curves")
    write_frame(study.paths.tables / "roc_bands.parquet", bands, "roc_bands")
    write_chart(study.paths.figure("roc"), draw(curves, bands, study.choices))
    return study.write(build_roc(measured))
