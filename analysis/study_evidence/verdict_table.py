"""The verdicts on every section by all chosen models, and what they count up to (paper, sections 2.4 and 3)."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.study_evidence.confusion import Confusion, count_verdicts
from analysis.study_evidence.table import phantom_marks
from bccdist.configuration import SETTINGS, outputs_of
from bccdist.errors import NothingToShowError
from bccdist.parts import Label, Part
from bccdist.sections.choices import Choice
from bccdist.sections.section_rows import rows_of
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.sections.verdicts import ReachedBy, Verdict

FAST_NUMBERS = "areas, flip shifts and scores are those of a fast way, and may be far from the exact ones."
_ADVICE = "add labels with `python analysis/make.py relabel STUDY sections.csv`"


def all_verdicts(
    table: pa.Table, choices: list[Choice], parts: list[Part], *, every_output: bool = False
) -> pd.DataFrame:
    """The verdicts on some parts, of all settings' own outputs or of every output.

    Raises:
        LedgerError: no chosen epoch has rows there, or its rows come from other weights.
    """
    rows = rows_of(table, parts, final_only=not every_output)
    found = pd.concat([section_verdicts(rows, choice) for choice in choices], ignore_index=True)
    if found.empty:
        raise no_rows(parts, choices)
    return found


def no_rows(parts: list[Part], choices: list[Choice]) -> NothingToShowError:
    """The error for a table that has nothing to stand on."""
    epochs = ", ".join(f"{choice.setting} epoch {choice.epoch}" for choice in choices)
    return NothingToShowError(
        f"the ledger has no sections of {_names(parts)} for the chosen models ({epochs}); "
        f"run the inference stage for {_names(parts)} with the chosen epochs, where there are slides of it"
    )


def needs_labels(sections: pd.DataFrame, parts: Iterable[Part]) -> NothingToShowError:
    """The error for what stands on labels, where sections are there and no label is.

    Args:
        sections: rows with slide_id, section_id and label; of one section there may be several.
        parts: their parts of the data.
    """
    return NothingToShowError(
        f"needs labels: 0 of {_num_sections(sections)} sections of {_names(parts)} have one; {_ADVICE}"
    )


def needs_both_labels(sections: pd.DataFrame, parts: Iterable[Part]) -> NothingToShowError:
    """The error for what stands on Tumor and Normal sections that were read whole, where one kind is not there."""
    if not sections["label"].notna().any():
        return needs_labels(sections, parts)
    whole = sections[sections["coverage"] >= 1]
    counts = (_num_sections(whole[whole["label"] == label.value]) for label in (Label.TUMOR, Label.NORMAL))
    kinds = " and ".join(f"{num} {label.value}" for num, label in zip(counts, Label, strict=True))
    return NothingToShowError(
        f"needs labels of both kinds: of {_num_sections(whole)} sections of {_names(parts)} that were read whole "
        f"{kinds} ones are labelled; {_ADVICE}"
    )


def _num_sections(rows: pd.DataFrame) -> int:
    return len(rows.drop_duplicates(["slide_id", "section_id"]))


def _names(parts: Iterable[Part]) -> str:
    return " + ".join(part.value for part in parts)


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


def fast_notes(verdicts: pd.DataFrame) -> tuple[str, ...]:
    """The note below a table of areas, flip shifts or scores of which some are those of a fast way."""
    sections = verdicts[verdicts["is_final"]] if "is_final" in verdicts else verdicts
    num = int(sections["reached_by"].isin([ReachedBy.CERTIFIED.value, ReachedBy.FAST.value]).sum())
    return (f"Of {num} of {len(sections)} rows {FAST_NUMBERS}",) if num else ()


def missing_outputs_notes(verdicts: pd.DataFrame) -> Iterator[str]:
    """Which outputs of a network have no rows, and why: a table of outputs must not look as if it were whole.

    Args:
        verdicts: of every output that has rows.
    """
    for name, mine in verdicts.groupby("setting", sort=False):
        known = [outputs_of(setting) for setting in SETTINGS if setting == name]
        if missing := [psi for outputs in known for psi in outputs if psi not in set(mine["psi"])]:
            yield f"Without {', '.join(missing)} of {name}: {_why_missing(mine)}."
    fast = verdicts[~verdicts["is_final"] & verdicts["reached_by"].eq(ReachedBy.FAST.value)]
    for (setting, psi), mine in fast.groupby(["setting", "psi"], sort=False):
        yield f"{len(mine)} verdicts of {setting} {psi} come from a fast way: not the exact ones of this output."


_CERTIFIED = (ReachedBy.CERTIFIED, ReachedBy.RECOMPUTED, ReachedBy.CHECKED, ReachedBy.OUTSIDE)
"""How verdicts are reached by certified inference alone."""


def _why_missing(verdicts: pd.DataFrame) -> str:
    final = verdicts[verdicts["is_final"]]
    if final["reached_by"].isin([each.value for each in _CERTIFIED]).any():
        return (
            "certified inference ended at psi_0 where it could, and computed the final output alone elsewhere; exact "
            "inference (`--inference exact`, in a study folder of its own) computes every output"
        )
    if final["psi"].eq("psi_0").any():
        return (
            "the inference ended at psi_0 (`--exit psi_0`); without --exit, in a study folder of its own, it computes "
            "every output"
        )
    return "the ledger has no rows of them; the inference stage makes them where it ends at no earlier output"


def unlabelled_notes(summaries: pd.DataFrame) -> tuple[str, ...]:
    """The note below a table from whose figures sections without a label were left out."""
    num = int(summaries["num_unlabelled"].max())
    return (f"Sections without a label are left out: {num}.",) if num else ()
