"""Which sections a model may sort out by itself, and which a person must see: `python analysis/make.py triage STUDY`.

Two thresholds on a section's number (the highest t_p at which it is Tumor with the chosen t_A) give three groups:
auto-normal, review, auto-tumor. What is promised is promised of slides, since sections fall together with their slide:

- of the slides with Tumor sections at most a share of `miss_rate` has one of them in auto-normal;
- of the slides with Normal sections at most a share of `false_alarm_rate` has one of them in auto-tumor.

Each holds with a probability of at least `confidence` over the slides that were drawn for the calibration
(risk-controlling prediction sets, Bates et al. 2021, with the exact binomial bound).

The promise holds for slides that are drawn as those of Validation I + II were. t_A and the epoch were chosen on the
same sections, and pre-filled labels favour the model that filled them in; so it is checked on Test, and the table says
what was promised and what came.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.scored_sections import ScoredSections, all_scored, scored_sections
from analysis.study_evidence.table import NOT_KNOWN, Table, phantom_marks
from analysis.study_evidence.verdict_table import fast_notes
from analysis.tables.selection import SELECTION_PARTS
from bccdist.binomial import at_most, greatest_share
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.parts import Part
from bccdist.sections.curve import CURVE_LENGTH

MISS_RATES = (0.02, 0.05, 0.1)
FALSE_ALARM_RATE = 0.05
CONFIDENCE = 0.95
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


@dataclass(frozen=True, kw_only=True)
class SlideScores:
    """What decides on slides, one number each: the worst of their sections.

    Attributes:
        lowest_tumor: int [n], the lowest number of a Tumor section of each slide that has some.
        highest_normal: int [m], the highest number of a Normal one likewise.
    """

    lowest_tumor: NDArray[np.int64]
    highest_normal: NDArray[np.int64]

    @classmethod
    def of(cls, sections: ScoredSections) -> Self:
        """The slides of labelled sections."""
        slides, steps = sections.frame["slide_id"], pd.Series(sections.steps)
        tumor, normal = sections.is_tumor, sections.is_normal
        return cls(
            lowest_tumor=steps[tumor].groupby(slides[tumor]).min().to_numpy(dtype=np.int64),
            highest_normal=steps[normal].groupby(slides[normal]).max().to_numpy(dtype=np.int64),
        )


def triage_thresholds(
    slides: SlideScores, *, miss_rate: float, false_alarm_rate: float, confidence: float
) -> TriageThresholds:
    """The widest thresholds that keep the promise, by the slides of the calibration.

    If the true share of slides with a miss were above the rate, at most k of n slides would show one with a
    probability of `at_most(k, n, rate)` or less. So k is the greatest number for which that is at most 1 - confidence,
    and auto-normal is what lies below the number of the (k + 1)-th lowest slide. Where not even k = 0 is so unlikely,
    nothing is auto-normal.

    Args:
        slides: of the calibration.
        miss_rate: of slides with Tumor sections, so many may have one in auto-normal.
        false_alarm_rate: of slides with Normal sections, so many may have one in auto-tumor.
        confidence: with which each of the two is promised.

    Raises:
        ConfigurationError: a rate or the confidence is not between 0 and 1.
    """
    _require_shares(miss_rate=miss_rate, false_alarm_rate=false_alarm_rate, confidence=confidence)
    num_low = _num_allowed(len(slides.lowest_tumor), miss_rate, confidence)
    num_high = _num_allowed(len(slides.highest_normal), false_alarm_rate, confidence)
    return TriageThresholds(
        normal_below=0 if num_low is None else int(np.sort(slides.lowest_tumor)[num_low]),
        tumor_from=NO_STEP if num_high is None else int(np.sort(slides.highest_normal)[::-1][num_high]) + 1,
    )


def _require_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 < share < 1:
            raise ConfigurationError(f"{name} is {share}, expected a share between 0 and 1")


def _num_allowed(num_slides: int, rate: float, confidence: float) -> int | None:
    """How many slides of the calibration may break the promise; None where it cannot be made at all."""
    fitting = takewhile(lambda k: at_most(k, num_slides, rate) <= _doubt(confidence), range(num_slides))
    return max(fitting, default=None)


def smallest_rate(num_slides: int, confidence: float) -> float:
    """The smallest share that so many slides can promise: what 0 of them leave possible."""
    return greatest_share(0, num_slides, confidence)


def slides_needed(rate: float, confidence: float) -> int:
    """The fewest slides that can promise a rate: 59 for 5 % with a confidence of 95 %."""
    return math.ceil(math.log(_doubt(confidence)) / math.log1p(-rate))


def _doubt(confidence: float) -> float:
    # 1 - 0.95 is a little more than 0.05: rates that are just possible must not hang on that.
    return 1 - confidence + 1e-12


def build_triage(
    conformal: Sequence[ScoredSections],
    test: Sequence[ScoredSections],
    *,
    miss_rates: Sequence[float] = MISS_RATES,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    confidence: float = CONFIDENCE,
) -> Table:
    """One row per setting and miss rate, and where that is greater one for the smallest that the slides can promise.

    Args:
        conformal: the sections of Validation I + II of each setting, which the promise rests on.
        test: those of Test, with a label or without, in the same order; a setting may have none.
        miss_rates: that are promised.
        false_alarm_rate: the same for all of them.
        confidence: with which each is promised.

    Raises:
        ConfigurationError: a rate or the confidence is not between 0 and 1.
    """
    rows = []
    for known, found in zip(conformal, test, strict=True):
        slides = SlideScores.of(known)
        rows += [
            _row(known, found, slides, *rates, confidence)
            for rates in _rates(slides, miss_rates, false_alarm_rate, confidence)
        ]
    frame = pd.DataFrame(rows)
    return Table(
        name="triage",
        title="Triage: what needs no review at a promised miss rate; from Validation I + II, measured on Test.",
        frame=frame,
        printed=_printed(frame),
        notes=(
            _meaning(confidence),
            *_needed_notes(frame),
            *_bias_notes(conformal),
            *_label_notes(test),
            *fast_notes(pd.concat([each.frame for each in test])),
            "For research alone; no diagnosis rests on it.",
        ),
    )


def _rates(
    slides: SlideScores, miss_rates: Sequence[float], false_alarm_rate: float, confidence: float
) -> list[tuple[float, float]]:
    """The rates that are asked for, and the smallest that can be promised where none of these can be."""
    asked = [(miss_rate, false_alarm_rate) for miss_rate in miss_rates]
    miss, false_alarm = (smallest_rate(len(each), confidence) for each in (slides.lowest_tumor, slides.highest_normal))
    if miss <= max(miss_rates) and false_alarm <= false_alarm_rate:
        return asked
    return [*asked, (miss, max(false_alarm, false_alarm_rate))]


def _row(
    known: ScoredSections,
    found: ScoredSections,
    slides: SlideScores,
    miss_rate: float,
    false_alarm_rate: float,
    confidence: float,
) -> dict[str, Any]:
    thresholds = triage_thresholds(
        slides, miss_rate=miss_rate, false_alarm_rate=false_alarm_rate, confidence=confidence
    )
    came = SlideScores.of(found)
    groups = thresholds.groups(found.steps)
    num_unread = found.num_unread
    num_test = len(groups) + num_unread
    counts = {name: int((groups == name).sum()) for name in GROUPS}
    counts["review"] += num_unread
    # By the groups, not by the thresholds alone: what both would take is for review.
    missed, falsely = found.is_tumor & (groups == "auto_normal"), found.is_normal & (groups == "auto_tumor")
    num_missed_slides, num_false_slides = (found.frame["slide_id"][hits].nunique() for hits in (missed, falsely))
    return {
        "setting": known.choice.setting,
        "miss_rate": miss_rate,
        "false_alarm_rate": false_alarm_rate,
        "confidence": confidence,
        "smallest_miss_rate": smallest_rate(len(slides.lowest_tumor), confidence),
        "smallest_false_alarm_rate": smallest_rate(len(slides.highest_normal), confidence),
        "normal_below_t_p": thresholds.normal_below / NUM_STEPS,
        "tumor_from_t_p": thresholds.tumor_from / NUM_STEPS if thresholds.tumor_from < NO_STEP else None,
        "num_calibration_tumor": int(known.is_tumor.sum()),
        "num_calibration_normal": int((~known.is_tumor).sum()),
        "num_calibration_tumor_slides": len(slides.lowest_tumor),
        "num_calibration_normal_slides": len(slides.highest_normal),
        "review_share_predicted": float((thresholds.groups(known.steps) == "review").mean()),
        "review_share_test": counts["review"] / num_test if num_test else None,
        "num_test": num_test,
        **{f"num_{name}": value for name, value in counts.items()},
        "num_missed": int(missed.sum()),
        "num_false_alarms": int(falsely.sum()),
        "num_slides_missed": num_missed_slides,
        "num_slides_false_alarms": num_false_slides,
        "miss_rate_test": _ratio(num_missed_slides, len(came.lowest_tumor)),
        "false_alarm_rate_test": _ratio(num_false_slides, len(came.highest_normal)),
        "prefilled_share": _prefilled_share(known),
        **phantom_marks(pd.concat([known.frame, found.frame])),
    }


def _ratio(count: int, num: int) -> float | None:
    return count / num if num else None


def _prefilled_share(sections: ScoredSections) -> float:
    """The share of sections whose label a model had filled in."""
    return float((sections.frame["prefilled"].fillna("") != "").mean())


def _printed(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "setting": frame["setting"],
            "misses promised": _percent(frame["miss_rate"]),
            "slides missed": _counted(frame["miss_rate_test"], frame["num_slides_missed"]),
            "sections missed": frame["num_missed"].astype(str),
            "false alarms promised": _percent(frame["false_alarm_rate"]),
            "slides falsely called": _counted(frame["false_alarm_rate_test"], frame["num_slides_false_alarms"]),
            "sections falsely called": frame["num_false_alarms"].astype(str),
            "review predicted": _percent(frame["review_share_predicted"]),
            "review on Test": _counted(frame["review_share_test"], frame["num_review"]),
            "auto-normal": frame["num_auto_normal"].astype(str),
            "auto-tumor": frame["num_auto_tumor"].astype(str),
        }
    )


def _percent(shares: pd.Series) -> list[str]:
    return [NOT_KNOWN if pd.isna(share) else f"{share:.1%}" for share in shares]


def _counted(shares: pd.Series, numbers: pd.Series) -> list[str]:
    texts = zip(_percent(shares), numbers, strict=True)
    return [text if text == NOT_KNOWN else f"{text} ({number})" for text, number in texts]


def _meaning(confidence: float) -> str:
    return (
        "Misses: slides with Tumor sections of which one is auto-normal. False alarms: slides with Normal sections of "
        f"which one is auto-tumor. Each is promised with a confidence of {confidence:.0%}."
    )


def _needed_notes(frame: pd.DataFrame) -> Iterator[str]:
    """Why a row has no auto-normal or no auto-tumor section, and what so few slides can promise."""
    confidence = float(frame["confidence"].iloc[0])
    for group, kind, rate in (("auto-normal", "Tumor", "miss_rate"), ("auto-tumor", "Normal", "false_alarm_rate")):
        num, least = int(frame[f"num_calibration_{kind.lower()}_slides"].min()), float(frame[f"smallest_{rate}"].max())
        if too_low := sorted({each for each in frame[rate] if _num_allowed(num, each, confidence) is None}):
            needed = ", ".join(f"{each:.1%} takes {slides_needed(each, confidence)}" for each in too_low)
            yield (
                f"Nothing is {group} where {num} slides with {kind} sections are too few for the promise: {needed}. "
                f"The smallest that they can make is {least:.1%}."
            )


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
    study: Evidence,
    miss_rates: tuple[float, ...] = MISS_RATES,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    confidence: float = CONFIDENCE,
) -> Table:
    """Write which sections a model may sort out by itself, at what promised risk, and what came of it on Test.

    Args:
        study: The study's folder.
        miss_rates: Shares of the slides with Tumor sections that may have one go unseen, a row each.
        false_alarm_rate: Share of the slides with Normal sections that may have one called Tumor unseen.
        confidence: With which each of these is promised.

    Raises:
        LedgerError: nothing was selected, or Validation I + II have not both Tumor and Normal sections.
        ConfigurationError: a rate or the confidence is not between 0 and 1.
    """
    rows = study.ledger
    conformal = all_scored(rows, study.choices, list(SELECTION_PARTS))
    test = [scored_sections(rows, each.choice, [Part.TEST], with_unlabelled=True) for each in conformal]
    table = build_triage(
        conformal, test, miss_rates=miss_rates, false_alarm_rate=false_alarm_rate, confidence=confidence
    )
    asked, own = (tuple(miss_rates), false_alarm_rate, confidence), (MISS_RATES, FALSE_ALARM_RATE, CONFIDENCE)
    # Other promises than the report's do not take the place of its table.
    return study.write(table.asked("" if asked == own else "asked"))
