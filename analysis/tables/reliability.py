"""Whether a section's probability means what it says, on Test: `python analysis/make.py reliability STUDY`.

A section's probability is the highest t_p at which it is Tumor with the chosen t_A. Among sections of about one
probability the share of Tumor would be that probability, if it were calibrated. The focal loss and the balanced
training patches (paper, section 2.3) give no reason to expect it; this says how far it is off.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.scored_sections import ScoredSections, all_scored, unread_notes
from analysis.study_evidence.table import Table, rounded, warning_of, write_frame
from analysis.study_evidence.verdict_table import fast_notes
from analysis.tables.chart import STYLES, new_figure, tidy, write_chart
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.parts import Part

NUM_BINS = 10


def build_bins(every: Sequence[ScoredSections]) -> pd.DataFrame:
    """One row per setting and tenth of probability that has sections."""
    return pd.DataFrame([row for sections in every for row in _bins(sections)])


def _bins(sections: ScoredSections) -> Iterator[dict[str, Any]]:
    probability = sections.steps / NUM_STEPS
    place = np.minimum((probability * NUM_BINS).astype(int), NUM_BINS - 1)
    for number in sorted(set(place.tolist())):
        inside = place == number
        yield {
            "setting": sections.choice.setting,
            "probability_low": number / NUM_BINS,
            "probability_high": (number + 1) / NUM_BINS,
            "mean_probability": float(probability[inside].mean()),
            "tumor_share": float(sections.is_tumor[inside].mean()),
            "num_sections": int(inside.sum()),
            **sections.marks,
        }


def build_reliability(every: Sequence[ScoredSections], bins: pd.DataFrame) -> Table:
    """One row per setting: expected calibration error and Brier score."""
    frame = pd.DataFrame([_row(each, bins[bins["setting"] == each.choice.setting]) for each in every])
    printed = pd.DataFrame(
        {
            "setting": frame["setting"],
            "calibration error": rounded(frame["calibration_error"], 3),
            "Brier score": rounded(frame["brier_score"], 3),
            "by Tumor's share alone": rounded(frame["brier_score_of_share"], 3),
            "sections": frame["num_sections"].astype(str),
        }
    )
    return Table(
        name="reliability",
        title="Calibration of the sections' probabilities on Test; 0 is best.",
        frame=frame,
        printed=printed,
        notes=(
            f"Calibration error: mean distance of probability and Tumor's share over {NUM_BINS} bins, by sections.",
            "Brier score: mean squared distance to the label; beside it that of always saying Tumor's share.",
            *unread_notes(every),
            *fast_notes(pd.concat([each.frame for each in every])),
        ),
    )


def _row(sections: ScoredSections, bins: pd.DataFrame) -> dict[str, Any]:
    probability, is_tumor = sections.steps / NUM_STEPS, sections.is_tumor
    off = (bins["mean_probability"] - bins["tumor_share"]).abs() * bins["num_sections"]
    return {
        "setting": sections.choice.setting,
        "calibration_error": float(off.sum() / bins["num_sections"].sum()),
        "brier_score": float(np.mean((probability - is_tumor) ** 2)),
        "brier_score_of_share": float(is_tumor.mean() * (1 - is_tumor.mean())),
        "num_sections": len(probability),
        **sections.marks,
    }


def draw(bins: pd.DataFrame) -> Figure:
    """Share of Tumor against probability, and below it how many sections there are."""
    figure = new_figure(6.4, 6.4, "Calibration of the sections' probabilities, Test", warning=warning_of(bins))
    axes, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    axes.plot([0, 1], [0, 1], color="#b0b0b0", linestyle="dotted")
    settings = list(bins["setting"].unique())
    for number, setting in enumerate(settings):
        mine = bins[bins["setting"] == setting]
        colour, marker = STYLES[str(setting)]
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
