"""From the paper's confusion counts the tables print the paper's own digits, row by row."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from analysis.study_evidence.confusion import Confusion
from analysis.study_evidence.paper_results import FALSE_VERDICTS, TABLE_3, TEST_SECTIONS
from analysis.tables import table5
from analysis.tables.table3 import printed_figures

BETA = 1.5
FIGURES = ["accuracy", "sensitivity", "specificity", "F_1.5"]


class Row(NamedTuple):
    """A row of a table of the paper."""

    name: str
    counts: tuple[int, int, int, int]
    """tp, fn, fp, tn."""
    printed: tuple[str, ...]


def rows(table: str) -> list[Row]:
    if table == "Table 3":
        return [Row(f"Table 3, {setting}", counts, printed) for setting, (counts, printed) in TABLE_3.items()]
    num_tumor, num_normal = TEST_SECTIONS
    return [
        Row(name, (num_tumor - fn, fn, fp, num_normal - fp), printed)
        for name, ((fn, fp), printed) in FALSE_VERDICTS.items()
        if name.startswith(table)
    ]


def frame_of(row: Row) -> pd.DataFrame:
    confusion = Confusion(**dict(zip(("tp", "fn", "fp", "tn"), row.counts, strict=True)))
    figures = {name: np.asarray(value).item() for name, value in confusion.figures(BETA).items()}
    others = {"num_review": 0, "num_sections": sum(row.counts), "num_slides": 321}
    blocks = {"psi": "psi_0", "num_changed": 0, "num_to_tumor": 0, "num_to_normal": 0, "patch_s": None}
    return pd.DataFrame([{**figures, **others, **blocks}])


@pytest.mark.parametrize("row", [*rows("Table 3"), *rows("Table 4")], ids=lambda row: row.name)
def test_tables_3_and_4_print_the_papers_digits(row: Row) -> None:
    printed = printed_figures(frame_of(row), BETA)
    assert tuple(printed[name][0] for name in FIGURES) == row.printed
    assert tuple(int(printed[name][0]) for name in ("TP", "FN", "FP", "TN")) == row.counts


@pytest.mark.parametrize("row", rows("Table 5"), ids=lambda row: row.name)
def test_table_5_cuts_its_accuracy_as_the_paper_does(row: Row) -> None:
    printed = table5._printed(frame_of(row), BETA)
    assert tuple(printed[name][0] for name in FIGURES) == row.printed


def test_rounding_would_not_give_table_5() -> None:
    (row,) = (row for row in rows("Table 5") if "psi_1" in row.name)
    assert f"{frame_of(row)['accuracy'][0]:.4f}" == "0.9618"
    assert row.printed[0] == "0.9617"
