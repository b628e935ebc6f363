"""How the sections of Test are against those that the model was chosen on, computed anew."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from analysis.evidence_pack.check.findings import SELECTED_ON, TEST, Floats, Row
from analysis.evidence_pack.check.raw_rows import Pack, marks

_MEASURES = ("focus", "compression", "stain_density", "stain_hue", "ink_share", "fold_share", "air_share")
_DISTANCE = "feature_distance"
_MARGINS = dict(zip((*_MEASURES, _DISTANCE), (0.2, 0.5, 0.25, 0.15, 0.15, 0.2, 0.15, 0.0), strict=True))
"""How far a limit lies at least beyond the middle of the slides' worst sections."""
_HAS_LOW, _HAS_HIGH = ("focus", "stain_density", "stain_hue"), tuple(name for name in _MARGINS if name != "focus")
_LEAST = {"focus": -0.6, "stain_density": 0.35}
_MOST = {"compression": 1.2, "ink_share": 0.05, "fold_share": 0.1, "air_share": 0.05}
"""Where too few slides have been measured."""
_FEWEST_SLIDES, _FACTOR, _TO_SIGMA, _NEIGHBOURS, _LEAST_CHANNEL = 8, 5.0, 1.4826, 3, 0.1


def quality(pack: Pack) -> list[Row]:
    """One row for each setting and measure; of a cohort's sections alone, as its reference is in its model."""
    is_study = any(row["part"] in SELECTED_ON for row in pack.ledger)
    rows = []
    for choice, mine in pack.by_setting(TEST):
        own = [row for row in pack.of_part(*SELECTED_ON) if row["setting"] == choice["setting"]]
        reference = [row for row in own if row["focus"] is not None]
        is_known = len({row["slide_id"] for row in reference}) >= _FEWEST_SLIDES
        channels = _channels(reference) if is_known else None
        for name in (*_MEASURES, _DISTANCE):
            values = _values(mine, name, channels)
            known = values[~np.isnan(values)]
            low, middle, high = np.quantile(known, (0.05, 0.5, 0.95)) if known.size else (math.nan,) * 3
            about: Row = {} if name == _DISTANCE and not is_study else {
                "q05": float(low), "median": float(middle), "q95": float(high), "num_measured": int(known.size)
            }  # fmt: skip
            if is_study:
                about |= _against(reference, name, channels, values, is_known=is_known)
            rows.append(
                {
                    "setting": choice["setting"],
                    "part": TEST,
                    "measure": name,
                    "of_section": {row["section_id"]: value for row, value in zip(mine, values, strict=True)},
                    **about,
                    "num_sections": len(mine),
                    "num_not_assessable": sum(bool(row["not_assessable"]) for row in mine),
                    **marks(mine),
                }
            )
    return rows


def _against(
    reference: Sequence[Row], name: str, channels: tuple[Floats, Floats] | None, values: Floats, *, is_known: bool
) -> Row:
    """The reference's range and the limits that follow from it, and how many sections lie beyond."""
    slides = [row["slide_id"] for row in reference]
    found = {"reference_low": math.nan, "reference_high": math.nan}
    ends = (_LEAST.get(name, -math.inf), _MOST.get(name, math.inf))
    own = _values(reference, name, channels, slides=slides) if is_known else np.array([])
    if own.size and not np.isnan(own).all():
        by_slide = [[value for value, each in zip(own, slides, strict=True) if each == slide] for slide in set(slides)]
        measured = [known for each in by_slide if (known := [value for value in each if not math.isnan(value)])]
        middles = [float(np.median(each)) for each in measured]
        found = {"reference_low": min(middles), "reference_high": max(middles)}
        ends = (
            _limit([min(each) for each in measured], name, -1) if name in _HAS_LOW else -math.inf,
            _limit([max(each) for each in measured], name, 1) if name in _HAS_HIGH else math.inf,
        )
    elif name == _DISTANCE:
        ends = (math.nan, math.nan)
    is_beyond = (values < ends[0]) | (values > ends[1])
    return {
        **found,
        **dict(zip(("limit_low", "limit_high"), ends, strict=True)),
        "num_beyond": int(is_beyond.sum()),
        "is_beyond": is_beyond,
        "num_reference_slides": len(set(slides)),
    }


def _limit(worst: Sequence[float], name: str, side: int) -> float:
    centre = float(np.median(worst))
    spread = _TO_SIGMA * float(np.median(np.abs(np.array(worst) - centre)))
    return centre + side * max(_FACTOR * spread, _MARGINS[name])


def _values(
    rows: Sequence[Row], name: str, channels: tuple[Floats, Floats] | None, *, slides: Sequence[str] = ()
) -> Floats:
    """A measure of sections [n]; features by their distance to the reference's, those of its own slides left out."""
    if name != _DISTANCE:
        return np.array([math.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)
    if channels is None:
        return np.full(len(rows), math.nan)
    return np.array([*_distances(rows, channels, slides)], dtype=np.float64)


def _channels(reference: Sequence[Row]) -> tuple[Floats, Floats] | None:
    """The scale of each channel, and the reference's features on it; nothing where a section has none."""
    if any(row["features"] is None for row in reference) or len({len(row["features"]) for row in reference}) != 1:
        return None
    features = np.array([row["features"] for row in reference], dtype=np.float64)
    spread = features.std(0)
    if not spread.any():
        return None
    scale = np.maximum(spread, _LEAST_CHANNEL * np.median(spread[spread > 0]))
    return scale, features / scale


def _distances(rows: Sequence[Row], channels: tuple[Floats, Floats], slides: Sequence[str]) -> Iterator[float]:
    """The mean distance to the three nearest sections of the reference, of other slides than its own."""
    scale, there = channels
    for row in rows:
        features = row["features"]
        if features is None or len(features) != len(scale):
            yield math.nan if features is None else math.inf
            continue
        others = there[[each != row["slide_id"] for each in slides]] if slides else there
        apart = np.sqrt((((np.array(features) / scale) - others) ** 2).mean(1))
        yield float(np.sort(apart)[:_NEIGHBOURS].mean())
