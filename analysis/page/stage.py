"""Everything that is drawn and counted from a finished study; the job's entry point."""

from pathlib import Path

from analysis.page.report import write_report
from analysis.page.summary import PICTURES, print_tables
from analysis.pictures.overlays import draw_overlays
from bccdist.failures import read_reason
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections import ledger

DRAWN_PARTS = [Part.VALIDATION_1, Part.VALIDATION_2, Part.TEST]
"""Those whose heatmaps of the chosen epoch are there."""


def write_tables(study_root: Path, manifest_path: Path) -> None:
    """Merge the ledger, write and print all tables, draw slides and figures, and write the report."""
    paths = StudyPaths(study_root)
    ledger.merge(paths.ledger, paths.sections)
    made = print_tables(study_root)
    for failure in sorted(paths.failures.rglob("*.json")):
        print(f"NOT IN THE TABLES: {failure.stem} failed in {failure.parent.name}: {read_reason(failure)}")
    pictures = draw_overlays(study_root, manifest_path, DRAWN_PARTS)
    if pictures:
        print(f"{len(pictures)} overlay pictures in {pictures[0].parent.parent}")
    print_tables(study_root, PICTURES)
    print(f"report {write_report(study_root, tables=made)}")
    print(f"tables in {paths.tables}\nsection ledger {paths.sections}")
