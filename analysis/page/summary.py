"""All tables and charts of a study that can be made by now: `python analysis/make.py summary STUDY`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from analysis.evidence.table import Table
from analysis.pictures.figure2 import write_figure2
from analysis.pictures.figure4 import write_figure4
from analysis.pictures.figure6 import write_figure6
from analysis.pictures.figure7 import write_figure7
from analysis.pictures.figure8 import write_figure8
from analysis.tables.comparisons import write_comparisons
from analysis.tables.error_groups import write_error_groups
from analysis.tables.figure5 import write_figure5
from analysis.tables.intervals import write_intervals
from analysis.tables.merge_weights import write_merge_weights
from analysis.tables.reliability import write_reliability
from analysis.tables.roc import write_roc
from analysis.tables.stability import write_stability
from analysis.tables.table1 import write_table1
from analysis.tables.table2 import write_table2
from analysis.tables.table3 import write_table3
from analysis.tables.table4 import write_table4
from analysis.tables.table5 import write_table5
from analysis.tables.triage import write_triage
from bccdist.errors import BccdistError

TABLES: tuple[Callable[[Path], Table], ...] = (
    write_table1,
    write_table2,
    write_table3,
    write_stability,
    write_table4,
    write_intervals,
    write_comparisons,
    write_figure5,
    write_roc,
    write_reliability,
    write_error_groups,
    write_triage,
    write_table5,
    write_merge_weights,
)


PICTURES: tuple[Callable[[Path], Table], ...] = (
    write_figure2,
    write_figure4,
    write_figure6,
    write_figure7,
    write_figure8,
)
"""Those for which slides and heatmaps are read."""


def make_tables(study_root: Path, writers: Sequence[Callable[[Path], Table]] = TABLES) -> dict[str, Table | str]:
    """Make and write every table and its chart.

    Returns:
        Each table, or why it cannot be made, by the name of the function that makes it, less `write_`.
    """
    return {write.__name__.removeprefix("write_"): _table_or_reason(write, study_root) for write in writers}


def _table_or_reason(write: Callable[[Path], Table], study_root: Path) -> Table | str:
    try:
        return write(study_root)
    except BccdistError as error:
        return str(error)


def print_tables(study_root: Path, writers: Sequence[Callable[[Path], Table]] = TABLES) -> dict[str, Table | str]:
    """Print and write every table and its chart; where one cannot be made, print why.

    Returns:
        As `make_tables`.
    """
    made = make_tables(study_root, writers)
    for name, outcome in made.items():
        print(outcome.markdown if isinstance(outcome, Table) else f"{name}: not made: {outcome}\n")
    return made


def main(study: Annotated[Path, tyro.conf.Positional], *, pictures: bool = False) -> None:
    """Print and write all tables.

    Args:
        study: The study's folder.
        pictures: Draw the paper's figures of patches and sections, too, for which slides are read.
    """
    print_tables(study, (*TABLES, *PICTURES) if pictures else TABLES)
