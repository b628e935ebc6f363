"""How the verdicts on Test were reached, and what checks them: `python analysis/make.py reached STUDY`.

Exact ones need no check. Of certified ones a share is computed exactly as well, and so is every section that the fast
way could not settle: each slide with such sections says whether the bound held on it (`check_outcome`).
"""

from typing import Any

import pandas as pd

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import NOT_KNOWN, Table, phantom_marks
from bccdist.errors import LedgerError
from bccdist.parts import Part
from bccdist.sections.certificate import CheckOutcome, CheckVerdict, check_outcome
from bccdist.sections.verdicts import ReachedBy


def build_reached(verdicts: pd.DataFrame) -> Table:
    """One row per part, setting and certificate.

    Args:
        verdicts: from `Evidence.verdicts`.
    """
    groups = verdicts.groupby(
        ["part", "setting", "certificate_levels", "certificate_confidence"], sort=False, dropna=False
    )
    frame = pd.DataFrame([_row(mine) for _, mine in groups])
    printed = pd.DataFrame(
        {
            "part": frame["part"],
            "setting": frame["setting"],
            "sections": frame["num_sections"].astype(str),
            **{each.value: frame[f"num_{each.value}"].astype(str) for each in ReachedBy},
            "d": [NOT_KNOWN if pd.isna(each) else str(int(each)) for each in frame["levels"]],
            "confidence": [NOT_KNOWN if pd.isna(each) else f"{each:g}" for each in frame["confidence"]],
            "slides compared": frame["num_slides_compared"].astype(str),
            "of them outside": frame["num_slides_outside"].astype(str),
            "bound": frame["bound"].replace("", NOT_KNOWN),
        }
    )
    return Table(
        name="reached",
        title="How the verdicts were reached, in the exact way or certified by a fast one.",
        frame=frame,
        printed=printed,
        notes=tuple(_notes(frame)),
    )


def _row(mine: pd.DataFrame) -> dict[str, Any]:
    first = mine.iloc[0]
    counts = mine["reached_by"].value_counts()
    outcome = _outcome(mine)
    return {
        "part": first["part"],
        "setting": first["setting"],
        "epoch": int(first["epoch"]),
        "num_sections": len(mine),
        **{f"num_{each.value}": int(counts.get(each.value, 0)) for each in ReachedBy},
        "levels": first["certificate_levels"],
        "confidence": first["certificate_confidence"],
        "num_slides_calibrated": first["certificate_num_slides"],
        "num_slides_compared": 0 if outcome is None else outcome.num_slides_checked,
        "num_slides_outside": 0 if outcome is None else outcome.num_slides_outside,
        "most_outside": float("nan") if outcome is None else outcome.most_outside,
        "bound": "" if outcome is None else outcome.verdict.value,
        **phantom_marks(mine),
    }


def _outcome(mine: pd.DataFrame) -> CheckOutcome | None:
    """What the slides of one certificate of which sections were computed in both ways say; None without one."""
    if pd.isna(mine["certificate_levels"].iloc[0]):
        return None
    compared = mine[mine["levels_apart"].notna()]
    # Sections of a slide resemble each other, so a slide is one trial: it is outside where any of them is.
    is_outside = (compared["levels_apart"] > compared["certificate_levels"]).groupby(compared["slide_id"]).any()
    return check_outcome(len(is_outside), int(is_outside.sum()), float(mine["certificate_confidence"].iloc[0]))


def _notes(frame: pd.DataFrame) -> list[str]:
    notes = [
        f"{row['setting']}: of {row['num_sections']} sections {row['num_certified']} verdicts are certified "
        f"(d = {int(row['levels'])}, confidence {row['confidence']:g} per slide, {int(row['num_slides_calibrated'])} "
        f"calibrated slides), {row['num_recomputed']} were recomputed, {row['num_checked']} checked, and "
        f"{row['num_outside']} recomputed because their slide lies outside of the calibration. Sections of "
        f"{row['num_slides_compared']} slides were computed in both ways; {row['num_slides_outside']} slides lay "
        f"outside the bound: {_in_words(row['bound'])}."
        for row in frame.to_dict("records")
        if not pd.isna(row["levels"])
    ]
    if notes:
        notes.append("Of certified sections area, flip shift and probabilities are those of the fast way.")
    if frame["num_fast"].any():
        notes.append("fast: made in a fast way, of which nobody claims that its verdicts are the exact ones.")
    return notes


def _in_words(bound: str) -> str:
    return {
        CheckVerdict.HOLDS.value: "nothing speaks against it",
        CheckVerdict.TOO_FEW.value: "too few to say anything against it",
        CheckVerdict.BROKEN.value: "more than a bound that holds leaves to chance",
    }[bound]


def write_reached(study: Evidence) -> Table:
    """Write how the verdicts on Test were reached, and what the running check of certified ones says.

    Args:
        study: The study's folder.

    Raises:
        LedgerError: nothing was selected, Test was not inferred, or the check speaks against the bound.
    """
    table = study.write(build_reached(study.verdicts(Part.TEST)))
    broken = table.frame[table.frame["bound"] == CheckVerdict.BROKEN.value]
    if len(broken):
        row = broken.iloc[0]
        raise LedgerError(
            f"the bound behind the certified verdicts of {row['setting']} does not hold: "
            f"{row['num_slides_outside']} of {row['num_slides_compared']} slides with sections computed in both ways "
            f"lie outside of d = {int(row['levels'])}, promised with a confidence of {row['confidence']:g}; these "
            "slides are unlike the calibrated ones: run the inference with `--inference exact` in another study "
            "folder, or calibrate on slides like these (`python jobs/launch_calibrate.py`)"
        )
    return table
