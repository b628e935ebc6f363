"""What STARD-AI, CLAIM and TRIPOD+AI ask, and what of it is answered: `python analysis/make.py checklists STUDY`.

The table is filled from the study where it knows the answer. What only authors can say is open, and named; nothing is
claimed that the study's files do not hold.
"""

from collections import Counter
from enum import StrEnum

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table
from analysis.tables.checklist_facts import Facts
from analysis.tables.checklist_items import ITEMS, Item

NOT_ASKED = "-"
_IN_A_COHORT = {"Training": "Model", "Selection": "Model", "Data": "Slides"}
"""Where a cohort's page has what a study's has in parts of its own."""


class ItemState(StrEnum):
    """How far the study answers an item."""

    ANSWERED = "answered"
    PARTLY = "in part"
    OPEN = "open"


def build_checklists(facts: Facts, *, phantom: bool, phantom_weights: bool) -> Table:
    """One row per item.

    Args:
        facts: of the study.
        phantom: whether any slide is drawn.
        phantom_weights: whether the network was trained on drawn slides.
    """
    frame = pd.DataFrame([_row(item, facts) for item in ITEMS])
    counts = Counter(frame["state"])
    return Table(
        name="checklists",
        title="What STARD-AI, CLAIM 2024 and TRIPOD+AI ask, and what of it stands here.",
        frame=frame.assign(phantom=phantom, phantom_weights=phantom_weights),
        printed=_printed(frame),
        notes=(
            f"Of {len(frame)} items {', '.join(f'{counts[state]} {state.value}' for state in ItemState)}.",
            (
                "Items are in our own words, and the numbers of all three columns are ours, not the publications': "
                "those of STARD-AI and TRIPOD+AI were not checked against the published lists, and the list of CLAIM "
                "2024 could not be found here. A manuscript is checked by the guidelines themselves. An answer says "
                "what stands in the study's files, not that it was done well."
            ),
        ),
    )


def _row(item: Item, facts: Facts) -> dict[str, str]:
    answer = facts.named(item.answer) if item.answer else ""
    known = {"topic": item.topic, "stard_ai": item.stard_ai, "claim": item.claim, "tripod_ai": item.tripod_ai}
    if not answer:
        return {**known, "state": ItemState.OPEN.value, "where": "", "answer": "", "left_open": "all of it"}
    state = ItemState.PARTLY if item.left_open else ItemState.ANSWERED
    where = _IN_A_COHORT.get(item.where, item.where) if facts.is_cohort else item.where
    return {**known, "state": state.value, "where": where, "answer": answer, "left_open": item.left_open}


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "what is asked": frame["topic"],
            "our STARD-AI": frame["stard_ai"].replace("", NOT_ASKED),
            "our CLAIM": frame["claim"].replace("", NOT_ASKED),
            "our TRIPOD+AI": frame["tripod_ai"].replace("", NOT_ASKED),
            # Short, since a column of a wide table breaks longer words.
            "here": frame["state"].replace(ItemState.ANSWERED.value, "yes"),
            "answer": frame["answer"],
            "where": frame["where"],
            "open": frame["left_open"],
        }
    )


def write_checklists(study: Evidence) -> Table:
    """Write what reporting guidelines ask, filled from the study where it knows the answer, and open where not.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected.
        ConfigurationError: the folder is no study.
    """
    is_trained_on_drawn = any(choice.phantom_weights for choice in study.choices)
    table = build_checklists(Facts(study), phantom=study.manifest.is_phantom, phantom_weights=is_trained_on_drawn)
    return study.write(table)
