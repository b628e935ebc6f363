"""A slide of the paper's size from smaller ones, their compressed tiles side by side, as a manifest of one slide.

    python -m benchmarks.paper_slide --manifest slides.csv --folder pasted
    python -m benchmarks.heatmaps --study STUDY --manifest pasted/slides.csv --only certified

Slides follow each other in rows, a cell of glass or more between them, and begin again until there are enough patches;
sections keep their boxes and labels. So its verdicts, too, are known: those of the slides that it is made of.
"""

import csv
from itertools import cycle
from pathlib import Path

import tyro

from bccdist.addresses import on_this_machine
from bccdist.configuration import CELL_PX
from bccdist.errors import ConfigurationError
from bccdist.files import atomic_path
from bccdist.heatmaps.layout import PAPER, place_patches
from bccdist.heatmaps.writing import cells_of
from bccdist.parts import Part
from bccdist.slides.manifest import SectionRecord, read_manifest
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask
from benchmarks.pasting import Piece, paste

SLIDE_ID = "paper-size"
_STEP_LEVEL0_PX = 2048
_COLUMNS = (
    "slide_id", "section_id", "x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px", "label",
    "labelled_by",
)  # fmt: skip


def main(
    *,
    manifest: Path,
    folder: Path,
    part: Part = Part.TEST,
    num_patches: int = 2000,
    width_level0_px: int = 36 * 1024,
    target_mpp: float = 0.92,
) -> None:
    """Write slides.csv, sections.csv and the slide.

    Args:
        manifest: Of the slides that are pasted.
        folder: For the new manifest.
        part: Which of its slides.
        num_patches: Patches of the paper's tiling that the slide has at least.
        width_level0_px: Where a row ends.
        target_mpp: Resolution that the network sees, in um per pixel.
    """
    source = read_manifest(manifest)
    folder.mkdir(parents=True, exist_ok=True)
    pieces: list[Piece] = []
    sections: list[tuple[object, ...]] = []
    x = y = row_height = patches = 0
    for record in cycle(source.slides_of([part])):
        if patches >= num_patches:
            break
        with Slide(record.path, target_mpp=target_mpp, mpp=record.mpp) as slide:
            (width, height), gap = slide.level0_size, round(CELL_PX * slide.resolution.downsample)
            cells = cells_of(slide, tissue_mask(slide))
        if x and x + width > width_level0_px:
            x, y, row_height = 0, _next(y + row_height + gap), 0
        piece = Piece(path=on_this_machine(record.path), x_level0_px=x, y_level0_px=y)
        sections += [_moved(each, piece, len(pieces)) for each in source.sections_of(record.slide_id)]
        pieces.append(piece)
        patches += sum(len(row.cols) for row in place_patches(cells, PAPER))
        x, row_height = _next(x + width + gap), max(row_height, height)
    paste(folder / f"{SLIDE_ID}.tif", pieces)
    _write(folder / "sections.csv", [_COLUMNS, *sections])
    _write(folder / "slides.csv", [("slide_id", "part", "path"), (SLIDE_ID, part.value, f"{SLIDE_ID}.tif")])
    print(f"{len(pieces)} slides pasted, {len(sections)} sections, {patches} patches in the paper's tiling")


def _next(px: int) -> int:
    """The next place at which whole tiles of the coarse levels begin, too."""
    return -(-px // _STEP_LEVEL0_PX) * _STEP_LEVEL0_PX


def _moved(section: SectionRecord, piece: Piece, number: int) -> tuple[object, ...]:
    box = section.box_level0_px
    if box is None:
        raise ConfigurationError(f"{section.slide_id}/{section.section_id}: has no box, which its new place needs")
    place = (piece.x_level0_px + box.x, piece.y_level0_px + box.y, box.width, box.height)
    return (SLIDE_ID, f"{number:02d}-{section.section_id}", *place, section.label or "", section.labelled_by or "")


def _write(path: Path, rows: list[tuple[object, ...]]) -> None:
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    tyro.cli(main)
