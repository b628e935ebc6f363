"""All tables and charts of a study that can be made by now: `python analysis/make.py summary STUDY`."""

import errno
from collections.abc import Mapping, Sequence

from analysis.specs import Spec, in_summary
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import NotMade, Table
from bccdist.errors import BccdistError, NothingToShowError, StageFailedError
from bccdist.log import LOG
from bccdist.sections.origins import Origin, keep_origin, origin_now
from bccdist.stages.outdated import Result

Made = Mapping[str, Table | NotMade]
"""Each table and picture by its name, or why it is not there."""
_NOWHERE_TO_WRITE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EPIPE}
"""No table can be written then, so the first one says it."""


def make_tables(study: Evidence, specs: Sequence[Spec] | None = None) -> dict[str, Table | NotMade]:
    """Make and write every table and its chart.

    What has nothing to show (any more) does not keep its files of before: they would say what is not so.

    Args:
        study: what they rest on.
        specs: which ones; None is all that need parquet alone. Of a cohort those that only a study has are left out.

    Returns:
        Each table, or why it cannot be made, by its name; one fault costs no other table.
    """
    wanted = in_summary("always") if specs is None else specs
    able = [spec for spec in wanted if not (study.is_cohort and spec.of_study_alone)]
    return {spec.name: _table_or_reason(spec, study) for spec in able}


def _table_or_reason(spec: Spec, study: Evidence) -> Table | NotMade:
    try:
        table: Table = spec.load()(study)
    except NothingToShowError as error:
        _remove_files_of_before(spec.name, study)
        return NotMade(reason=str(error), is_fault=False)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other tables are made, and it is an exit code
        return fault(spec.name, error)
    return table


def fault(name: str, error: Exception) -> NotMade:
    """What went wrong with one thing while all others go on; an error of the program's own is told in full.

    Raises:
        OSError: nothing can be written there, so that nothing else would go through either.
    """
    if isinstance(error, BccdistError):
        return NotMade(reason=str(error), is_fault=True)
    if isinstance(error, OSError) and error.errno in _NOWHERE_TO_WRITE:
        raise error
    LOG.error(f"{name} failed", exc_info=error)
    return NotMade(reason=f"{type(error).__name__}: {error}", is_fault=True)


def _remove_files_of_before(name: str, study: Evidence) -> None:
    for folder in (study.paths.tables, study.paths.figures):
        for path in (*folder.glob(f"{name}.*"), *folder.glob(f"{name}_*")):
            path.unlink()


def faults_of(made: Made) -> dict[str, str]:
    """What went wrong, by the name of the table or picture; what has nothing to show is no fault."""
    return {name: each.reason for name, each in made.items() if isinstance(each, NotMade) and each.is_fault}


def by_reason(faults: Mapping[str, str]) -> dict[str, list[str]]:
    """What went wrong for the same reason together: one damaged file costs many tables."""
    found: dict[str, list[str]] = {}
    for name, reason in faults.items():
        found.setdefault(reason, []).append(name)
    return found


def require_no_fault(faults: Mapping[str, str]) -> None:
    """Say at the end what went wrong.

    Raises:
        StageFailedError: something did.
    """
    if faults:
        listed = [f"  - {', '.join(names)}: {reason}" for reason, names in by_reason(faults).items()]
        raise StageFailedError("\n".join([f"{len(faults)} not made, all else is:", *listed]))


def keep_origins(study: Evidence, origin: Origin, made: Mapping[Result, Made]) -> None:
    """Note what results were made from, and what of them could not be made; not of what is shown elsewhere.

    Args:
        study: what they rest on.
        origin: as it was before the ledger was read.
        made: what was made of each result.
    """
    if study.shown_in is not None:
        return
    is_study = study.known_manifest is not None
    for result, outcomes in made.items():
        faults = faults_of(outcomes)
        told = {name: study.without_paths(reason) if is_study else reason for name, reason in faults.items()}
        keep_origin(study.paths.origin(result), origin, made=study.paths.selection, faults=told)


def print_tables(study: Evidence, specs: Sequence[Spec] | None = None) -> dict[str, Table | NotMade]:
    """Print and write every table and its chart; where one cannot be made, print why.

    Returns:
        As `make_tables`.
    """
    made = make_tables(study, specs)
    for name, outcome in made.items():
        reason = "" if isinstance(outcome, Table) else study.pasteable(outcome.reason)
        print(outcome.markdown if isinstance(outcome, Table) else f"{name}: not made: {reason}\n")
    return made


def write_summary(study: Evidence, *, pictures: bool = False) -> None:
    """Print and write all tables and charts that can be made by now; for the others print why not.

    Args:
        study: The study's folder.
        pictures: Draw the paper's figures of patches and sections, too, for which slides are read.

    Raises:
        StageFailedError: something is wrong with a table, such as a damaged file; all others are made.
    """
    origin = origin_now(study.paths, study.known_manifest)
    tables = print_tables(study)
    figures = print_tables(study, in_summary("with pictures")) if pictures else {}
    keep_origins(study, origin, {Result.TABLES: tables, **({Result.FIGURES: figures} if pictures else {})})
    require_no_fault(faults_of({**tables, **figures}))
