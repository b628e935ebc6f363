"""Figure 4, the settings on patches of Validation I (paper, section 3): `python analysis/make.py figure4 STUDY`.

A row a patch, a column a setting: its own output in colours, with the outline of what reaches its chosen t_p.
"""

from analysis.pictures.picture_state import state_of_choices
from analysis.pictures.validation_patches import (
    FigureRow,
    outputs_on,
    read_patches,
    settings_with_heatmaps,
    write_patch_figure,
)
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table
from bccdist.parts import Part

NUM_PATCHES = 4
_PANEL_PX = (300, 300)


def write_figure4(study: Evidence, patches: int = NUM_PATCHES) -> Table:
    """Draw Figure 4, the settings on patches of Validation I, and write what it shows.

    Settings without heatmaps of Validation I are named and left out.

    Args:
        study: The study's folder.
        patches: How many patches, of different slides as far as there are.

    Raises:
        LedgerError: nothing was selected, there is no heatmap at all, or no patch with tumor.
        ShardError: there is no finished shard set, whose index says where tumor is annotated.
        SlideError, AnnotationError, HeatmapError: a slide, its annotations or a heatmap cannot be read.
    """
    manifest, paths = study.manifest, study.paths
    choices = settings_with_heatmaps(paths, manifest, study.choices)
    shown = read_patches(paths, manifest, choices, patches)
    rows = [
        FigureRow(
            patch.slide_id,
            patch,
            {output.choice.setting: output for choice in choices for output in outputs_on(paths, patch, choice)},
        )
        for patch in shown
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
        state=state_of_choices(study.choices),
        with_outline=True,
        notes=("IoU: of the pixels at or above t_p with the annotated tumor, in this patch alone.",),
    )
