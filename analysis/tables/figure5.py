"""Figure 5, wrongly classified sections of Test (paper, section 3): `python analysis/make.py figure5 STUDY`."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table, warning_of
from analysis.tables.chart import (
    FALSE_NEGATIVE_COLOUR,
    FALSE_POSITIVE_COLOUR,
    FALSE_POSITIVE_HATCH,
    new_figure,
    tidy,
    write_chart,
)
from analysis.tables.section_verdicts import own_verdicts
from analysis.tables.table4 import build_table4
from bccdist.parts import Part

_LEAST_BARS = 3
"""There is room for so many, at least."""


def build_figure5(table4: pd.DataFrame) -> Table:
    """What the bars show, from the rows of Table 4."""
    names = ["setting", "fn", "fp", "num_review", "num_sections", "phantom", "phantom_weights"]
    frame = table4[names].assign(num_wrong=table4["fn"] + table4["fp"])
    printed = pd.DataFrame(
        {
            "setting": frame["setting"],
            "missed (FN)": frame["fn"].astype(str),
            "false alarms (FP)": frame["fp"].astype(str),
            "wrong": frame["num_wrong"].astype(str),
            "sections": frame["num_sections"].astype(str),
        }
    )
    return Table(name="figure5", title="Figure 5. Wrongly classified sections of Test.", frame=frame, printed=printed)


def draw(frame: pd.DataFrame) -> Figure:
    """A bar a setting: missed below, false alarms above."""
    sections = int(frame["num_sections"].max())
    title = f"Wrongly classified of {sections:,} Test sections"
    figure = new_figure(6.8, 4.6, title, warning=warning_of(frame))
    axes = figure.subplots()
    missed = axes.bar(frame["setting"], frame["fn"], 0.6, color=FALSE_NEGATIVE_COLOUR, label="missed (FN)")
    style: dict[str, Any] = {"facecolor": FALSE_POSITIVE_COLOUR, "hatch": FALSE_POSITIVE_HATCH, "edgecolor": "white"}
    false = axes.bar(frame["setting"], frame["fp"], 0.6, bottom=frame["fn"], label="false alarms (FP)", **style)
    for bars, counts, colour in ((missed, frame["fn"], "white"), (false, frame["fp"], "black")):
        labels = [str(count) if count else "" for count in counts]
        ground = {"facecolor": bars.patches[0].get_facecolor(), "edgecolor": "none", "pad": 1.5}
        axes.bar_label(bars, labels, label_type="center", color=colour, fontsize=10, bbox=ground)
    axes.set_ylabel("sections")
    axes.set_ylim(0, max(1, int(frame["num_wrong"].max())) * 1.2)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    # The bar of a single setting is no wall.
    middle = (len(frame) - 1) / 2
    reach = max(len(frame), _LEAST_BARS) / 2
    axes.set_xlim(middle - reach, middle + reach)
    axes.legend(loc="upper center", ncols=2)
    tidy(axes)
    axes.grid(visible=False, axis="x")
    return figure


def write_figure5(study: Evidence) -> Table:
    """Draw how many sections of Test are wrongly classified, and write what the figure shows.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or it has no label.
    """
    table = build_figure5(build_table4(own_verdicts(study, Part.TEST), study.choices).frame)
    for kind in ("png", "svg"):
        write_chart(study.paths.figure("figure5").with_suffix(f".{kind}"), draw(table.frame))
    return study.write(table)
