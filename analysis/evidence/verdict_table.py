"""The verdicts on every section by all chosen models, and what they count up to (paper, sections 2.4 and 3)."""

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.evidence.confusion import Confusion, count_verdicts
from analysis.evidence.table import phantom_marks
from bccdist.errors import LedgerError
from bccdist.parts import Label, Part
from bccdist.sections.choices import Choice
from bccdist.sections.section_rows import rows_of
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.sections.verdicts import Verdict


def all_verdicts(table: pa.Table, choices: list[Choice], parts: list[Part]) -> pd.DataFrame:
    """The verdicts of all settings' own outputs on some parts.

    Raises:
        LedgerError: no chosen epoch has rows there, or its rows come from other weights.
    """
    rows = rows_of(table, parts, final_only=True)
    found = pd.concat([section_verdicts(rows, choice) for choice in choices], ignore_index=True)
    if found.empty:
        raise no_rows(parts, choices)
    return found


def no_rows(parts: list[Part], choices: list[Choice]) -> LedgerError:
    """The error for a table that has nothing to stand on."""
    epochs = ", ".join(f"{choice.setting} epoch {choice.epoch}" for choice in choices)
    names = " + ".join(part.value for part in parts)
    flags = " ".join(part.short for part in parts)
    return LedgerError(
        f"the ledger has no sections of {names} for the chosen models ({epochs}); "
        f"run the inference stage for {flags} with the chosen epochs"
    )


def too_few_labels(parts: list[Part], needed: str) -> LedgerError:
    """The error for a table that stands on labels, where sections are there and labels are not."""
    names = " + ".join(part.value for part in parts)
    return LedgerError(
        f"sections of {names} are in the ledger, but {needed}; add labels with `python analysis/make.py relabel STUDY "
        "sections.csv`"
    )


def count_sections(verdicts: pd.DataFrame) -> Confusion:
    """The confusion over labelled sections; those for review are left out."""
    labelled = verdicts[verdicts["label"].notna()]
    return count_verdicts(
        is_tumor=np.asarray(labelled["label"] == Label.TUMOR.value, dtype=bool),
        called_tumor=np.asarray(labelled["verdict"] == Verdict.TUMOR.value, dtype=bool),
        called_normal=np.asarray(labelled["verdict"] == Verdict.NORMAL.value, dtype=bool),
    )


def summarise(verdicts: pd.DataFrame, beta: float) -> dict[str, object]:
    """Counts and figures of one setting's verdicts, as a table's row."""
    labelled = verdicts[verdicts["label"].notna()]
    numbers = {name: np.asarray(value).item() for name, value in count_sections(verdicts).figures(beta).items()}
    return {
        **numbers,
        "num_review": int((labelled["verdict"] == Verdict.REVIEW.value).sum()),
        "num_sections": len(labelled),
        "num_unlabelled": len(verdicts) - len(labelled),
        "num_slides": verdicts["slide_id"].nunique(),
        "beta": beta,
        **phantom_marks(verdicts),
    }


def unlabelled_notes(summaries: pd.DataFrame) -> tuple[str, ...]:
    """The note below a table from whose figures sections without a label were left out."""
    num = int(summaries["num_unlabelled"].max())
    return (f"Sections without a label are left out: {num}.",) if num else ()
