"""A patch is as wrong as the worst finding in it, however small, and each finding is shown once before any again."""

import pytest
import shapely

from bccdist.audit.findings import Finding, Reason, Shown, Unit
from bccdist.audit.patches import shown_in
from bccdist.audit.table import finding_row, patch_row, rank, tabulate
from bccdist.parts import Kind
from bccdist.slides.geometry import Box

LEFT, BOTH, RIGHT, ELSEWHERE = (
    Box(0, 0, 1024, 1024),
    Box(512, 0, 1024, 1024),
    Box(1024, 0, 1024, 1024),
    Box(0, 2048, 1024, 1024),
)
BOXES = [LEFT, BOTH, RIGHT, ELSEWHERE]


def finding(number: int, shape: shapely.Geometry, score: float, proposed: shapely.Geometry | None = None) -> Finding:
    reason = Reason.MOVED if proposed is not None else Reason.SWAPPED
    return Finding(
        unit=Unit.OUTLINE,
        number=number,
        kind=Kind.TUMORNEST,
        geometry=shape,
        reason=reason,
        text="it is wrong",
        score=score,
        area_um2=shape.area,
        mean_probability=0.1,
        proposed=proposed,
    )


def told(shown: Shown | None) -> tuple[int, float] | None:
    return None if shown is None else (shown.finding.number, pytest.approx(shown.score))


def test_a_small_finding_counts_as_far_as_it_lies_in_a_patch() -> None:
    small, large = finding(0, shapely.box(700, 100, 740, 140), 0.9), finding(1, shapely.box(0, 0, 1024, 1000), 0.3)
    assert [told(each) for each in shown_in(BOXES, [large, small])] == [(0, 0.9), (0, 0.9), None, None]
    across = finding(2, shapely.box(1000, 0, 1100, 10), 0.5)
    assert [told(each) for each in shown_in(BOXES, [across])] == [(2, 0.12), (2, 0.5), (2, 0.38), None]


def test_what_was_moved_lies_at_both_places_and_what_was_not_compared_at_none() -> None:
    moved = finding(0, shapely.box(100, 100, 200, 200), 0.8, proposed=shapely.box(600, 100, 700, 200))
    unread = finding(1, shapely.box(1500, 100, 1600, 200), float("nan"))
    point = finding(2, shapely.LineString([(1500, 0), (1600, 0)]), 0.5)
    assert [told(each) for each in shown_in(BOXES, [moved, unread, point])] == [(0, 0.8), (0, 0.4), None, None]
    assert shown_in(BOXES, []) == [None] * 4


def test_each_finding_is_shown_once_before_any_is_shown_again() -> None:
    findings = [finding(0, shapely.box(600, 100, 700, 200), 0.9), finding(1, shapely.box(1600, 100, 1700, 200), 0.4)]
    shown = shown_in(BOXES, findings)
    rows = [patch_row("a", number, shown[number], box, area_um2=1.0) for number, box in enumerate(BOXES)]
    rows += [finding_row("a", each) for each in findings]
    ranked = rank([tabulate(rows, slide_id="a", fold=1, weights_digest="0", phantom=True)]).to_pylist()
    assert [row["id"] for row in ranked] == [
        "a/outline-0",
        "a/outline-1",
        *(f"a/patch-{each}" for each in (0, 2, 1, 3)),
    ]
    assert [row["rank"] for row in ranked] == [1, 2, 1, 2, 3, 4]
    assert [row["shows"] for row in ranked[2:]] == ["a/outline-0", "a/outline-1", "a/outline-0", None]
    assert [row["reason"] for row in ranked[2:]] == ["kind swapped"] * 3 + ["agrees"]
