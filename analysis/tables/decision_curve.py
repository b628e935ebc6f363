"""What acting on the verdicts is worth on Test: `python analysis/make.py decision_curve STUDY`.

Net benefit (Vickers and Elkin 2006) counts the tumors that are found for each section, less the false alarms at a
price. The price is the threshold probability: whoever acts on a section from a probability p of tumor on takes
(1 - p) / p false alarms for one tumor. Beside it stand acting on all sections, and acting on none, which is 0.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.resampling import (
    LEVEL,
    NUM_RESAMPLES,
    SEED,
    Interval,
    band_of,
    draw_slides,
    few_slides_notes,
    middle_of,
)
from analysis.study_evidence.scored_sections import ScoredSections, all_scored, unread_notes
from analysis.study_evidence.table import Table, warning_of
from analysis.study_evidence.verdict_table import fast_notes
from analysis.tables.chart import BAND_ALPHA, STYLES, new_figure, tidy, write_chart
from analysis.tables.intervals import interval_text
from analysis.tables.roc import confusion_at_steps, counts_at_steps, resampled_figures
from bccdist.heatmaps.probability import step_of
from bccdist.parts import Part

THRESHOLDS = np.arange(1, 100) / 100
"""The threshold probabilities."""
PRINTED = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Those that stand in the printed table."""
_PRICES = THRESHOLDS / (1 - THRESHOLDS)
Shares = NDArray[np.float64]
_ROUNDING = 1e-9
_KINDS = {"by_score": "by the score", "as_chosen": "verdicts as chosen"}


def net_benefit(sensitivity: Shares, specificity: Shares, prevalence: Shares) -> Shares:
    """Tumors found for each section less the false alarms at their price, at each of `THRESHOLDS`.

    Args:
        sensitivity, specificity: [..., 99]; NaN where there is no section of a kind, which then adds nothing.
        prevalence: share of Tumor among the sections, [..., 1].
    """
    found, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return np.asarray(np.nan_to_num(found) - np.nan_to_num(false) * _PRICES)


def build_decision_curve(every: Sequence[ScoredSections]) -> Table:
    """One row per setting and threshold probability.

    Args:
        every: sections of Test with both labels, of each setting.
    """
    frame = pd.concat([_curve(each) for each in every], ignore_index=True)
    return Table(
        name="decision_curve",
        title=f"Net benefit of acting on verdicts on Test, with {LEVEL:.0%} intervals.",
        frame=frame,
        printed=_printed(frame[frame["threshold"].isin(PRINTED)]),
        notes=(
            (
                "Threshold probability p: how likely tumor must be before one acts on a section, such as to look or "
                "cut again. Who acts from 10% on takes 9 false alarms for one tumor found. Net benefit: tumors found "
                "for each section, less the false alarms at this price; acting on none is 0. It holds where tumor is "
                "as frequent as among these sections."
            ),
            (
                "By the score: acts where the section's score, the highest t_p at which it is Tumor with the chosen "
                "t_A, is at least p. That takes the score for a probability, which it is as far as the calibration "
                "above says. Verdicts as chosen: acts on Tumor at the chosen t_p, whatever p is."
            ),
            (
                "Gain: over the better of all and none; 0 or less within its interval means that neither is beaten "
                f"for sure. {NUM_RESAMPLES:,} resamples of whole slides, seed {SEED}, one threshold at a time. Where "
                "no section of a kind is wrong, or every slide alike, the ends reach those of Clopper and Pearson's "
                "bounds of sensitivity and specificity together."
            ),
            *few_slides_notes(
                {str(name): int(num) for name, num in frame.groupby("setting")["num_slides"].min().items()}
            ),
            *unread_notes(every),
            *fast_notes(pd.concat([each.frame for each in every])),
        ),
    )


def _curve(sections: ScoredSections) -> pd.DataFrame:
    by_slide = counts_at_steps(sections)
    steps = {
        "by_score": np.array([step_of(float(threshold)) for threshold in THRESHOLDS]),
        "as_chosen": np.full(len(THRESHOLDS), step_of(sections.choice.t_p)),
    }
    needed = np.unique(np.concatenate(list(steps.values())))

    def shares(of_tumor: NDArray[np.int64], of_normal: NDArray[np.int64]) -> Shares:
        """Sensitivity and specificity at the steps that are needed, and the prevalence: [..., 2 n + 1]."""
        confusion = confusion_at_steps(of_tumor, of_normal)
        prevalence = of_tumor.sum(-1, keepdims=True) / (of_tumor + of_normal).sum(-1, keepdims=True)
        return np.concatenate([confusion.sensitivity[..., needed], confusion.specificity[..., needed], prevalence], -1)

    whole = shares(by_slide[0].sum(0), by_slide[1].sum(0))
    samples = resampled_figures(by_slide, draw_slides(len(by_slide[0])), {"shares": shares})["shares"]
    trials = [int(np.count_nonzero(each.any(axis=1))) for each in by_slide]
    curves = {name: _with_ends(whole, samples, np.searchsorted(needed, mine), trials) for name, mine in steps.items()}
    return pd.DataFrame(
        {
            "setting": sections.choice.setting,
            "threshold": THRESHOLDS,
            "treat_all": _treat_all(whole[-1:]),
            **{f"{name}_{key}": values for name, found in curves.items() for key, values in found.items()},
            "num_tumor": int(by_slide[0].sum()),
            "num_sections": int(by_slide[0].sum() + by_slide[1].sum()),
            "num_slides": len(by_slide[0]),
            **sections.marks,
        }
    )


def _treat_all(prevalence: Shares) -> Shares:
    """Net benefit of acting on every section: all tumors are found, and all others are false alarms."""
    return net_benefit(np.ones(1), np.zeros(1), prevalence)


def _with_ends(whole: Shares, samples: Shares, at: NDArray[np.intp], trials: list[int]) -> dict[str, Shares]:
    """Net benefit and gain with their ends, [99] each.

    Args:
        whole, samples: what `shares` gives of all slides, and of the resampled ones.
        at: the place of each threshold's step in them.
        trials: slides with Tumor and with Normal sections.
    """
    num = (whole.shape[-1] - 1) // 2
    parts = [(each[..., :num][..., at], each[..., num:-1][..., at], each[..., -1:]) for each in (whole, samples)]
    values, drawn = (net_benefit(*each) for each in parts)
    default, drawn_default = (np.maximum(_treat_all(each[2]), 0) for each in parts)
    outer = _outermost(whole, samples, at, trials)
    found = {}
    for name, value, mine, less in (
        ("net_benefit", values, drawn, np.zeros(1)),
        ("gain", values - default, drawn - drawn_default, default),
    ):
        ends = np.array([middle_of(column) for column in mine.T])
        found[name] = value
        found[f"{name}_low"] = np.fmin(ends[:, 0], outer[0] - less)
        found[f"{name}_high"] = np.fmax(ends[:, 1], outer[1] - less)
    return found


def _outermost(whole: Shares, samples: Shares, at: NDArray[np.intp], trials: list[int]) -> tuple[Shares, Shares]:
    """Net benefit with sensitivity and specificity at their ends; NaN where no exact bound is one of them."""
    num = (whole.shape[-1] - 1) // 2
    # A higher threshold finds fewer sections of both kinds, so that specificity rises with it.
    bands = [
        band_of(whole[:num], samples[:, :num], num_trials=trials[0], rises=False),
        band_of(whole[num:-1], samples[:, num:-1], num_trials=trials[1], rises=True),
    ]
    drawn = np.nanquantile(samples[:, :-1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    is_wider = [
        (low < drawn[0][mine] - _ROUNDING) | (high > drawn[1][mine] + _ROUNDING)
        for (low, high), mine in zip(bands, (slice(num), slice(num, None)), strict=True)
    ]
    is_exact = (is_wider[0] | is_wider[1])[at]
    low, high = (
        np.where(is_exact, net_benefit(bands[0][end][at], bands[1][end][at], whole[-1:]), np.nan) for end in range(2)
    )
    return low, high


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame.to_dict("records")
    return pd.DataFrame(
        {
            "setting": frame["setting"],
            "p": [f"{threshold:.0%}" for threshold in frame["threshold"]],
            "acting on all": [f"{value:.3f}" for value in frame["treat_all"]],
            **{
                f"{title}{what}": [interval_text(Interval.from_columns(row, f"{name}_{column}")) for row in rows]
                for name, title in _KINDS.items()
                for column, what in (("net_benefit", ""), ("gain", ": gain"))
            },
        }
    )


def draw(frame: pd.DataFrame) -> Figure:
    """Net benefit against threshold probability, by the score and of the verdicts as they are."""
    figure = new_figure(11, 5.2, "Net benefit of acting on verdicts on Test", warning=warning_of(frame))
    both = figure.subplots(1, 2, sharey=True)
    for axes, (name, title) in zip(both, _KINDS.items(), strict=True):
        for setting, mine in frame.groupby("setting", sort=False):
            colour, _ = STYLES[str(setting)]
            low, high = (mine[f"{name}_net_benefit_{end}"] for end in ("low", "high"))
            axes.fill_between(mine["threshold"], low, high, color=colour, alpha=BAND_ALPHA, linewidth=0)
            axes.plot(mine["threshold"], mine[f"{name}_net_benefit"], color=colour, linewidth=1.8, label=setting)
        _draw_defaults(axes, frame)
        axes.set_title(title)
        axes.set_xlabel("threshold probability: acts on a section from here on")
    _scale(both[0], frame)
    both[0].legend(loc="lower left")
    return figure


def _draw_defaults(axes: Axes, frame: pd.DataFrame) -> None:
    """Acting on all and on none."""
    first = frame[frame["setting"] == frame["setting"].iloc[0]]
    axes.plot(first["threshold"], first["treat_all"], color="#444444", linewidth=1, linestyle="dashed", label="all")
    axes.axhline(0, color="#444444", linewidth=1, linestyle="dotted", label="none")
    axes.set_xlim(0, 1)
    tidy(axes)


def _scale(axes: Axes, frame: pd.DataFrame) -> None:
    """A scale on which no line or band is cut: near p = 1 a false alarm costs 99 tumors, so far below 0 by powers."""
    drawn = ["treat_all", *(f"{name}_net_benefit{end}" for name in _KINDS for end in ("", "_low", "_high"))]
    values = frame[drawn].to_numpy()
    top, bottom = (float(each) for each in (np.nanmax(values), np.nanmin(values)))
    even = 10.0 ** np.ceil(np.log10(max(top, 0.01)))
    axes.set_yscale("symlog", linthresh=even, linscale=3)
    axes.set_ylim(bottom * 1.1 if bottom < 0 else -0.05 * even, 1.05 * top)
    ticks = [-100 * even, -10 * even, *(even * np.arange(-5, 6) / 5)]
    ticks = [each for each in ticks if bottom * 1.1 <= each <= 1.05 * top]
    axes.set_yticks(ticks, [f"{each:g}" for each in np.round(ticks, 6)])
    axes.yaxis.set_minor_locator(NullLocator())
    is_far = bottom < -even
    axes.set_ylabel(f"net benefit for each section{f'; below {-even:g} by powers of ten' if is_far else ''}")


def write_decision_curve(study: Evidence) -> Table:
    """Draw and write what acting on the verdicts on Test is worth, beside acting on all sections or on none.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, or Test has not both Tumor and Normal sections.
    """
    table = build_decision_curve(all_scored(study.ledger, study.choices, [Part.TEST]))
    write_chart(study.paths.figure("decision_curve"), draw(table.frame))
    return study.write(table)
