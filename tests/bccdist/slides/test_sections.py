"""The pieces of a slide's tissue become sections in reading order, or as the manifest says."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from island_slides import HEIGHT_PX, ISLANDS, MPP, WIDTH_PX, open_slide
from numpy.typing import NDArray
from synthetic_slides import islands_picture, write_slide

from bccdist.errors import SlideError
from bccdist.parts import Label
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SectionRecord
from bccdist.slides.pieces import MERGE_GAP_UM
from bccdist.slides.sections import (
    SMALLEST_SECTION_UM2,
    find_sections,
    found_boxes,
    reading_order,
    sections_of,
)
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask

GAP_PX = MERGE_GAP_UM / TISSUE_MPP


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """Three islands on noisy glass."""
    return open_slide(tmp_path_factory.mktemp("tissue"), *ISLANDS)


@pytest.fixture(scope="module")
def tissue(slide: Slide) -> NDArray[np.bool_]:
    return tissue_mask(slide)


def masked(*boxes: Box, shape: tuple[int, int] = (120, 200)) -> NDArray[np.bool_]:
    """A tissue mask with full boxes."""
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        mask[box.slices()] = True
    return mask


def test_an_empty_slide_has_no_section(tmp_path: Path) -> None:
    with open_slide(tmp_path) as slide:
        assert sections_of(slide, "a", tissue_mask(slide), []) == []


def test_found_sections_have_the_islands_boxes(slide: Slide, tissue: NDArray[np.bool_]) -> None:
    sections = sections_of(slide, "a", tissue, [])
    assert [section.section_id for section in sections] == ["a-s0", "a-s1", "a-s2"]
    assert [section.box_level0_px for section in sections] == list(ISLANDS)
    assert all(section.label is None for section in sections)


def test_a_piece_in_the_corner_of_an_uneven_slide_stays_inside(tmp_path: Path) -> None:
    picture = islands_picture(1001, 601, (701, 301, 300, 300))
    with Slide(write_slide(tmp_path / "a.tif", picture, mpp=MPP), target_mpp=MPP) as slide:
        (section,) = sections_of(slide, "a", tissue_mask(slide), [])
    got, expected = np.array(section.box_level0_px), np.array((701, 301, 300, 300))
    # Within a pixel of the tissue mask.
    assert (np.abs(got - expected) <= TISSUE_MPP / MPP).all()
    assert section.box_level0_px.intersection(Box(0, 0, 1001, 601)) == section.box_level0_px


@given(x=st.integers(0, 100), y=st.integers(0, 60), width=st.integers(18, 100), height=st.integers(18, 60))
def test_a_piece_is_its_own_box_wherever_it_lies(x: int, y: int, width: int, height: int) -> None:
    """Also near the border, up to which it must not be stretched."""
    box = Box(x, y, width, height)
    assert find_sections(masked(box)) == [box]


def test_debris_is_dropped() -> None:
    edge_px = int(np.sqrt(SMALLEST_SECTION_UM2) / TISSUE_MPP)
    assert find_sections(masked(Box(50, 50, edge_px, edge_px))) == []
    assert len(find_sections(masked(Box(50, 50, edge_px + 1, edge_px + 1)))) == 1


def test_crumbs_that_merge_count_by_their_tissue_not_by_what_lies_between() -> None:
    crumbs = [Box(20 + 10 * number, 20 + 10 * row, 2, 2) for number in range(6) for row in range(6)]
    assert find_sections(masked(*crumbs)) == []


@given(gap_px=st.integers(1, 30), is_beside=st.booleans())
def test_pieces_are_one_section_up_to_the_merge_gap_and_no_farther(gap_px: int, is_beside: bool) -> None:
    other = Box(50 + gap_px, 30, 20, 20) if is_beside else Box(30, 50 + gap_px, 20, 20)
    found = find_sections(masked(Box(30, 30, 20, 20), other))
    assert len(found) == (1 if gap_px <= GAP_PX else 2)
    assert (found[-1].x_end, found[-1].y_end) == (other.x_end, other.y_end)


def test_a_ring_and_what_lies_in_it_are_one_section() -> None:
    """A pale centre leaves a rim and islands, farther from each other than the merge gap."""
    ring = Box(20, 10, 120, 100)
    mask = masked(ring)
    mask[20:100, 30:130] = False
    mask[50:70, 70:90] = True
    assert find_sections(mask) == [ring]


def test_a_piece_in_the_box_of_a_bent_one_is_a_section_of_its_own() -> None:
    upright, foot, inside = Box(20, 10, 20, 100), Box(20, 90, 120, 20), Box(70, 30, 40, 30)
    assert find_sections(masked(upright, foot, inside)) == [Box(20, 10, 120, 100), inside]


@pytest.mark.parametrize("offset", [40, 60])
def test_slanting_strips_stay_two_sections_however_much_their_boxes_share(offset: int) -> None:
    mask = np.zeros((120, 200), dtype=bool)
    for start in (0, offset):
        for step in range(80):
            mask[10 + step : 20 + step, 10 + start + step : 20 + start + step] = True
    assert find_sections(mask) == [Box(10, 10, 89, 89), Box(10 + offset, 10, 89, 89)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (120, 200)])
@pytest.mark.parametrize("value", [False, True])
def test_a_mask_of_one_value_is_no_section_or_one(shape: tuple[int, int], value: bool) -> None:
    is_section = value and shape[0] * shape[1] * TISSUE_MPP**2 >= SMALLEST_SECTION_UM2
    assert find_sections(np.full(shape, value)) == ([Box(0, 0, shape[1], shape[0])] if is_section else [])


@pytest.mark.parametrize("level", [0, 255], ids=["black", "white"])
def test_a_section_that_touches_padding_ends_there(tmp_path: Path, level: int) -> None:
    picture = islands_picture(WIDTH_PX, HEIGHT_PX, (0, 80, 600, 320), (720, 120, 480, 320), noise=3.0)
    picture[:, :200] = picture[:, 1000:] = level
    with Slide(write_slide(tmp_path / "a.tif", picture, mpp=MPP), target_mpp=MPP) as slide:
        boxes = found_boxes(slide, tissue_mask(slide))
    # Within the reach of the median, which mixes tissue, glass and padding where all three meet.
    assert np.abs(np.array(boxes) - [(200, 80, 400, 320), (720, 120, 280, 320)]).max() <= 4 * TISSUE_MPP / MPP
    assert (boxes[0].x, boxes[1].x_end) == (200, 1000)


def test_boxes_and_ids_do_not_depend_on_the_target_mpp(slide: Slide, tissue: NDArray[np.bool_]) -> None:
    expected = sections_of(slide, "a", tissue, [])
    for target_mpp in (2.0, 3.1, 4.0, TISSUE_MPP):
        with Slide(slide.path, target_mpp=target_mpp) as other:
            again = tissue_mask(other)
            assert sections_of(other, "a", again, []) == expected


def test_a_section_may_have_a_hole() -> None:
    mask = masked(Box(20, 20, 90, 80))
    mask[45:75, 45:85] = False
    assert find_sections(mask) == [Box(20, 20, 90, 80)]


def test_sections_are_read_row_by_row_though_their_tops_differ() -> None:
    upper = [Box(10, 8, 30, 40), Box(80, 14, 30, 20), Box(150, 0, 30, 30)]
    lower = [Box(10, 70, 30, 30), Box(80, 80, 30, 30)]
    assert reading_order([*lower, *upper[::-1]]) == upper + lower
    assert find_sections(masked(*lower, *upper)) == upper + lower


def test_a_tall_section_between_short_ones_is_read_in_its_place() -> None:
    row = [Box(10, 10, 30, 15), Box(60, 11, 30, 90), Box(120, 10, 30, 15)]
    assert reading_order(row[::-1]) == row


@given(
    boxes=st.lists(
        st.builds(Box, st.integers(0, 99), st.integers(0, 99), st.integers(1, 30), st.integers(1, 30)), max_size=8
    )
)
def test_reading_order_keeps_every_box(boxes: list[Box]) -> None:
    assert sorted(reading_order(boxes)) == sorted(boxes)


def record(number: int, box: Box | None = None, label: Label = Label.NORMAL) -> SectionRecord:
    return SectionRecord(slide_id="a", section_id=f"mine-{number}", label=label, box_level0_px=box, labelled_by="me")


def test_labels_without_boxes_go_to_the_pieces_in_reading_order(slide: Slide, tissue: NDArray[np.bool_]) -> None:
    labels = [Label.TUMOR, Label.NORMAL, Label.TUMOR]
    records = [record(number, label=label) for number, label in enumerate(labels)]
    sections = sections_of(slide, "a", tissue, records)
    assert [section.box_level0_px for section in sections] == list(ISLANDS)
    assert [(section.section_id, section.label) for section in sections] == [
        (f"mine-{number}", label) for number, label in enumerate(labels)
    ]
    assert sections[0].labelled_by == "me"


def test_the_manifests_boxes_win(slide: Slide, tissue: NDArray[np.bool_]) -> None:
    boxes = [Box(700, 100, 300, 200), Box(0, 0, WIDTH_PX, HEIGHT_PX)]
    sections = sections_of(slide, "a", tissue, [record(number, box) for number, box in enumerate(boxes)])
    assert [section.box_level0_px for section in sections] == boxes
    assert [section.section_id for section in sections] == ["mine-0", "mine-1"]


@pytest.mark.parametrize("num", [2, 4])
def test_another_number_of_labels_than_of_pieces_is_refused(slide: Slide, tissue: NDArray[np.bool_], num: int) -> None:
    with pytest.raises(SlideError, match=f"labels {num} sections of a, but 3 pieces of tissue were found; give their"):
        sections_of(slide, "a", tissue, [record(number) for number in range(num)])


@pytest.mark.parametrize("box", [Box(1100, 0, 101, 50), Box(0, 600, 50, 41)], ids=["right", "below"])
def test_a_box_outside_the_slide_is_refused(slide: Slide, tissue: NDArray[np.bool_], box: Box) -> None:
    with pytest.raises(SlideError, match=r"section mine-1 reaches outside the slide's 1200 x 640 level-0 px"):
        sections_of(slide, "a", tissue, [record(0, ISLANDS[0]), record(1, box)])
