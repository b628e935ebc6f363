"""The verdict on every section by the chosen models: `python analysis/make.py verdict_table STUDY [--part test]`.

`section_verdicts.parquet` has one row per section, setting and output, with the seconds that its slide took: what a
pathologist would look at are the rows of the settings' own outputs (`is_final`), which come first.
"""

import numpy as np
import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.flip_shifts import shift_texts
from analysis.study_evidence.table import Table, of_part, read_texts, rounded
from analysis.study_evidence.verdict_table import fast_notes
from bccdist.parts import Part
from bccdist.sections.assessable import short_reasons
from bccdist.sections.verdicts import Verdict


def build_verdict_table(verdicts: pd.DataFrame) -> Table:
    """One row per section, setting and output, in the order in which a person would look at them.

    The settings' own outputs come first, and are printed alone. Of each, wrong verdicts come first, then those for
    review, those without a label and right ones; among each the one that the smallest shift of probability would
    change.
    """
    is_open = verdicts["correct"].isna()
    is_wrong = verdicts["correct"].eq(False).fillna(False).astype(bool)
    rank = np.select([is_wrong, verdicts["verdict"] == Verdict.REVIEW, is_open], [0, 1, 2], 3)
    ordered = (
        verdicts.assign(rank=rank)
        .sort_values(
            ["is_final", "setting", "psi", "rank", "flip_shift", "slide_id", "section_id"],
            ascending=[False, *[True] * 6],
        )
        .drop(columns="rank")
    )
    whole = ordered.reset_index(drop=True)
    ordered = whole[whole["is_final"]]
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
            "reached": ordered["reached_by"],
            "tissue read": read_texts(ordered["coverage"]),
            # Nobody judges it in a study, whose own sections are the reference.
            **(
                {} if ordered["not_assessable"].isna().all() else {"quality": quality_texts(ordered["not_assessable"])}
            ),
            "result": ordered["correct"].map({True: "right", False: "WRONG"}).fillna("open"),
        }
    )
    parts = " + ".join(dict.fromkeys(ordered["part"]))
    first = "those for review" if is_open.all() else "wrong ones"
    return Table(
        name="section_verdicts",
        title=f"Section verdicts, {parts}; {first} first.",
        frame=whole,
        printed=printed,
        notes=fast_notes(ordered),
    )


def quality_texts(column: pd.Series) -> list[str]:
    """The ledger's `not_assessable` in few words; null is a section that was not judged."""
    return [
        "not measured" if pd.isna(text) else "; ".join(short_reasons(text)) if text else "within limits"
        for text in column
    ]


def verdicts_with_times(study: Evidence, part: Part) -> pd.DataFrame:
    """The verdicts of every output on a part, each with the seconds that its slide took.

    Raises:
        LedgerError: nothing was selected, or the part was not inferred.
    """
    verdicts = study.verdicts(part, every_output=True)
    times = study.slide_times().drop(columns="part")
    return verdicts.merge(times, how="left", on=["slide_id", "setting", "epoch"], validate="many_to_one")


def own_verdicts(study: Evidence, part: Part) -> pd.DataFrame:
    """The same of the settings' own outputs alone.

    Raises:
        LedgerError: nothing was selected, or the part was not inferred.
    """
    verdicts = verdicts_with_times(study, part)
    return verdicts[verdicts["is_final"]].reset_index(drop=True)


def write_verdict_table(study: Evidence, part: Part = Part.TEST) -> Table:
    """Write the verdict on every section of one part.

    Args:
        study: The study's folder.
        part: Which part of the data.

    Raises:
        LedgerError: nothing was selected, or the part was not inferred.
    """
    return study.write(build_verdict_table(verdicts_with_times(study, part)).asked(of_part(part)))
