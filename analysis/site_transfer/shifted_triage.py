"""Triage under shift: what a model may sort out by itself here, and on what the promise rests.

The model's promise holds for slides that are drawn as those of its reference were. So its auto-Normal is given here
only where a shift is refuted: every measure lies within a stated tolerance, by an interval, with a stated power. A
test that finds no difference refutes none. Else the promise has to rest on this site's own slides, of which the labels
were drawn at random. Where neither is so, nothing is auto-Normal.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.site_transfer.labels import SiteLabels
from analysis.site_transfer.sections import MeasuredSections
from analysis.site_transfer.shift import Shift
from analysis.tables.triage import (
    CONFIDENCE,
    FALSE_ALARM_RATE,
    GROUPS,
    MISS_RATES,
    SlideScores,
    TriageThresholds,
    smallest_rate,
    triage_thresholds,
)
from bccdist.heatmaps.probability import NUM_STEPS

Source = Literal["model", "site"]


@dataclass(frozen=True, kw_only=True)
class ShiftedTriage:
    """What is allowed, and what came; `frame` has a row for each source of the promise and miss rate.

    Attributes:
        frame: source, miss_rate, false_alarm_rate, confidence, is_allowed, normal_below_t_p, tumor_from_t_p,
            num_promising_slides, smallest_miss_rate, num_auto_normal, num_review, num_auto_tumor (of the cohort's
            sections), num_labelled_tumor_slides, num_slides_missed, miss_rate_here.
        why: why the model's promise is or is not given here.
        is_allowed: whether any section may be auto-Normal.
    """

    frame: pd.DataFrame
    why: str
    is_allowed: bool


def shifted_triage(
    reference: MeasuredSections, here: MeasuredSections, shift: Shift, labels: SiteLabels
) -> ShiftedTriage:
    """What a model may sort out by itself on a cohort.

    Args:
        reference: the sections that the model was chosen on.
        here: the cohort's.
        shift: between both.
        labels: the cohort's labelled sections.
    """
    rows = []
    if reference.is_labelled.any():
        known = scores_of(reference)
        rows += [_row("model", known, here, labels, rate, is_given=shift.is_refuted) for rate in MISS_RATES]
    if not labels.lack and not labels.random.lack:
        mine = labels.random.sections
        known = scores_of(mine)
        rates = [*MISS_RATES]
        if (least := smallest_rate(len(known.lowest_tumor), CONFIDENCE)) > max(rates):
            rates.append(least)
        # The smallest rate that so few slides can promise is shown, and is no licence.
        rows += [_row("site", known, here, labels, rate, is_given=rate <= max(MISS_RATES)) for rate in rates]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    return ShiftedTriage(frame=frame, why=_why(shift, frame), is_allowed=bool(frame["is_allowed"].any()))


_COLUMNS = (
    *("source", "miss_rate", "false_alarm_rate", "confidence", "is_allowed", "normal_below_t_p", "tumor_from_t_p"),
    *("num_promising_slides", "smallest_miss_rate", *(f"num_{name}" for name in GROUPS)),
    *("num_labelled_tumor_slides", "num_slides_missed", "miss_rate_here"),
)


def scores_of(sections: MeasuredSections) -> SlideScores:
    """What decides on slides with labelled sections, one number each."""
    slides, steps = sections.frame["slide_id"], pd.Series(sections.steps)
    tumor, normal = sections.is_tumor, sections.is_normal
    return SlideScores(
        lowest_tumor=steps[tumor].groupby(slides[tumor]).min().to_numpy(dtype=np.int64),
        highest_normal=steps[normal].groupby(slides[normal]).max().to_numpy(dtype=np.int64),
    )


def _row(
    source: Source,
    known: SlideScores,
    here: MeasuredSections,
    labels: SiteLabels,
    miss_rate: float,
    *,
    is_given: bool,
) -> dict[str, Any]:
    thresholds = _thresholds(known, miss_rate)
    groups = _groups(thresholds, here)
    if not is_given:
        groups = np.where(groups == "auto_normal", "review", groups)
    mine = labels.sections
    num_tumor_slides = mine.frame["slide_id"][mine.is_tumor].nunique()
    missed = _missed_slides(source, thresholds, labels, miss_rate)
    return {
        "source": source,
        "miss_rate": miss_rate,
        "false_alarm_rate": FALSE_ALARM_RATE,
        "confidence": CONFIDENCE,
        # Of too few slides none may be missed, and nothing lies below 0.
        "is_allowed": is_given and thresholds.normal_below > 0,
        "normal_below_t_p": thresholds.normal_below / NUM_STEPS,
        "tumor_from_t_p": thresholds.tumor_from / NUM_STEPS if thresholds.tumor_from <= NUM_STEPS else None,
        "num_promising_slides": len(known.lowest_tumor),
        "smallest_miss_rate": smallest_rate(len(known.lowest_tumor), CONFIDENCE),
        **{f"num_{name}": int((groups == name).sum()) for name in GROUPS},
        "num_labelled_tumor_slides": num_tumor_slides,
        "num_slides_missed": missed,
        "miss_rate_here": missed / num_tumor_slides if num_tumor_slides else None,
    }


def _thresholds(known: SlideScores, miss_rate: float) -> TriageThresholds:
    return triage_thresholds(known, miss_rate=miss_rate, false_alarm_rate=FALSE_ALARM_RATE, confidence=CONFIDENCE)


def _groups(thresholds: TriageThresholds, sections: MeasuredSections) -> NDArray[np.str_]:
    """The group of each section; one that is not assessable is never auto-normal."""
    groups = thresholds.groups(sections.steps)
    return np.where((groups == "auto_normal") & ~sections.is_assessable, "review", groups)


def _missed_slides(source: Source, thresholds: TriageThresholds, labels: SiteLabels, miss_rate: float) -> int:
    """Slides with a labelled Tumor section that would be auto-Normal, by thresholds that do not know the slide."""
    mine = labels.sections
    slides = mine.frame["slide_id"].to_numpy()
    if source == "model":
        return len(set(slides[_is_missed(thresholds, mine)]))
    random = labels.random.sections
    own = random.frame["slide_id"].to_numpy()
    missed = 0
    for slide in set(slides[mine.is_tumor]):
        others = _thresholds(scores_of(random.where(own != slide)), miss_rate)
        missed += bool((_is_missed(others, mine) & (slides == slide)).any())
    return missed


def _is_missed(thresholds: TriageThresholds, sections: MeasuredSections) -> NDArray[np.bool_]:
    return np.asarray(sections.is_tumor & (_groups(thresholds, sections) == "auto_normal"))


def _why(shift: Shift, frame: pd.DataFrame) -> str:
    has_site = bool(((frame["source"] == "site") & frame["is_allowed"]).any())
    if shift.is_refuted:
        return f"A shift beyond the tolerance of {shift.tolerance:g} is refuted, so the model's promise is given here."
    state = "was found" if shift.is_found else "is neither found nor refuted"
    mended = (
        "the promise of this site rests on its own labelled slides"
        if has_site
        else "and this site has too few labelled sections that were drawn at random to promise anything itself"
    )
    return (
        f"A shift {state}, so the model's promise is not given here: what it would call auto-Normal is for review; "
        f"{mended}."
    )
