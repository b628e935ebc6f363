"""Sections as pictures: tissue beside tissue under its heatmap (paper, Figures 6 and 7; small ones for the report)."""

from collections.abc import Mapping
from functools import partial

import pandas as pd

from analysis.outlines.chosen_regions import open_output, read_tissue
from analysis.pictures.colours import ColourBar, heat_bar, heated, outlined
from analysis.pictures.crops import ShownSections, read_section
from analysis.pictures.drawing import Panel, Row, Sheet, sheet_as_jpeg
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table, rounded
from bccdist.configuration import phantom_warning
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_output import ChosenOutput, SectionVerdict
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import PHANTOM_SCANNER, SlideRecord

_GAP_PX = 10
"""Between the two halves of a small picture, as `drawing` leaves it."""
_COLUMNS = [
    *("slide_id", "section_id", "part", "setting", "epoch", "psi", "t_p", "t_a_um2"),
    *("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px"),
    *("label", "verdict", "area_um2", "max_probability", "weights_digest"),
]


def heat_panel(shown: ShownSections, t_p: float) -> Panel:
    """Tissue under its heatmap from t_p on, with the outlines of the regions that decided."""
    return Panel(image=outlined(heated(shown.crop.tissue, shown.heat.probability, t_p), shown.decided, bright=True))


def bar_of(t_p: float, *shown: ShownSections) -> ColourBar:
    """The key to the colours of some `heat_panel`s."""
    return heat_bar(t_p, [(each.crop.tissue, each.heat.probability) for each in shown])


def open_shown(
    paths: StudyPaths,
    record: SlideRecord,
    choice: Choice,
    section: SectionVerdict,
    boxes_level0_px: Mapping[str, Box],
) -> ChosenOutput:
    """The output that the verdict on a section stands on; see `open_output`."""
    return open_output(paths, choice, pd.DataFrame([section]), boxes_level0_px, partial(read_tissue, record))


def of_setting(study: Evidence, choice: Choice) -> str:
    """What a figure of a setting is called after, where it is not the headline's; else nothing."""
    return "" if choice.setting == study.headline().setting else choice.setting


def about_choice(choice: Choice) -> str:
    """The model and the thresholds, in a line."""
    return (
        f"{choice.setting}, epoch {choice.epoch}   heat: probability at least t_p = {choice.t_p:.2f}   "
        f"outline: regions of at least t_A = {choice.t_a_um2:.0f} µm² ({choice.area_unit})"
    )


def section_table(
    name: str, title: str, verdicts: pd.DataFrame, notes: tuple[str, ...] = (), **shown: float | list[float]
) -> Table:
    """What a figure shows of sections: columns of their verdicts, with those of `shown` before the last one."""
    frame = verdicts[_COLUMNS].assign(
        **shown, phantom=verdicts["phantom"], phantom_weights=verdicts["phantom_weights"]
    )
    printed = pd.DataFrame(
        {
            "slide": frame["slide_id"],
            "section": frame["section_id"],
            "setting": frame["setting"],
            "label": frame["label"],
            "verdict": frame["verdict"],
            "area um2": rounded(frame["area_um2"], 0),
            "max probability": rounded(frame["max_probability"], 2),
            "um/px": rounded(frame["um_per_px"], 2),
        }
    )
    return Table(name=name, title=title, frame=frame, printed=printed, notes=notes)


def section_picture(
    paths: StudyPaths,
    record: SlideRecord,
    choice: Choice,
    section: SectionVerdict,
    boxes_level0_px: Mapping[str, Box],
    *,
    width_px: int = 840,
) -> bytes:
    """One section with the heatmap that its verdict stands on, and the outlines of the regions that decided.

    Slide and heatmap are read at about the resolution of the picture, so memory stays bounded.

    Args:
        paths: the study's.
        record: the section's slide.
        choice: the model.
        section: its row of `verdict_table.section_verdicts`, by this model.
        boxes_level0_px: of all sections of the slide, by section_id.
        width_px: of the whole picture, an even number; each half is at most as high as that.

    Returns:
        A JPEG of that width.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap is not there or damaged, or was made with other weights.
    """
    panel_px = ((width_px - _GAP_PX) // 2, width_px)
    output = open_shown(paths, record, choice, section, boxes_level0_px)
    shown = read_section(record, output, section, width_px=panel_px[0], height_px=panel_px[1])
    panels = (Panel(image=shown.crop.tissue, um_per_px=shown.crop.um_per_px), heat_panel(shown, section["t_p"]))
    warning = phantom_warning(slides=record.scanner == PHANTOM_SCANNER, weights=choice.phantom_weights)
    return sheet_as_jpeg(Sheet(columns=("", ""), rows=(Row(panels=panels),), panel_px=panel_px, warning=warning))
