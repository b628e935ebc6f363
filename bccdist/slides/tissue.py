"""Where tissue lies, and which connected pieces of it are sections (paper, section 2.1)."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.errors import SlideError
from bccdist.parts import Label
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SectionRecord
from bccdist.slides.slide import Slide

TISSUE_MPP = 8.0
"""um per pixel of the tissue mask."""
SMALLEST_SECTION_UM2 = 20_000.0
"""Smaller pieces are debris."""
MERGE_GAP_UM = 100.0
"""Pieces that are nearer than this are one section."""
_LEAST_CHROMA = 12
_MOST_CHROMA = 20


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of a slide, with its label where a person gave one."""

    section_id: str
    box_level0_px: Box
    label: Label | None = None
    labelled_by: str = ""
    labelled_at: str = ""
    prefilled: str = ""


def tissue_mask(slide: Slide) -> NDArray[np.bool_]:
    """Tissue at `TISSUE_MPP`: bool [h, w], from the stain's colour.

    H&E colours every tissue, and glass is grey: the spread between a pixel's colour channels tells them apart.
    The threshold is Otsu's, held to a plausible range so that an empty slide stays empty.
    """
    image = cv2.medianBlur(slide.thumbnail(TISSUE_MPP), 5)
    chroma = image.max(axis=2) - image.min(axis=2)
    otsu, _ = cv2.threshold(chroma, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray(chroma > np.clip(otsu, _LEAST_CHROMA, _MOST_CHROMA), dtype=bool)


def find_sections(tissue: NDArray[np.bool_]) -> list[Box]:
    """The connected pieces of tissue in reading order, as boxes in the tissue mask's pixels."""
    # An odd width: closing with an even one moves everything by a pixel.
    gap_px = 2 * round(MERGE_GAP_UM / TISSUE_MPP / 2) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap_px, gap_px))
    # Without a margin, closing would stretch a piece near the border up to it.
    padded = cv2.morphologyEx(np.pad(tissue.astype(np.uint8), gap_px), cv2.MORPH_CLOSE, kernel)
    merged = np.ascontiguousarray(padded[gap_px:-gap_px, gap_px:-gap_px])
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(merged, connectivity=8)
    areas_px = np.bincount(labels[tissue], minlength=num_labels)
    boxes = [
        Box(*(int(value) for value in stats[label, :4]))
        for label in range(1, num_labels)
        if areas_px[label] * TISSUE_MPP**2 >= SMALLEST_SECTION_UM2
    ]
    return reading_order(boxes)


def reading_order(boxes: list[Box]) -> list[Box]:
    """Boxes by row, then from left to right; a box belongs to a row if its middle lies within the row's first box."""
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: (box.y, box.x)):
        middle = box.y + box.height / 2
        row = next((row for row in rows if row[0].y <= middle < row[0].y_end), None)
        if row is None:
            rows.append([box])
        else:
            row.append(box)
    return [box for row in rows for box in sorted(row, key=lambda box: box.x)]


def sections_of(slide: Slide, slide_id: str, tissue: NDArray[np.bool_], records: list[SectionRecord]) -> list[Section]:
    """The sections of a slide: the manifest's boxes where it has them, else the pieces of tissue found.

    Found pieces take the manifest's labels in reading order, so their numbers must agree.

    Raises:
        SlideError: the manifest labels another number of sections than were found, or a box lies outside.
    """
    if records and records[0].box_level0_px is not None:
        _refuse_outside(slide, records)
        return [_labelled(record, record.box_level0_px) for record in records if record.box_level0_px]
    factor = TISSUE_MPP / slide.resolution.mpp_level0
    width, height = slide.level0_size
    slide_box = Box(0, 0, width, height)
    boxes = [box.scaled(factor).intersection(slide_box) for box in find_sections(tissue)]
    if not records:
        return [Section(section_id=f"{slide_id}-s{number}", box_level0_px=box) for number, box in enumerate(boxes)]
    if len(records) != len(boxes):
        raise SlideError(
            f"{slide.path}: sections.csv labels {len(records)} sections of {slide_id}, but {len(boxes)} pieces of "
            "tissue were found; give their boxes in sections.csv"
        )
    return [_labelled(record, box) for record, box in zip(records, boxes, strict=True)]


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


def box_in_tissue_frame(box_level0_px: Box, slide: Slide, shape: tuple[int, int]) -> Box:
    """A section's box in pixels of the tissue mask, cut to the mask's `shape`."""
    box = box_level0_px.scaled(slide.resolution.mpp_level0 / TISSUE_MPP)
    return box.intersection(Box(0, 0, shape[1], shape[0]))
