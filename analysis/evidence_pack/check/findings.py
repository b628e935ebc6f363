"""What a check found, and the words that all checks share."""

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Row = dict[str, Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MANIFEST = "digests.json"
LEDGER, ROW_DIGESTS, JOBS, PAGE, PAGE_TEXTS = (
    *("ledger.parquet", "ledger-rows.txt", "jobs.jsonl", "report.html", "report-texts.json"),
)
ANSWERS, GOALS = "answers.csv", "goals.json"
ROW_KEYS = ("slide_id", "section_id", "setting", "epoch", "psi")
CURVES = ("largest_region_px", "margin_um")
NO_BYTES = hashlib.sha256(b"").hexdigest()
TEST, SELECTED_ON = "Test", ("Validation I", "Validation II")
JUDGED_PARTS = (*SELECTED_ON, TEST)
NUM_RESAMPLES, SEED, LEVEL = 10_000, 0, 0.95
"""As the report says below its intervals."""
FIGURES = ("accuracy", "sensitivity", "specificity", "f_beta")
COUNTS = ("tp", "fn", "fp", "tn")
MOST_NAMED = 20
"""Differences of one kind that are named one by one."""


@dataclass
class Findings:
    """What a check found."""

    faults: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)
    """What was not computed anew or not looked at, by what it belongs to."""

    def fault(self, what: str, told: Iterable[str]) -> None:
        """Add faults of one kind; behind the first ones how many more there are."""
        named = list(told)
        self.faults += named[:MOST_NAMED]
        if len(named) > MOST_NAMED:
            self.faults.append(f"{what}: {len(named) - MOST_NAMED} more of this kind")

    def guarded(self, name: str, check: Callable[[], T]) -> T | None:
        """Make a check; where it cannot be made that is a fault, and all others go on."""
        try:
            return check()
        except Exception as error:  # noqa: BLE001 - a damaged file may break anything that reads it
            self.faults.append(f"{name}: cannot be checked: {type(error).__name__}: {error}")
            return None

    def leave(self, where: str, what: str) -> None:
        """Name what was not computed anew."""
        here = self.left.setdefault(where, [])
        if what not in here:
            here.append(what)


def same_value(one: Any, other: Any, *, closeness: float = 1e-9) -> bool:
    """Whether two values of tables say the same; NaN and nothing do."""
    one, other = (None if isinstance(each, float) and math.isnan(each) else each for each in (one, other))
    is_number = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (one, other))
    if is_number and all(math.isfinite(each) for each in (one, other)):
        return abs(float(one) - float(other)) <= closeness * max(1.0, abs(float(other)))
    return bool(one == other) or {one, other} <= {None, ""}
