"""Overlays, a picture per slide and setting: `python analysis/make.py overlays STUDY SLIDES_CSV [--parts test val1]`.

The heatmap of the chosen model lies over the tissue; boxes are coloured by label, tags say label and verdict
(paper, Figures 2, 6 and 7).
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import pandas as pd
import tyro
from numpy.typing import NDArray

from analysis.evidence.section_rows import load_ledger
from analysis.evidence.verdict_table import all_verdicts
from analysis.outlines.chosen_heatmap import open_chosen
from analysis.pictures.overlay_drawing import Picture, PictureBox, SectionMark, write_picture
from bccdist.errors import HeatmapError, SlideError, StageFailedError
from bccdist.heatmaps.probability import step_of
from bccdist.heatmaps.store import Heatmap
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.processes import Casualty, run_each
from bccdist.sections.choices import Choice, read_choices
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, SlideRecord, read_manifest
from bccdist.slides.slide import Slide

PICTURE_WIDTH_PX, PICTURE_HEIGHT_PX = 1400, 1600
"""A slide is drawn as large as fits into this, but not finer than it was scanned."""
_BAND_TARGET_PX = 1024


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One slide under one setting, for the process that draws it."""

    paths: StudyPaths
    manifest: Manifest
    """Of this slide alone."""
    choice: Choice
    slide_id: str
    verdicts: pd.DataFrame


def draw_overlays(
    study_root: Path, manifest_path: Path, parts: list[Part], *, num_workers: int | None = None
) -> list[Path]:
    """Draw every slide of some parts that the chosen models were applied to.

    Args:
        study_root: the study's folder.
        manifest_path: its slides.csv.
        parts: of the slides.
        num_workers: processes that draw a slide each; None is one for each core, 0 is this process.

    Returns:
        The pictures' paths.

    Raises:
        LedgerError: nothing was selected, or no slide of these parts was inferred.
        StageFailedError: some slides or heatmaps cannot be read; all others are drawn.
    """
    paths = StudyPaths(study_root)
    manifest = read_manifest(manifest_path, files_must_exist=False)
    choices = {choice.setting: choice for choice in read_choices(paths)}
    verdicts = all_verdicts(load_ledger(paths), list(choices.values()), parts)
    tasks = [
        _Task(
            paths=paths,
            manifest=manifest.only(str(slide_id)),
            choice=choices[str(setting)],
            slide_id=str(slide_id),
            verdicts=rows,
        )
        for (setting, slide_id), rows in verdicts.groupby(["setting", "slide_id"])
    ]
    num_cores = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    outcomes = dict(_outcomes(tasks, min(num_cores if num_workers is None else num_workers, len(tasks))))
    drawn = [outcome for _, outcome in sorted(outcomes.items()) if isinstance(outcome, Path)]
    failures = [
        f"  - {tasks[index].choice.setting}: {outcome}"
        for index, outcome in sorted(outcomes.items())
        if not isinstance(outcome, Path)
    ]
    if failures:
        raise StageFailedError(f"{len(failures)} overlay(s) not drawn, {len(drawn)} drawn:\n" + "\n".join(failures))
    return drawn


def _outcomes(tasks: Sequence[_Task], num_workers: int) -> Iterator[tuple[int, Path | str]]:
    """The picture of each task, or why there is none, with its index."""
    if num_workers <= 1:
        yield from enumerate(map(_try_task, tasks))
        return
    for index, outcome in run_each(_try_task, tasks, num_workers=num_workers, timeout_s=float("inf")):
        yield index, f"{tasks[index].slide_id}: {outcome.reason}" if isinstance(outcome, Casualty) else outcome


def _try_task(task: _Task) -> Path | str:
    try:
        return draw_slide(task.paths, task.manifest, task.choice, task.slide_id, task.verdicts)
    except (SlideError, HeatmapError) as error:
        return str(error)


def draw_slide(paths: StudyPaths, manifest: Manifest, choice: Choice, slide_id: str, verdicts: pd.DataFrame) -> Path:
    """Draw one slide with the heatmap of one chosen model; returns the picture's path.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap cannot be read, or is of other weights than the chosen ones.
    """
    heatmap = open_chosen(paths, choice, slide_id)
    tissue, um_per_px = _read_tissue(manifest.slide(slide_id), heatmap)
    shape = (tissue.shape[0], tissue.shape[1])
    probability, mask_share = shrink_heatmap(heatmap, shape, step=step_of(choice.t_p))
    picture = Picture(
        tissue=tissue,
        probability=probability,
        mask_share=mask_share,
        um_per_px=um_per_px,
        t_p=choice.t_p,
        sections=section_marks(verdicts, px_per_level0_px=shape[1] / heatmap.attributes.size_level0_px[0]),
        title=slide_id,
        subtitle=f"{verdicts['part'].iloc[0]}   {choice.setting}, epoch {choice.epoch}, {heatmap.outputs[-1]}   "
        f"t_p {choice.t_p:.2f}   t_A {choice.t_a_um2:.0f} \u00b5m\u00b2 ({choice.area_unit})",
        phantom=heatmap.attributes.phantom,
    )
    path = paths.overlay(choice.setting, slide_id)
    write_picture(path, picture)
    return path


def picture_mpp(size_level0_px: tuple[int, int], mpp_level0: float) -> float:
    """Um per pixel at which a slide of this width and height fits the picture."""
    width_px, height_px = size_level0_px
    return mpp_level0 * max(1.0, width_px / PICTURE_WIDTH_PX, height_px / PICTURE_HEIGHT_PX)


def _read_tissue(record: SlideRecord, heatmap: Heatmap) -> tuple[NDArray[np.uint8], float]:
    """The whole slide, RGB [h, w, 3], and its um per pixel."""
    with Slide(record.path, target_mpp=heatmap.attributes.mpp, mpp=record.mpp) as slide:
        if tuple(slide.level0_size) != heatmap.attributes.size_level0_px:
            raise SlideError(
                f"{record.path}: it has {slide.level0_size} level-0 px, but the heatmap {heatmap.path} was made of "
                f"{heatmap.attributes.size_level0_px}; give the manifest that the study was made with"
            )
        mpp = picture_mpp(slide.level0_size, slide.resolution.mpp_level0)
        return slide.thumbnail(mpp), mpp


def shrink_heatmap(
    heatmap: Heatmap, shape: tuple[int, int], *, step: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The final output at the size of a picture, read in bands so that memory stays bounded.

    Args:
        heatmap: of the slide.
        shape: height and width of the picture.
        step: stored value that belongs to the mask.

    Returns:
        Two float32 [height, width]: the mean probability, and the share of pixels that reach `step`, 0 to 1.
    """
    probability, mask_share = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    width_px, height_px = heatmap.attributes.size_target_px
    target_px_per_row = height_px / shape[0]
    rows_per_band = max(1, int(_BAND_TARGET_PX / target_px_per_row))
    for start in range(0, shape[0], rows_per_band):
        end = min(start + rows_per_band, shape[0])
        y, y_end = round(start * target_px_per_row), round(end * target_px_per_row)
        values = heatmap.read(heatmap.outputs[-1], Box(0, y, width_px, max(1, y_end - y)))
        size = (shape[1], end - start)
        probability[start:end] = cv2.resize(values.astype(np.float32) / 255, size, interpolation=cv2.INTER_AREA)
        mask_share[start:end] = cv2.resize((values >= step).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return probability, mask_share


def section_marks(verdicts: pd.DataFrame, *, px_per_level0_px: float) -> tuple[SectionMark, ...]:
    """The sections of a slide at the scale of its picture."""
    return tuple(
        SectionMark(
            box=PictureBox(*(row[f"{side}_level0_px"] * px_per_level0_px for side in ("x", "y", "width", "height"))),
            label=None if pd.isna(row["label"]) else row["label"],
            verdict=row["verdict"],
            correct=None if pd.isna(row["correct"]) else bool(row["correct"]),
        )
        for row in verdicts.to_dict("records")
    )


def main(
    study: Annotated[Path, tyro.conf.Positional],
    manifest: Annotated[Path, tyro.conf.Positional],
    parts: tuple[str, ...] = (Part.TEST.short,),
) -> None:
    """Draw the slides that the chosen models were applied to.

    Args:
        study: The study's folder.
        manifest: The slides.csv that the study was made with.
        parts: Which parts: train, val1, val2, test.
    """
    for path in draw_overlays(study, manifest, [Part.parse(part) for part in parts]):
        print(path)
