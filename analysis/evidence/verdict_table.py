"""The verdict on every section by the chosen models, and what it counts up to (paper, sections 2.4 and 3)."""

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.evidence.confusion import Confusion, count_verdicts
from analysis.evidence.section_rows import SectionRows, rows_of
from analysis.evidence.table import phantom_marks
from bccdist.errors import LedgerError
from bccdist.heatmaps.probability import NUM_STEPS, step_of
from bccdist.parts import Label, Part
from bccdist.sections.choices import Choice
from bccdist.sections.verdicts import Verdict, decision_step, has_tumor, region_area_um2, verdicts_of

LEDGER_MARGIN = "ledger_margin_um"
"""Column of the verdicts: the ledger's margin at t_p, a lower bound of the margins of regions; research use only."""
_LEDGER_COLUMNS = [
    *("slide_id", "section_id", "part", "setting", "epoch", "psi", "is_final"),
    *("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px"),
    *("label", "labelled_by", "labelled_at", "prefilled", "tissue_um2", "coverage"),
    *("max_probability", "p99_probability", "weights_digest", "phantom", "phantom_weights"),
]


def section_verdicts(rows: SectionRows, choice: Choice) -> pd.DataFrame:
    """One row per section and output of the chosen epoch, with the verdict at the chosen thresholds.

    Columns beyond the ledger's: t_p, t_a_um2, area_um2 (largest region at t_p), tumor_until (the highest t_p at which
    the section is Tumor with this t_A), ledger_margin_um (the ledger's margin_um at t_p; research use only), verdict
    (Tumor, Normal or review), correct (null where the section has no label or is up for review).

    Raises:
        LedgerError: the rows were made with other weights than those that were chosen.
    """
    frame = rows.frame
    chosen = rows.where(((frame["setting"] == choice.setting) & (frame["epoch"] == choice.epoch)).to_numpy())
    _require_weights(chosen.frame, choice)
    mpp, pixel_px = chosen.frame["mpp"].to_numpy(), chosen.frame["pixel_px"].to_numpy()
    unit = choice.area_unit
    area_um2 = region_area_um2(chosen.curves, step_of(choice.t_p), mpp=mpp, pixel_px=pixel_px, area_unit=unit)
    step = decision_step(chosen.curves, choice.t_a_um2, mpp=mpp, pixel_px=pixel_px, area_unit=unit)
    verdict = verdicts_of(has_tumor(area_um2, choice.t_a_um2), chosen.frame["coverage"].to_numpy())
    is_judged = chosen.is_labelled & (verdict != Verdict.REVIEW)
    correct = pd.array(verdict == chosen.frame["label"].to_numpy(), dtype="boolean")
    correct[~is_judged] = pd.NA
    more = {
        "t_p": choice.t_p,
        "t_a_um2": choice.t_a_um2,
        "area_um2": area_um2,
        "tumor_until": step / NUM_STEPS,
        LEDGER_MARGIN: chosen.margins_um[:, step_of(choice.t_p)],
        "verdict": verdict,
        "correct": correct,
    }
    return chosen.frame[_LEDGER_COLUMNS].assign(**more)


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


def _require_weights(frame: pd.DataFrame, choice: Choice) -> None:
    others = sorted(set(frame["weights_digest"]) - {choice.weights_digest})
    if others:
        raise LedgerError(
            f"{choice.setting}, epoch {choice.epoch}: its sections come from the weights {', '.join(others)}, "
            f"but {choice.weights_digest} were chosen; run the inference stage again, or the selection"
        )
