"""All tables of a study that can be made by now: `python analysis/summary.py STUDY`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from analysis.command import run
from analysis.table3 import write_table3
from analysis.table4 import write_table4
from analysis.table5 import write_table5
from analysis.table_writing import Table
from bccdist.errors import LedgerError


def print_summary(study_root: Path) -> None:
    """Print and write Tables 3, 4 and 5; where one cannot be made, print why."""
    for write in (write_table3, write_table4, write_table5):
        print(_markdown_or_reason(write, study_root))


def _markdown_or_reason(write: Callable[[Path], Table], study_root: Path) -> str:
    try:
        return write(study_root).markdown
    except LedgerError as error:
        return f"{write.__name__.removeprefix('write_')}: not made: {error}\n"


def main(study: Annotated[Path, tyro.conf.Positional]) -> None:
    """Print and write all tables.

    Args:
        study: The study's folder.
    """
    print_summary(study)


if __name__ == "__main__":
    run(main)
