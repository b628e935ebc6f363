"""A study of one slide with a heatmap of known values, for the tests of what is written as DICOM."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openslide
import pandas as pd
from numpy.typing import NDArray
from picture_study import choice_of, write_heatmap
from study_folders import ledger_row

from bccdist.files import fingerprint_of_file
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import write_rows
from bccdist.study import claim_study

SETTING = "resnet34_ds"
CHOICE = choice_of(SETTING)
PATIENT = "patient-Anna-1961"
DOWNSAMPLE = 2


class DicomStudy(NamedTuple):
    """The study, and what was put into its heatmap."""

    paths: StudyPaths
    slide: Path
    values: NDArray[np.uint8]
    """Stored probabilities of the final output."""


def blob_values(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Values [h, w]: 0 but for a gradient in the upper left, a blob lower down and one pixel in the last corner."""
    values = np.zeros((height_px, width_px), dtype=np.uint8)
    values[:200, :256] = np.arange(256, dtype=np.uint8)
    values[700:900, 300:500] = 180
    values[-1, -1] = 7
    return values


def write_dicom_study(
    folder: Path,
    slide: Path,
    values: NDArray[np.uint8] | None = None,
    *,
    phantom: bool = False,
    phantom_weights: bool = False,
    **row: Any,
) -> DicomStudy:
    """A study of one Test slide, copied with its folder, whose target frame has half of its pixels.

    Args:
        folder: where the study and its data are made.
        slide: the file to copy; of a DICOM slide its whole folder.
        values: stored probabilities [h, w] of the whole target frame, by default `blob_values`.
        phantom: whether the slide is a drawn one.
        phantom_weights: whether the network was trained on drawn slides.
        row: changes of the ledger's rows.
    """
    data = folder / "data"
    if slide.suffix == ".dcm":
        shutil.copytree(slide.parent, data)
    else:
        data.mkdir(parents=True)
        shutil.copyfile(slide, data / slide.name)
    copied = data / slide.name
    for path in (data, *data.iterdir()):
        path.chmod(0o755)
    with openslide.OpenSlide(copied) as handle:
        size_px = handle.dimensions
    width, height = (-(-edge // DOWNSAMPLE) for edge in size_px)
    values = blob_values(width, height) if values is None else values
    (data / "slides.csv").write_text(
        f"slide_id,part,path,mpp,patient_id\ns1,test,{slide.name},0.46,{PATIENT}\n", encoding="utf-8"
    )
    paths = StudyPaths(folder / "study")
    claim_study(paths.root, data / "slides.csv")
    paths.tables.mkdir()
    selection = asdict(CHOICE) | {"phantom_weights": phantom_weights}
    pd.DataFrame([selection]).assign(f_beta=0.9).to_parquet(paths.selection)
    fingerprint = fingerprint_of_file(copied)
    write_heatmap(
        paths.heatmap(SETTING, CHOICE.epoch, "s1"),
        values,
        outputs=("psi_0", "psi_4"),
        weights_digest=CHOICE.weights_digest,
        slide_id="s1",
        slide_fingerprint=fingerprint,
        size_level0_px=size_px,
        phantom=phantom,
    )
    changes = {
        "setting": SETTING,
        "epoch": CHOICE.epoch,
        "slide_id": "s1",
        "part": "Test",
        "weights_digest": CHOICE.weights_digest,
        "slide_fingerprint": fingerprint,
        "phantom": phantom,
        "phantom_weights": phantom_weights,
        "mpp": 0.92,
        **row,
    }
    boxes = {"left": (0, 0, 1000, 2000), "right": (1100, 0, 900, 2000)}
    sides = ("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px")
    rows = [
        ledger_row(section_id=section_id, **dict(zip(sides, box, strict=True)), **changes)
        for section_id, box in boxes.items()
    ]
    rows.append(
        ledger_row(
            section_id="torn",
            **changes,
            coverage=0.25,
            largest_region_px=[0] * 256,
        )
    )
    write_rows(paths.ledger_rows(SETTING, CHOICE.epoch, "s1"), rows)
    return DicomStudy(paths, copied, values)
