"""A study with a slide of some 106,000 px for the benchmarks of the review page, in minutes and without a network.

    python -m benchmarks.review_slide --manifest EBHI/slides.csv --masks EBHI-SLIDES --folder large

Four slides of a manifest are pasted side by side, one section each, again and again, and stand beside it as they are.
Probabilities are drawn: of the masks' tumor, blurred, with noise; so regions and areas are as many and as crooked as
those of a network, and no verdict means anything. The ledger's rows of a pasted section are those of its own slide.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import Any

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
_BLUR_PX, _NOISE, _SEED = 9.0, 300.0, 0
_LARGE = "large"


def main(
    *, manifest: Path, masks: Path, folder: Path, num_pieces: int = 182, num_slides: int = 4, width_px: int = 107_520
) -> None:
    """Write the slides and the study.

    Args:
        manifest: Of the slides that are pasted.
        masks: Folder with a SLIDE.mask.png for each of them, half as large as level 0; 2 is tumor.
        folder: For data/ and study/.
        num_pieces: Pieces that are pasted.
        num_slides: Slides that they are of, the manifest's first.
        width_px: Where a row of them ends.
    """
    records = read_manifest(manifest).slides[:num_slides]
    (folder / "data").mkdir(parents=True)
    large = folder / "data" / f"{_LARGE}.tif"
    pieces = list(_placed(list(islice(cycle(records), num_pieces)), width_px))
    paste(large, [piece for piece, _ in pieces])
    shown = {each.slide_id: on_this_machine(each.path).resolve() for each in records} | {_LARGE: large.resolve()}
    slides = folder / "data" / "slides.csv"
    lines = [f"{name},{Part.TEST.value},{path}" for name, path in shown.items()]
    slides.write_text("\n".join(["slide_id,part,path", *lines]) + "\n", encoding="utf-8")
    paths = StudyPaths(folder / "study")
    claim_study(paths.root, slides)
    paths.tables.mkdir()
    pd.DataFrame([asdict(_CHOICE)]).assign(f_beta=0.9).to_parquet(paths.selection)
    drawn = {each.slide_id: _probability(masks / f"{each.slide_id}.mask.png") for each in records}
    rows = {}
    for record in records:
        piece = Piece(path=shown[record.slide_id], x_level0_px=0, y_level0_px=0)
        heatmap, tissue = _write_heatmap(paths, record.slide_id, piece.path, [(piece, drawn[record.slide_id])])
        label = Label.TUMOR if (drawn[record.slide_id] > 200).any() else Label.NORMAL
        section = Section(
            section_id=f"{record.slide_id}-s0", box_level0_px=_box(piece, drawn[record.slide_id]), label=label
        )
        (rows[record.slide_id],) = section_rows(heatmap, [section], tissue, part=Part.TEST, phantom_weights=False)
        write_rows(paths.ledger_rows(_SETTING, _CHOICE.epoch, record.slide_id), [rows[record.slide_id]])
    placed = [(piece, drawn[record.slide_id]) for piece, record in pieces]
    heatmap, _ = _write_heatmap(paths, _LARGE, large, placed)
    about = {"slide_id": _LARGE, "slide_fingerprint": heatmap.attributes.slide_fingerprint}
    moved = [
        rows[record.slide_id] | about | {"section_id": f"{_LARGE}-s{number}"} | _columns(_box(piece, values))
        for number, ((piece, record), (_, values)) in enumerate(zip(pieces, placed, strict=True))
    ]
    write_rows(paths.ledger_rows(_SETTING, _CHOICE.epoch, _LARGE), moved)
    print(paths.root)


def _box(piece: Piece, values: NDArray[np.uint8]) -> Box:
    height, width = values.shape
    return Box(piece.x_level0_px, piece.y_level0_px, _DOWNSAMPLE * width, _DOWNSAMPLE * height)


def _columns(box: Box) -> dict[str, Any]:
    return dict(zip(("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px"), box, strict=True))


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


def _write_heatmap(
    paths: StudyPaths, slide_id: str, path: Path, placed: Sequence[tuple[Piece, NDArray[np.uint8]]]
) -> tuple[Heatmap, NDArray[np.bool_]]:
    """The heatmap of one slide, and its tissue."""
    with Slide(path, target_mpp=0.92) as slide:
        size_level0_px, tissue = slide.level0_size, tissue_mask(slide)
        size_px, mpp = (slide.width_px, slide.height_px), slide.resolution.mpp_level0 * _DOWNSAMPLE
    values = np.zeros((size_px[1], size_px[0]), dtype=np.uint8)
    for piece, drawn in placed:
        there = values[piece.y_level0_px // _DOWNSAMPLE :, piece.x_level0_px // _DOWNSAMPLE :]
        there[: drawn.shape[0], : drawn.shape[1]] = drawn[: there.shape[0], : there.shape[1]]
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
    return Heatmap(target), tissue


def _probability(mask: Path) -> NDArray[np.uint8]:
    """Stored values [h, w] that a network could have for a mask."""
    is_tumor = (np.asarray(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)) == _TUMOR).astype(np.float32)
    noise = np.random.default_rng(_SEED).normal(0, _NOISE, is_tumor.shape).astype(np.float32)
    # Noise of single pixels would be no network's.
    drawn = np.asarray(cv2.GaussianBlur(is_tumor * 230 + 10 + noise, (0, 0), _BLUR_PX))
    return np.asarray(drawn.clip(0, 255), dtype=np.uint8)


if __name__ == "__main__":
    tyro.cli(main)
