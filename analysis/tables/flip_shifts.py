"""How near the verdicts are to changing: `python analysis/make.py flip_shifts STUDY [--part test]`.

Needs no labels. A verdict that a small shift of all probabilities would change, as another scanner or stain may cause
it, is worth a look, also where it is right.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.flip_shifts import NEAR_SHIFTS, flip_figures, near_column, nearest_notes, shift_texts
from analysis.study_evidence.table import Table, of_part, phantom_marks
from analysis.study_evidence.verdict_table import fast_notes
from bccdist.parts import Part
from bccdist.sections.verdicts import Verdict

ALL = "all"
"""The row of all verdicts of a setting."""


def build_flip_shifts(verdicts: pd.DataFrame) -> Table:
    """One row per setting and verdict, and one of all its verdicts.

    Args:
        verdicts: from `all_verdicts`, of one part.
    """
    frame = pd.DataFrame([row for _, mine in verdicts.groupby("setting", sort=False) for row in _rows(mine)])
    printed = pd.DataFrame(
        {
            "setting": frame["setting"],
            "verdict": frame["verdict"],
            "sections": frame["num_sections"].astype(str),
            **{
                heading: shift_texts(frame[f"flip_shift_{name}"])
                for heading, name in (("smallest", "min"), ("25%", "q1"), ("median", "median"), ("75%", "q3"))
            },
            **{f"below {near:g}": frame[near_column(near)].astype(str) for near in NEAR_SHIFTS},
            "never": frame["num_never_flip"].astype(str),
        }
    )
    return Table(
        name="flip_shifts",
        title=f"Flip shifts of the verdicts on {verdicts['part'].iloc[0]}: how small a shift of probability changes "
        "them.",
        frame=frame,
        printed=printed,
        notes=(
            (
                "Tumor changes by a shift downwards, Normal and review by one upwards, to Tumor; never: no stored "
                "probability makes a region of t_A."
            ),
            *nearest_notes(verdicts),
            *fast_notes(verdicts),
        ),
    )


def _rows(verdicts: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of one setting; a verdict that does not occur has none."""
    for verdict in (*Verdict, ALL):
        mine = verdicts if verdict == ALL else verdicts[verdicts["verdict"] == verdict]
        if not mine.empty:
            first = mine.iloc[0]
            yield {
                **{name: first[name] for name in ("setting", "part", "t_p", "t_a_um2")},
                "verdict": str(verdict),
                "num_sections": len(mine),
                **flip_figures(mine),
                **phantom_marks(mine),
            }


def write_flip_shifts(study: Evidence, part: Part = Part.TEST) -> Table:
    """Write how small a shift of probability would change the verdicts of one part; no labels are needed.

    Args:
        study: The study's folder.
        part: Which part of the data.

    Raises:
        LedgerError: nothing was selected, or the part was not inferred.
    """
    return study.write(build_flip_shifts(study.verdicts(part)).asked(of_part(part)))
