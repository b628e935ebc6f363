"""Which connected pieces of a slide's tissue are its sections (paper, section 2.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.errors import SlideError
from bccdist.parts import Label
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SectionRecord
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP

SMALLEST_SECTION_UM2 = 20_000.0
"""Sections have at least this much tissue; less is debris."""
MERGE_GAP_UM = 100.0
"""Pieces that are nearer than this are one section."""
_MERGED_SHARE = 0.5
"""Two boxes are one section if they share more than this of the smaller one's area."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of a slide, with its label where a person gave one."""

    section_id: str
    box_level0_px: Box
    label: Label | None = None
    labelled_by: str = ""
    labelled_at: str = ""
    prefilled: str = ""


def find_sections(tissue: NDArray[np.bool_]) -> list[Box]:
    """The pieces of tissue in reading order, as boxes in the tissue mask's pixels.

    Pieces nearer than `MERGE_GAP_UM` are one section, and so are a ring and what lies inside it, and pieces of
    which the smaller one's box lies for more than half in the larger one's: a verdict is given on a box, and
    tissue in the boxes of two sections would count for both. What is left with less tissue than
    `SMALLEST_SECTION_UM2` is debris and no section, though it stays in the mask. A piece at the edge of the scan
    or of its padding ends there.
    """
    groups, group_boxes = _near_groups(tissue)
    # Tissue alone is counted: what merely lies near it would make a section of every speck of dust.
    areas_um2 = np.bincount(groups[tissue], minlength=len(group_boxes)) * TISSUE_MPP**2
    kept = [group for group in range(1, len(group_boxes)) if areas_um2[group] >= SMALLEST_SECTION_UM2]
    boxes = [_tissue_box(tissue, groups, group, group_boxes[group]) for group in kept]
    return reading_order(_overlapping_merged(boxes))


def _near_groups(tissue: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[Box]]:
    """Pieces of tissue with what is near them: the group of each pixel, int32 [h, w], and the groups' boxes.

    Group 0 is what is far from any tissue.
    """
    # Half the gap around each piece: two pieces touch where the whole gap lies between them.
    distance_px = cv2.distanceTransform((~tissue).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near = (distance_px <= MERGE_GAP_UM / TISSUE_MPP / 2).astype(np.uint8)
    # Outer outlines are filled, so that a ring of tissue and what lies inside it become one group.
    outlines, _ = cv2.findContours(near, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(near, outlines, -1, 1, cv2.FILLED)
    _, groups, stats, _ = cv2.connectedComponentsWithStats(filled, connectivity=8)
    return np.asarray(groups, dtype=np.int32), [Box(*(int(value) for value in row[:4])) for row in stats]


def _tissue_box(tissue: NDArray[np.bool_], groups: NDArray[np.int32], group: int, group_box: Box) -> Box:
    """The box of a group's tissue, without what is merely near it."""
    inside = tissue[group_box.slices()] & (groups[group_box.slices()] == group)
    x, y, width, height = (int(value) for value in cv2.boundingRect(inside.astype(np.uint8)))
    return Box(group_box.x + x, group_box.y + y, width, height)


def _overlapping_merged(boxes: list[Box]) -> list[Box]:
    """The boxes, those joined of which the smaller lies for more than half in the larger, until there are none."""
    # One pair at a time: a box that has grown may come to overlap with boxes that it was apart from.
    while pair := _overlapping_pair(boxes):
        boxes = [box for box in boxes if box not in pair] + [_hull(*pair)]
    return boxes


def _overlapping_pair(boxes: list[Box]) -> tuple[Box, Box] | None:
    for first, other in combinations(boxes, 2):
        if first.intersection(other).area > _MERGED_SHARE * min(first.area, other.area):
            return first, other
    return None


def _hull(first: Box, other: Box) -> Box:
    x, y = min(first.x, other.x), min(first.y, other.y)
    return Box(x, y, max(first.x_end, other.x_end) - x, max(first.y_end, other.y_end) - y)


def reading_order(boxes: list[Box]) -> list[Box]:
    """Boxes by row, then from left to right.

    A box belongs to a row if it shares more than half of its height with the row's first box, or that one of its own.
    """
    # Sections of one row are rarely mounted at one height, so rows are told by what lies beside each other.
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: (box.y, box.x)):
        row = next((row for row in rows if _side_by_side(row[0], box)), None)
        if row is None:
            rows.append([box])
        else:
            row.append(box)
    return [box for row in rows for box in sorted(row, key=lambda box: box.x)]


def _side_by_side(first: Box, other: Box) -> bool:
    shared_px = min(first.y_end, other.y_end) - max(first.y, other.y)
    return 2 * shared_px > min(first.height, other.height)


def sections_of(slide: Slide, slide_id: str, tissue: NDArray[np.bool_], records: list[SectionRecord]) -> list[Section]:
    """The sections of a slide: the manifest's boxes where it has them, else the pieces of tissue found.

    Found pieces take the manifest's labels in reading order, so their numbers must agree.

    Raises:
        SlideError: the manifest labels another number of sections than were found, or a box lies outside.
    """
    if have_boxes(records):
        _refuse_outside(slide, records)
        return [_labelled(record, record.box_level0_px) for record in records if record.box_level0_px]
    boxes = found_boxes(slide, tissue)
    if not records:
        return [
            Section(section_id=section_id(slide_id, number), box_level0_px=box) for number, box in enumerate(boxes)
        ]
    # A label on the wrong piece would count as an error of the network, or hide one: no guess is made.
    if len(records) != len(boxes):
        raise SlideError(
            f"{slide.path}: sections.csv labels {len(records)} sections of {slide_id}, but {len(boxes)} pieces of "
            "tissue were found; give their boxes in sections.csv (jobs/find_sections.py writes them to correct)"
        )
    return [_labelled(record, box) for record, box in zip(records, boxes, strict=True)]


def have_boxes(records: Sequence[SectionRecord]) -> bool:
    """Whether the manifest says where a slide's sections are: for each of them or, as it was checked, for none."""
    return bool(records) and records[0].box_level0_px is not None


def section_id(slide_id: str, number: int) -> str:
    """What a found section is called: its number counts from 0 in reading order."""
    return f"{slide_id}-s{number}"


def found_boxes(slide: Slide, tissue: NDArray[np.bool_]) -> list[Box]:
    """The pieces of tissue found on a slide, in reading order, as boxes in level-0 px cut to the slide."""
    factor = TISSUE_MPP / slide.resolution.mpp_level0
    slide_box = Box(0, 0, *slide.level0_size)
    return [box.scaled(factor).intersection(slide_box) for box in find_sections(tissue)]


def _labelled(record: SectionRecord, box_level0_px: Box) -> Section:
    return Section(
        section_id=record.section_id,
        box_level0_px=box_level0_px,
        label=record.label,
        labelled_by=record.labelled_by,
        labelled_at=record.labelled_at,
        prefilled=record.prefilled,
    )


def _refuse_outside(slide: Slide, records: list[SectionRecord]) -> None:
    width, height = slide.level0_size
    for record in records:
        box = record.box_level0_px
        if box is not None and (box.x_end > width or box.y_end > height):
            raise SlideError(
                f"{slide.path}: the box {tuple(box)} of section {record.section_id} reaches outside the slide's "
                f"{width} x {height} level-0 px"
            )
