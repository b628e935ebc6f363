"""Bounds on the margins of verdicts on Test: `python analysis/make.py margin_bounds STUDY`.

RESEARCH USE ONLY. How far the sections that were called Tumor are from the tissue's edge at least, by the ledger
alone: no slide is read. `margins` reads the slides and gives the margin of each region.
"""

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table, rounded
from bccdist.errors import NothingToShowError
from bccdist.parts import Part
from bccdist.sections.margins import MARGIN_WARNING
from bccdist.sections.section_verdicts import LEDGER_MARGIN
from bccdist.sections.verdicts import Verdict

_COLUMNS = (
    *("slide_id", "section_id", "part", "setting", "epoch", "psi", "t_p", "t_a_um2", "label", "coverage"),
    *("area_um2", LEDGER_MARGIN, "weights_digest", "phantom", "phantom_weights"),
)


def build_margin_bounds(verdicts: pd.DataFrame) -> Table:
    """One row per chosen model and section that it called Tumor, nearest first.

    Args:
        verdicts: from `analysis.study_evidence.verdict_table.all_verdicts`, of Test.

    Raises:
        NothingToShowError: no section was called Tumor.
    """
    tumor = verdicts.loc[verdicts["verdict"] == Verdict.TUMOR.value, list(_COLUMNS)]
    if tumor.empty:
        raise NothingToShowError("no section of Test was called Tumor")
    frame = tumor.sort_values(["setting", LEDGER_MARGIN, "slide_id", "section_id"], ignore_index=True)
    # A parquet file keeps the warning among its attributes.
    frame.attrs["margins"] = MARGIN_WARNING
    return Table(
        name="margin_bounds",
        title="Research use only. From predicted tumor to the tissue's edge by section; nearest first.",
        frame=frame,
        printed=pd.DataFrame(
            {
                "slide": frame["slide_id"],
                "section": frame["section_id"],
                "setting": frame["setting"],
                "margin, not below um": rounded(frame[LEDGER_MARGIN], 0),
                "largest region um2": rounded(frame["area_um2"], 0),
            }
        ),
        notes=(
            "By the ledger, which also counts regions smaller than t_A: margins are not below these.",
            "`python analysis/make.py margins STUDY` reads the slides and gives those of each region.",
        ),
    )


def write_margin_bounds(study: Evidence) -> Table:
    """Write how far sections of Test that were called Tumor are from the tissue's edge at least. Research use only.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or no section of it was called Tumor.
    """
    return study.write(build_margin_bounds(study.verdicts(Part.TEST)))
