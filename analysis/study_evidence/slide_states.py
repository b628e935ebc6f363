"""What became of every slide under the chosen models: done, without a section, failed, or not there.

A slide that failed or has no section stands in no row of the ledger; here it does, so that nobody takes it for Normal.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.readings import LabelState, label_states
from analysis.study_evidence.verdict_table import no_rows
from bccdist.errors import NothingToShowError
from bccdist.failures import read_reason
from bccdist.parts import Part
from bccdist.sections import ledger
from bccdist.sections.choices import Choice
from bccdist.sections.section_rows import rows_of
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.sections.verdicts import Verdict
from bccdist.slides.manifest import PHANTOM_SCANNER, Manifest, SlideRecord
from bccdist.stages.stage import failures_name

PARTS = (Part.VALIDATION_1, Part.VALIDATION_2, Part.TEST)
"""The parts whose slides get verdicts."""
_NO_LABEL = (LabelState.UNSURE, LabelState.CONFLICT)
"""Why a section that somebody saw has no label."""
_READING = ["reader", "why_openslide", "read_s", "network_s"]
"""What the ledger knows of a slide's reading."""


class SlideState(StrEnum):
    """What became of a slide."""

    DONE = "done"
    NO_SECTION = "no section"
    """It was read, and no section was found on it."""
    FAILED = "failed"
    NOT_THERE = "not there"
    """It was not worked on with the chosen epoch, or its rows are gone."""


def slide_states(study: Evidence) -> pd.DataFrame:
    """One row for each slide and chosen model, of each part with a slide that was worked on.

    Columns: part, setting, epoch, slide_id, state, reason (of a failure), num_sections, num_tumor, num_normal,
    num_review, num_labelled, num_unsure and num_conflict (sections without a label, as those who saw them could not
    say, or differ), num_unread (sections not read whole), tissue_um2, coverage (share of the sections' tissue
    that was read; NaN without any), reader, why_openslide, read_s, network_s, phantom, phantom_weights.

    Raises:
        LedgerError: nothing was selected, or the ledger is damaged or has rows of other weights than those chosen.
        NothingToShowError: no slide was worked on.
    """
    manifest, choices = study.manifest, study.choices
    rows = rows_of(_ledger(study), PARTS, final_only=True)
    unlabelled = label_states(study)
    found = []
    for choice in choices:
        mine = rows.where(
            np.asarray((rows.frame["setting"] == choice.setting) & (rows.frame["epoch"] == choice.epoch), dtype=bool)
        )
        verdicts = section_verdicts(mine, choice)
        # Verdicts are the same rows in the same order.
        verdicts[_READING] = mine.frame[_READING].to_numpy()
        verdicts["label_state"] = [
            unlabelled.get(key, LabelState.UNLABELLED)
            for key in zip(verdicts["slide_id"], verdicts["section_id"], strict=True)
        ]
        found += list(_of_choice(study, manifest, choice, verdicts))
    frame = pd.DataFrame(found)
    was_worked_on = frame.assign(known=frame["state"] != SlideState.NOT_THERE).groupby(["part", "setting"])["known"]
    shown = frame[was_worked_on.transform("any")].reset_index(drop=True)
    if shown.empty:
        raise no_rows(list(PARTS), choices)
    return shown


def _ledger(study: Evidence) -> pa.Table:
    """The ledger; where every slide failed there is none, and they are to be named all the same."""
    try:
        return study.ledger
    except NothingToShowError:
        return ledger.SCHEMA.empty_table()


def _of_choice(
    study: Evidence, manifest: Manifest, choice: Choice, verdicts: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """The rows of one chosen model: the manifest's slides in its order, then those whose rows are of another part."""
    by_slide = {str(slide_id): mine for slide_id, mine in verdicts.groupby("slide_id", sort=False)}
    for part in PARTS:
        for record in manifest.slides_of([part]):
            sections = by_slide.pop(record.slide_id, None)
            about = _with_sections(sections) if sections is not None else _without(study, choice, record)
            yield {**_named(choice, part.value, record.slide_id), **about}
    for slide_id, sections in by_slide.items():
        yield {**_named(choice, sections["part"].iloc[0], slide_id), **_with_sections(sections)}


def _named(choice: Choice, part: str, slide_id: str) -> dict[str, Any]:
    return {"part": part, "setting": choice.setting, "epoch": choice.epoch, "slide_id": slide_id}


def _with_sections(sections: pd.DataFrame) -> dict[str, Any]:
    counts = sections["verdict"].value_counts()
    tissue_um2 = float(sections["tissue_um2"].sum())
    read_um2 = float((sections["tissue_um2"] * sections["coverage"]).sum())
    first = sections.iloc[0]
    return {
        "state": SlideState.DONE.value,
        "reason": "",
        "num_sections": len(sections),
        **{f"num_{verdict.lower()}": int(counts.get(verdict.value, 0)) for verdict in Verdict},
        "num_labelled": int(sections["label"].notna().sum()),
        **{f"num_{state.value}": _num_unlabelled(sections, state) for state in _NO_LABEL},
        "num_unread": int((sections["coverage"] < 1).sum()),
        "tissue_um2": tissue_um2,
        "coverage": read_um2 / tissue_um2 if tissue_um2 else float("nan"),
        **{name: first[name] for name in _READING},
        "phantom": bool(first["phantom"]),
        "phantom_weights": bool(first["phantom_weights"]),
    }


def _num_unlabelled(sections: pd.DataFrame, state: LabelState) -> int:
    # By the label that counts: what is said to be unsure and has a label in the ledger has one.
    return int((sections["label"].isna() & (sections["label_state"] == state)).sum())


def _without(study: Evidence, choice: Choice, record: SlideRecord) -> dict[str, Any]:
    """A slide without a row in the ledger, and why it has none."""
    paths = study.paths
    reason = read_reason(paths.failure(failures_name("infer", choice.setting), record.slide_id))
    state = SlideState.FAILED if reason else SlideState.NOT_THERE
    if paths.ledger_rows(choice.setting, choice.epoch, record.slide_id).exists():
        state, reason = SlideState.NO_SECTION, ""
    return {
        "state": state.value,
        "reason": study.without_paths(reason or ""),
        **dict.fromkeys(("num_sections", "num_tumor", "num_normal", "num_review", "num_labelled", "num_unread"), 0),
        **{f"num_{state.value}": 0 for state in _NO_LABEL},
        "tissue_um2": 0.0,
        "coverage": float("nan"),
        **dict.fromkeys(("reader", "why_openslide"), ""),
        **dict.fromkeys(("read_s", "network_s"), float("nan")),
        "phantom": record.scanner == PHANTOM_SCANNER,
        "phantom_weights": choice.phantom_weights,
    }
