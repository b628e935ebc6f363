"""Figure 4, the settings on patches of Validation I (paper, section 3): `python analysis/make.py figure4 STUDY`.

A row a patch, a column a setting: its own output in colours, with the outline of what reaches its chosen t_p.
"""

from pathlib import Path
from typing import Annotated

import tyro

from analysis.evidence.table import Table
from analysis.pictures.validation_patches import (
    FigureRow,
    outputs_on,
    read_patches,
    settings_with_heatmaps,
    write_patch_figure,
)
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import read_choices
from bccdist.study import open_study

NUM_PATCHES = 4
_PANEL_PX = (300, 300)


def write_figure4(study_root: Path, num_patches: int = NUM_PATCHES) -> Table:
    """Draw the figure and write its table; settings without heatmaps of Validation I are named and left out.

    Raises:
        LedgerError: nothing was selected, there is no heatmap at all, or no patch with tumor.
        ShardError: there is no finished shard set, whose index says where tumor is annotated.
        SlideError, AnnotationError, HeatmapError: a slide, its annotations or a heatmap cannot be read.
    """
    manifest, paths = open_study(study_root), StudyPaths(study_root)
    choices = settings_with_heatmaps(paths, manifest, read_choices(paths))
    patches = read_patches(paths, manifest, choices, num_patches)
    rows = [
        FigureRow(
            patch.slide_id,
            patch,
            {output.choice.setting: output for choice in choices for output in outputs_on(paths, patch, choice)},
        )
        for patch in patches
    ]
    return write_patch_figure(
        paths,
        "figure4",
        rows,
        title=f"Figure 4. The settings on patches of {Part.VALIDATION_1.value}",
        subtitle="outline: probability at least t_p; IoU with the annotated tumor of this patch",
        columns={
            choice.setting: f"{choice.setting}\nepoch {choice.epoch}, t_p {choice.t_p:.2f}" for choice in choices
        },
        panel_px=_PANEL_PX,
        with_outline=True,
        notes=("IoU: of the pixels at or above t_p with the annotated tumor, in this patch alone.",),
    )


def main(study: Annotated[Path, tyro.conf.Positional], patches: int = NUM_PATCHES) -> None:
    """Draw Figure 4, and print and write what it shows.

    Args:
        study: The study's folder.
        patches: How many patches, of different slides as far as there are.
    """
    print(write_figure4(study, patches).markdown)
    print(StudyPaths(study).figure("figure4"))
