"""Figure 4, the settings on patches of Validation I (paper, section 3): `python analysis/make.py figure4 STUDY`.

A row a patch, a column a setting: its own output in colours, with the outline of what reaches its chosen t_p.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from analysis.evidence.table import Table
from analysis.pictures.panel_drawing import Panel, Row, Sheet, probability_bar, write_sheet
from analysis.pictures.validation_patches import (
    ShownOutput,
    ShownPatch,
    outputs_on,
    patch_table,
    read_patches,
    settings_with_heatmaps,
)
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice, read_choices
from bccdist.study import open_study

NUM_PATCHES = 4
_PANEL_PX = (300, 300)


def _row(patch: ShownPatch, outputs: Sequence[ShownOutput], choices: Sequence[Choice]) -> Row:
    """A patch with its own outputs, an empty place where a setting has no heatmap of its slide."""
    panels: dict[str, Panel] = {output.choice.setting: output.panel(with_outline=True) for output in outputs}
    return Row(heading=patch.slide_id, panels=(*patch.panels(), *(panels.get(choice.setting) for choice in choices)))


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
    shown = [[output for choice in choices for output in outputs_on(paths, patch, choice)] for patch in patches]
    table = patch_table(
        "figure4",
        f"Figure 4. The settings on patches of {Part.VALIDATION_1.value}.",
        [output for outputs in shown for output in outputs],
        ("IoU: of the pixels at or above t_p with the annotated tumor, in this patch alone.",),
    )
    headings = (f"{choice.setting}\nepoch {choice.epoch}, t_p {choice.t_p:.2f}" for choice in choices)
    sheet = Sheet(
        title=f"Figure 4. The settings on patches of {Part.VALIDATION_1.value}",
        subtitle="outline: probability at least t_p; IoU with the annotated tumor of this patch",
        columns=("image", "ground truth", *headings),
        rows=tuple(_row(patch, outputs, choices) for patch, outputs in zip(patches, shown, strict=True)),
        panel_px=_PANEL_PX,
        bar=probability_bar(),
        phantom=bool(table.frame["phantom"].any()),
    )
    write_sheet(paths.figure(table.name), sheet)
    table.write(paths.figures)
    return table


def main(study: Annotated[Path, tyro.conf.Positional], patches: int = NUM_PATCHES) -> None:
    """Draw Figure 4, and print and write what it shows.

    Args:
        study: The study's folder.
        patches: How many patches, of different slides as far as there are.
    """
    print(write_figure4(study, patches).markdown)
    print(StudyPaths(study).figure("figure4"))
