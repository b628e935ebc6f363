"""Where the wrong verdicts on Test are: `python analysis/make.py error_groups STUDY`.

By slide, by the area of tumor that was found, and by what a model had filled in before a person labelled the section.
If labels were pre-filled, errors that agree with the pre-filled label are worth a second look: a reviewer may have
left a wrong one standing (paper, section 3.2).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pandas as pd

from analysis.evidence.evidence import Evidence
from analysis.evidence.table import Table, phantom_marks, rounded
from analysis.evidence.verdict_table import count_sections, needs_labels
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
        title="Wrong verdicts on Test by slide, by area found, and by pre-filled label.",
        frame=frame,
        printed=_printed(frame),
        notes=(
            f"Slides: the {MOST_SLIDES_PRINTED} of each setting with the most errors; all are in the parquet.",
            "Area: of the largest region at t_p, in multiples of t_A. The true area of most slides is not known.",
        ),
    )


def _groups(verdicts: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for slide_id, mine in verdicts.groupby("slide_id"):
        yield _row("slide", str(slide_id), mine)
    times = verdicts["area_um2"] / verdicts["t_a_um2"]
    for name, low, high in _area_groups():
        mine = verdicts[(times >= low) & (times < high)]
        if not mine.empty:
            yield _row("area", name, mine)
    for prefilled, mine in verdicts.groupby(verdicts["prefilled"].fillna("").replace("", NOT_PREFILLED)):
        yield _row("prefilled", str(prefilled), mine)


def _area_groups() -> Iterator[tuple[str, float, float]]:
    """Name, least area and the area that is too large, in multiples of t_A."""
    edges = [0.0, *AREA_EDGES, float("inf")]
    for low, high in pairwise(edges):
        yield (f"{low:g} to {high:g}" if high < float("inf") else f"{low:g} and more"), low, high


def _row(kind: str, group: str, verdicts: pd.DataFrame) -> dict[str, Any]:
    confusion = count_sections(verdicts)
    return {
        "setting": verdicts["setting"].iloc[0],
        "kind": kind,
        "group": group,
        **{name: int(getattr(confusion, name)) for name in ("tp", "fn", "fp", "tn")},
        "num_review": int((verdicts["verdict"] == Verdict.REVIEW.value).sum()),
        "num_sections": len(verdicts),
        "error_share": float((confusion.fn + confusion.fp) / max(1, confusion.total)),
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
            "by": shown["kind"],
            "group": shown["group"],
            **{name.upper(): shown[name].astype(str) for name in ("tp", "fn", "fp", "tn")},
            "review": shown["num_review"].astype(str),
            "wrong": rounded(shown["error_share"], 3),
        }
    )


def write_error_groups(study: Evidence) -> Table:
    """Write where the wrong verdicts on Test are: by slide, by area, and by pre-filled label.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or it has no labels.
    """
    return study.write(build_error_groups(study.verdicts(Part.TEST)))
