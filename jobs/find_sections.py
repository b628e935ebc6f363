"""Find the sections of slides and write them as an editable sections.csv: `python jobs/find_sections.py slides.csv`.

The boxes in sections.csv win over what is found, slide by slide (paper, sections 2.1 and 3.2). This writes a start for
them: look at the pictures (--pictures FOLDER), correct boxes and labels in the file, and put it beside slides.csv.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import tyro

from bccdist.addresses import Address
from bccdist.command import run_command
from bccdist.errors import ConfigurationError, ManifestError, StageFailedError
from bccdist.files import atomic_path, csv_text, sha256_of_file, write_text
from bccdist.processes import Failure, run_each
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, read_manifest
from bccdist.slides.sections import found_boxes, section_id
from bccdist.slides.slide import Slide
from bccdist.slides.table_file import read_table_file
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask
from jobs.given_manifest import GivenManifest, for_this_run

BOX_COLUMNS = ("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px")
COLUMNS = ("slide_id", "section_id", *BOX_COLUMNS, "label", "labelled_by", "labelled_at", "prefilled")
LONGEST_PICTURE_PX = 2000
_GREEN_BGR, _BLACK_BGR = (0, 160, 0), (0, 0, 0)


def find_sections_of_slides(
    manifest_path: Path, *, out: Path | None, in_place: bool, pictures: Path | None, workers: int | None
) -> Path:
    """Write the sections.csv with boxes for all slides, and return its path.

    Args:
        manifest_path: of slides.csv.
        out: where to write; by default the sections.csv beside slides.csv, where there is none yet.
        in_place: replace the sections.csv beside slides.csv.
        pictures: folder for a picture of every slide with its numbered boxes; None draws none.
        workers: slides at a time, each in a process; None is one for each core, 0 is this process.

    Raises:
        ConfigurationError: writing would replace a file, or the number of workers is none.
        ManifestError: the manifest has faults, or no slide has a section.
        StageFailedError: some slides failed, which is said after the others were written.
    """
    given = manifest_path.resolve().with_name("sections.csv")
    target = _target(given, out=out, in_place=in_place)
    manifest = read_manifest(manifest_path, files_must_exist=False)
    digest = _digest(given)
    found, reasons = _find(manifest, pictures, workers=workers)
    named = _named(manifest, found, reasons)
    if _digest(given) != digest:
        raise ConfigurationError(f"{given} changed meanwhile; nothing is written: run this again")
    text = _table(given, named)
    if text:
        write_text(target, text)
    if reasons:
        listed = "\n".join(f"  - {slide_id}: {reason}" for slide_id, reason in reasons.items())
        written = f"{target} is {'' if text else 'not '}written"
        raise StageFailedError(f"{written}; {len(reasons)} slide(s) failed and have no new boxes:\n{listed}")
    if not text:
        raise ManifestError(f"no section was found on any slide, so {target} is not written; look at the slides")
    return target


def _target(given: Path, *, out: Path | None, in_place: bool) -> Path:
    """The file to write; an existing one is replaced only where that was asked for."""
    if in_place and out is not None:
        raise ConfigurationError("give either --out or --in-place")
    target = given if out is None else out.resolve()
    if target.exists() and not in_place:
        raise ConfigurationError(f"{target} exists and may hold corrections; give another --out, or --in-place")
    return target


def _digest(path: Path) -> str | None:
    return sha256_of_file(path) if path.exists() else None


def _find(
    manifest: Manifest, pictures: Path | None, *, workers: int | None
) -> tuple[dict[str, list[Box]], dict[str, str]]:
    """The boxes in level-0 px of the slides that have none yet, and the reasons of those that failed."""
    slide_ids = [slide.slide_id for slide in manifest.slides]
    without_boxes = [slide_id for slide_id in slide_ids if not _given_boxes(manifest, slide_id)]
    num_given = len(slide_ids) - len(without_boxes)
    print(f"{len(slide_ids)} slide(s), of which {num_given} have boxes in sections.csv: those stay as they are")
    wanted = slide_ids if pictures else without_boxes
    found: dict[str, list[Box]] = {}
    reasons: dict[str, str] = {}
    outcomes = run_each(partial(open_search, manifest.only(wanted), pictures), wanted, num_workers=workers)
    for number, (slide_id, outcome) in enumerate(outcomes, start=1):
        if isinstance(outcome, Failure):
            reasons[slide_id] = outcome.reason
            said = f"FAILED: {outcome.reason}"
        else:
            found[slide_id] = outcome
            said = f"{len(outcome)} section(s)" if outcome else "NO TISSUE FOUND: look at the slide"
        print(f"slide {number}/{len(wanted)} {slide_id}: {said}", flush=True)
    return {slide_id: found[slide_id] for slide_id in without_boxes if slide_id in found}, reasons


def _given_boxes(manifest: Manifest, slide_id: str) -> list[Box]:
    """Where sections.csv says that the sections of a slide are; none are looked for then."""
    return [section.box_level0_px for section in manifest.sections_of(slide_id) if section.box_level0_px]


def open_search(manifest: Manifest, pictures: Path | None) -> Callable[[str], list[Box]]:
    """The work of one process: the boxes of a slide's sections in level-0 px, given or found, drawn if asked for."""

    def search(slide_id: str) -> list[Box]:
        record = manifest.slide(slide_id)
        with Slide(record.path, target_mpp=TISSUE_MPP, mpp=record.mpp) as slide:
            boxes = _given_boxes(manifest, slide_id) or found_boxes(slide, tissue_mask(slide, for_sections=True))
            if pictures:
                _draw(pictures / f"{slide_id}.png", slide, boxes)
        return boxes

    return search


def _draw(path: Path, slide: Slide, boxes: Sequence[Box]) -> None:
    """The slide with its boxes, numbered from 1 in the order of their rows."""
    mpp_level0 = slide.resolution.mpp_level0
    mpp = max(TISSUE_MPP, mpp_level0 * max(slide.level0_size) / LONGEST_PICTURE_PX)
    picture = cv2.cvtColor(slide.thumbnail(mpp), cv2.COLOR_RGB2BGR)
    for number, box_level0_px in enumerate(boxes, start=1):
        box = box_level0_px.scaled(mpp_level0 / mpp)
        cv2.rectangle(picture, (box.x, box.y), (box.x_end - 1, box.y_end - 1), _GREEN_BGR, thickness=2)
        cv2.putText(picture, str(number), (box.x + 4, box.y + 26), cv2.FONT_HERSHEY_SIMPLEX, 0.9, _BLACK_BGR, 2)
    _, png = cv2.imencode(".png", picture)
    with atomic_path(path) as partial:
        partial.write_bytes(png.tobytes())


def _named(
    manifest: Manifest, found: Mapping[str, list[Box]], reasons: dict[str, str]
) -> dict[str, list[tuple[str, Box]]]:
    """Section ids and boxes by slide; what does not fit sections.csv goes to `reasons`."""
    used = {section.section_id for section in manifest.sections}
    named = {}
    for slide_id, boxes in found.items():
        given = [section.section_id for section in manifest.sections_of(slide_id)]
        names = given or [section_id(slide_id, number) for number in range(len(boxes))]
        taken = [] if given else sorted(used & set(names))
        if len(names) != len(boxes):
            places = ", ".join(str(tuple(box)) for box in boxes) or "no place"
            reasons[slide_id] = (
                f"sections.csv has {len(given)} row(s), but {len(boxes)} section(s) were found, at {places} "
                "(x, y, width, height in level-0 px); give the boxes of its rows by hand"
            )
        elif taken:
            reasons[slide_id] = (
                f"sections.csv gives the name(s) {', '.join(taken)} to another slide; rename them there"
            )
        else:
            named[slide_id] = list(zip(names, boxes, strict=True))
    return named


def _table(given: Path, found: Mapping[str, list[tuple[str, Box]]]) -> str:
    """The rows of `given` as they are, boxes filled in where they were found, and the new rows below, as CSV.

    It is empty where there are none.
    """
    header, rows = _read(given)
    boxes = {name: box for named in found.values() for name, box in named}
    kept = [{**row, **_box_columns(boxes.get(row["section_id"].strip()))} for row in rows]
    known = {row["section_id"].strip() for row in rows}
    new = [
        {"slide_id": slide_id, "section_id": name, **_box_columns(box)}
        for slide_id, named in found.items()
        for name, box in named
        if name not in known
    ]
    if not kept and not new:
        return ""
    columns = [*header, *(column for column in COLUMNS if column not in header)]
    return csv_text(columns, [*kept, *new])


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of a CSV file that `read_manifest` has found good; nothing where there is none."""
    if not path.exists():
        return [], []
    table = read_table_file(path, expected=COLUMNS)
    return table.header, [dict(zip(table.header, fields, strict=True)) for _, fields in table.lines]


def _box_columns(box_level0_px: Box | None) -> dict[str, str]:
    if box_level0_px is None:
        return {}
    return {column: str(side) for column, side in zip(BOX_COLUMNS, box_level0_px, strict=True)}


def main(
    manifest: Annotated[GivenManifest, tyro.conf.Positional],
    out: Path | None = None,
    in_place: bool = False,
    pictures: Path | None = None,
    workers: int | None = None,
) -> None:
    """Find the sections of the slides that have no boxes, and write a sections.csv to correct by hand.

    Rows that are there are kept, with unknown columns; those without a box get one where as many sections were found
    as the slide has rows. A slide that fails is named at the end, and the others are written.

    Args:
        manifest: The slides.csv; a sections.csv beside it is read.
        out: The file to write; by default sections.csv beside slides.csv, if there is none yet.
        in_place: Replace the sections.csv beside slides.csv.
        pictures: A folder for a PNG of every slide with its numbered boxes.
        workers: Processes, which look at one slide each; by default as many as there are cores.
    """
    if isinstance(manifest, Address) and out is None:
        raise ConfigurationError(f"{manifest} lies on a server, where nothing is written: give --out sections.csv")
    here = for_this_run(manifest)
    print(find_sections_of_slides(here, out=out, in_place=in_place, pictures=pictures, workers=workers))


if __name__ == "__main__":
    run_command(lambda: tyro.cli(main))
