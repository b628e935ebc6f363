"""What probabilities are worth: calibration, and net benefit of acting on them, with intervals, computed anew."""

import math
from collections.abc import Sequence

import numpy as np

from analysis.evidence_pack.check.figures import draws_of, interval, slides_in, with_ends
from analysis.evidence_pack.check.findings import LEVEL, Floats, Ints, Row
from analysis.evidence_pack.check.model_tables import at_steps, scored
from analysis.evidence_pack.check.raw_rows import Pack, marks, step_of
from analysis.evidence_pack.check.risk_tables import band

_LABELS = ("Tumor", "Normal")
_PRICES = np.arange(1, 100) / np.arange(99, 0, -1)
"""False alarms for one tumor found, at each threshold probability of 1 to 99 percent."""
_ROUNDING = 1e-9
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_MOST_STEPS = 200


def reliability_bins(pack: Pack) -> list[Row]:
    """Sections by tenth of probability, with Tumor's share in each over resampled slides."""
    rows = []
    for choice, mine in scored(pack):
        slides = slides_in(mine)
        counts = [at_steps(mine, label, slides) for label in ("Tumor", "Normal")]
        tenths = np.array([min(int(value / 255 * 10), 9) for value in range(256)])
        for place in sorted({min(int(row["tumor_until"] * 10), 9) for row in mine}):
            inside = [row for row in mine if min(int(row["tumor_until"] * 10), 9) == place]
            tumor, normal = (each[:, tenths == place].sum(1) for each in counts)
            with np.errstate(divide="ignore", invalid="ignore"):
                samples = (draws_of(len(slides)) @ tumor) / (draws_of(len(slides)) @ (tumor + normal))
            num_slides = len(slides_in(inside))
            share = float(np.mean([row["label"] == "Tumor" for row in inside]))
            rows.append(
                {
                    "setting": choice["setting"],
                    "probability_low": place / 10,
                    "probability_high": (place + 1) / 10,
                    "mean_probability": float(np.mean([row["tumor_until"] for row in inside])),
                    **with_ends("tumor_share", interval(share, samples, num_slides)),
                    "num_sections": len(inside),
                    "num_slides": num_slides,
                    **marks(mine),
                }
            )
    return rows


def reliability(pack: Pack) -> list[Row]:
    """Calibration error and Brier score of the sections' probabilities, and what would mend their logits."""
    rows = []
    bins = reliability_bins(pack)
    for choice, mine in scored(pack):
        of_setting = [each for each in bins if each["setting"] == choice["setting"]]
        off = sum(abs(each["mean_probability"] - each["tumor_share"]) * each["num_sections"] for each in of_setting)
        is_tumor = np.array([row["label"] == "Tumor" for row in mine])
        probability = np.array([row["tumor_until"] for row in mine])
        intercept, slope, outcome = _recalibrated(mine)
        rows.append(
            {
                "setting": choice["setting"],
                "calibration_error": off / len(mine),
                "brier_score": float(np.mean((probability - is_tumor) ** 2)),
                "brier_score_of_share": float(is_tumor.mean() * (1 - is_tumor.mean())),
                **with_ends("intercept", intercept),
                **with_ends("slope", slope),
                "slope_outcome": outcome,
                "num_sections": len(mine),
                "num_slides": len(slides_in(mine)),
                **marks(mine),
            }
        )
    return rows


def _recalibrated(rows: Sequence[Row]) -> tuple[tuple[float, float, float], tuple[float, float, float], str]:
    """Intercept and slope with their ends, and whether a slope fits."""
    slides = slides_in(rows)
    counts = [at_steps(rows, label, slides) for label in _LABELS]
    values = np.flatnonzero((counts[0] + counts[1]).any(0))
    probability = np.clip(values / 255, 0.5 / 255, 1 - 0.5 / 255)
    logits = np.log(probability / (1 - probability))
    weights = np.vstack([np.ones((1, len(slides)), dtype=np.int64), draws_of(len(slides))])
    tumor, normal = ((weights @ each[:, values]).astype(np.float64) for each in counts)
    slope = _slopes(logits, tumor, normal)
    outcome = "one value" if math.isnan(slope[0]) else "separated" if math.isinf(slope[0]) else "fitted"
    nothing = (math.nan, math.nan, math.nan)
    return _middle(_intercepts(logits, tumor, normal)), _middle(slope) if outcome == "fitted" else nothing, outcome


def _middle(found: Floats) -> tuple[float, float, float]:
    """The first value with the ends of the others' middle 95 %; not known where these are one value alone."""
    low, high = _occurring(found[1:])
    if math.isclose(low, high, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
        low = high = math.nan
    return float(found[0]), low, high


def _occurring(samples: Floats) -> tuple[float, float]:
    """The ends of the middle 95 %, as values that occur."""
    low, high = np.quantile(samples[~np.isnan(samples)], _TAILS, method="inverted_cdf")
    return float(low), float(high)


def _chance(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))


def _intercepts(logits: Floats, tumor: Floats, normal: Floats) -> Floats:
    """What is added to all logits so that as many Tumor sections are expected as there are, by halving: [n]."""
    number, num_tumor = tumor + normal, tumor.sum(1)
    low, high = np.full(len(tumor), -1000.0), np.full(len(tumor), 1000.0)
    for _ in range(60):
        middle = (low + high) / 2
        is_below = (number * _chance(logits + middle[:, None])).sum(1) < num_tumor
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    has_both = (num_tumor > 0) & (normal.sum(1) > 0)
    return np.where(has_both, (low + high) / 2, math.nan)


def _slopes(logits: Floats, tumor: Floats, normal: Floats) -> Floats:
    """The slope of the likeliest logistic curve [n]; infinite where it parts all sections, NaN where none is known."""
    least, most = ([_end(each, end) for each in (tumor, normal)] for end in (0, -1))
    found = np.full(len(tumor), math.nan)
    has_both = (tumor.sum(1) > 0) & (normal.sum(1) > 0)
    is_spread = np.maximum(*most) > np.minimum(*least)
    able = has_both & is_spread
    above, below = least[0] >= most[1], most[0] <= least[1]
    found[able & above], found[able & below] = math.inf, -math.inf
    left = able & ~above & ~below
    found[left] = _fitted(logits, tumor[left], normal[left])
    return found


def _end(counts: Floats, end: int) -> Ints:
    """The place of the first (0) or the last (-1) value with a section: [n]."""
    is_there = counts > 0
    first = is_there.argmax(1) if end == 0 else is_there.shape[1] - 1 - is_there[:, ::-1].argmax(1)
    return np.asarray(first)


def _fitted(logits: Floats, tumor: Floats, normal: Floats) -> Floats:
    """Slopes by Newton's steps on the two equations of the likeliest curve, each step as long as it helps."""
    number = tumor + normal
    slope, intercept = np.zeros(len(tumor)), np.zeros(len(tumor))
    fit = _misfit(logits, tumor, normal, slope, intercept)
    for _ in range(_MOST_STEPS if len(tumor) else 0):
        chance = _chance(intercept[:, None] + slope[:, None] * logits)
        rest, weight = tumor - number * chance, number * chance * (1 - chance)
        centre = (weight @ logits) / weight.sum(1)
        apart = logits - centre[:, None]
        up = (rest * apart).sum(1) / (weight * apart**2).sum(1)
        across = rest.sum(1) / weight.sum(1) - up * centre
        size = np.ones(len(tumor))
        for _ in range(60):
            now = _misfit(logits, tumor, normal, slope + size * up, intercept + size * across)
            is_worse = now > fit + 1e-10 * np.maximum(1, fit)
            size[is_worse] /= 2
            if not is_worse.any():
                break
        slope, intercept, fit = slope + size * up, intercept + size * across, now
        if np.abs(size * up).max() < 1e-12 * max(1.0, np.abs(slope).max()):
            break
    return slope


def _misfit(logits: Floats, tumor: Floats, normal: Floats, slope: Floats, intercept: Floats) -> Floats:
    """Less the logarithm of the likelihood, [n]."""
    at = intercept[:, None] + slope[:, None] * logits
    return np.asarray((tumor * np.logaddexp(0, -at) + normal * np.logaddexp(0, at)).sum(1))


def decision_curve(pack: Pack) -> list[Row]:
    """Net benefit of acting by the score and by the verdicts, at each threshold probability, with its band."""
    rows = []
    for choice, mine in scored(pack):
        slides = slides_in(mine)
        counts = [at_steps(mine, label, slides) for label in _LABELS]
        steps = {
            "by_score": [step_of(percent / 100) for percent in range(1, 100)],
            "as_chosen": [step_of(choice["t_p"])] * 99,
        }
        columns = {"treat_all": _on_all(*(each.sum(0, keepdims=True) for each in counts))[0]}
        needed = sorted({step for every in steps.values() for step in every})
        for name, every in steps.items():
            columns |= {f"{name}_{key}": values for key, values in _benefit(counts, needed, every).items()}
        same = {"num_tumor": int(counts[0].sum()), "num_sections": len(mine), "num_slides": len(slides)}
        rows += [
            {
                "setting": choice["setting"],
                "threshold": (at + 1) / 100,
                **{name: float(values[at]) for name, values in columns.items()},
                **same,
                **marks(mine),
            }
            for at in range(99)
        ]
    return rows


def _benefit(counts: Sequence[Ints], needed: Sequence[int], steps: Sequence[int]) -> dict[str, Floats]:
    """Net benefit and its gain over acting on all or none with their ends, [99] each.

    Args:
        counts: Tumor and Normal sections by slide and stored value.
        needed: all steps from which anybody acts.
        steps: the one of each threshold.
    """
    # First of all slides once, then of the resamples.
    draws = np.vstack([np.ones((1, len(counts[0])), dtype=np.int64), draws_of(len(counts[0]))])
    totals = [draws @ each.sum(1) for each in counts]
    found = [draws @ each[:, ::-1].cumsum(1)[:, ::-1] for each in counts]
    number = (totals[0] + totals[1])[:, None]
    net = (found[0][:, steps] - found[1][:, steps] * _PRICES) / number
    default = np.maximum(0.0, _on_all(*(total[:, None] for total in totals)))
    low, high = _at_the_bounds(counts, found, totals, needed, steps)
    result = {}
    for name, values, less in (("net_benefit", net, np.zeros(99)), ("gain", net - default, default[0])):
        ends = np.array([_occurring(column) for column in values[1:].T])
        result[name] = values[0]
        result[f"{name}_low"] = np.fmin(ends[:, 0], low - less)
        result[f"{name}_high"] = np.fmax(ends[:, 1], high - less)
    return result


def _on_all(tumor: Ints, normal: Ints) -> Floats:
    """Net benefit of acting on every section: [n, 99] of counts [n, k]."""
    num_tumor, num_normal = tumor.sum(1)[:, None], normal.sum(1)[:, None]
    return np.asarray((num_tumor - num_normal * _PRICES) / (num_tumor + num_normal))


def _at_the_bounds(
    counts: Sequence[Ints], found: Sequence[Ints], totals: Sequence[Ints], needed: Sequence[int], steps: Sequence[int]
) -> tuple[Floats, Floats]:
    """Net benefit with both shares at the ends of their bands; NaN where neither band is wider than the resamples."""
    with np.errstate(invalid="ignore"):
        sensitivity = found[0][:, needed] / totals[0][:, None]
        specificity = 1 - found[1][:, needed] / totals[1][:, None]
    bands, is_wider = [], np.zeros(len(needed), dtype=bool)
    for shares, each, rises in ((sensitivity, counts[0], False), (specificity, counts[1], True)):
        num = int(each.any(1).sum())
        ends = np.array(band(shares[0], shares[1:], num, rises=rises)).T
        drawn = np.nanquantile(shares[1:], _TAILS, axis=0)
        is_wider |= (ends[0] < drawn[0] - _ROUNDING) | (ends[1] > drawn[1] + _ROUNDING)
        bands.append(ends)
    at = [needed.index(step) for step in steps]
    prevalence = totals[0][0] / (totals[0][0] + totals[1][0])
    low, high = (
        np.where(
            is_wider[at],
            bands[0][end][at] * prevalence - (1 - bands[1][end][at]) * (1 - prevalence) * _PRICES,
            math.nan,
        )
        for end in range(2)
    )
    return low, high
