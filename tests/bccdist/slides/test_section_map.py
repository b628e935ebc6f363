"""Boxes share out the pieces of tissue: a section's own piece is its own, whatever its neighbours' boxes hold."""

from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.slides.box_faults import box_faults
from bccdist.slides.geometry import Box
from bccdist.slides.pieces import MERGE_GAP_UM
from bccdist.slides.section_map import REACH_UM, SectionMap, share_out
from bccdist.slides.sections import find_sections
from bccdist.slides.tissue import TISSUE_MPP

MPP_LEVEL0 = 0.23
FACTOR = TISSUE_MPP / MPP_LEVEL0
GAP_PX = int(MERGE_GAP_UM / TISSUE_MPP)
REACH_PX = int(REACH_UM / TISSUE_MPP)


def shared(tissue: NDArray[np.bool_], *boxes: Box) -> SectionMap:
    """The map of boxes in the tissue mask's pixels."""
    return share_out(tissue, [box.scaled(FACTOR) for box in boxes], mpp_level0=MPP_LEVEL0)


def masked(*boxes: Box, shape: tuple[int, int] = (120, 200)) -> NDArray[np.bool_]:
    """A tissue mask with full boxes."""
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        mask[box.slices()] = True
    return mask


class Strips(NamedTuple):
    """Oblique strips side by side."""

    tissue: NDArray[np.bool_]
    strip: NDArray[np.int32]
    """The number of each pixel's strip, from 1; 0 is glass."""


def strips(seed: int) -> Strips:
    """Two to six strips of one slide, at least as far apart as sections are."""
    draw = np.random.default_rng(seed)
    shape = (480, 620)
    strip = np.zeros(shape, dtype=np.int32)
    angle = np.radians(draw.uniform(15, 75)) * draw.choice([-1, 1])
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    widths = draw.uniform(12, 40, size=draw.integers(2, 7))
    gaps = draw.uniform(GAP_PX + 3, 3 * GAP_PX, size=len(widths))
    length = draw.uniform(120, 260)
    place = -(widths.sum() + gaps[1:].sum()) / 2
    for number, (width, gap) in enumerate(zip(widths, gaps, strict=True), start=1):
        middle = np.array(shape[::-1]) / 2 + across * (place + width / 2) + along * draw.uniform(-30, 30)
        own_length = length * draw.uniform(0.7, 1)
        corners = [
            middle + along * own_length / 2 * end + across * width / 2 * side
            for end, side in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        cv2.fillPoly(strip, [np.round(corners).astype(np.int32)], number)
        place += width + gap
    return Strips(strip > 0, strip)


@pytest.mark.parametrize("seed", range(200))
def test_oblique_strips_are_sections_of_their_own_tissue_and_no_other(seed: int) -> None:
    tissue, strip = strips(seed)
    boxes = find_sections(tissue)
    assert len(boxes) == strip.max()
    found = shared(tissue, *boxes)
    pairs = np.unique(np.stack([found.number[tissue], strip[tissue]]), axis=1)
    assert sorted(pairs[0]) == sorted(pairs[1]) == list(range(1, strip.max() + 1))
    assert sum(found.tissue_px()) == tissue.sum()
    assert found.reading_level0_px == tuple(box.scaled(FACTOR) for box in boxes)
    assert not box_faults(found)


@pytest.mark.parametrize("seed", range(40))
def test_boxes_that_people_drew_share_out_oblique_strips_alike(seed: int) -> None:
    """Each side is up to a twentieth of the box off, to either side."""
    tissue, _ = strips(seed)
    boxes = find_sections(tissue)
    draw = np.random.default_rng(seed)
    drawn = []
    for box in boxes:
        left, right = draw.uniform(-0.05, 0.05, 2) * box.width
        top, bottom = draw.uniform(-0.05, 0.05, 2) * box.height
        x, y = max(0, int(box.x + left)), max(0, int(box.y + top))
        drawn.append(Box(x, y, int(box.x_end + right) - x, int(box.y_end + bottom) - y))
    found = shared(tissue, *drawn)
    exact = shared(tissue, *boxes)
    counted = tissue & (found.number > 0)
    assert counted.sum() > 0.85 * tissue.sum()
    assert (found.number[counted] == exact.number[counted]).all()


@pytest.mark.parametrize("seed", range(20))
def test_a_mirrored_or_turned_slide_has_the_same_sections(seed: int) -> None:
    tissue, _ = strips(seed)
    expected = sorted(shared(tissue, *find_sections(tissue)).tissue_px())
    for turned in map(np.ascontiguousarray, (tissue[::-1], tissue[:, ::-1], tissue.T, np.rot90(tissue))):
        assert sorted(shared(turned, *find_sections(turned)).tissue_px()) == expected


BOXES = st.builds(Box, st.integers(0, 150), st.integers(0, 90), st.integers(1, 60), st.integers(1, 60))


@settings(deadline=None, max_examples=60)
@given(pieces=st.lists(BOXES, max_size=8), boxes=st.lists(BOXES, max_size=5, unique=True), data=st.data())
def test_tissue_inside_of_boxes_belongs_to_one_section_whatever_the_order(
    pieces: list[Box], boxes: list[Box], data: st.DataObject
) -> None:
    tissue = masked(*pieces, shape=(160, 220))
    found = shared(tissue, *boxes)
    inside = np.zeros_like(tissue)
    for box in boxes:
        inside[box.slices()] = True
    assert (found.number[inside & tissue] > 0).all()
    assert not found.number[~cv2.dilate(inside.astype(np.uint8), np.ones((7, 7))).astype(bool)].any()
    order = data.draw(st.permutations(range(len(boxes))))
    again = shared(tissue, *(boxes[index] for index in order))
    of_number = np.array([0, *(index + 1 for index in order)])
    np.testing.assert_array_equal(of_number[again.number], found.number)


@settings(deadline=None, max_examples=60)
@given(pieces=st.lists(BOXES, max_size=8), boxes=st.lists(BOXES, min_size=1, max_size=4))
def test_boxes_that_are_far_apart_hold_what_they_held(pieces: list[Box], boxes: list[Box]) -> None:
    """As long as a section has no neighbour, all in its box is its own, glass with it."""
    apart = [Box(box.x % 40 + 120 * number, box.y, box.width, box.height) for number, box in enumerate(boxes)]
    spread = [Box(piece.x % 40 + 120 * (piece.x % 4), piece.y, piece.width, piece.height) for piece in pieces]
    tissue = masked(*spread, shape=(160, 600))
    for piece, after in pairwise(apart):
        assert piece.x_end + 2 * REACH_PX < after.x
    # What reaches from one box into the next is another matter.
    for number in range(4):
        tissue[:, 105 + 120 * number : 120 + 120 * number] = False
    found = shared(tissue, *apart)
    for number, box in enumerate(apart, start=1):
        if tissue[box.slices()].any():
            assert (found.number[box.slices()] == number).all()


def test_a_piece_that_sticks_out_into_another_box_is_still_its_own() -> None:
    long, short = Box(20, 20, 140, 20), Box(120, 70, 40, 20)
    tissue = masked(long, short)
    found = shared(tissue, Box(15, 15, 125, 30), Box(115, 10, 60, 90))
    assert found.tissue_px() == [long.area, short.area]
    assert found.reading_level0_px[0].x_end >= int(long.x_end * FACTOR)
    assert found.reading_level0_px[1] == Box(115, 10, 60, 90).scaled(FACTOR)


def test_one_piece_in_two_boxes_is_cut_where_they_meet() -> None:
    piece = Box(20, 20, 120, 40)
    tissue = masked(piece)
    left, right = Box(10, 10, 70, 60), Box(80, 10, 70, 60)
    assert shared(tissue, left, right).tissue_px() == [60 * 40, 60 * 40]
    # Where boxes overlap, half of that is nearer to the one.
    overlapping = shared(tissue, left._replace(width=80), right._replace(x=70, width=80))
    assert overlapping.tissue_px() == [60 * 40, 60 * 40]
    faults = box_faults(overlapping)
    assert [(box, list(numbers)) for box, numbers in faults.shared] == [(piece, [1, 2])]
    assert (faults.missed, faults.cut) == ([], [])


def test_two_strips_nearer_than_the_merge_gap_are_told_apart_by_two_boxes() -> None:
    upper, lower = Box(20, 20, 140, 20), Box(20, 46, 140, 20)
    tissue = masked(upper, lower)
    assert len(find_sections(tissue)) == 1
    found = shared(tissue, Box(10, 10, 160, 40), Box(10, 38, 160, 40))
    assert found.tissue_px() == [upper.area, lower.area]
    assert (found.number[upper.slices()] == 1).all()
    assert not box_faults(found)


def test_a_small_section_that_touches_a_large_one_keeps_its_part() -> None:
    large, small = Box(20, 10, 100, 90), Box(118, 50, 14, 14)
    found = shared(masked(large, small), large, Box(120, 45, 20, 24))
    assert found.tissue_px() == [large.area, 12 * 14]


def test_one_box_around_several_pieces_has_all_of_them() -> None:
    """As sections.csv has it where pieces were merged because their boxes overlapped."""
    upright, foot, inside = Box(20, 10, 20, 100), Box(20, 90, 120, 20), Box(70, 30, 40, 30)
    tissue = masked(upright, foot, inside)
    assert shared(tissue, Box(20, 10, 120, 100)).tissue_px() == [tissue.sum()]


def test_a_ring_keeps_what_lies_in_it_though_another_box_holds_that() -> None:
    ring = Box(20, 10, 120, 100)
    tissue = masked(ring)
    tissue[20:100, 30:130] = False
    tissue[50:70, 70:90] = True
    other = Box(156, 40, 40, 40)
    tissue |= masked(other)
    found = shared(tissue, ring, Box(65, 30, 130, 60))
    assert found.tissue_px() == [tissue.sum() - other.area, other.area]


def test_what_lies_beside_the_tissue_belongs_to_the_nearest_section() -> None:
    one, other = Box(20, 20, 60, 20), Box(100, 60, 60, 20)
    found = shared(masked(one, other), Box(20, 20, 60, 20), Box(30, 30, 130, 60))
    # Below the one piece, outside of its box, and in that of the other one.
    assert (found.number[40 : 40 + REACH_PX, 35:75] == 1).all()
    assert (found.number[40 + REACH_PX + 2 : 70, 35:75] == 2).all()
    assert not found.number[5:17, 5:200].any()


def test_a_box_without_tissue_has_none_and_takes_none() -> None:
    piece = Box(20, 20, 60, 40)
    found = shared(masked(piece), piece, Box(120, 60, 40, 40), Box(40, 30, 10, 10))
    assert found.tissue_px() == [piece.area, 0, 0]


def test_without_boxes_nothing_belongs_to_anybody() -> None:
    found = shared(masked(Box(20, 20, 60, 40)))
    assert not found.number.any()
    assert box_faults(found).missed == [Box(20, 20, 60, 40)]


def test_pieces_that_boxes_miss_or_cut_are_named() -> None:
    missed, cut, small = Box(20, 20, 40, 40), Box(100, 20, 60, 40), Box(20, 90, 10, 10)
    faults = box_faults(shared(masked(missed, cut, small), Box(95, 15, 35, 50)))
    assert faults.missed == [missed]
    assert [(box, round(share, 1)) for box, share in faults.cut] == [(cut, 0.5)]
    assert faults.shared == []
