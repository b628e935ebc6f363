"""A study with a slide of 107,520 px for the benchmarks of the review page, in minutes and without a network.

    python -m benchmarks.review_slide --manifest EBHI/slides.csv --masks EBHI-SLIDES --folder large

The slides of a manifest are pasted side by side, one section each, until there are enough, and four stand beside it as
they are. Probabilities are drawn: of the masks' tumor, blurred, with noise; so regions and areas are as many and as
crooked as those of a network, and no verdict means anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tyro
from numpy.typing import NDArray

from bccdist.addresses import on_this_machine
from bccdist.configuration import CELL_PX, Setting, outputs_of, pixel_px
from bccdist.files import fingerprint_of_file
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, writing_heatmap
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.ledger import write_rows
from bccdist.sections.rows import section_rows
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SlideRecord, read_manifest
from bccdist.slides.sections import Section
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask
from bccdist.study import claim_study
from benchmarks.pasting import Piece, paste

_SETTING: Setting = "unet"
_CHOICE = Choice(
    setting=_SETTING, epoch=1, psi="psi_4", t_p=0.5, t_a_um2=5000.0, beta=1.5, area_unit="physical",
    weights_digest="0" * 12,
)  # fmt: skip
_DOWNSAMPLE, _STEP_LEVEL0_PX, _TUMOR = 2, 2048, 2
_BLUR_PX, _MOST_NOISE, _SEED = 9.0, 30, 0


def main(
    *, manifest: Path, masks: Path, folder: Path, num_pieces: int = 182, num_beside: int = 4, width_px: int = 107_520
) -> None:
    """Write the slides and the study.

    Args:
        manifest: Of the slides that are pasted.
        masks: Folder with a SLIDE.mask.png for each of them, half as large as level 0; 2 is tumor.
        folder: For data/ and study/.
        num_pieces: Slides that are pasted, again and again the same ones.
        num_beside: Further slides of the study.
        width_px: Where a row of them ends.
    """
    records = read_manifest(manifest).slides
    (folder / "data").mkdir(parents=True)
    pieces = list(_placed(list(islice(cycle(records), num_pieces)), width_px))
    paste(folder / "data" / "large.tif", [piece for piece, _ in pieces])
    shown = {"large": (folder / "data" / "large.tif", pieces)}
    for record in records[:num_beside]:
        path = on_this_machine(record.path)
        shown[record.slide_id] = (path, [(Piece(path=path, x_level0_px=0, y_level0_px=0), record)])
    slides = folder / "data" / "slides.csv"
    lines = [f"{name},{Part.TEST.value},{path.resolve()}" for name, (path, _) in shown.items()]
    slides.write_text("\n".join(["slide_id,part,path", *lines]) + "\n", encoding="utf-8")
    paths = StudyPaths(folder / "study")
    claim_study(paths.root, slides)
    paths.tables.mkdir()
    pd.DataFrame([asdict(_CHOICE)]).assign(f_beta=0.9).to_parquet(paths.selection)
    for name, (path, placed) in shown.items():
        _write_results(paths, name, path, [(piece, masks / f"{each.slide_id}.mask.png") for piece, each in placed])
    print(paths.root)


def _placed(records: Sequence[SlideRecord], width_px: int) -> Iterator[tuple[Piece, SlideRecord]]:
    """The slides in rows; each begins where whole tiles of the coarse levels begin, too."""
    x = y = row_height = 0
    for record in records:
        with Slide(record.path, target_mpp=0.92, mpp=record.mpp) as slide:
            width, height = (-(-edge // _STEP_LEVEL0_PX) * _STEP_LEVEL0_PX for edge in slide.level0_size)
        if x + width > width_px:
            x, y, row_height = 0, y + row_height, 0
        yield Piece(path=on_this_machine(record.path), x_level0_px=x, y_level0_px=y), record
        x, row_height = x + width, max(row_height, height)


def _write_results(paths: StudyPaths, slide_id: str, path: Path, placed: Sequence[tuple[Piece, Path]]) -> None:
    """Heatmap and ledger rows of one slide."""
    with Slide(path, target_mpp=0.92) as slide:
        size_level0_px, tissue = slide.level0_size, tissue_mask(slide)
        size_px, mpp = (slide.width_px, slide.height_px), slide.resolution.mpp_level0 * _DOWNSAMPLE
    values = np.zeros((size_px[1], size_px[0]), dtype=np.uint8)
    sections = []
    for number, (piece, mask) in enumerate(placed):
        drawn = _probability(mask)
        there = values[piece.y_level0_px // _DOWNSAMPLE :, piece.x_level0_px // _DOWNSAMPLE :]
        there[: drawn.shape[0], : drawn.shape[1]] = drawn[: there.shape[0], : there.shape[1]]
        box = Box(piece.x_level0_px, piece.y_level0_px, *(_DOWNSAMPLE * edge for edge in drawn.shape[::-1]))
        label = Label.TUMOR if (drawn > 200).any() else Label.NORMAL
        sections.append(Section(section_id=f"{slide_id}-s{number}", box_level0_px=box, label=label))
    outputs = outputs_of(_SETTING)
    cells = np.full([-(-edge // CELL_PX) for edge in values.shape], 4, dtype=np.uint8)
    attributes = HeatmapAttributes(
        slide_id=slide_id, setting=_SETTING, epoch=_CHOICE.epoch, outputs=outputs, mpp=mpp, downsample=_DOWNSAMPLE,
        size_level0_px=size_level0_px, size_target_px=size_px, weights_digest=_CHOICE.weights_digest,
        config_digest="0" * 12, slide_fingerprint=fingerprint_of_file(path), phantom=False,
    )  # fmt: skip
    target = paths.heatmap(_SETTING, _CHOICE.epoch, slide_id)
    with writing_heatmap(target, outputs=outputs, size_target_px=size_px, mpp=mpp) as writer:
        for top in range(0, size_px[1], CELL_PX):
            row = values[top : top + CELL_PX]
            writer.append({psi: row[:: pixel_px(psi), :: pixel_px(psi)] for psi in outputs})
        writer.finish(attributes, coverage=cells, tissue_cells=cells > 0)
    rows = section_rows(Heatmap(target), sections, tissue, part=Part.TEST, phantom_weights=False)
    write_rows(paths.ledger_rows(_SETTING, _CHOICE.epoch, slide_id), list(rows))


def _probability(mask: Path) -> NDArray[np.uint8]:
    """Stored values [h, w] that a network could have for a mask."""
    is_tumor = (np.asarray(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)) == _TUMOR).astype(np.float32)
    noise = np.random.default_rng(_SEED).uniform(0, _MOST_NOISE, is_tumor.shape)
    blurred = np.asarray(cv2.GaussianBlur(is_tumor, (0, 0), _BLUR_PX))
    return np.asarray(blurred * (255 - _MOST_NOISE) + noise, dtype=np.uint8)


if __name__ == "__main__":
    tyro.cli(main)
