"""Planted errors are in the first tenth of outlines and of patches, also by a network not sure and often wrong."""

from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import shapely

from bccdist.audit.contradictions import compare_slide
from bccdist.audit.findings import Outline
from bccdist.audit.patches import shown_in
from bccdist.audit.probability_map import ProbabilityMap
from bccdist.audit.table import finding_row, patch_row, rank, tabulate
from bccdist.parts import Kind
from bccdist.slides.geometry import Box

DOWNSAMPLE, MPP = 8.0, 3.68
NUM_SIDE, SPACING = 20, 64
"""Nests and look-alikes in a square of so many a side, so many pixels of the map apart: as many as patches."""
PATCH, STRIDE = 1024, 512
"""Edge and distance of patches, in level-0 px."""


class Share(NamedTuple):
    """Recall of 5 % planted errors in the first 10 %."""

    outlines: float
    """Of outlines and regions."""
    patches: float
    patches_by_score: float
    """Of patches, were they listed by score alone."""


def shape(number: int, radius: float, shift: tuple[float, float] = (0.0, 0.0)) -> shapely.Polygon:
    row, col = divmod(number, NUM_SIDE)
    centre = (np.array([col + 0.5, row + 0.5]) * SPACING + shift) * DOWNSAMPLE
    return shapely.Point(centre).buffer(radius * DOWNSAMPLE)


def found_share(seed: int, *, learned_errors: float, sureness: float, missed: float) -> Share:
    """Plant errors, and look for them.

    Args:
        seed: of all that is random.
        learned_errors: share of the errors that the network agrees with, as one does that was trained on them.
        sureness: probability of tumor in a nest.
        missed: share of right nests that are not predicted, and of look-alikes that are.
    """
    random = np.random.default_rng(seed)
    num = NUM_SIDE**2
    radii, is_nest = random.uniform(5, 11, num), np.arange(num) % 2 == 0
    wrong = random.permutation(num)[: num // 20]
    outlines, planted, tumor = [], {}, np.zeros((NUM_SIDE * SPACING,) * 2, dtype=np.uint8)
    for number in range(num):
        kind = Kind.TUMORNEST if is_nest[number] else Kind.NORMAL
        drawn, error, by = kind, "", np.zeros(2)
        if number in wrong:
            error = str(random.choice(["left out", "moved", "swapped"])) if is_nest[number] else "swapped"
            angle = random.uniform(0, 2 * np.pi)
            by = np.array([np.cos(angle), np.sin(angle)]) * radii[number] * random.uniform(1, 1.4) * (error == "moved")
            drawn = {Kind.TUMORNEST: Kind.NORMAL, Kind.NORMAL: Kind.TUMORNEST}[kind] if error == "swapped" else kind
        is_predicted = is_nest[number] != (random.random() < missed * (not error))
        is_learned = bool(error) and random.random() < learned_errors
        if is_learned:
            is_predicted = drawn is Kind.TUMORNEST and error != "left out"
        if is_predicted:
            x, y = (np.array(divmod(number, NUM_SIDE)[::-1]) + 0.5) * SPACING + by * is_learned
            cv2.circle(tumor, (round(x), round(y)), round(radii[number]), 1, -1)
        if error:
            planted[number] = -1 if error == "left out" else len(outlines)
        if error != "left out":
            outlines.append(Outline(drawn, shape(number, radii[number], tuple(by))))
    soft = cv2.GaussianBlur(tumor.astype(np.float32), (0, 0), 1.5)
    noise = cv2.GaussianBlur(random.normal(0, 0.5, tumor.shape).astype(np.float32), (0, 0), 2)
    probability = np.clip(0.1 + (sureness - 0.1) * soft + noise, 0, 1).astype(np.float32)
    found = ProbabilityMap(
        probability=probability, is_read=np.ones_like(tumor, dtype=bool), downsample=DOWNSAMPLE, mpp=MPP
    )
    findings = compare_slide(outlines, found)
    corners = range(0, int(NUM_SIDE * SPACING * DOWNSAMPLE) - PATCH + 1, STRIDE)
    boxes = [Box(x, y, PATCH, PATCH) for y in corners for x in corners]
    rows = [finding_row("a", finding) for finding in findings]
    rows += [
        patch_row("a", number, shown, box, area_um2=1.0)
        for number, (box, shown) in enumerate(zip(boxes, shown_in(boxes, findings), strict=True))
    ]
    ranked = rank([tabulate(rows, slide_id="a", fold=1, weights_digest="0", phantom=True)]).to_pylist()
    first = [row for row in ranked if row["unit"] != "patch" and row["rank"] <= round(0.1 * len(outlines))]
    ids = {row["id"] for row in first}
    regions = shapely.union_all([shapely.from_wkb(row["geometry"]) for row in first if row["unit"] == "region"])
    in_outlines = [
        f"a/outline-{place}" in ids or regions.intersection(shape(number, radii[number])).area > 100
        for number, place in planted.items()
    ]
    patches = [row for row in ranked if row["unit"] == "patch"]
    by_score = sorted(patches, key=lambda row: -row["score"])

    def share_in(listed: list[dict[str, Any]]) -> float:
        seen = [boxes[int(row["id"].rpartition("-")[2])] for row in listed[: round(0.1 * len(boxes))]]
        windows = [shapely.box(box.x, box.y, box.x_end, box.y_end) for box in seen]
        return float(np.mean([any(window.contains(shape(number, 0.1)) for window in windows) for number in planted]))

    return Share(float(np.mean(in_outlines)), share_in(patches), share_in(by_score))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("sureness", "missed"), [(0.95, 0.0), (0.75, 0.0), (0.9, 0.03)], ids=["sure", "not sure", "often wrong"]
)
def test_planted_errors_are_in_the_first_tenth(seed: int, sureness: float, missed: float) -> None:
    found = found_share(seed, learned_errors=0.0, sureness=sureness, missed=missed)
    assert found.outlines >= 0.8
    assert found.patches >= 0.8
    assert found.patches_by_score < found.patches - 0.2, "four patches each show the same error"


@pytest.mark.parametrize("seed", range(2))
def test_a_network_that_learned_the_errors_finds_fewer(seed: int) -> None:
    out_of_fold, in_sample = (
        found_share(seed, learned_errors=share, sureness=0.9, missed=0.02) for share in (0.0, 0.6)
    )
    assert in_sample.outlines < out_of_fold.outlines - 0.2
    assert in_sample.patches < out_of_fold.patches - 0.2
