"""Sections with one number each: the highest t_p at which the section is Tumor with the chosen t_A.

From it follow the verdict at every t_p, ROC and precision-recall curves, the calibration of probabilities, and triage.
A section whose tissue was not read whole is left out: unread tissue might have raised its number. So is one of which
the model is not to be believed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from analysis.study_evidence.table import phantom_marks
from analysis.study_evidence.verdict_table import needs_both_labels, no_rows
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.parts import Label, Part
from bccdist.sections.assessable import is_not_assessable
from bccdist.sections.choices import Choice
from bccdist.sections.section_rows import rows_of
from bccdist.sections.section_verdicts import section_verdicts


@dataclass(frozen=True, kw_only=True)
class ScoredSections:
    """The wholly read sections of one setting's own output, n rows; where not said otherwise all have a label.

    Attributes:
        choice: the model and the thresholds.
        frame: from `section_verdicts`.
        num_unread: sections that were left out.
    """

    choice: Choice
    frame: pd.DataFrame
    num_unread: int

    @property
    def steps(self) -> NDArray[np.int64]:
        """The highest stored probability at which each is Tumor: int [n], 0 to 255."""
        return np.asarray(np.round(self.frame["tumor_until"].to_numpy() * NUM_STEPS), dtype=np.int64)

    @property
    def is_tumor(self) -> NDArray[np.bool_]:
        """Whether each is labelled Tumor: bool [n]."""
        return np.asarray(self.frame["label"] == Label.TUMOR.value, dtype=bool)

    @property
    def is_normal(self) -> NDArray[np.bool_]:
        """Whether each is labelled Normal: bool [n]."""
        return np.asarray(self.frame["label"] == Label.NORMAL.value, dtype=bool)

    @property
    def marks(self) -> dict[str, bool]:
        """Whether any slide is drawn, and whether the network was trained on such: two columns of a table."""
        return phantom_marks(self.frame)


def scored_sections(
    table: pa.Table, choice: Choice, parts: Iterable[Part], *, with_unlabelled: bool = False
) -> ScoredSections:
    """The sections of some parts under one chosen model, with a label or all of them."""
    verdicts = section_verdicts(rows_of(table, parts, final_only=True), choice)
    counted = verdicts if with_unlabelled else verdicts[verdicts["label"].notna()]
    is_able = (counted["coverage"] >= 1) & ~is_not_assessable(counted["not_assessable"])
    whole = counted[is_able].reset_index(drop=True)
    return ScoredSections(choice=choice, frame=whole, num_unread=len(counted) - len(whole))


def all_scored(table: pa.Table, choices: list[Choice], parts: list[Part]) -> list[ScoredSections]:
    """Take the sections of every chosen model that has both Tumor and Normal ones.

    Raises:
        NothingToShowError: none has.
    """
    found = [scored_sections(table, choice, parts) for choice in choices]
    able = [each for each in found if each.is_tumor.any() and not each.is_tumor.all()]
    if not able:
        sections = rows_of(table, parts, final_only=True).frame
        raise needs_both_labels(sections, parts) if len(sections) else no_rows(parts, choices)
    return able


def unread_notes(every: Iterable[ScoredSections]) -> tuple[str, ...]:
    """The note below a table that leaves out sections that were not read whole."""
    num = max((each.num_unread for each in every), default=0)
    return (f"Sections that were not read whole are left out: {num}.",) if num else ()
