"""What contradicts an annotation comes first, with the right reason and a correction that mends it."""

from collections.abc import Sequence

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from bccdist.audit.contradictions import compare_slide
from bccdist.audit.findings import Finding, Outline, Reason, Unit
from bccdist.audit.probability_map import MAP_PX, MapInTheMaking, ProbabilityMap, pooled, read_map, write_map
from bccdist.parts import Kind

DOWNSAMPLE, MPP = 8.0, 3.68
"""Of the map's pixels."""
SIZE = (120, 200)


def disc(x: float, y: float, radius: float) -> shapely.Polygon:
    """In level-0 px, from pixels of the map."""
    return shapely.Point(x * DOWNSAMPLE, y * DOWNSAMPLE).buffer(radius * DOWNSAMPLE)


def probability_of(
    discs: Sequence[tuple[float, float, float]], *, seed: int = 0, sureness: float = 0.9
) -> ProbabilityMap:
    """Tumor on some discs, with noise, and read but for the last columns."""
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    tumor = np.zeros(SIZE, dtype=bool)
    for x, y, radius in discs:
        tumor |= (cols - x) ** 2 + (rows - y) ** 2 <= radius**2
    noise = np.random.default_rng(seed).normal(0, 0.05, SIZE)
    values = np.clip(np.where(tumor, sureness, 0.08) + noise, 0, 1).astype(np.float32)
    is_read = np.ones(SIZE, dtype=bool)
    is_read[:, 180:] = False
    return ProbabilityMap(probability=values, is_read=is_read, downsample=DOWNSAMPLE, mpp=MPP)


TRUTH = [(20.0 + 40 * col, 20.0 + 40 * row, 10.0 - row) for row in range(3) for col in range(4)]


def compared(outlines: Sequence[Outline], *, seed: int = 0, sureness: float = 0.9) -> list[Finding]:
    found = compare_slide(outlines, probability_of(TRUTH, seed=seed, sureness=sureness))
    return sorted(found, key=lambda each: (np.isnan(each.score), -each.score))


def right() -> list[Outline]:
    return [Outline(Kind.TUMORNEST, disc(*each)) for each in TRUTH]


def test_a_right_annotation_agrees_all_over() -> None:
    assert {each.reason for each in compared(right())} == {Reason.AGREES}
    assert max(each.score for each in compared(right())) < 0.05


@pytest.mark.parametrize("number", [0, 5, 11])
def test_a_nest_left_out_comes_first_and_is_proposed_as_it_is(number: int) -> None:
    first, *others = compared([each for place, each in enumerate(right()) if place != number], seed=number)
    assert (first.unit, first.reason, first.proposed_kind) == (Unit.REGION, Reason.LEFT_OUT, Kind.TUMORNEST)
    assert first.proposed is not None
    assert iou(first.proposed, disc(*TRUTH[number])) > 0.8
    assert first.score > 3 * others[0].score


@pytest.mark.parametrize("shift", [(0.0, 11.0), (-8.0, 7.0), (14.0, 0.0)])
def test_an_outline_that_was_moved_comes_first_and_is_proposed_where_it_was(shift: tuple[float, float]) -> None:
    outlines = right()
    moved = shapely.transform(outlines[5].polygon, lambda xy: xy + np.array(shift) * DOWNSAMPLE)
    first = compared([*outlines[:5], Outline(Kind.TUMORNEST, moved), *outlines[6:]])[0]
    assert (first.unit, first.number, first.reason) == (Unit.OUTLINE, 5, Reason.MOVED)
    assert first.proposed is not None
    assert iou(first.proposed, outlines[5].polygon) > 0.8
    assert "shifted by" in first.text


@pytest.mark.parametrize("sureness", [0.9, 0.62], ids=["sure", "not sure"])
@pytest.mark.parametrize("kind", [Kind.STROMA, Kind.NORMAL])
def test_a_nest_of_another_kind_is_a_swapped_kind_and_no_nest_left_out(kind: Kind, sureness: float) -> None:
    outlines = right()
    found = compared([*outlines[:3], Outline(kind, outlines[3].polygon), *outlines[4:]], sureness=sureness)
    assert (found[0].number, found[0].reason, found[0].proposed_kind) == (3, Reason.SWAPPED, Kind.TUMORNEST)
    assert all(each.unit is Unit.OUTLINE for each in found)


def test_tumornest_where_nothing_is_predicted_is_a_swapped_kind() -> None:
    lookalike = Outline(Kind.TUMORNEST, disc(40, 40, 8))
    found = compared([*right(), lookalike])
    assert (found[0].number, found[0].reason, found[0].proposed_kind) == (len(TRUTH), Reason.SWAPPED, Kind.NORMAL)


def test_a_nest_left_out_within_a_large_outline_of_stroma_is_told_by_itself() -> None:
    stroma = Outline(Kind.STROMA, shapely.box(0, 0, 160 * DOWNSAMPLE, 118 * DOWNSAMPLE))
    found = compared([*(each for place, each in enumerate(right()) if place != 6), stroma])
    assert (found[0].reason, found[0].unit) == (Reason.LEFT_OUT, Unit.REGION)


def test_what_was_not_read_or_is_too_small_is_neither_agreed_with_nor_ranked() -> None:
    beside, tiny = Outline(Kind.TUMORNEST, disc(190, 50, 6)), Outline(Kind.NORMAL, disc(40.5, 40.0, 0.2))
    found = compared([*right(), beside, tiny])
    assert [each.reason for each in found[-2:]] == [Reason.NOT_READ] * 2
    assert np.isnan([each.score for each in found[-2:]]).all()


def test_an_outline_beyond_the_slide_is_not_compared() -> None:
    found = compared([*right(), Outline(Kind.STROMA, disc(500, 50, 6))])
    assert found[-1].reason is Reason.NOT_READ


def test_a_map_is_the_mean_of_its_patches_and_comes_back_from_disk(tmp_path: object) -> None:
    from pathlib import Path

    making = MapInTheMaking(width_px=700, height_px=512)
    making.add(np.full((128, 128), 0.2, np.float32), x_px=0, y_px=0)
    making.add(np.full((128, 128), 0.8, np.float32), x_px=256, y_px=0)
    found = making.finished(downsample=2, mpp=0.92)
    assert found.probability.shape == (128, 175)
    assert found.probability[5, [5, 100, 170]] == pytest.approx([0.2, 0.5, 0.8])
    assert (found.downsample, found.mpp) == (8, 0.92 * MAP_PX)
    path = Path(str(tmp_path)) / "map.png"
    write_map(path, found)
    again = read_map(path, downsample=8, mpp=found.mpp)
    assert np.array_equal(again.is_read, found.is_read)
    assert np.abs(again.probability - found.probability).max() < 1 / 254


def test_pixels_are_pooled_by_their_mean() -> None:
    values: NDArray[np.float32] = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    assert pooled(values).tolist() == [[[13.5, 17.5], [45.5, 49.5]]]


def iou(one: shapely.Geometry, other: shapely.Geometry) -> float:
    return float(one.intersection(other).area / one.union(other).area)
