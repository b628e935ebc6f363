"""Figure 8, what each decoder block says (paper, section 3.1): `python analysis/make.py figure8 STUDY`.

The outputs of resnet34_ds and resnet34_linear on the same patches of Validation I, as they are stored: after softmax,
each in its own resolution. A row a patch and setting, a column an output.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from analysis.evidence.table import Table
from analysis.pictures.panel_drawing import Panel, Row, Sheet, probability_bar, write_sheet
from analysis.pictures.validation_patches import (
    ShownOutput,
    outputs_on,
    patch_table,
    read_patches,
    settings_with_heatmaps,
)
from bccdist.configuration import Psi, Setting, outputs_of
from bccdist.errors import LedgerError
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice, read_choices
from bccdist.study import open_study

SHOWN: tuple[Setting, ...] = ("resnet34_ds", "resnet34_linear")
"""The settings whose loss reaches every block."""
OUTPUTS: tuple[Psi, ...] = outputs_of("resnet34_linear")
NUM_PATCHES = 3
_PANEL_PX = (240, 240)
_NOTES = (
    "IoU: of the pixels at or above the setting's t_p with the annotated tumor, in this patch alone.",
    "psi_0 to psi_4 of resnet34_linear are terms of a sum: its loss is on the merged output alone.",
)


def _shown_choices(paths: StudyPaths) -> list[Choice]:
    choices = read_choices(paths)
    shown = [choice for choice in choices if choice.setting in SHOWN]
    if not shown:
        selected = ", ".join(choice.setting for choice in choices)
        raise LedgerError(
            f"{paths.selection}: Figure 8 is of {' and '.join(SHOWN)}, of which neither was selected (there are: "
            f"{selected}); train one, make its heatmaps and select again"
        )
    return shown


def _row(outputs: Sequence[ShownOutput]) -> Row:
    """The outputs of one setting on a patch, an empty place for those that it has not."""
    patch, setting = outputs[0].patch, outputs[0].choice.setting
    panels: dict[Psi, Panel] = {output.psi: output.panel(with_outline=False) for output in outputs}
    return Row(heading=f"{setting}\n{patch.slide_id}", panels=(*patch.panels(), *map(panels.get, OUTPUTS)))


def write_figure8(study_root: Path, num_patches: int = NUM_PATCHES) -> Table:
    """Draw the figure and write its table; a setting without heatmaps of Validation I is named and left out.

    Raises:
        LedgerError: neither setting was selected, there is no heatmap at all, or no patch with tumor.
        ShardError: there is no finished shard set, whose index says where tumor is annotated.
        SlideError, AnnotationError, HeatmapError: a slide, its annotations or a heatmap cannot be read.
    """
    manifest, paths = open_study(study_root), StudyPaths(study_root)
    choices = settings_with_heatmaps(paths, manifest, _shown_choices(paths))
    patches = read_patches(paths, manifest, choices, num_patches)
    by_row = [outputs_on(paths, patch, choice, OUTPUTS) for patch in patches for choice in choices]
    table = patch_table(
        "figure8",
        f"Figure 8. Outputs of the decoder blocks on patches of {Part.VALIDATION_1.value}.",
        [output for outputs in by_row for output in outputs],
        _NOTES,
    )
    sheet = Sheet(
        title=f"Figure 8. Outputs of the decoder blocks on patches of {Part.VALIDATION_1.value}",
        subtitle="; ".join(f"{choice.setting}: epoch {choice.epoch}, t_p {choice.t_p:.2f}" for choice in choices),
        columns=("image", "ground truth", *OUTPUTS),
        rows=tuple(_row(outputs) for outputs in by_row if outputs),
        panel_px=_PANEL_PX,
        bar=probability_bar(),
        phantom=bool(table.frame["phantom"].any()),
    )
    write_sheet(paths.figure(table.name), sheet)
    table.write(paths.figures)
    return table


def main(study: Annotated[Path, tyro.conf.Positional], patches: int = NUM_PATCHES) -> None:
    """Draw Figure 8, and print and write what it shows.

    Args:
        study: The study's folder.
        patches: How many patches, of different slides as far as there are.
    """
    print(write_figure8(study, patches).markdown)
    print(StudyPaths(study).figure("figure8"))
