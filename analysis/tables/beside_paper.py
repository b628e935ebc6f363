"""A study's results beside the paper's: `python analysis/make.py beside_paper STUDY`.

Different slides were judged, so nothing here has to agree; it shows the same figures in the same form, and how sure a
study of this size can be of its own.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.paper_results import CHOSEN_AREAS_UM2, CHOSEN_T_P, FALSE_VERDICTS, TABLE_3
from analysis.study_evidence.resampling import FIGURES, Interval
from analysis.study_evidence.table import Table, phantom_marks
from analysis.tables.intervals import interval_from, interval_text, read_intervals

_BLOCKS = {
    "psi_0": "Table 5, psi_0",
    "psi_1": "Table 5, psi_1 and psi_2",
    "psi_2": "Table 5, psi_1 and psi_2",
    "psi_3": "Table 5, psi_3 and psi_4",
}
"""The rows of Table 5 for the blocks of resnet34_ds; its psi_4 is its row in Table 4."""
_SETTING_OF_TABLE_5 = "resnet34_ds"


def build_beside_paper(intervals: pd.DataFrame) -> Table:
    """One row for each row of Tables 3, 4 and 5 that the study has, too.

    Args:
        intervals: the rows of intervals.parquet.
    """
    rows = [
        row
        for key, figures in intervals.groupby(["part", "setting", "psi"], sort=False)
        for row in _rows(key, figures)
    ]
    frame = pd.DataFrame(rows)
    printed = pd.DataFrame(
        {
            "table": frame["table"],
            "model": frame["setting"] + " " + frame["psi"],
            **{name: [f"{row[f'{name}_paper']} / {_text(row, name)}" for row in rows] for name in FIGURES},
            "sections": frame["num_sections"].astype(str),
        }
    )
    return Table(
        name="beside_paper",
        title="This study beside the paper: the paper's figure / the study's with its 95 % interval.",
        frame=frame,
        printed=printed,
        notes=("The slides are others than the paper's: nothing has to agree.", _thresholds_note()),
    )


def _rows(key: Any, figures: pd.DataFrame) -> Iterator[dict[str, Any]]:
    part, setting, psi = key
    is_final = bool(figures["is_final"].iloc[0])
    source = _printed_in_paper(part, setting, psi, is_final=is_final)
    if source is None:
        return
    table, printed = source
    by_name = figures.set_index("figure").to_dict("index")
    yield {
        "table": table,
        "setting": setting,
        "psi": psi,
        **{f"{name}_paper": value for name, value in zip(FIGURES, printed, strict=True)},
        **{key: value for name in FIGURES for key, value in interval_from(by_name[name]).columns(name).items()},
        "num_sections": int(figures["num_sections"].iloc[0]),
        "num_slides": int(figures["num_slides"].iloc[0]),
        **phantom_marks(figures),
    }


def _printed_in_paper(part: str, setting: str, psi: str, *, is_final: bool) -> tuple[str, tuple[str, ...]] | None:
    """The table's name and the four figures as it prints them; None where the paper has no such row."""
    if part != "Test":
        return ("Table 3", TABLE_3[setting][1]) if is_final else None
    if is_final:
        return "Table 4", FALSE_VERDICTS[f"Table 4, {setting}"][1]
    if setting == _SETTING_OF_TABLE_5:
        return "Table 5", FALSE_VERDICTS[_BLOCKS[psi]][1]
    return None


def _text(row: dict[str, Any], name: str) -> str:
    return interval_text(Interval.from_columns(row, name))


def _thresholds_note() -> str:
    chosen = ", ".join(
        f"{setting} t_p {CHOSEN_T_P[setting]:.2f} and t_A {area_um2} um2"
        for setting, (area_um2, _) in CHOSEN_AREAS_UM2.items()
    )
    return f"The paper chose: {chosen}."


def write_beside_paper(study: Evidence) -> Table:
    """Write the study's results beside the paper's.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, or no chosen model has labelled sections.
    """
    return study.write(build_beside_paper(read_intervals(study).frame))
