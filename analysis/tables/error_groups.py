"""Where the wrong verdicts on Test are: `python analysis/make.py error_groups STUDY`.

By slide, by the area of tumor that was found, by how near the verdict is to changing, and by what a model had filled
in before a person labelled the section. If labels were pre-filled, errors that agree with the pre-filled label are
worth a second look: a reviewer may have left a wrong one standing (paper, section 3.2).
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.flip_shifts import NEAR_SHIFTS, flip_figures, near_column, shift_texts
from analysis.study_evidence.table import Table, phantom_marks, rounded
from analysis.study_evidence.verdict_table import count_sections, fast_notes, needs_labels
from bccdist.parts import Part
from bccdist.sections.verdicts import Verdict

AREA_EDGES = (0.25, 1.0, 4.0, 16.0, 64.0)
"""Where one group by area ends and the next begins, in multiples of t_A."""
MOST_SLIDES_PRINTED = 10
NOT_PREFILLED = "none"


def build_error_groups(verdicts: pd.DataFrame) -> Table:
    """One row per setting, kind of group and group.

    Args:
        verdicts: from `all_verdicts`; sections without a label count nowhere, those for review apart.

    Raises:
        NothingToShowError: no section has a label.
    """
    labelled = verdicts[verdicts["label"].notna()]
    if labelled.empty:
        raise needs_labels(verdicts, [Part.TEST])
    frame = pd.DataFrame([row for _, mine in labelled.groupby("setting", sort=False) for row in _groups(mine)])
    return Table(
        name="error_groups",
        title="Wrong verdicts on Test by slide, by area found, by flip shift, and by pre-filled label.",
        frame=frame,
        printed=_printed(frame),
        notes=(
            f"Slides: the {MOST_SLIDES_PRINTED} of each setting with the most errors; all are in the parquet.",
            "Area: of the largest region at t_p, in multiples of t_A. The true area of most slides is not known.",
            "Flip shift: the smallest shift of probability that would change a verdict; smallest: of the group.",
            *fast_notes(labelled),
        ),
    )


def _groups(verdicts: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for slide_id, mine in verdicts.groupby("slide_id"):
        yield _row("slide", str(slide_id), mine)
    for kind, of, edges in (("area", "area_factor", AREA_EDGES), ("flip_shift", "flip_shift", NEAR_SHIFTS)):
        for name, low, high in _ranges(edges):
            # The last one has no end: the flip shift of a verdict that nothing changes is infinite.
            mine = verdicts[(verdicts[of] >= low) & ((verdicts[of] < high) | math.isinf(high))]
            if not mine.empty:
                yield _row(kind, name, mine)
    for prefilled, mine in verdicts.groupby(verdicts["prefilled"].fillna("").replace("", NOT_PREFILLED)):
        yield _row("prefilled", str(prefilled), mine)


def _ranges(edges: Sequence[float]) -> Iterator[tuple[str, float, float]]:
    """Name, least value and the value that is too large, from 0 on."""
    for low, high in pairwise([0.0, *edges, math.inf]):
        yield (f"{low:g} and more" if math.isinf(high) else f"{low:g} to {high:g}"), low, high


def _row(kind: str, group: str, verdicts: pd.DataFrame) -> dict[str, Any]:
    confusion = count_sections(verdicts)
    return {
        "setting": verdicts["setting"].iloc[0],
        "kind": kind,
        "group": group,
        **confusion.counts,
        "num_review": int((verdicts["verdict"] == Verdict.REVIEW.value).sum()),
        "num_sections": len(verdicts),
        "error_share": float((confusion.fn + confusion.fp) / max(1, confusion.total)),
        **flip_figures(verdicts),
        **phantom_marks(verdicts),
    }


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    by_slide = frame[frame["kind"] == "slide"]
    by_slide = by_slide.assign(wrong=by_slide["fn"] + by_slide["fp"])
    worst = by_slide[by_slide["wrong"] > 0].sort_values(["wrong", "group"], ascending=[False, True], kind="stable")
    shown = pd.concat([worst.groupby("setting").head(MOST_SLIDES_PRINTED), frame[frame["kind"] != "slide"]])
    return pd.DataFrame(
        {
            "setting": shown["setting"],
            "by": shown["kind"].str.replace("_", " "),
            "group": shown["group"],
            **{name.upper(): shown[name].astype(str) for name in ("tp", "fn", "fp", "tn")},
            "review": shown["num_review"].astype(str),
            "wrong": rounded(shown["error_share"], 3),
            "smallest flip shift": shift_texts(shown["flip_shift_min"]),
            **{f"below {near:g}": shown[near_column(near)].astype(str) for near in NEAR_SHIFTS},
        }
    )


def write_error_groups(study: Evidence) -> Table:
    """Write where the wrong verdicts on Test are: by slide, by area, by flip shift, and by pre-filled label.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or it has no labels.
    """
    return study.write(build_error_groups(study.verdicts(Part.TEST)))
