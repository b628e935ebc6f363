"""All tables and charts of a study that can be made by now: `python analysis/make.py summary STUDY`."""

from collections.abc import Sequence

from analysis.evidence.evidence import Evidence
from analysis.evidence.table import Table
from analysis.specs import Spec, in_summary
from bccdist.errors import BccdistError


def make_tables(study: Evidence, specs: Sequence[Spec] | None = None) -> dict[str, Table | str]:
    """Make and write every table and its chart.

    Args:
        study: what they rest on.
        specs: which ones; None is all that need parquet alone.

    Returns:
        Each table, or why it cannot be made, by its name.
    """
    return {spec.name: _table_or_reason(spec, study) for spec in (in_summary("always") if specs is None else specs)}


def _table_or_reason(spec: Spec, study: Evidence) -> Table | str:
    try:
        table: Table = spec.load()(study)
    except BccdistError as error:
        return str(error)
    return table


def print_tables(study: Evidence, specs: Sequence[Spec] | None = None) -> dict[str, Table | str]:
    """Print and write every table and its chart; where one cannot be made, print why.

    Returns:
        As `make_tables`.
    """
    made = make_tables(study, specs)
    for name, outcome in made.items():
        print(outcome.markdown if isinstance(outcome, Table) else f"{name}: not made: {outcome}\n")
    return made


def write_summary(study: Evidence, *, pictures: bool = False) -> None:
    """Print and write all tables and charts that can be made by now; for the others print why not.

    Args:
        study: The study's folder.
        pictures: Draw the paper's figures of patches and sections, too, for which slides are read.
    """
    print_tables(study, [*in_summary("always"), *(in_summary("with pictures") if pictures else [])])
