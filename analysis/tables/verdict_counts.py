"""How many slides and sections were judged, and how: `python analysis/make.py verdict_counts STUDY`.

Needs no labels: it is what a report can say of slides that nobody has labelled yet.
"""

from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.slide_states import SlideState, slide_states
from analysis.study_evidence.table import Table, phantom_marks
from bccdist.sections.choices import Choice

_SUMS = ("num_sections", "num_tumor", "num_normal", "num_review", "num_labelled", "num_unread")


def build_verdict_counts(states: pd.DataFrame, choices: list[Choice]) -> Table:
    """One row per part and setting.

    Args:
        states: from `slide_states`.
        choices: the chosen models.
    """
    by_setting = {choice.setting: choice for choice in choices}
    groups = states.groupby(["part", "setting"], sort=False)
    frame = pd.DataFrame([_row(mine, by_setting[str(setting)]) for (_, setting), mine in groups])
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
            **{heading: frame[name].astype(str) for heading, name in states_printed.items()},
            "sections": frame["num_sections"].astype(str),
            "Tumor": frame["num_tumor"].astype(str),
            "Normal": frame["num_normal"].astype(str),
            "review": frame["num_review"].astype(str),
            "labelled": frame["num_labelled"].astype(str),
        }
    )
    return Table(
        name="verdict_counts",
        title="Verdicts: slides and sections of each part, labelled or not.",
        frame=frame,
        printed=printed,
        notes=(
            "Failed, not there, no section: slides of which there is no verdict; the table of slides names them.",
            "review: no tumor in what was read, and not all of the tissue was read.",
        ),
    )


def _row(slides: pd.DataFrame, choice: Choice) -> dict[str, Any]:
    states = slides["state"].value_counts()
    return {
        "part": slides["part"].iloc[0],
        "setting": choice.setting,
        "epoch": choice.epoch,
        "t_p": choice.t_p,
        "t_a_um2": choice.t_a_um2,
        "num_slides": len(slides),
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
    return study.write(build_verdict_counts(slide_states(study), study.choices))
