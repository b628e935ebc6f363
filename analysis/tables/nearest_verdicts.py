"""The verdicts that are nearest to changing: `python analysis/make.py nearest_verdicts STUDY [--part test]`.

Needs no labels: where to look first.
"""

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.flip_shifts import nearest_first, shift_texts
from analysis.study_evidence.table import Table, of_part, rounded
from analysis.study_evidence.verdict_table import fast_notes
from bccdist.parts import Part

MOST_OF_A_SETTING = 10
_COLUMNS = [
    *("slide_id", "section_id", "part", "setting", "epoch", "t_p", "t_a_um2", "verdict", "flip_shift"),
    *("area_um2", "area_difference_um2", "area_factor"),
    *("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px"),
    *("label", "coverage", "weights_digest", "phantom", "phantom_weights"),
]


def build_nearest_verdicts(verdicts: pd.DataFrame) -> Table:
    """The sections with the smallest flip shifts of each setting, the smallest first.

    Args:
        verdicts: from `all_verdicts`, of one part.
    """
    nearest = [nearest_first(mine).head(MOST_OF_A_SETTING) for _, mine in verdicts.groupby("setting", sort=False)]
    frame = pd.concat(nearest)[_COLUMNS].reset_index(drop=True)
    printed = pd.DataFrame(
        {
            "slide": frame["slide_id"],
            "section": frame["section_id"],
            "setting": frame["setting"],
            "verdict": frame["verdict"],
            "t_p": rounded(frame["t_p"], 2),
            "flip shift": shift_texts(frame["flip_shift"]),
            "area, x t_A": rounded(frame["area_factor"], 2),
        }
    )
    return Table(
        name="nearest_verdicts",
        title=f"Verdicts nearest to changing on {frame['part'].iloc[0]}, {MOST_OF_A_SETTING} of each setting.",
        frame=frame,
        printed=printed,
        notes=(
            "Flip shift: the smallest shift of all probabilities that would change the verdict at this t_p and t_A.",
            "Area: of the largest region at t_p.",
            *fast_notes(verdicts),
        ),
    )


def write_nearest_verdicts(study: Evidence, part: Part = Part.TEST) -> Table:
    """Write the verdicts of one part that the smallest shifts of probability would change; no labels are needed.

    Args:
        study: The study's folder.
        part: Which part of the data.

    Raises:
        LedgerError: nothing was selected, or the part was not inferred.
    """
    return study.write(build_nearest_verdicts(study.verdicts(part)).asked(of_part(part)))
