"""Overlays, a picture per slide and setting: `python analysis/make.py overlays STUDY [--parts Test "Validation I"]`.

The heatmap of the chosen model lies over the tissue; boxes are coloured by label, tags say label and verdict
(paper, Figures 2, 6 and 7).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from analysis.pictures.colours import DARK, LABEL_COLOURS, heat_bar
from analysis.pictures.crops import Crop, read_heated
from analysis.pictures.drawing import Key, Mark, Row, Sheet, write_sheet
from analysis.pictures.picture_state import state_of_verdicts
from analysis.pictures.shown_sections import heat_panel
from analysis.study_evidence.evidence import Evidence
from bccdist.configuration import phantom_warning
from bccdist.errors import StageFailedError
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.processes import Failure, run_each
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_heatmap import open_chosen
from bccdist.sections.chosen_output import SectionVerdict, section_box
from bccdist.sections.verdicts import Verdict
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest

PICTURE_WIDTH_PX, PICTURE_HEIGHT_PX = 1400, 1600
"""A slide is drawn as large as fits into this, but not finer than it was scanned."""
_KEYS = (
    Key(sign="box", colour=LABEL_COLOURS[Label.TUMOR.value], text="label Tumor"),
    Key(sign="box", colour=LABEL_COLOURS[Label.NORMAL.value], text="label Normal"),
    Key(sign="line", colour=DARK, text="outline: probability at least t_p"),
    Key(sign="tag", colour=DARK, text="tag: label / verdict, black if wrong or for review"),
)


def draw_overlays(
    study: Evidence,
    manifest: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="SLIDES_CSV")] = None,
    parts: tuple[Part, ...] = (Part.TEST,),
    *,
    num_workers: int | None = None,
) -> list[Path]:
    """Draw every slide of some parts that the chosen models were applied to, with heatmap, boxes and verdicts.

    Args:
        study: The study's folder.
        manifest: A slides.csv that says where the slides are: default is the study's own.
        parts: Which parts of the data.
        num_workers: Processes that take a slide each: default is one for each core, 0 is this process.

    Returns:
        The pictures' paths.

    Raises:
        LedgerError: nothing was selected, or no slide of these parts was inferred.
        StageFailedError: some slides or heatmaps cannot be read; all others are drawn.
    """
    slides = study.manifest_at(manifest)
    choices = {choice.setting: choice for choice in study.choices}
    verdicts = study.verdicts(*parts)
    outputs = [(str(setting), str(slide_id)) for (setting, slide_id), _ in verdicts.groupby(["setting", "slide_id"])]
    setup = partial(open_drawing, study.paths, slides.only({slide_id for _, slide_id in outputs}), choices, verdicts)
    outcomes = dict(run_each(setup, outputs, num_workers=num_workers))
    drawn = [outcome for output in outputs if isinstance(outcome := outcomes[output], Path)]
    failures = [
        f"  - {', '.join(output)}: {outcome.reason}"
        for output in outputs
        if isinstance(outcome := outcomes[output], Failure)
    ]
    if failures:
        raise StageFailedError(f"{len(failures)} overlay(s) not drawn, {len(drawn)} drawn:\n" + "\n".join(failures))
    return drawn


def open_drawing(
    paths: StudyPaths, manifest: Manifest, choices: Mapping[str, Choice], verdicts: pd.DataFrame
) -> Callable[[tuple[str, str]], Path]:
    """The work of one process: it draws a slide under a setting, given as (setting, slide_id)."""
    rows = dict(iter(verdicts.groupby(["setting", "slide_id"])))

    def draw(output: tuple[str, str]) -> Path:
        setting, slide_id = output
        return draw_slide(paths, manifest, choices[setting], slide_id, rows[output])

    return draw


def draw_slide(paths: StudyPaths, manifest: Manifest, choice: Choice, slide_id: str, verdicts: pd.DataFrame) -> Path:
    """Draw one slide with the heatmap of one chosen model; returns the picture's path.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap cannot be read, or is of other weights than the chosen ones.
    """
    heatmap, rows = open_chosen(paths, choice, slide_id), verdicts.to_dict("records")
    # All rows are of one output at one t_p; any of them says which.
    size = {"width_px": PICTURE_WIDTH_PX, "height_px": PICTURE_HEIGHT_PX}
    whole_level0_px = Box(0, 0, *heatmap.attributes.size_level0_px)
    crop, heat = read_heated(manifest.slide(slide_id), heatmap, whole_level0_px, rows[0], **size)
    panel = replace(
        heat_panel(crop, heat, choice.t_p),
        um_per_px=crop.um_per_px,
        marks=tuple(section_mark(crop, row) for row in rows),
    )
    sheet = Sheet(
        title=slide_id,
        subtitle=f"{rows[0]['part']}   {choice.setting}, epoch {choice.epoch}, {rows[0]['psi']}   "
        f"t_p {choice.t_p:.2f}   t_A {choice.t_a_um2:.0f} \u00b5m\u00b2 ({choice.area_unit})",
        columns=("",),
        rows=(Row(panels=(panel,)),),
        panel_px=(panel.image.shape[1], panel.image.shape[0]),
        bar=heat_bar(choice.t_p),
        keys=_KEYS,
        state=state_of_verdicts(verdicts),
        warning=phantom_warning(slides=heatmap.attributes.phantom, weights=choice.phantom_weights),
    )
    path = paths.overlay(choice.setting, slide_id)
    write_sheet(path, sheet)
    return path


def section_mark(crop: Crop, section: SectionVerdict) -> Mark:
    """A section's box in the colour of its label, and what a person and the model say about it."""
    label: str | None = None if pd.isna(section["label"]) else section["label"]
    correct: bool | None = None if pd.isna(section["correct"]) else bool(section["correct"])
    is_wrong = correct is False
    result = "" if correct is None else "\u2717 WRONG" if is_wrong else "\u2713"
    needs_a_look = is_wrong or section["verdict"] == Verdict.REVIEW
    return Mark(
        box=crop.place(section_box(section)),
        colour=LABEL_COLOURS[label],
        text=f"{label or 'no label'} / {section['verdict']} {result}".strip(),
        dashed=needs_a_look,
        alarming=needs_a_look,
    )
