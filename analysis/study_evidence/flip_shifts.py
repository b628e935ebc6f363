"""How near verdicts are to changing, as figures and as text: what several tables and pages say of flip shifts.

The number itself is `bccdist.sections.verdicts.flip_shift`.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bccdist.sections.verdicts import NEVER

NEAR_SHIFTS = (0.02, 0.05)
"""How many verdicts a smaller shift would change is counted for these: about 5 and 13 of 255 probability steps."""
_QUARTILES = {"flip_shift_min": 0.0, "flip_shift_q1": 0.25, "flip_shift_median": 0.5, "flip_shift_q3": 0.75}


def flip_figures(verdicts: pd.DataFrame) -> dict[str, Any]:
    """The smallest flip shift of some verdicts, the quartiles, and how many a small shift or none would change.

    Args:
        verdicts: from `section_verdicts`; at least one row.
    """
    shifts = verdicts["flip_shift"].to_numpy()
    # Quartiles are shifts that occur: between a number and "never" there is nothing.
    quartiles = np.quantile(shifts, list(_QUARTILES.values()), method="inverted_cdf")
    return {
        **dict(zip(_QUARTILES, quartiles.tolist(), strict=True)),
        **{near_column(near): int((shifts < near).sum()) for near in NEAR_SHIFTS},
        "num_never_flip": int(np.isinf(shifts).sum()),
    }


def near_column(near: float) -> str:
    """The column that counts the verdicts which a shift below `near` changes."""
    return f"num_flip_below_{near:g}".replace(".", "_")


def shift_texts(shifts: Iterable[float]) -> list[str]:
    """Flip shifts as texts."""
    return [NEVER if math.isinf(shift) else f"{shift:.3f}" for shift in shifts]


def nearest_notes(verdicts: pd.DataFrame) -> tuple[str, ...]:
    """For each setting a sentence on the verdict that is nearest to changing, to stand below a table of counts."""
    return tuple(_nearest_note(mine) for _, mine in verdicts.groupby("setting", sort=False))


def _nearest_note(verdicts: pd.DataFrame) -> str:
    first = nearest_first(verdicts).iloc[0]
    if math.isinf(first["flip_shift"]):
        return f"Nearest to changing, {first['setting']}: none; no shift of probability would change a verdict."
    counts = ", ".join(f"{int((verdicts['flip_shift'] < near).sum())} by less than {near:g}" for near in NEAR_SHIFTS)
    return (
        f"Nearest to changing, {first['setting']}: section {first['section_id']} of slide {first['slide_id']}, "
        f"{first['verdict']}, by a shift of probability of {first['flip_shift']:.3f}; of all verdicts {counts}."
    )


def nearest_first(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The verdicts, from the one that the smallest shift of probability would change on."""
    return verdicts.sort_values(["flip_shift", "slide_id", "section_id"], kind="stable")
