"""How the sections of Test are, against those that the model was chosen on: `python analysis/make.py quality STUDY`.

Focus, compression, stain, ink, folds, air and the network's features, each with the limits that follow from the
reference (bccdist/sections/assessable.py): of a cohort that of its model file, of a study its own Validation I + II.
In a cohort a section beyond a limit is not assessable, and never Normal; in a study it changes nothing. No label is
needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table, phantom_marks, rounded, warning_of
from analysis.study_evidence.verdict_table import no_rows
from analysis.tables.chart import STYLES, new_figure, tidy, write_chart
from bccdist.errors import NothingToShowError
from bccdist.models.reference import quality_limits
from bccdist.parts import Part
from bccdist.sections.assessable import FEATURE_DISTANCE, QualityLimits, is_not_assessable
from bccdist.sections.choices import Choice
from bccdist.slides.quality_measures import MEASURES

NAMES = {
    "focus": "focus",
    "compression": "compression",
    "stain_density": "stain strength",
    "stain_hue": "stain hue",
    "ink_share": "ink",
    "fold_share": "folds",
    "air_share": "air",
    FEATURE_DISTANCE: "distance of features",
}
_WIDTH_INCH, _ROW_INCH = 9.0, 1.1


@dataclass(frozen=True, kw_only=True)
class MeasuredSetting:
    """The sections of Test under one setting, with what they are compared with."""

    choice: Choice
    limits: QualityLimits
    frame: pd.DataFrame
    """A row for each section: `NAMES`, slide_id, section_id, not_assessable and marks."""

    def is_beyond(self, name: str) -> NDArray[np.bool_]:
        """Which sections lie beyond the limits of a measure: bool [n]; none where it was not measured or judged."""
        if (limits := self.limits.limits.get(name)) is None:
            return np.zeros(len(self.frame), dtype=bool)
        values = self.frame[name].to_numpy(dtype=np.float64)
        return np.asarray((values < limits.low) | (values > limits.high))


def measured_settings(study: Evidence) -> list[MeasuredSetting]:
    """The sections of Test, of each chosen setting.

    Raises:
        LedgerError: nothing was selected, or Test was not inferred; or no quality was measured.
        ModelError: the cohort's model is damaged.
    """
    table = study.ledger.filter(pc.field("is_final"))
    found = [each for choice in study.choices if (each := _of_setting(study, table, choice)) is not None]
    if not found:
        raise no_rows([Part.TEST], study.choices)
    if all(each.frame[list(MEASURES)].isna().all(axis=None) for each in found):
        raise NothingToShowError("the heatmaps of Test were made before quality was measured, or without it")
    return found


def _of_setting(study: Evidence, table: pa.Table, choice: Choice) -> MeasuredSetting | None:
    mine = table.filter((pc.field("setting") == choice.setting) & (pc.field("epoch") == choice.epoch))
    test = mine.filter(pc.field("part") == Part.TEST.value)
    if not test.num_rows:
        return None
    limits = quality_limits(study.model) if study.is_cohort else _own_limits(mine)
    names = ["slide_id", "section_id", "part", *MEASURES, "not_assessable", "phantom", "phantom_weights"]
    frame = test.select(names).to_pandas()
    distances = [limits.distance(features) for features in test["features"].to_pylist()]
    frame[FEATURE_DISTANCE] = np.array([np.nan if each is None else each for each in distances], dtype=np.float64)
    return MeasuredSetting(choice=choice, limits=limits, frame=frame)


def _own_limits(table: pa.Table) -> QualityLimits:
    """What a study's own Validation I + II says, as its model file would."""
    parts = pa.array([Part.VALIDATION_1.value, Part.VALIDATION_2.value])
    own = table.filter(pc.is_in(table["part"], parts))
    return QualityLimits.of(own.add_column(0, "slide", own["slide_id"]))


def build_quality(found: list[MeasuredSetting], *, is_cohort: bool) -> Table:
    """One row per setting and measure."""
    frame = pd.DataFrame([row for each in found for row in _rows(each)])
    printed = pd.DataFrame(
        {
            "measure": frame["measure"].map(NAMES),
            "setting": frame["setting"],
            "reference slides": _ranges(frame["reference_low"], frame["reference_high"]),
            "limits": _ranges(frame["limit_low"], frame["limit_high"]),
            "median": rounded(frame["median"], 2),
            "5 to 95 %": _ranges(frame["q05"], frame["q95"]),
            "measured": frame["num_measured"].astype(str),
            "beyond": frame["num_beyond"].astype(str),
        }
    )
    whose = "the model's" if is_cohort else "Validation I + II's"
    return Table(
        name="quality",
        title=f"Quality of the sections of Test, against {whose} sections.",
        frame=frame,
        printed=printed,
        notes=tuple(_notes(found, is_cohort=is_cohort)),
    )


def _ranges(lows: pd.Series, highs: pd.Series) -> list[str]:
    """Ranges as texts; open at an end without a limit."""
    return [
        "none"
        if not (np.isfinite(low) or np.isfinite(high))
        else f"{low:.2f} to {high:.2f}"
        if np.isfinite(low) and np.isfinite(high)
        else f"< {high:.2f}"
        if np.isfinite(high)
        else f"> {low:.2f}"
        for low, high in zip(lows, highs, strict=True)
    ]


def _rows(found: MeasuredSetting) -> Iterator[dict[str, Any]]:
    for name in NAMES:
        values = found.frame[name].dropna().to_numpy(dtype=np.float64)
        limits = found.limits.limits.get(name)
        low, middle, high = np.quantile(values, (0.05, 0.5, 0.95)) if len(values) else (np.nan,) * 3
        yield {
            "setting": found.choice.setting,
            "part": Part.TEST.value,
            "measure": name,
            "num_reference_slides": found.limits.num_slides,
            "reference_low": np.nan if limits is None or limits.reference is None else limits.reference[0],
            "reference_high": np.nan if limits is None or limits.reference is None else limits.reference[1],
            "limit_low": np.nan if limits is None else limits.low,
            "limit_high": np.nan if limits is None else limits.high,
            "q05": float(low),
            "median": float(middle),
            "q95": float(high),
            "num_sections": len(found.frame),
            "num_measured": len(values),
            "num_beyond": int(found.is_beyond(name).sum()),
            "num_not_assessable": int(is_not_assessable(found.frame["not_assessable"]).sum()),
            **phantom_marks(found.frame),
        }


def _notes(found: list[MeasuredSetting], *, is_cohort: bool) -> Iterator[str]:
    for each in found:
        name, num = each.choice.setting, len(each.frame)
        if num_null := int(each.frame["focus"].isna().sum()):
            yield f"Not measured, which says nothing good of them: {num_null} of {num} sections, by {name}."
        if each.limits.why_absolute:
            yield f"By absolute limits alone of {name}: {each.limits.why_absolute}."
        if is_cohort:
            lost = is_not_assessable(each.frame["not_assessable"])
            yield f"Not assessable by {name}: {int(lost.sum())} of {num} sections, of which none is Normal."
        else:
            beyond = np.any([each.is_beyond(measure) for measure in NAMES], axis=0)
            yield f"Beyond a limit by {name}: {int(beyond.sum())} of {num} sections; a study's verdicts do not change."


def draw(found: list[MeasuredSetting], warning: str) -> Figure:
    """Each measure on a line: sections of Test as dots, the reference's slides shaded, limits dashed."""
    title = "Quality of the sections of Test; shaded: the reference's slides, dashed: limits"
    figure = new_figure(_WIDTH_INCH, _ROW_INCH * len(NAMES) + 0.6, title, warning=warning)
    every_axes = figure.subplots(len(NAMES), 1, squeeze=False)[:, 0]
    for (name, spoken), axes in zip(NAMES.items(), every_axes, strict=True):
        for place, each in enumerate(found):
            values = each.frame[name].to_numpy(dtype=np.float64)
            spread = np.linspace(-0.3, 0.3, len(values)) if len(values) > 1 else np.zeros(len(values))
            colour, shape = STYLES.get(each.choice.setting, ("#000000", "o"))
            axes.plot(values, place + spread, shape, color=colour, markersize=3, alpha=0.6)
            if (limits := each.limits.limits.get(name)) is not None:
                if limits.reference is not None:
                    span = (place - 0.45, place + 0.45)
                    axes.fill_betweenx(span, *limits.reference, color="#999999", alpha=0.35, linewidth=0)
                ends = [end for end in (limits.low, limits.high) if np.isfinite(end)]
                axes.vlines(ends, place - 0.45, place + 0.45, colors="#000000", linestyles="dashed", linewidth=1)
        axes.set_yticks(range(len(found)), [each.choice.setting for each in found], fontsize=7)
        axes.set_ylim(-0.6, len(found) - 0.4)
        axes.set_title(spoken, fontsize=9, loc="left")
        tidy(axes)
    return figure


def write_quality(study: Evidence) -> Table:
    """Draw and write how the sections of Test are, against those that the model was chosen on.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, or Test was not inferred.
    """
    found = measured_settings(study)
    table = build_quality(found, is_cohort=study.is_cohort)
    write_chart(study.paths.figure("quality"), draw(found, warning_of(table.frame)))
    return study.write(table)
