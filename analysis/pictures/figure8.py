"""Figure 8, what each decoder block says (paper, section 3.1): `python analysis/make.py figure8 STUDY`.

The outputs of resnet34_ds and resnet34_linear on the same patches of Validation I, as they are stored: after softmax,
each in its own resolution. A row a patch and setting, a column an output.
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
from bccdist.configuration import Psi, Setting, outputs_of
from bccdist.errors import NothingToShowError
from bccdist.parts import Part
from bccdist.sections.choices import Choice

SHOWN: tuple[Setting, ...] = ("resnet34_ds", "resnet34_linear")
"""The settings whose loss reaches every block."""
OUTPUTS: tuple[Psi, ...] = outputs_of("resnet34_linear")
"""Those of both settings."""
NUM_PATCHES = 3
_PANEL_PX = (240, 240)
_NOTES = (
    "IoU: of the pixels at or above the setting's t_p with the annotated tumor, in this patch alone.",
    "psi_0 to psi_4 of resnet34_linear are terms of a sum: its loss is on the merged output alone.",
)


def _shown_choices(study: Evidence) -> list[Choice]:
    choices = study.choices
    shown = [choice for choice in choices if choice.setting in SHOWN]
    if not shown:
        selected = ", ".join(choice.setting for choice in choices)
        raise NothingToShowError(
            f"{study.paths.selection}: Figure 8 is of {' and '.join(SHOWN)}, of which neither was selected "
            f"(there are: {selected}); train one, make its heatmaps and select again"
        )
    return shown


def write_figure8(study: Evidence, patches: int = NUM_PATCHES) -> Table:
    """Draw Figure 8, what each decoder block says, and write what it shows.

    A setting without heatmaps of Validation I is named and left out.

    Args:
        study: The study's folder.
        patches: How many patches, of different slides as far as there are.

    Raises:
        LedgerError: neither setting was selected, there is no heatmap at all, or no patch with tumor.
        ShardError: there is no finished shard set, whose index says where tumor is annotated.
        SlideError, AnnotationError, HeatmapError: a slide, its annotations or a heatmap cannot be read.
    """
    manifest, paths = study.manifest, study.paths
    choices = settings_with_heatmaps(paths, manifest, _shown_choices(study))
    shown = read_patches(paths, manifest, choices, patches)
    rows = [
        FigureRow(f"{choice.setting}\n{patch.slide_id}", patch, {output.psi: output for output in outputs})
        for patch in shown
        for choice in choices
        if (outputs := outputs_on(paths, patch, choice, OUTPUTS))
    ]
    return write_patch_figure(
        paths,
        "figure8",
        rows,
        title=f"Figure 8. Outputs of the decoder blocks on patches of {Part.VALIDATION_1.value}",
        subtitle="; ".join(f"{choice.setting}: epoch {choice.epoch}, t_p {choice.t_p:.2f}" for choice in choices),
        columns={psi: psi for psi in OUTPUTS if any(psi in row.outputs for row in rows)},
        panel_px=_PANEL_PX,
        state=state_of_choices(study.choices),
        with_outline=False,
        notes=_NOTES,
    )
