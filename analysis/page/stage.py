"""Everything that is drawn and counted from a finished study; the job's entry point."""

from collections.abc import Callable
from pathlib import Path

from analysis.outlines.qupath import write_regions
from analysis.page.report import build_report
from analysis.page.summary import Made, faults_of, keep_origins, make_tables, require_no_fault
from analysis.pictures.overlays import draw_overlays
from analysis.specs import in_summary
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import NotMade, Table
from bccdist.errors import BccdistError, NothingToShowError, first_of
from bccdist.failures import read_reason
from bccdist.parts import Part
from bccdist.sections.origins import origin_now
from bccdist.stages.outdated import Result

DRAWN_PARTS = (Part.VALIDATION_1, Part.VALIDATION_2, Part.TEST)
"""The parts whose heatmaps of the chosen epoch are there by now."""
_PRINTED = ("verdict_counts", "table4")
_MOST_NAMED = 5


def write_tables(study_root: Path, manifest_path: Path) -> None:
    """Merge the ledger, write and print all tables, draw slides and figures, and write the report.

    Raises:
        StageFailedError: a slide could not be drawn, or something is wrong with a table; all else is made by then.
    """
    study = Evidence(study_root)
    paths = study.paths
    origin = origin_now(paths, study.known_manifest)
    tables = make_tables(study)
    _tell_left_out(study)
    figures = make_tables(study, in_summary("with pictures"))
    _print_shortly({**tables, **figures})
    # A slide that cannot be drawn costs neither the figures nor the report, which names it.
    overlays = _of_slides("overlays", lambda: draw_overlays(study, manifest_path, DRAWN_PARTS))
    if paths.model.exists():  # a cohort's are looked at in QuPath; a study's are made where they are asked for
        overlays |= _of_slides("regions", lambda: write_regions(study, manifest_path))
    made = {**tables, **figures, **overlays}
    report, of_page = build_report(study, tables=made)
    print(f"report {report}")
    print(f"tables in {paths.tables}\nsection ledger {paths.sections}\noverlay pictures in {paths.overlays}")
    results: dict[Result, Made] = {
        Result.TABLES: tables,
        Result.FIGURES: figures,
        Result.OVERLAYS: overlays,
        Result.REPORT: of_page,
    }
    keep_origins(study, origin, results)
    require_no_fault(faults_of({**made, **of_page}))


def _print_shortly(made: Made) -> None:
    """Print the verdicts, and name all else: it is read in the report and in the tables' files."""
    for name in _PRINTED:
        if isinstance(table := made.get(name), Table):
            print(table.markdown)
    not_made = [name for name, each in made.items() if isinstance(each, NotMade)]
    print(f"made: {', '.join(name for name in made if name not in not_made)}")
    if not_made:
        print(f"not made, each with its reason in the report: {', '.join(not_made)}")


def _tell_left_out(study: Evidence) -> None:
    """Print which slides are in no table, and why."""
    for failure in sorted(study.paths.failures.rglob("*.json")):
        if failure.stem in study.named:
            print(f"NOT IN THE TABLES: {failure.stem} failed in {failure.parent.name}: {read_reason(failure)}")
    if left_out := study.no_longer_named:
        print(
            f"NOT IN THE TABLES: {len(left_out)} slide(s) that {study.manifest.path} does not name any more: "
            f"{first_of(left_out, _MOST_NAMED)}"
        )


def _of_slides(name: str, make: Callable[[], object]) -> dict[str, NotMade]:
    """Make what there is one of for each slide; says why not all could be."""
    try:
        make()
    except NothingToShowError as error:
        return {name: NotMade(reason=str(error), is_fault=False)}
    except BccdistError as error:
        return {name: NotMade(reason=str(error), is_fault=True)}
    return {}
