"""As how many independent sections those of Test count, and how the settings learned, computed anew."""

import json
import math
from typing import Any

import numpy as np

from analysis.evidence_pack.check.figures import confusion, exact_bounds, intervals_of, slides_in, with_ends
from analysis.evidence_pack.check.findings import GOALS, TEST, Floats, Ints, Row
from analysis.evidence_pack.check.raw_rows import Pack, iou_of, marks

_Z = 1.96
_LEAST_VARIANCE = 1e-12
_SETTINGS = ("unet", "resnet34", "resnet34_ds", "resnet34_linear")


def stated(pack: Pack) -> dict[str, Any]:
    """The goals of goals.json; nothing where none was stated."""
    path = pack.folder / GOALS
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def sample_size(pack: Pack) -> list[Row]:
    """Sensitivity and specificity with the number of sections that they rest on, and what a goal takes."""
    goals, rows = stated(pack), []
    for choice, every in pack.by_setting(TEST):
        mine = [row for row in every if row["label"] is not None]
        if not mine:
            continue
        counts = confusion(mine, slides_in(mine))
        found = intervals_of(counts, choice["beta"])
        for figure, (right, wrong) in {"sensitivity": (0, 1), "specificity": (3, 2)}.items():
            number = counts[right] + counts[wrong]
            about = _about_goal(goals, figure, found[figure])
            effective, is_known = _effective(counts[right], number)
            num, needed = int(number.sum()), about["num_needed"]
            effect = num / effective if is_known else math.nan
            rows.append(
                {
                    "setting": choice["setting"],
                    "figure": figure,
                    "num_sections": num,
                    "num_slides": int(np.count_nonzero(number)),
                    **with_ends("value", found[figure]),
                    "design_effect": effect,
                    "num_effective": effective,
                    "width_independent": _width(found[figure][0], num),
                    "width_effective": _width(found[figure][0], math.floor(effective)),
                    **about,
                    "num_needed_here": math.nan if math.isnan(needed * effect) else float(math.ceil(needed * effect)),
                    "is_reached": None if math.isnan(needed) else effective >= needed,
                    "num_goals_before": len(goals.get("history", [])),
                    **marks(mine),
                }
            )
    return rows


def _about_goal(goals: dict[str, Any], figure: str, found: tuple[float, float, float]) -> Row:
    """The columns of a stated goal; nothing known where there is none for this figure."""
    if (goal := goals.get(figure)) is None:
        numbers = dict.fromkeys(("goal", "goal_width", "num_needed"), math.nan)
        return {**numbers, "outcome": "", "goal_stated_at": "", "goal_after_results": None}
    _, low, high = found
    return {
        "goal": goal,
        "goal_width": goals["width"],
        "num_needed": float(_needed(goal, goals["width"])),
        "outcome": "shown" if low >= goal else "missed" if high < goal else "open",
        "goal_stated_at": goals["stated_at"],
        "goal_after_results": goals.get("after_results"),
    }


def _effective(right: Ints, number: Ints) -> tuple[float, bool]:
    """As how many independent sections they count, and whether slides differ so that it is seen."""
    there = number > 0
    right, number, num_slides = right[there], number[there], int(there.sum())
    if num_slides > 1:
        share = right.sum() / number.sum()
        rest = right - share * number
        variance = num_slides / (num_slides - 1) * float((rest**2).sum()) / float(number.sum()) ** 2
        if variance >= _LEAST_VARIANCE:
            return min(float(number.sum()), float(share * (1 - share)) / variance), True
    return float(num_slides), False


def _width(share: float, num: int) -> float:
    if not num or math.isnan(share):
        return math.nan
    low, high = exact_bounds(share, num)
    return high - low


def _needed(share: float, width: float) -> int:
    """The number of sections after the last one at which the exact interval is wider, sought from far above."""
    num = math.ceil((2 * _Z / width) ** 2 * share * (1 - share) + 8 / width + 4 / min(share, 1 - share) + 10)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, num + 1)))])
    while num > 1 and _exact_width(share, num - 1, factorials) <= width:
        num -= 1
    return num


def _exact_width(share: float, num: int, factorials: Floats) -> float:
    least, most = math.floor(share * num + 1e-9), math.ceil(share * num - 1e-9)
    return _upper(most, num, factorials) - (1 - _upper(num - least, num, factorials))


def _upper(count: int, num: int, factorials: Floats) -> float:
    """The share at which at most `count` of `num` come with a probability of 2.5 %."""
    if count >= num:
        return 1.0
    k = np.arange(count + 1)
    choices = factorials[num] - factorials[k] - factorials[num - k]
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        chance = np.exp(choices + k * math.log(middle) + (num - k) * math.log1p(-middle)).sum()
        low, high = (middle, high) if chance > 0.025 else (low, middle)
    return high


def learning_curves(pack: Pack) -> list[Row]:
    """IoU of each setting's own output after each epoch, from the counted pixels of Validation I."""
    curves: dict[str, dict[int, float]] = {}
    is_drawn = False
    for setting in _SETTINGS:
        if final := [row for row in pack.metrics(setting) if row["is_final"]]:
            is_drawn |= any(row["phantom"] for row in final)
            curves[setting] = {row["epoch"]: iou_of(row) for row in final}
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    return [
        {
            "epoch": epoch,
            **{setting: curve.get(epoch, math.nan) for setting, curve in curves.items()},
            "phantom": is_drawn,
        }
        for epoch in epochs
    ]
