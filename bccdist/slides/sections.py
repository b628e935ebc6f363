"""Which pieces of a slide's tissue are its sections (paper, section 2.1).

A section is a piece of tissue. It is found here, or named by a box in sections.csv; bccdist/slides/section_map.py says
which tissue belongs to which box.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bccdist.errors import SlideError
from bccdist.parts import Label
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SectionRecord
from bccdist.slides.pieces import grouped
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP

SMALLEST_SECTION_UM2 = 20_000.0
"""Sections have at least this much tissue; less is debris."""


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

    Pieces nearer than `MERGE_GAP_UM` are one section, and so are a ring and what lies inside it. Boxes may overlap, as
    those of oblique strips do: each section has its own tissue all the same (`section_map`). What is left with less
    tissue than `SMALLEST_SECTION_UM2` is debris and no section, though it stays in the mask. A piece at the edge of
    the scan or of its padding ends there.
    """
    # Tissue alone is counted: what merely lies near it would make a section of every speck of dust.
    groups = grouped(tissue)
    kept = groups.with_at_least(SMALLEST_SECTION_UM2 / TISSUE_MPP**2)
    return reading_order([groups.box(piece) for piece in kept])


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
        SlideError: the manifest labels another number of sections than were found, a box lies outside, or two
            sections have the same one.
    """
    if have_boxes(records):
        _refuse_outside(slide, records)
        _refuse_same(slide, records)
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


def _refuse_same(slide: Slide, records: list[SectionRecord]) -> None:
    """Refuse two sections with one box: their tissue could not be told apart."""
    counts = Counter(record.box_level0_px for record in records)
    same = [record.section_id for record in records if counts[record.box_level0_px] > 1]
    if same:
        raise SlideError(
            f"{slide.path}: the sections {', '.join(same)} have the same box in sections.csv; each needs one of its "
            "own, so correct the boxes, or take the rows out that stand there twice"
        )
