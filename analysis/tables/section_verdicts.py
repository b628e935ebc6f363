"""The verdict on every section by the chosen models: `python analysis/make.py verdict_table STUDY [--part test]`.

`section_verdicts.parquet` has one row per section and setting: what a pathologist would look at.
"""

import pandas as pd

from analysis.evidence.evidence import Evidence
from analysis.evidence.flip_shifts import shift_texts
from analysis.evidence.table import Table, rounded
from bccdist.parts import Part


def build_verdict_table(verdicts: pd.DataFrame) -> Table:
    """One row per section and setting; wrong ones and those for review come first."""
    rank = verdicts["correct"].astype("float").fillna(0.5)
    ordered = (
        verdicts.assign(rank=rank).sort_values(["setting", "rank", "slide_id", "section_id"]).drop(columns="rank")
    )
    ordered = ordered.reset_index(drop=True)
    printed = pd.DataFrame(
        {
            "slide": ordered["slide_id"],
            "section": ordered["section_id"],
            "setting": ordered["setting"],
            "label": ordered["label"].fillna("none"),
            "verdict": ordered["verdict"],
            "area um2": rounded(ordered["area_um2"], 0),
            "x t_A": rounded(ordered["area_factor"], 2),
            "flip shift": shift_texts(ordered["flip_shift"]),
            "result": ordered["correct"].map({True: "right", False: "WRONG"}).fillna("open"),
        }
    )
    parts = " + ".join(dict.fromkeys(ordered["part"]))
    return Table(
        name="section_verdicts", title=f"Section verdicts, {parts}; wrong ones first.", frame=ordered, printed=printed
    )


def write_verdict_table(study: Evidence, part: Part = Part.TEST) -> Table:
    """Write the verdict on every section of one part.

    Args:
        study: The study's folder.
        part: Which part of the data.

    Raises:
        LedgerError: nothing was selected, or the part was not inferred.
    """
    return study.write(build_verdict_table(study.verdicts(part)))
