"""How many slides and sections were judged, and how: `python analysis/make.py verdict_counts STUDY`.

Needs no labels: it is what a report can say of slides that nobody has labelled yet.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.slide_states import PARTS, SlideState, slide_states
from analysis.study_evidence.table import NOT_KNOWN, Table, phantom_marks
from bccdist.parts import Part
from bccdist.sections.choices import Choice
from bccdist.slides.manifest import Manifest

_SUMS = (
    *("num_sections", "num_tumor", "num_normal", "num_review"),
    *("num_labelled", "num_unsure", "num_conflict", "num_unread"),
)


class Patients(NamedTuple):
    """Patients of a part."""

    num: int | None
    """That slides.csv or sections.csv name; None where they name none."""
    num_slides_without: int
    """Slides of which no patient is named."""


def patients_of(manifest: Manifest, part: Part) -> Patients:
    """The patients of a part's slides and sections; a slide may show tissue of several."""
    slides = manifest.slides_of([part])
    by_slide = [
        {slide.patient_id, *(section.patient_id for section in manifest.sections_of(slide.slide_id))} - {""}
        for slide in slides
    ]
    named = set().union(*by_slide)
    return Patients(len(named) if named else None, sum(not patients for patients in by_slide))


def build_verdict_counts(states: pd.DataFrame, choices: list[Choice], patients: Mapping[str, Patients]) -> Table:
    """One row per part and setting.

    Args:
        states: from `slide_states`.
        choices: the chosen models.
        patients: of each part.
    """
    by_setting = {choice.setting: choice for choice in choices}
    groups = states.groupby(["part", "setting"], sort=False)
    frame = pd.DataFrame(
        [_row(mine, by_setting[str(setting)], patients[str(part)]) for (part, setting), mine in groups]
    ).astype({"num_patients": "Int64"})
    states_printed = {
        "failed": "num_failed",
        "not there": "num_not_there",
        "no section": "num_without_section",
    }
    printed = pd.DataFrame(
        {
            "part": frame["part"],
            "setting": frame["setting"],
            "slides": frame["num_slides"].astype(str),
            "patients named": [NOT_KNOWN if pd.isna(num) else str(num) for num in frame["num_patients"]],
            **{heading: frame[name].astype(str) for heading, name in states_printed.items()},
            "sections": frame["num_sections"].astype(str),
            "Tumor": frame["num_tumor"].astype(str),
            "Normal": frame["num_normal"].astype(str),
            "review": frame["num_review"].astype(str),
            "labelled": frame["num_labelled"].astype(str),
            "unsure": frame["num_unsure"].astype(str),
            "in conflict": frame["num_conflict"].astype(str),
        }
    )
    return Table(
        name="verdict_counts",
        title="Verdicts: slides and sections of each part, labelled or not.",
        frame=frame,
        printed=printed,
        notes=(
            "Failed, not there, no section: slides of which there is no verdict; the table of slides names them.",
            "review: no tumor was found, and the tissue was not read whole or is not assessable.",
            "Unsure, in conflict: sections without a label, as those who saw them could not say, or differ.",
        ),
    )


def _row(slides: pd.DataFrame, choice: Choice, patients: Patients) -> dict[str, Any]:
    states = slides["state"].value_counts()
    return {
        "part": slides["part"].iloc[0],
        "setting": choice.setting,
        "epoch": choice.epoch,
        "t_p": choice.t_p,
        "t_a_um2": choice.t_a_um2,
        "num_slides": len(slides),
        "num_patients": patients.num,
        "num_slides_without_patient": patients.num_slides_without,
        "num_done": int(states.get(SlideState.DONE.value, 0)),
        "num_failed": int(states.get(SlideState.FAILED.value, 0)),
        "num_not_there": int(states.get(SlideState.NOT_THERE.value, 0)),
        "num_without_section": int(states.get(SlideState.NO_SECTION.value, 0)),
        **{name: int(slides[name].sum()) for name in _SUMS},
        "tissue_um2": float(slides["tissue_um2"].sum()),
        "unread_um2": float((slides["tissue_um2"] * (1 - slides["coverage"])).sum()),
        **phantom_marks(slides),
    }


def write_verdict_counts(study: Evidence) -> Table:
    """Write how many slides and sections of Validation and Test were judged, and how; no labels are needed.

    Args:
        study: The study's folder.

    Raises:
        ConfigurationError: the folder is no study.
        LedgerError: nothing was selected, or no slide was worked on.
    """
    patients = {part.value: patients_of(study.manifest, part) for part in PARTS}
    return study.write(build_verdict_counts(slide_states(study), study.choices, patients))
