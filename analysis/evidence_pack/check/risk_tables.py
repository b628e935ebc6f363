"""Where errors are, how far the choice is stable, what triage promises, and the bands of curves, computed anew."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise, takewhile

import numpy as np

from analysis.evidence_pack.check.figures import are_alike, confusion, draws_of, interval, slides_in, upper_bound
from analysis.evidence_pack.check.findings import COUNTS, SELECTED_ON, TEST, Floats, Ints, Row
from analysis.evidence_pack.check.model_tables import at_steps, scored
from analysis.evidence_pack.check.raw_rows import Pack, marks
from analysis.evidence_pack.check.slide_tables import shift_figures

_AREA_EDGES, _SHIFT_EDGES = (0.25, 1.0, 4.0, 16.0, 64.0), (0.02, 0.05)
_TOLERANCE = 0.005
"""How much lower F_beta is on the plateau, as the report's title says."""
_GRID = np.arange(101) / 100
_NO_STEP = 256


def error_groups(pack: Pack) -> list[Row]:
    """Labelled sections by slide, by area found, by flip shift, and by pre-filled label."""
    rows = []
    for choice, every in pack.by_setting(TEST):
        mine = [row for row in every if row["label"] is not None]
        for kind, group, here in _groups(mine):
            sums = confusion(here, slides_in(here)).sum(1)
            rows.append(
                {
                    "setting": choice["setting"],
                    "kind": kind,
                    "group": group,
                    **dict(zip(COUNTS, map(int, sums), strict=True)),
                    "num_review": sum(row["verdict"] == "review" for row in here),
                    "num_sections": len(here),
                    "error_share": float(sums[1] + sums[2]) / max(1, int(sums.sum())),
                    **shift_figures(here),
                    **marks(here),
                }
            )
    return rows


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Kind, name and sections of each group that has some."""
    for slide in slides_in(rows):
        yield "slide", slide, [row for row in rows if row["slide_id"] == slide]
    for kind, name, edges in (("area", "area_factor", _AREA_EDGES), ("flip_shift", "flip_shift", _SHIFT_EDGES)):
        for low, high in pairwise((0.0, *edges, math.inf)):
            inside = [row for row in rows if low <= row[name] and (row[name] < high or math.isinf(high))]
            if inside:
                yield kind, f"{low:g} and more" if math.isinf(high) else f"{low:g} to {high:g}", inside
    for filled in sorted({row["prefilled"] or "none" for row in rows}):
        yield "prefilled", filled, [row for row in rows if (row["prefilled"] or "none") == filled]


def stability(pack: Pack) -> list[Row]:
    """How far the cells reach that hang together with the chosen one and are nearly as good; from the grid."""
    rows = []
    for choice in pack.choices:
        cells = [row for row in pack.table("grid") if all(row[name] == choice[name] for name in ("setting", "epoch"))]
        t_p, t_a = (sorted({row[name] for row in cells}) for name in ("t_p", "t_a_um2"))
        f_beta = {(t_p.index(row["t_p"]), t_a.index(row["t_a_um2"])): row["f_beta"] for row in cells}
        start = (t_p.index(choice["t_p"]), t_a.index(choice["t_a_um2"]))
        good = {cell for cell, value in f_beta.items() if value >= f_beta[start] - _TOLERANCE - 1e-12}
        inside, waiting = {start}, [start]
        while waiting:
            row, col = waiting.pop()
            new = good & {(row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)} - inside
            inside |= new
            waiting += new
        ends = [sorted({axis[cell[place]] for cell in inside}) for place, axis in enumerate((t_p, t_a))]
        edges = [
            f"{name} {end:g}"
            for name, reached, tried in (("t_p", ends[0], t_p), ("t_A", ends[1], t_a))
            for end in sorted({reached[0], reached[-1]} & {tried[0], tried[-1]})
        ]
        rows.append(
            {
                **{name: choice[name] for name in ("setting", "epoch", "t_p", "t_a_um2")},
                "f_beta": f_beta[start],
                "tolerance": _TOLERANCE,
                "plateau_share": len(inside) / (len(t_p) * len(t_a)),
                "t_p_low": ends[0][0],
                "t_p_high": ends[0][-1],
                "t_a_um2_low": ends[1][0],
                "t_a_um2_high": ends[1][-1],
                "edges": ", ".join(edges),
                **marks(pack.choices),
            }
        )
    return rows


def triage(pack: Pack) -> list[Row]:
    """What lies below and above the thresholds that Validation's slides allow, at the rates that the table names."""
    rows = []
    on_test = {choice["setting"]: mine for choice, mine in pack.by_setting(TEST)}
    asked = pack.table("triage")
    for choice, every in pack.by_setting(*SELECTED_ON):
        known = [row for row in every if row["label"] is not None and row["coverage"] >= 1]
        if len({row["label"] for row in known}) < 2:
            continue
        found = on_test.get(choice["setting"], [])
        for written in asked:
            if written["setting"] == choice["setting"]:
                rates = (written["miss_rate"], written["false_alarm_rate"], written["confidence"])
                rows.append({"setting": choice["setting"], **_promised(known, found, *rates)})
    return rows


def _promised(known: Sequence[Row], found: Sequence[Row], miss: float, false_alarm: float, confidence: float) -> Row:
    lowest, highest = _worst(known, "Tumor", min), _worst(known, "Normal", max)[::-1]
    num_low, num_high = (
        _num_allowed(len(e), rate, confidence) for e, rate in ((lowest, miss), (highest, false_alarm))
    )
    normal_below = 0 if num_low is None else lowest[num_low]
    tumor_from = _NO_STEP if num_high is None else highest[num_high] + 1

    def group(row: Row) -> str:
        is_normal, is_tumor = row["until_step"] < normal_below, row["until_step"] >= tumor_from
        return "review" if is_normal == is_tumor else "auto_normal" if is_normal else "auto_tumor"

    whole = [row for row in found if row["coverage"] >= 1]
    groups = [group(row) for row in whole] + ["review"] * (len(found) - len(whole))
    missed = [row for row in whole if row["label"] == "Tumor" and group(row) == "auto_normal"]
    falsely = [row for row in whole if row["label"] == "Normal" and group(row) == "auto_tumor"]
    num_of = [len(_worst(whole, label, min)) for label in ("Tumor", "Normal")]
    return {
        "miss_rate": miss,
        "false_alarm_rate": false_alarm,
        "confidence": confidence,
        "smallest_miss_rate": upper_bound(0, len(lowest), 1 - confidence),
        "smallest_false_alarm_rate": upper_bound(0, len(highest), 1 - confidence),
        "normal_below_t_p": normal_below / 255,
        "tumor_from_t_p": tumor_from / 255 if tumor_from < _NO_STEP else None,
        "num_calibration_tumor": sum(row["label"] == "Tumor" for row in known),
        "num_calibration_normal": sum(row["label"] == "Normal" for row in known),
        "num_calibration_tumor_slides": len(lowest),
        "num_calibration_normal_slides": len(highest),
        "review_share_predicted": sum(group(row) == "review" for row in known) / len(known),
        "review_share_test": groups.count("review") / len(groups) if groups else None,
        "num_test": len(groups),
        **{f"num_{name}": groups.count(name) for name in ("auto_normal", "review", "auto_tumor")},
        "num_missed": len(missed),
        "num_false_alarms": len(falsely),
        "num_slides_missed": len(slides_in(missed)),
        "num_slides_false_alarms": len(slides_in(falsely)),
        "miss_rate_test": len(slides_in(missed)) / num_of[0] if num_of[0] else None,
        "false_alarm_rate_test": len(slides_in(falsely)) / num_of[1] if num_of[1] else None,
        "prefilled_share": sum(bool(row["prefilled"]) for row in known) / len(known),
        **marks((*known, *whole)),
    }


def _worst(rows: Iterable[Row], label: str, worst: Callable[[Iterable[int]], int]) -> list[int]:
    """The lowest or highest step among the sections of a label, of each slide that has some; sorted."""
    by_slide: dict[str, list[int]] = {}
    for row in rows:
        if row["label"] == label:
            by_slide.setdefault(row["slide_id"], []).append(row["until_step"])
    return sorted(worst(steps) for steps in by_slide.values())


def _num_allowed(num: int, rate: float, confidence: float) -> int | None:
    """How many slides may break the promise, so that more of them are too unlikely to be chance."""

    def at_most(count: int) -> float:
        return math.fsum(math.comb(num, k) * rate**k * (1 - rate) ** (num - k) for k in range(count + 1))

    return max(takewhile(lambda count: at_most(count) <= 1 - confidence + 1e-12, range(num)), default=None)


def roc_bands(pack: Pack) -> list[Row]:
    """ROC and precision-recall at 101 places, with the interval of each over resampled slides."""
    rows: list[Row] = []
    for choice, mine in scored(pack):
        slides = slides_in(mine)
        counts = [at_steps(mine, label, slides) for label in ("Tumor", "Normal")]
        num = min(int(each.any(axis=1).sum()) for each in counts)
        whole = _curves(*(each.sum(0, keepdims=True) for each in counts))
        drawn = [_curves(draw @ counts[0], draw @ counts[1]) for draw in draws_of(len(slides))]
        for curve, rises in (("roc", True), ("precision_recall", False)):
            y = whole[curve]
            edges = band(y, np.array([each[curve] for each in drawn]), num, rises=rises)
            rows += [
                {
                    "setting": choice["setting"],
                    "curve": curve,
                    "x": float(x),
                    "y": float(value),
                    "low": low,
                    "high": high,
                    **marks(mine),
                }
                for x, value, (low, high) in zip(_GRID, y, edges, strict=True)
                if not math.isnan(value)
            ]
    return rows


def _curves(tumor: Ints, normal: Ints) -> dict[str, Floats]:
    """Sensitivity at each 1 - specificity, and precision at each sensitivity: [101] each, from counts at steps."""
    nothing = np.full(len(_GRID), math.nan)
    tp, fp = (np.cumsum(each.ravel()[::-1]) for each in (tumor, normal))
    if not tp[-1] or not fp[-1]:
        roc = nothing
    else:
        roc = np.interp(_GRID, np.insert(1 - (fp[-1] - fp) / fp[-1], 0, 0.0), np.insert(tp / tp[-1], 0, 0.0))
    if not tp[-1]:
        return {"roc": roc, "precision_recall": nothing}
    with np.errstate(invalid="ignore"):
        precision = (tp / (tp + fp))[np.searchsorted(tp / tp[-1], _GRID)]
    precision[0] = math.nan
    return {"roc": roc, "precision_recall": precision}


def band(y: Floats, samples: Floats, num: int, *, rises: bool) -> list[tuple[float, float]]:
    """The interval at each place; exact bounds hold on to where the curve is lower, and higher."""
    ends = [interval(float(value), samples[:, at], num)[1:] for at, value in enumerate(y)]
    exact = [are_alike(samples[:, at]) for at in range(len(y))]
    order = range(len(y)) if rises else range(len(y) - 1, -1, -1)
    found = list(ends)
    most = -math.inf
    for at in order:
        most = max(most, ends[at][1]) if exact[at] else most
        found[at] = (found[at][0], np.fmax(found[at][1], most).item())
    least = math.inf
    for at in reversed(order):
        least = min(least, ends[at][0]) if exact[at] else least
        found[at] = (np.fmin(found[at][0], least).item(), found[at][1])
    return found
