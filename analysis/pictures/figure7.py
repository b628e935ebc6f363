"""Figure 7, a section that was wrongly called Tumor (paper, section 3): `python analysis/make.py figure7 STUDY`.

Of the false positives on Test the one with the largest region, and that region from near: what was taken for tumor?
"""

from typing import NamedTuple

import pandas as pd

from analysis.outlines.chosen_regions import ChosenVerdicts, on_each_output
from analysis.pictures.crops import ShownSections, read_section, read_sections
from analysis.pictures.drawing import Mark, Panel, Row, write_figure
from analysis.pictures.picture_state import state_of_verdicts
from analysis.pictures.shown_sections import about_choice, bar_of, heat_panel, of_setting, section_table
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table
from analysis.study_evidence.verdict_table import needs_labels
from bccdist.configuration import CELL_PX
from bccdist.errors import NothingToShowError, StageFailedError
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_output import ChosenOutput, SectionVerdict, boxes_by_slide
from bccdist.sections.regions import Region
from bccdist.sections.verdicts import Verdict
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, SlideRecord

_PANEL_PX = (560, 460)
_TITLE = f"Figure 7. A false positive of {Part.TEST.value}"
_MARGIN = 0.3
"""What is shown around a region, as a share of its longer side."""
_ZOOM_COLOUR = "#7b3294"


def false_positives(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The sections labelled Normal that were called Tumor, the one with the largest region first."""
    wrong = (verdicts["label"] == Label.NORMAL.value) & (verdicts["verdict"] == Verdict.TUMOR.value)
    return verdicts[wrong].sort_values(["area_um2", "slide_id", "section_id"], ascending=[False, True, True])


def _no_false_positive(choice: Choice, verdicts: pd.DataFrame) -> NothingToShowError:
    """The error where there is nothing to show, which also says which other settings have something."""
    own = verdicts[verdicts["setting"] == choice.setting]
    num_normal = int((own["label"] == Label.NORMAL.value).sum())
    others = false_positives(verdicts)["setting"].value_counts(sort=False)
    listed = ", ".join(f"{name} ({num})" for name, num in others.items())
    advice = f"false positives of other settings: {listed}; name one with --setting" if listed else "nor has any other"
    if not own["label"].notna().any():
        return needs_labels(own, [Part.TEST])
    return NothingToShowError(
        f"{choice.setting}, epoch {choice.epoch}: none of the {num_normal} sections of {Part.TEST.value} labelled "
        f"{Label.NORMAL.value} was called {Verdict.TUMOR.value}, so there is nothing for Figure 7 to show; {advice}"
    )


def zoom_box(region_level0_px: Box, *, least_level0_px: int, size_level0_px: tuple[int, int]) -> Box:
    """The box around a region that is shown from near, in level-0 px.

    Args:
        region_level0_px: the region's own box.
        least_level0_px: width and height at least, but not more than the slide has.
        size_level0_px: width and height of the slide, which the box stays within.
    """
    margin = _MARGIN * max(region_level0_px.width, region_level0_px.height)
    starts, lengths = [], []
    for start, length, size in zip(region_level0_px[:2], region_level0_px[2:], size_level0_px, strict=True):
        wanted = min(size, max(round(length + 2 * margin), least_level0_px))
        starts.append(min(max(0, round(start + (length - wanted) / 2)), size - wanted))
        lengths.append(wanted)
    return Box(*starts, *lengths)


def _row(heading: str, shown: ShownSections, t_p: float, *marks: Mark) -> Row:
    tissue = Panel(image=shown.crop.tissue, um_per_px=shown.crop.um_per_px, marks=marks)
    heated = heat_panel(shown, t_p)
    return Row(heading=heading, panels=(tissue, Panel(image=heated.image, marks=marks)))


class _Decision(NamedTuple):
    """What decided on a section."""

    output: ChosenOutput
    region: Region
    """The largest."""
    box_level0_px: Box
    """The region's own box."""


def _find_decision(output: ChosenOutput, sections: pd.DataFrame) -> _Decision:
    """The largest region of the only one of the sections, which was called Tumor."""
    (section,) = sections.to_dict("records")
    region = max(output.regions_in(section), key=lambda each: each.num_pixels)
    x, y, x_end, y_end = (round(edge) for edge in output.placed(region.outline).bounds)
    return _Decision(output, region, Box(x, y, x_end - x, y_end - y))


def _decision_on(
    paths: StudyPaths, manifest: Manifest, choice: Choice, verdict: pd.DataFrame, verdicts: pd.DataFrame
) -> _Decision:
    """What decided on the section of the one row of `verdict`; `verdicts` are those of all sections.

    Raises:
        StageFailedError: the slide or its heatmap cannot be read, or is not the one that the verdict stands on.
    """
    chosen = ChosenVerdicts({choice.setting: choice}, verdict, boxes_by_slide(verdicts))
    found, failures = on_each_output(paths, manifest, chosen, _find_decision)
    if failures:
        raise StageFailedError("Figure 7 was not drawn:\n" + "\n".join(failures))
    return found[0]


def _rows(
    record: SlideRecord, section: SectionVerdict, decision: _Decision
) -> tuple[tuple[Row, Row], ShownSections, ShownSections]:
    """The section, and the region that decided from near: as they are drawn and as they were read."""
    output, attributes = decision.output, decision.output.heatmap.attributes
    near_level0_px = zoom_box(
        decision.box_level0_px,
        least_level0_px=round(CELL_PX * attributes.downsample),
        size_level0_px=attributes.size_level0_px,
    )
    size = {"width_px": _PANEL_PX[0], "height_px": _PANEL_PX[1]}
    whole = read_section(record, output, section, **size)
    near = read_sections(record, output, near_level0_px, [section], **size)
    mark = Mark(box=whole.crop.place(near_level0_px), colour=_ZOOM_COLOUR)
    rows = (
        _row("section", whole, section["t_p"], mark),
        _row("region that decided", near, section["t_p"]),
    )
    return rows, whole, near


def _table(verdict: pd.DataFrame, decision: _Decision, note: str, **um_per_px: float) -> Table:
    """The verdict with its region and the pictures' um per pixel."""
    sides = ("x", "y", "width", "height")
    box = {f"region_{side}_level0_px": edge for side, edge in zip(sides, decision.box_level0_px, strict=True)}
    return section_table(
        "figure7",
        f"{_TITLE}.",
        verdict,
        (note,),
        **um_per_px,
        **box,
        region_max_probability=decision.region.max_value / NUM_STEPS,
        region_mean_probability=decision.region.mean_value / NUM_STEPS,
    )


def write_figure7(study: Evidence, setting: str | None = None) -> Table:
    """Draw Figure 7, a section of Test that was wrongly called Tumor, and write what it shows.

    Args:
        study: The study's folder.
        setting: Which setting: default is the one with the best F_beta on Validation I + II.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or there is no false positive.
        StageFailedError: the slide or its heatmap cannot be read, or is not the one that the verdict stands on.
    """
    manifest, paths, choice = study.manifest, study.paths, study.headline(setting)
    # Of all settings, so that one without a false positive can say which others have one.
    verdicts = study.verdicts(Part.TEST)
    wrong = false_positives(verdicts[verdicts["setting"] == choice.setting])
    if wrong.empty:
        raise _no_false_positive(choice, verdicts)
    verdict = wrong.head(1).reset_index(drop=True)
    (section,) = verdict.to_dict("records")
    decision = _decision_on(paths, manifest, choice, verdict, verdicts)
    slide_id = section["slide_id"]
    rows, whole, near = _rows(manifest.slide(slide_id), section, decision)
    note = f"Of {len(wrong)} false positive(s) of {choice.setting}, the one with the largest region."
    table = _table(verdict, decision, note, um_per_px=whole.crop.um_per_px, region_um_per_px=near.crop.um_per_px)
    return write_figure(
        paths,
        table.asked(of_setting(study, choice)),
        subtitle=f"{section['section_id']}: label {section['label']}, verdict {section['verdict']}, "
        f"{section['area_um2']:,.0f} µm²\n{about_choice(choice)}",
        columns=("tissue", "heatmap"),
        rows=rows,
        panel_px=_PANEL_PX,
        bar=bar_of(choice.t_p, whole, near),
        state=state_of_verdicts(verdicts[verdicts["setting"] == choice.setting]),
    )
