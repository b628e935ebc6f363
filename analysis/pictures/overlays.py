"""Overlays, a picture per slide and setting: `python analysis/make.py overlays STUDY [--parts Test "Validation I"]`.

Tissue comes first: the heatmap of the chosen model lies over it where it reaches t_p, and regions of at least t_A,
which decided, have an outline. Boxes show labels by colour and line, tags say label and verdict (paper, Figures 2, 6
and 7).
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from analysis.outlines.chosen_regions import ChosenVerdicts, on_each_output
from analysis.pictures.colours import BRIGHT, DARK, LABEL_COLOURS, LABEL_LINES
from analysis.pictures.crops import Crop, read_sections
from analysis.pictures.drawing import Key, Mark, Row, Sheet, write_sheet
from analysis.pictures.picture_state import state_of_verdicts
from analysis.pictures.shown_sections import bar_of, heat_panel
from analysis.study_evidence.evidence import Evidence
from bccdist.configuration import phantom_warning
from bccdist.errors import StageFailedError
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.chosen_output import ChosenOutput, SectionVerdict, boxes_by_slide, section_box
from bccdist.sections.verdicts import Verdict
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest

PICTURE_WIDTH_PX, PICTURE_HEIGHT_PX = 1400, 1600
"""A slide is drawn as large as fits into this, but not finer than it was scanned."""
_KEYS = (
    *(
        Key(sign="box", colour=LABEL_COLOURS[label], line=LABEL_LINES[label], text=f"label {label or 'not there'}")
        for label in (Label.TUMOR.value, Label.NORMAL.value, None)
    ),
    Key(sign="line", colour=BRIGHT, text="region of at least t_A, which decided"),
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
    verdicts = study.verdicts(*parts)
    choices = {choice.setting: choice for choice in study.choices}
    chosen = ChosenVerdicts(choices, verdicts, boxes_by_slide(verdicts))
    draw = partial(draw_slide, study.paths, slides.only(set(verdicts["slide_id"])))
    drawn, failures = on_each_output(study.paths, slides, chosen, draw, num_workers=num_workers)
    if failures:
        raise StageFailedError(f"{len(failures)} overlay(s) not drawn, {len(drawn)} drawn:\n" + "\n".join(failures))
    return drawn


def draw_slide(paths: StudyPaths, manifest: Manifest, output: ChosenOutput, verdicts: pd.DataFrame) -> Path:
    """Draw one slide with the heatmap of one chosen model; returns the picture's path.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap cannot be read, or is not the one that the ledger was made of.
    """
    attributes, choice, rows = output.heatmap.attributes, output.choice, verdicts.to_dict("records")
    size = {"width_px": PICTURE_WIDTH_PX, "height_px": PICTURE_HEIGHT_PX}
    whole_level0_px, slide_id = Box(0, 0, *attributes.size_level0_px), str(rows[0]["slide_id"])
    shown = read_sections(manifest.slide(slide_id), output, whole_level0_px, rows, **size)
    panel = replace(
        heat_panel(shown, choice.t_p),
        um_per_px=shown.crop.um_per_px,
        marks=tuple(section_mark(shown.crop, row) for row in rows),
    )
    sheet = Sheet(
        title=slide_id,
        subtitle=f"{rows[0]['part']}   {choice.setting}, epoch {choice.epoch}, {rows[0]['psi']}   "
        f"heat: probability at least t_p = {choice.t_p:.2f}   "
        f"t_A {choice.t_a_um2:.0f} \u00b5m\u00b2 ({choice.area_unit})",
        columns=("",),
        rows=(Row(panels=(panel,)),),
        panel_px=(panel.image.shape[1], panel.image.shape[0]),
        bar=bar_of(choice.t_p, shown),
        keys=_KEYS,
        state=state_of_verdicts(verdicts),
        warning=phantom_warning(slides=attributes.phantom, weights=choice.phantom_weights),
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
    doubt = section.get("not_assessable")
    is_in_doubt = isinstance(doubt, str) and doubt != ""
    verdict = f"{section['verdict']} (not assessable)" if is_in_doubt else section["verdict"]
    needs_a_look = is_wrong or is_in_doubt or section["verdict"] == Verdict.REVIEW
    return Mark(
        box=crop.place(section_box(section)),
        colour=LABEL_COLOURS[label],
        text=f"{label or 'no label'} / {verdict} {result}".strip(),
        line=LABEL_LINES[label],
        alarming=needs_a_look,
    )
