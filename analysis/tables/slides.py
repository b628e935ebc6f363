"""What became of each slide, and how it was read: `python analysis/make.py slides STUDY`.

Needs no labels. A slide that failed, or has no section, stands here with its reason: in no other table has it a row.
"""

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.slide_states import SlideState, slide_states
from analysis.study_evidence.table import Table, read_texts, rounded

_ORDER = (SlideState.FAILED, SlideState.NOT_THERE, SlideState.NO_SECTION, SlideState.DONE)
UM2_PER_MM2 = 1e6


def build_slides(states: pd.DataFrame) -> Table:
    """One row per slide and setting, those without verdicts first, then those with most sections for review.

    Args:
        states: from `slide_states`.
    """
    rank = states["state"].map({state.value: number for number, state in enumerate(_ORDER)})
    frame = (
        states.assign(rank=rank)
        .sort_values(["setting", "part", "rank", "num_review", "slide_id"], ascending=[True, True, True, False, True])
        .drop(columns="rank")
        .reset_index(drop=True)
    )
    printed = pd.DataFrame(
        {
            "slide": frame["slide_id"],
            "part": frame["part"],
            "setting": frame["setting"],
            "state": frame["state"],
            "sections": frame["num_sections"].astype(str),
            "Tumor": frame["num_tumor"].astype(str),
            "Normal": frame["num_normal"].astype(str),
            "review": frame["num_review"].astype(str),
            "tissue mm2": rounded(frame["tissue_um2"] / UM2_PER_MM2, 2),
            "tissue read": read_texts(frame["coverage"]),
            "read by": frame["reader"],
            "reading s": rounded(frame["read_s"], 1),
            "network s": rounded(frame["network_s"], 1),
            # In a table of texts a line break would end the row.
            "why": [
                " ".join((failed or why).split())
                for failed, why in zip(frame["reason"], frame["why_openslide"], strict=True)
            ],
        }
    )
    return Table(
        name="slides",
        title="Slides: what became of each, and how it was read.",
        frame=frame,
        printed=printed,
        notes=("Reading and the network run beside each other, so their times do not add up.",),
    )


def write_slides(study: Evidence) -> Table:
    """Write what became of each slide of Validation and Test, and how it was read; no labels are needed.

    Args:
        study: The study's folder.

    Raises:
        ConfigurationError: the folder is no study.
        LedgerError: nothing was selected, or no slide was worked on.
    """
    return study.write(build_slides(slide_states(study)))
