"""The verdict on every section by a chosen model: a query on the ledger's curves (paper, section 2.4)."""

import pandas as pd

from bccdist.errors import LedgerError
from bccdist.heatmaps.probability import NUM_STEPS, step_of
from bccdist.sections.assessable import is_not_assessable
from bccdist.sections.choices import SITE_CHOICE, Choice
from bccdist.sections.section_rows import SectionRows
from bccdist.sections.verdicts import (
    ReachedBy,
    Verdict,
    area_factor,
    decision_step,
    flip_shift,
    has_tumor,
    region_area_um2,
    verdicts_of,
)
from bccdist.slides.quality_measures import MEASURES

LEDGER_MARGIN = "ledger_margin_um"
"""Column of the verdicts: the ledger's margin at t_p, a lower bound of the margins of regions; research use only."""
_LEDGER_COLUMNS = [
    *("slide_id", "section_id", "part", "setting", "epoch", "psi", "is_final"),
    *("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px"),
    *("label", "labelled_by", "labelled_at", "prefilled", "tissue_um2", "coverage"),
    *("max_probability", "p99_probability", "reached_by", "levels_apart"),
    *("certificate_levels", "certificate_confidence", "certificate_num_slides"),
    *MEASURES,
    "not_assessable",
    *("weights_digest", "phantom", "phantom_weights"),
]


def section_verdicts(rows: SectionRows, choice: Choice) -> pd.DataFrame:
    """One row per section and output of the chosen epoch, with the verdict at the chosen thresholds.

    Columns beyond the ledger's: t_p, t_a_um2, site_choice (the digest of the site's choice, where these thresholds are
    one's), area_um2 (largest region at t_p), area_difference_um2 (that less t_A), area_factor (that as a multiple of
    t_A), tumor_until (the highest t_p at which the section is Tumor with this t_A), flip_shift (the smallest shift of
    probability that would change the verdict; inf where none does), ledger_margin_um (the ledger's margin_um at t_p;
    research use only), verdict (Tumor, Normal or review), correct (null where the section has no label or is up for
    review).

    Raises:
        LedgerError: the rows were made with other weights than those that were chosen, end with another output, or
            were certified for other thresholds.
    """
    frame = rows.frame
    chosen = rows.where(((frame["setting"] == choice.setting) & (frame["epoch"] == choice.epoch)).to_numpy())
    _require_weights(chosen.frame, choice)
    _require_output(chosen.frame, choice)
    _require_thresholds(chosen.frame, choice)
    mpp, pixel_px = chosen.frame["mpp"].to_numpy(), chosen.frame["pixel_px"].to_numpy()
    unit = choice.area_unit
    area_um2 = region_area_um2(chosen.curves, step_of(choice.t_p), mpp=mpp, pixel_px=pixel_px, area_unit=unit)
    step = decision_step(chosen.curves, choice.t_a_um2, mpp=mpp, pixel_px=pixel_px, area_unit=unit)
    verdict = verdicts_of(
        has_tumor(area_um2, choice.t_a_um2),
        chosen.frame["coverage"].to_numpy(),
        is_not_assessable(chosen.frame["not_assessable"]),
    )
    is_judged = chosen.is_labelled & (verdict != Verdict.REVIEW)
    correct = pd.array(verdict == chosen.frame["label"].to_numpy(), dtype="boolean")
    correct[~is_judged] = pd.NA
    more = {
        "t_p": choice.t_p,
        "t_a_um2": choice.t_a_um2,
        SITE_CHOICE: choice.site_choice,
        "area_um2": area_um2,
        "area_difference_um2": area_um2 - choice.t_a_um2,
        "area_factor": area_factor(area_um2, choice.t_a_um2),
        "tumor_until": step / NUM_STEPS,
        "flip_shift": flip_shift(step, step_of(choice.t_p)),
        LEDGER_MARGIN: chosen.margins_um[:, step_of(choice.t_p)],
        "verdict": verdict,
        "correct": correct,
    }
    return chosen.frame[_LEDGER_COLUMNS].assign(**more)


def _require_weights(frame: pd.DataFrame, choice: Choice) -> None:
    others = sorted(set(frame["weights_digest"]) - {choice.weights_digest})
    if others:
        raise LedgerError(
            f"{choice.setting}, epoch {choice.epoch}: its sections come from the weights {', '.join(others)}, "
            f"but {choice.weights_digest} were chosen; run the inference stage again, or the selection"
        )


def _require_output(frame: pd.DataFrame, choice: Choice) -> None:
    """Refuse sections whose network ended elsewhere: thresholds chosen on one output say nothing of another."""
    ends_elsewhere = frame["is_final"] & (frame["psi"] != choice.psi)
    if ends_elsewhere.any():
        first = frame[ends_elsewhere].iloc[0]
        raise LedgerError(
            f"{choice.setting}, epoch {choice.epoch}: {first['psi']} is the final output of "
            f"{int(ends_elsewhere.sum())} section(s), such as {first['section_id']}, but the thresholds were chosen "
            f"on {choice.psi}: run the inference stage without --exit in another study folder, or with it on "
            "Validation, too, and the selection again"
        )


def _require_thresholds(frame: pd.DataFrame, choice: Choice) -> None:
    """Refuse verdicts that were certified for other thresholds: of these nothing is claimed at the chosen ones."""
    certified = frame[frame["reached_by"] == ReachedBy.CERTIFIED]
    is_same = (
        (certified["certificate_t_p"] == choice.t_p)
        & (certified["certificate_t_a_um2"] == choice.t_a_um2)
        & (certified["certificate_area_unit"] == choice.area_unit)
    )
    if not is_same.all():
        first = certified[~is_same].iloc[0]
        raise LedgerError(
            f"{choice.setting}, epoch {choice.epoch}: {int((~is_same).sum())} section(s), such as "
            f"{first['section_id']}, were certified for t_p {first['certificate_t_p']:g} and t_A "
            f"{first['certificate_t_a_um2']:g} um2 ({first['certificate_area_unit']}), and for nothing "
            f"else, but {choice.t_p:g} and {choice.t_a_um2:g} um2 ({choice.area_unit}) are asked for. Thresholds for "
            "one look need exact heatmaps: infer the part exactly in a study folder of its own. After another choice "
            "of thresholds run `python jobs/launch_calibrate.py` and the inference again, which makes these anew"
        )
