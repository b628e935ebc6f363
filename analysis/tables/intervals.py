"""The figures of Tables 3 to 5 with their intervals: `python analysis/make.py intervals STUDY`.

The paper gives single numbers. Here each has the range that it takes when slides are drawn anew
(`analysis.study_evidence.resampling`): on the labelled sections of Test, and of Validation I + II, on which epoch and
thresholds were chosen, so that those figures are too good whatever their interval.
"""

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.resampling import (
    EXACT_NOTE,
    FIGURES,
    LEVEL,
    NUM_RESAMPLES,
    SEED,
    Interval,
    counts_by_slide,
    draw_slides,
    few_slides_notes,
    intervals,
    total,
)
from analysis.study_evidence.table import NOT_KNOWN, Table, phantom_marks
from analysis.study_evidence.verdict_table import needs_labels, no_rows
from analysis.tables.selection import SELECTION_PARTS
from bccdist.parts import Part
from bccdist.sections.choices import Choice
from bccdist.sections.section_rows import SectionRows
from bccdist.sections.section_verdicts import section_verdicts

PARTS = {"Test": (Part.TEST,), "Validation I + II": SELECTION_PARTS}
"""What is judged, under its name in the table."""


def build_intervals(rows: SectionRows, choices: list[Choice]) -> Table:
    """The table, one row per part, setting, output and figure.

    Args:
        rows: of every output on Test, Validation I and Validation II.
        choices: the chosen models.

    Raises:
        NothingToShowError: no chosen model has rows there, or none of them a label.
    """
    verdicts = pd.concat([section_verdicts(rows, choice) for choice in choices], ignore_index=True)
    labelled = verdicts[verdicts["label"].notna()]
    if labelled.empty:
        parts = [part for parts in PARTS.values() for part in parts]
        raise no_rows(parts, choices) if verdicts.empty else needs_labels(verdicts, _parts_in(verdicts))
    beta = {choice.setting: choice.beta for choice in choices}
    frame = pd.DataFrame([row for name, parts in PARTS.items() for row in _rows_of_parts(name, parts, labelled, beta)])
    return Table(
        name="intervals",
        title=f"Figures with {LEVEL:.0%} intervals over resampled slides.",
        frame=frame,
        printed=_printed(frame[frame["is_final"]], choices[0].beta),
        notes=(
            f"{NUM_RESAMPLES:,} resamples of whole slides, seed {SEED}; the blocks' figures are in the parquet.",
            EXACT_NOTE,
            "Epoch and thresholds were chosen on Validation I + II, so its figures are too good.",
            *few_slides_notes(
                {str(name): int(num) for name, num in frame.groupby("part")["num_slides"].min().items()}
            ),
            *_unlabelled_notes(verdicts),
        ),
    )


def _parts_in(verdicts: pd.DataFrame) -> list[Part]:
    return [part for part in Part if part.value in set(verdicts["part"])]


def _unlabelled_notes(verdicts: pd.DataFrame) -> Iterator[str]:
    """What is not among the figures, as it has no label: whole parts, or some of their sections."""
    sections = verdicts.drop_duplicates(["slide_id", "section_id"])
    for name, parts in PARTS.items():
        mine = sections[sections["part"].isin([part.value for part in parts])]
        if without := int(mine["label"].isna().sum()):
            yield f"{name}: {without} of {len(mine)} sections have no label and count in no figure."


def _rows_of_parts(
    name: str, parts: tuple[Part, ...], labelled: pd.DataFrame, beta: dict[str, float]
) -> Iterator[dict[str, Any]]:
    mine = labelled[labelled["part"].isin([part.value for part in parts])]
    if mine.empty:
        return
    slide_ids = pd.Index(sorted(set(mine["slide_id"])))
    draws = draw_slides(len(slide_ids))
    for (setting, psi), verdicts in mine.groupby(["setting", "psi"], sort=False):
        by_slide = counts_by_slide(verdicts, slide_ids)
        for figure, found in intervals(by_slide, draws, beta[str(setting)]).items():
            yield {
                "part": name,
                "setting": setting,
                "psi": psi,
                "is_final": bool(verdicts["is_final"].iloc[0]),
                "figure": figure,
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "num_sections": int(total(by_slide).total),
                "num_slides": int(verdicts["slide_id"].nunique()),
                **phantom_marks(verdicts),
            }


def _printed(frame: pd.DataFrame, beta: float) -> pd.DataFrame:
    rows = []
    titles = dict(zip(FIGURES, (*FIGURES[:-1], f"F_{beta:g}"), strict=True))
    for (part, setting, psi), figures in frame.groupby(["part", "setting", "psi"], sort=False):
        by_name = figures.set_index("figure").to_dict("index")
        rows.append(
            {
                "part": part,
                "setting": setting,
                "output": psi,
                **{title: _as_text(by_name, name) for name, title in titles.items()},
                "sections": str(figures["num_sections"].iloc[0]),
                "slides": str(figures["num_slides"].iloc[0]),
            }
        )
    return pd.DataFrame(rows)


def _as_text(by_name: Mapping[Hashable, Mapping[Hashable, Any]], name: str) -> str:
    return interval_text(interval_from(by_name[name]))


def interval_from(row: Mapping[Hashable, Any]) -> Interval:
    """A row of the table as an interval."""
    return Interval(**{key: float(row[key]) for key in ("value", "low", "high")})


def interval_text(found: Interval) -> str:
    """A figure and its interval, rounded to three digits."""
    if math.isnan(found.value):
        return NOT_KNOWN
    if math.isnan(found.low):
        return f"{found.value:.3f} ({NOT_KNOWN})"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def read_intervals(study: Evidence) -> Table:
    """The table of a study, from its ledger.

    Raises:
        LedgerError: nothing was selected, or no chosen model has labelled sections.
    """
    return build_intervals(study.rows(*(part for parts in PARTS.values() for part in parts)), study.choices)


def write_intervals(study: Evidence) -> Table:
    """Write the figures of Tables 3 to 5 with their intervals.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, or no chosen model has labelled sections.
    """
    return study.write(read_intervals(study))
