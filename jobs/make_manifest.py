"""From a folder of slides to a manifest: `python jobs/make_manifest.py SLIDES --table cases.xlsx --out data/lab2`.

Slides are found as `launch_apply` finds them. The table, or their places by a pattern such as
`{patient}/{slide}_{stain}.svs`, say what is known of them: patient, label, scanner, part. Where neither says a part,
patients are dealt out to the parts.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bccdist.addresses import protocol_lost_in
from bccdist.command import run_command
from bccdist.errors import ManifestError
from bccdist.files import as_given, write_text
from bccdist.log import LOG
from bccdist.parts import Label, Part
from bccdist.slides.case_table import read_case_table
from bccdist.slides.draft import OF_SECTION, LabelWords, Table, draft_manifest
from bccdist.slides.finder import find_slides
from bccdist.slides.manifest import SLIDE_COLUMNS, Manifest, read_manifest
from bccdist.slides.manifest_text import sections_csv, slides_csv
from bccdist.slides.path_pattern import PathPattern, PatternReading


@dataclass(frozen=True, kw_only=True)
class ManifestArguments:
    """Write slides.csv, and sections.csv where labels are known, for the slides of a folder."""

    slides: Annotated[Path, tyro.conf.Positional]
    """A folder, searched with those below it; a slide; or a .txt with a path in each line."""
    out: Path
    """Folder for slides.csv and sections.csv, which must not be there yet."""
    table: Path | None = None
    """CSV or Excel file with a row for each slide or section; a column names the slide by id, file or path."""
    sheet: str | None = None
    """Sheet of the workbook; None is the first."""
    pattern: str | None = None
    """What paths below the folder say of slides, such as `{patient}/{slide}_{stain}.svs`; others are left out."""
    only: tuple[str, ...] = ()
    """Take slides alone whose name in braces has this value, such as stain=HE."""
    dry_run: bool = False
    """Say what would be written, and write nothing."""
    shares: tuple[float, float, float, float] = (0.5, 0.1, 0.2, 0.2)
    """Shares of the slides for Training, Validation I, Validation II and Test, where the table says no part."""
    seed: int = 0
    """Seed of the order in which patients are dealt out."""
    tumor: tuple[str, ...] = (Label.TUMOR.value,)
    """What table or folders call the label Tumor; case does not matter."""
    normal: tuple[str, ...] = (Label.NORMAL.value,)
    """What table or folders call the label Normal; case does not matter."""


def make_manifest(arguments: ManifestArguments) -> Manifest:
    """Write the manifest but in a dry run, and return it.

    Raises:
        ManifestError: no slides, faults of the table or pattern, or a manifest that is there already; nothing is
            written then.
    """
    _refuse_addresses(arguments)
    path = as_given(arguments.out) / "slides.csv"
    for there in (path, path.with_name("sections.csv")):
        if there.exists():
            raise ManifestError(f"{there} is there already, and people write in such files: give another --out")
    if min(arguments.shares) < 0 or sum(arguments.shares) <= 0:
        raise ManifestError(f"shares are {arguments.shares}, expected numbers of at least 0, not all of them 0")
    found = find_slides(arguments.slides)
    for note in found.notes:
        LOG.info(note)
    shares = dict(zip(Part, arguments.shares, strict=True))
    reading = _reading(arguments, found.paths)
    manifest = draft_manifest(
        path,
        found.paths if reading is None else reading.paths,
        _table(arguments),
        by_path=None if reading is None else reading.values,
        words=LabelWords(tumor=arguments.tumor, normal=arguments.normal),
        shares=shares,
        seed=arguments.seed,
    )
    if arguments.dry_run:
        return manifest
    if manifest.sections:
        write_text(path.with_name("sections.csv"), sections_csv(manifest.sections))
    write_text(path, slides_csv(manifest, path.parent))
    return read_manifest(path)


def _refuse_addresses(arguments: ManifestArguments) -> None:
    """Refuse to search a server, which lists no folders by HTTP, and to write to one.

    Raises:
        ManifestError: a path is an address, of which it has lost a slash.
    """
    for what, path in (("SLIDES", arguments.slides), ("--table", arguments.table), ("--out", arguments.out)):
        if path is not None and (protocol := protocol_lost_in(path)):
            raise ManifestError(
                f"{what} begins with {protocol}:/, and has to be of this machine: no server is searched or written "
                "to; write a slides.csv of your own with an address in each row (columns slide_id, part, path)"
            )


def _reading(arguments: ManifestArguments, paths: Mapping[str, Path]) -> PatternReading | None:
    """What the pattern says, if there is one, which is told."""
    if arguments.pattern is None:
        if arguments.only:
            raise ManifestError("--only chooses by a name in braces of --pattern: give --pattern, too")
        return None
    folder = as_given(arguments.slides)
    if not folder.is_dir():
        raise ManifestError(f"--pattern describes paths below a folder, and {folder} is none")
    if wrong := [text for text in arguments.only if "=" not in text]:
        raise ManifestError(f"--only {wrong[0]}: expected NAME=VALUE, such as stain=HE")
    only = dict(text.split("=", 1) for text in arguments.only)
    reading = PathPattern(arguments.pattern).read(folder, paths, only)
    for line in reading.told():
        LOG.info(line)
    return reading


def _table(arguments: ManifestArguments) -> Table | None:
    if arguments.table is None:
        return None
    rows = read_case_table(arguments.table, known=(*SLIDE_COLUMNS, *OF_SECTION), sheet=arguments.sheet)
    return Table(path=arguments.table, rows=rows)


def main(arguments: ManifestArguments) -> None:
    """Write it, and say how many slides each part has."""
    manifest = make_manifest(arguments)
    parts = Counter(slide.part for slide in manifest.slides)
    written = ", not written, as --dry-run was given" if arguments.dry_run else ""
    print(f"{manifest.path}{written}: {len(manifest.slides)} slides, {len(manifest.sections)} labelled sections")
    for part in Part:
        patients = {slide.patient_id for slide in manifest.slides_of([part])} - {""}
        print(f"  {part.value:14} {parts[part]:6} slides of {len(patients)} known patients")


if __name__ == "__main__":
    run_command(lambda: main(tyro.cli(ManifestArguments)))
