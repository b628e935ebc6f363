"""A small study with slides, shards, heatmaps and thresholds, made without a network, for the tests of the figures."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from small_study import DOWNSAMPLE, MPP_LEVEL0, annotated, tissue_picture, write_mask, write_slide

from bccdist.configuration import Psi, Setting, ShardConfig, outputs_of, pixel_px
from bccdist.files import fingerprint_of_file
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, writing_heatmap
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.ledger import write_rows
from bccdist.sections.rows import section_rows
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, read_manifest
from bccdist.slides.sections import Section
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask
from bccdist.study import claim_study
from shards.build import build_slides
from shards.finish import finish_set

WIDTH_PX, HEIGHT_PX = 1100, 640
"""Of each slide in the target frame; level 0 has twice as many."""
MPP = MPP_LEVEL0 * DOWNSAMPLE
T_P, T_A_UM2 = 0.5, 5000.0
SLIDES = {"train-0": Part.TRAINING, "val1-0": Part.VALIDATION_1, "val1-1": Part.VALIDATION_1} | {
    f"test-{number}": Part.TEST for number in range(3)
}
SETTINGS: tuple[Setting, ...] = ("unet", "resnet34_ds", "resnet34_linear")
F_BETA = (0.8, 0.9, 0.7)
FALSE_REGION = Box(700, 200, 120, 100)
"""In the target frame: where resnet34_ds and resnet34_linear see tumor on test-1, in a section labelled Normal."""
SHIFT_PX = 16
"""So far to the right of the annotated tumor the settings see it."""


@dataclass(frozen=True, kw_only=True)
class PictureStudy:
    """The study and its manifest."""

    paths: StudyPaths
    manifest: Manifest

    @property
    def root(self) -> Path:
        return self.paths.root

    def choice(self, setting: Setting) -> Choice:
        return choice_of(setting)


def choice_of(setting: Setting) -> Choice:
    """What was chosen; every setting has weights of its own."""
    weights = f"{SETTINGS.index(setting):012d}"
    return Choice(
        setting=setting,
        epoch=2,
        psi=outputs_of(setting)[-1],
        t_p=T_P,
        t_a_um2=T_A_UM2,
        beta=1.5,
        area_unit="physical",
        weights_digest=weights,
    )


def sections_of(slide_id: str) -> tuple[Section, ...]:
    """The left half of each slide holds tumor, the right half none."""
    half, height = DOWNSAMPLE * WIDTH_PX // 2, DOWNSAMPLE * HEIGHT_PX
    return (
        Section(section_id=f"{slide_id}-left", box_level0_px=Box(0, 0, half, height), label=Label.TUMOR),
        Section(section_id=f"{slide_id}-right", box_level0_px=Box(half, 0, half, height), label=Label.NORMAL),
    )


def probability(slide_id: str, setting: Setting) -> NDArray[np.uint8]:
    """What a setting says of a slide: stored values [h, w] in the target frame."""
    values = np.full((HEIGHT_PX, WIDTH_PX), 20, dtype=np.uint8)
    values[100:300, 60 + SHIFT_PX : 350 + SHIFT_PX] = 230
    if slide_id == "test-1" and setting != "unet":
        values[FALSE_REGION.slices()] = 180
        values[450:500, 700:760] = 250
    return values


def write_heatmap(
    path: Path,
    values: NDArray[np.uint8],
    *,
    outputs: Sequence[Psi],
    weights_digest: str,
    setting: str = "resnet34_ds",
    slide_id: str = "slide-0",
    downsample: int = DOWNSAMPLE,
    slide_fingerprint: str = "1" * 12,
    size_level0_px: tuple[int, int] | None = None,
    phantom: bool = True,
) -> Heatmap:
    """A heatmap whose outputs are all made from the values [h, w] in the target frame."""
    height, width = values.shape
    size_px = (width, height)
    cells = np.full((-(-height // 256), -(-width // 256)), 4, dtype=np.uint8)
    attributes = HeatmapAttributes(
        slide_id=slide_id,
        setting=setting,
        epoch=2,
        outputs=tuple(outputs),
        mpp=MPP,
        downsample=float(downsample),
        size_level0_px=size_level0_px or (downsample * width, downsample * height),
        size_target_px=size_px,
        weights_digest=weights_digest,
        config_digest="0" * 12,
        slide_fingerprint=slide_fingerprint,
        phantom=phantom,
    )
    with writing_heatmap(path, outputs=outputs, size_target_px=size_px, mpp=MPP) as writer:
        writer.append({psi: values[:: pixel_px(psi), :: pixel_px(psi)] for psi in outputs})
        writer.finish(attributes, coverage=cells, tissue_cells=cells > 0)
    return Heatmap(path)


def write_picture_study(folder: Path, *, unlabelled: Collection[str] = ("test-2",)) -> PictureStudy:
    """One Training slide, two of Validation I and three of Test, some of them without labels."""
    paths = StudyPaths(folder / "study")
    manifest_path = _write_data(folder / "data", unlabelled)
    claim_study(paths.root, manifest_path)
    annotated_ids = [slide_id for slide_id, part in SLIDES.items() if part.is_annotated]
    build_slides(manifest_path, annotated_ids, paths.root, ShardConfig(), num_workers=0)
    finish_set(manifest_path, paths.root, ShardConfig(), num_workers=0)
    paths.tables.mkdir()
    selection = pd.DataFrame([asdict(choice_of(setting)) for setting in SETTINGS]).assign(f_beta=F_BETA)
    selection.to_parquet(paths.selection)
    manifest = read_manifest(manifest_path)
    for slide_id in ("val1-0", "val1-1", "test-0", "test-1"):
        _write_results(paths, manifest, slide_id, unlabelled)
    return PictureStudy(paths=paths, manifest=manifest)


def _write_data(folder: Path, unlabelled: Collection[str]) -> Path:
    """The slides, masks and tables of the data set; returns slides.csv."""
    slides = ["slide_id,part,path,annotation,scanner"]
    sections = ["slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px"]
    for seed, (slide_id, part) in enumerate(SLIDES.items()):
        write_slide(folder / f"{slide_id}.tif", tissue_picture(WIDTH_PX, HEIGHT_PX, seed=seed))
        write_mask(folder / f"{slide_id}.png", annotated(WIDTH_PX, HEIGHT_PX))
        slides.append(f"{slide_id},{part.value},{slide_id}.tif,{slide_id}.png,phantom")
        for section in sections_of(slide_id):
            label = "" if slide_id in unlabelled or section.label is None else section.label.value
            sections.append(f"{slide_id},{section.section_id},{label},{','.join(map(str, section.box_level0_px))}")
    path = folder / "slides.csv"
    path.write_text("\n".join(slides) + "\n", encoding="utf-8")
    path.with_name("sections.csv").write_text("\n".join(sections) + "\n", encoding="utf-8")
    return path


def _write_results(paths: StudyPaths, manifest: Manifest, slide_id: str, unlabelled: Collection[str]) -> None:
    """Heatmaps and ledger rows of one slide by every setting."""
    record = manifest.slide(slide_id)
    with Slide(record.path, target_mpp=MPP) as slide:
        tissue = tissue_mask(slide)
    sections = [replace(each, label=None) if slide_id in unlabelled else each for each in sections_of(slide_id)]
    for setting in SETTINGS:
        choice = choice_of(setting)
        heatmap = write_heatmap(
            paths.heatmap(setting, choice.epoch, slide_id),
            probability(slide_id, setting),
            outputs=outputs_of(setting),
            weights_digest=choice.weights_digest,
            setting=setting,
            slide_id=slide_id,
            slide_fingerprint=fingerprint_of_file(record.path),
        )
        rows = section_rows(heatmap, sections, tissue, part=record.part, phantom_weights=False)
        write_rows(paths.ledger_rows(setting, choice.epoch, slide_id), list(rows))
