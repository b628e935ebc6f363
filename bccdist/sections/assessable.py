"""Whether a model may be believed on a section: its quality against that of the sections the model was chosen on.

The reference is what the model file tells of Validation I and II. A measure's limit lies `FACTOR` robust standard
deviations of the slides beyond their median, and no nearer than what hardly changes a picture (`RULES`). Sections of a
slide resemble each other, so a slide counts once, by the worst of its sections. The features of the network's encoder
are compared as a whole: by the distance to the nearest sections of the reference.

Where a model has no reference of a measure, the absolute limits hold that the doctor has, which are far wider.

A section beyond a limit is not assessable, and never Normal. Nobody has shown that a section within all limits is read
well: limits catch what the reference did not hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from bccdist.slides.quality_measures import LEAST, MEASURES, MOST, SHARES

FACTOR = 5.0
FEWEST_SLIDES = 8
"""Of a reference, below which absolute limits hold."""
FEATURE_DISTANCE = "feature_distance"
NOT_MEASURED = "not measured: too little stained tissue in it"
_NEIGHBOURS = 3
_TO_SIGMA = 1.4826
"""A normal distribution's standard deviation by its median absolute deviation."""
_LEAST_CHANNEL = 0.1
"""A channel's spread is taken for at least so much of the middle one's: one that is quiet in the reference counts."""


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """To which sides a measure has limits, and how near to the reference's median they may lie."""

    low: str = ""
    """What a section is that lies below; empty where no value is too low."""
    high: str = ""
    margin: float


RULES: Mapping[str, _Rule] = {
    "focus": _Rule(low="out of focus", margin=0.2),
    "compression": _Rule(high="strongly compressed", margin=0.5),
    "stain_density": _Rule(low="faintly stained", high="strongly stained", margin=0.25),
    "stain_hue": _Rule(low="stained redder", high="stained bluer", margin=0.15),
    "ink_share": _Rule(high="under ink", margin=0.15),
    "fold_share": _Rule(high="folded", margin=0.2),
    "air_share": _Rule(high="under air or the edge of a coverslip", margin=0.15),
    FEATURE_DISTANCE: _Rule(high="unlike the tissue that the model was chosen on", margin=0.0),
}


@dataclass(frozen=True, kw_only=True)
class MeasureLimits:
    """The limits of one measure."""

    low: float = -np.inf
    high: float = np.inf
    reference: tuple[float, float] | None = None
    """From the lowest to the highest slide of the reference, by the median of its sections; None where absolute."""


_ABSOLUTE: Mapping[str, MeasureLimits] = {
    name: MeasureLimits(low=LEAST.get(name, -np.inf), high=MOST.get(name, np.inf))
    for name in RULES
    if name in LEAST or name in MOST
}


@dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """What a section may be like, by a model's reference."""

    limits: Mapping[str, MeasureLimits]
    """By measure; absolute ones of those that the reference does not have."""
    num_slides: int
    """Of the reference, with measured sections."""
    neighbours: "NearestSections | None" = None
    why_absolute: str = ""
    """Why the model has no reference of quality, so that absolute limits alone hold; empty where it has one."""

    @classmethod
    def of(cls, reference: pa.Table) -> Self:
        """The limits by a model file's reference table.

        Args:
            reference: with slide, is_final, and where they were measured `MEASURES` and features.
        """
        if not {*MEASURES, "features"} <= set(reference.column_names):
            return cls(limits=_ABSOLUTE, num_slides=0, why_absolute="the model was packed before quality was measured")
        frame = reference.select(["slide", "is_final", *MEASURES, "features"]).to_pandas()
        frame = frame[frame["is_final"] & frame["focus"].notna()].reset_index(drop=True)
        num_slides = frame["slide"].nunique()
        if not num_slides:
            return cls(limits=_ABSOLUTE, num_slides=0, why_absolute="its study's heatmaps hold no quality")
        if num_slides < FEWEST_SLIDES:
            why = f"the model's reference has quality of {num_slides} slide(s), and {FEWEST_SLIDES} are needed"
            return cls(limits=_ABSOLUTE, num_slides=num_slides, why_absolute=why)
        neighbours = _neighbours_of(frame)
        if neighbours is not None:
            frame[FEATURE_DISTANCE] = neighbours.among_themselves
        limits = {
            name: _limits_of(frame.groupby("slide")[name], rule)
            for name, rule in RULES.items()
            if name in frame and frame[name].notna().any()
        }
        return cls(limits={**_ABSOLUTE, **limits}, num_slides=num_slides, neighbours=neighbours)

    @property
    def warning(self) -> str:
        """That the model has no reference of quality, and what to do; empty where it has one."""
        if not self.why_absolute:
            return ""
        # What is done is not done again: only without the heatmaps of before are they made, and measured, anew.
        mend = (
            "a model that was chosen on more slides has its own"
            if self.num_slides
            else "remove the heatmaps of Validation I + II in the study, infer them again, then pack the model anew"
        )
        return (
            f"this model has no reference of quality ({self.why_absolute}): its sections are judged by generous "
            f"absolute limits alone, so that many are Normal which its own limits would leave for review; {mend}"
        )

    def judge(self, columns: Mapping[str, Any]) -> str | None:
        """Why a section is not assessable; empty where nothing speaks against it, None where nothing was measured.

        Args:
            columns: the section's `MEASURES` and features, None where not measured.
        """
        if all(columns[name] is None for name in MEASURES):
            return None
        if columns["focus"] is None:
            return NOT_MEASURED
        values = {**columns, FEATURE_DISTANCE: self.distance(columns["features"])}
        return "; ".join(filter(None, (self._reason(name, values[name]) for name in self.limits)))

    def distance(self, features: list[float] | None) -> float | None:
        """How far a section's features lie from the reference's; None where either has none."""
        if features is None or self.neighbours is None:
            return None
        return float(self.neighbours.distance(np.asarray(features, dtype=np.float64)[None])[0])

    def _reason(self, name: str, value: float | None) -> str:
        limits, rule = self.limits[name], RULES[name]
        if value is None or limits.low <= value <= limits.high:
            return ""
        text = rule.low if value < limits.low else rule.high
        if limits.reference is None:
            end = (
                f"{_as_text(name, limits.low)} or more"
                if text == rule.low
                else f"{_as_text(name, limits.high)} or less"
            )
            return f"{text}: {_as_text(name, value)}, expected {end} of any section"
        ends = " to ".join(_as_text(name, each) for each in limits.reference)
        return f"{text}: {_as_text(name, value)}, reference slides {ends}"


@dataclass(frozen=True, kw_only=True)
class NearestSections:
    """How far sections lie from those of a reference in their features, on a scale on which channels count alike."""

    scale: NDArray[np.float64]
    """Of each channel: [c]."""
    scaled: NDArray[np.float64]
    """[n, c]."""
    slides: NDArray[Any]
    """Which slide each section is of: [n]."""

    @classmethod
    def of(cls, features: NDArray[np.float64], slides: NDArray[Any]) -> "NearestSections | None":
        """Those of a reference; None where all of its features are the same.

        Args:
            features: finite, of each section: [n, c].
            slides: which slide each section is of: [n].
        """
        if not features.std(axis=0).any():
            return None
        scale = channel_scale(features)
        return cls(scale=scale, scaled=features / scale, slides=slides)

    @property
    def among_themselves(self) -> NDArray[np.float64]:
        """Of each section of the reference the distance to those of other slides: [n]."""
        pairs = zip(self.scaled, self.slides, strict=True)
        own = [_distances(each[None], self.scaled[self.slides != slide])[0] for each, slide in pairs]
        return np.array(own, dtype=np.float64)

    def distance(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of some sections [m, c] to the reference: [m]; infinite where their number is another one."""
        if features.shape[1] != len(self.scale):
            return np.full(len(features), np.inf)
        return _distances(features / self.scale, self.scaled)


def _neighbours_of(frame: pd.DataFrame) -> NearestSections | None:
    """Those of a reference table; None where a section has no features, or another number of them."""
    if frame["features"].isna().any() or len(set(map(len, frame["features"]))) != 1:
        return None
    return NearestSections.of(np.stack(frame["features"].to_list()).astype(np.float64), frame["slide"].to_numpy())


def channel_scale(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """On what each channel of some features [n, c] is measured: its spread, or a part of the middle one's: [c]."""
    spread = features.std(axis=0)
    if not spread.any():
        return np.ones(features.shape[1])
    return np.asarray(np.maximum(spread, _LEAST_CHANNEL * np.median(spread[spread > 0])))


def _distances(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean distance to the nearest others, by channel: [m] of [m, c] and [n, c]."""
    # One at a time: all pairs of a large cohort's sections do not fit into memory.
    apart = np.array([np.sqrt(((each - others) ** 2).mean(axis=1)) for each in one])
    return np.asarray(np.sort(apart, axis=1)[:, :_NEIGHBOURS].mean(axis=1))


def _limits_of(by_slide: Any, rule: _Rule) -> MeasureLimits:
    """The limits of a measure by its values, grouped by slide."""
    middle = by_slide.median().dropna()
    reference = (float(middle.min()), float(middle.max()))
    low = _limit(by_slide.min().dropna(), rule, side=-1) if rule.low else -np.inf
    high = _limit(by_slide.max().dropna(), rule, side=1) if rule.high else np.inf
    return MeasureLimits(low=low, high=high, reference=reference)


def _limit(worst: pd.Series, rule: _Rule, *, side: int) -> float:
    centre = float(worst.median())
    spread = _TO_SIGMA * float((worst - centre).abs().median())
    return centre + side * max(FACTOR * spread, rule.margin)


def _as_text(name: str, value: float) -> str:
    return f"{value:.0%}" if name in SHARES else f"{value:.2f}"


def short_reasons(text: str) -> list[str]:
    """Why a section is not assessable, by its text in the ledger: the reasons without their numbers."""
    return [reason.partition(":")[0] for reason in text.split("; ")]


def is_not_assessable(column: pd.Series) -> NDArray[np.bool_]:
    """Which sections the ledger's column `not_assessable` speaks against: bool [n]."""
    return np.asarray(column.notna() & (column != ""), dtype=bool)
