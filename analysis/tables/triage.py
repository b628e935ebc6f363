"""Which sections a model may sort out by itself, and which a person must see: `python analysis/make.py triage STUDY`.

Two thresholds on a section's number (the highest t_p at which it is Tumor with the chosen t_A) give three groups:
auto-normal, review, auto-tumor. They are class-conditional conformal: a section is auto-normal if among the Tumor
sections of the conformal set it would be one of the lowest, so that of Tumor sections to come at most a share of
`miss_rate` is expected in that group; auto-tumor the other way round, with `false_alarm_rate`.

The promise holds for sections that are exchangeable with those of that set. Sections cluster in slides, t_A
and the epoch were chosen on the same sections, and pre-filled labels favour the model that filled them in; so it is
checked on Test, and the table says what was promised and what came.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.evidence.evidence import Evidence
from analysis.evidence.scored_sections import ScoredSections, all_scored, scored_sections
from analysis.evidence.table import NOT_KNOWN, Table, phantom_marks
from analysis.tables.selection import SELECTION_PARTS
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.parts import Part
from bccdist.sections.curve import CURVE_LENGTH

MISS_RATES = (0.005, 0.01, 0.02, 0.05)
FALSE_ALARM_RATE = 0.05
GROUPS = ("auto_normal", "review", "auto_tumor")
NO_STEP = CURVE_LENGTH
"""The first step of auto-tumor where no section may be called so: none reaches it."""


@dataclass(frozen=True, kw_only=True)
class TriageThresholds:
    """Probability steps."""

    normal_below: int
    """A section with a lower number is auto-normal; 0 makes none so."""
    tumor_from: int
    """A section with this number or more is auto-tumor; 256 makes none so."""

    def groups(self, steps: NDArray[np.int64]) -> NDArray[np.str_]:
        """The group of each section, words of `GROUPS`; one that both would take is for review."""
        is_normal, is_tumor = steps < self.normal_below, steps >= self.tumor_from
        group = np.where(is_normal, "auto_normal", np.where(is_tumor, "auto_tumor", "review"))
        return np.where(is_normal & is_tumor, "review", group)


def triage_thresholds(
    tumor_steps: NDArray[np.int64], normal_steps: NDArray[np.int64], *, miss_rate: float, false_alarm_rate: float
) -> TriageThresholds:
    """Class-conditional conformal thresholds from the sections of the conformal set.

    Of n sections and one to come, exchangeable, the newcomer is among the k lowest with a probability of at most
    k / (n + 1). So k is the greatest whole number with k / (n + 1) <= rate, and auto-normal is what lies below the
    k-th lowest number: a newcomer that ties with it stays for review. Where k is 0 nothing is auto-normal.

    Args:
        tumor_steps: int [n], of the Tumor sections.
        normal_steps: int [m], of the Normal ones.
        miss_rate: of Tumor sections to come, so many may be auto-normal.
        false_alarm_rate: of Normal sections to come, so many may be auto-tumor.

    Raises:
        ConfigurationError: a rate is not between 0 and 1.
    """
    for name, rate in (("miss_rate", miss_rate), ("false_alarm_rate", false_alarm_rate)):
        if not 0 < rate < 1:
            raise ConfigurationError(f"{name} is {rate}, expected a share between 0 and 1")
    num_low = _num_allowed(len(tumor_steps), miss_rate)
    num_high = _num_allowed(len(normal_steps), false_alarm_rate)
    return TriageThresholds(
        normal_below=int(np.sort(tumor_steps)[num_low - 1]) if num_low else 0,
        tumor_from=int(np.sort(normal_steps)[::-1][num_high - 1]) + 1 if num_high else NO_STEP,
    )


def _num_allowed(num: int, rate: float) -> int:
    """The greatest k with k / (num + 1) <= rate."""
    return min(num, math.floor(rate * (num + 1) + 1e-9))


def build_triage(
    conformal: Sequence[ScoredSections],
    test: Sequence[ScoredSections],
    *,
    miss_rates: Sequence[float] = MISS_RATES,
    false_alarm_rate: float = FALSE_ALARM_RATE,
) -> Table:
    """One row per setting and miss rate.

    Args:
        conformal: the sections of Validation I + II of each setting, which the promise rests on.
        test: those of Test, with a label or without, in the same order; a setting may have none.
        miss_rates: that are promised.
        false_alarm_rate: the same for all of them.
    """
    frame = pd.DataFrame(
        [
            _row(known, found, miss_rate, false_alarm_rate)
            for known, found in zip(conformal, test, strict=True)
            for miss_rate in miss_rates
        ]
    )
    return Table(
        name="triage",
        title="Triage: what needs no review at a promised miss rate; from Validation I + II, measured on Test.",
        frame=frame,
        printed=_printed(frame),
        notes=(
            *_needed_notes(frame),
            *_bias_notes(conformal),
            *_label_notes(test),
            "For research alone; no diagnosis rests on it.",
        ),
    )


def _row(known: ScoredSections, found: ScoredSections, miss_rate: float, false_alarm_rate: float) -> dict[str, Any]:
    steps, is_tumor = known.steps, known.is_tumor
    thresholds = triage_thresholds(
        steps[is_tumor], steps[~is_tumor], miss_rate=miss_rate, false_alarm_rate=false_alarm_rate
    )
    groups = thresholds.groups(found.steps)
    num_unread = found.num_unread
    num_test = len(groups) + num_unread
    counts = {name: int((groups == name).sum()) for name in GROUPS}
    counts["review"] += num_unread
    return {
        "setting": known.choice.setting,
        "miss_rate": miss_rate,
        "false_alarm_rate": false_alarm_rate,
        "normal_below_t_p": thresholds.normal_below / NUM_STEPS,
        "tumor_from_t_p": thresholds.tumor_from / NUM_STEPS if thresholds.tumor_from < NO_STEP else None,
        "num_calibration_tumor": int(is_tumor.sum()),
        "num_calibration_normal": int((~is_tumor).sum()),
        "review_share_predicted": float((thresholds.groups(steps) == "review").mean()),
        "review_share_test": counts["review"] / num_test if num_test else None,
        "num_test": num_test,
        **{f"num_{name}": value for name, value in counts.items()},
        "num_missed": int((found.is_tumor & (groups == "auto_normal")).sum()),
        "num_false_alarms": int((found.is_normal & (groups == "auto_tumor")).sum()),
        "miss_rate_test": _share(groups[found.is_tumor] == "auto_normal"),
        "false_alarm_rate_test": _share(groups[found.is_normal] == "auto_tumor"),
        "prefilled_share": _prefilled_share(known),
        **phantom_marks(pd.concat([known.frame, found.frame])),
    }


def _share(hits: NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if hits.size else None


def _prefilled_share(sections: ScoredSections) -> float:
    """The share of sections whose label a model had filled in."""
    return float((sections.frame["prefilled"].fillna("") != "").mean())


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "setting": frame["setting"],
            "misses promised": _percent(frame["miss_rate"]),
            "came": _counted(frame["miss_rate_test"], frame["num_missed"]),
            "false alarms promised": _percent(frame["false_alarm_rate"]),
            "came ": _counted(frame["false_alarm_rate_test"], frame["num_false_alarms"]),
            "review predicted": _percent(frame["review_share_predicted"]),
            "came  ": _counted(frame["review_share_test"], frame["num_review"]),
            "auto-normal": frame["num_auto_normal"].astype(str),
            "auto-tumor": frame["num_auto_tumor"].astype(str),
        }
    )


def _percent(shares: pd.Series) -> list[str]:
    return [NOT_KNOWN if pd.isna(share) else f"{share:.1%}" for share in shares]


def _counted(shares: pd.Series, numbers: pd.Series) -> list[str]:
    texts = zip(_percent(shares), numbers, strict=True)
    return [text if text == NOT_KNOWN else f"{text} ({number})" for text, number in texts]


def _needed_notes(frame: pd.DataFrame) -> Iterator[str]:
    """Why a row has no auto-normal section."""
    least = int(frame["num_calibration_tumor"].min())
    too_low = sorted({rate for rate in frame["miss_rate"] if not _num_allowed(least, rate)})
    if too_low:
        needed = ", ".join(f"{rate:.1%} takes {math.ceil(1 / rate - 1e-9) - 1}" for rate in too_low)
        yield f"Nothing is auto-normal where {least} Tumor sections are too few for the promise: {needed}."


def _bias_notes(conformal: Sequence[ScoredSections]) -> Iterator[str]:
    share = max(_prefilled_share(each) for each in conformal)
    if share:
        yield (
            f"WARNING: the labels of {share:.0%} of the conformal set's sections had been filled in by a model before "
            "a person saw them. Errors that the person let stand count as right here, so misses are underestimated; "
            "take sections that were labelled blind."
        )


def _label_notes(test: Sequence[ScoredSections]) -> Iterator[str]:
    """What came of the promise is known by labels alone; the groups are of all sections."""
    without = max((int(each.frame["label"].isna().sum()) for each in test), default=0)
    if without:
        yield f"Groups count all sections of Test; {without} of them have no label, so are no miss or false alarm."


def write_triage(
    study: Evidence, miss_rates: tuple[float, ...] = MISS_RATES, false_alarm_rate: float = FALSE_ALARM_RATE
) -> Table:
    """Write which sections a model may sort out by itself, at what promised risk, and what came of it on Test.

    Args:
        study: The study's folder.
        miss_rates: Shares of the Tumor sections that may go unseen, a row each.
        false_alarm_rate: Share of the Normal sections that may be called Tumor unseen.

    Raises:
        LedgerError: nothing was selected, or Validation I + II have not both Tumor and Normal sections.
        ConfigurationError: a rate is not between 0 and 1.
    """
    rows = study.ledger
    conformal = all_scored(rows, study.choices, list(SELECTION_PARTS))
    test = [scored_sections(rows, each.choice, [Part.TEST], with_unlabelled=True) for each in conformal]
    return study.write(build_triage(conformal, test, miss_rates=miss_rates, false_alarm_rate=false_alarm_rate))
