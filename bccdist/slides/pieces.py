"""The pieces of a tissue mask, numbered: what is connected, and groups of what lies near each other.

Pure arithmetic on masks at `TISSUE_MPP`; in every array of numbers 0 is no piece.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.slides.geometry import Box
from bccdist.slides.stain import grown
from bccdist.slides.tissue import TISSUE_MPP

MERGE_GAP_UM = 100.0
"""Pieces that are nearer than this are one group."""


class Pieces(NamedTuple):
    """Pieces of tissue."""

    number: NDArray[np.int32]
    """Of each pixel's piece, 0 outside of the tissue: [h, w]."""
    num_px: NDArray[np.int64]
    """Pixels of each piece, by its number; entry 0 counts what is no tissue."""
    outer_boxes: list[Box]
    """A box by each number that holds the piece, and may be larger."""

    def box(self, piece: int) -> Box:
        """The box of a piece, to the pixel."""
        outer = self.outer_boxes[piece]
        x, y, width, height = cv2.boundingRect((self.number[outer.slices()] == piece).astype(np.uint8))
        return Box(outer.x + int(x), outer.y + int(y), int(width), int(height))

    def with_at_least(self, num_px: float) -> list[int]:
        """The numbers of the pieces that have so many pixels."""
        return [piece for piece in range(1, len(self.num_px)) if self.num_px[piece] >= num_px]


def connected(tissue: NDArray[np.bool_]) -> Pieces:
    """The 8-connected pieces of a mask, bool [h, w]."""
    _, number, stats, _ = cv2.connectedComponentsWithStats(tissue.astype(np.uint8), connectivity=8)
    boxes = [Box(*(int(value) for value in row[:4])) for row in stats]
    return _pieces(np.asarray(number, dtype=np.int32), boxes)


def grouped(tissue: NDArray[np.bool_]) -> Pieces:
    """The pieces of a mask, bool [h, w]: those that are nearer than `MERGE_GAP_UM`, and a ring with what lies in it.

    Pieces of which nothing but the gap lies between are one.
    """
    # Half the gap around each piece: two pieces touch where the whole gap lies between them.
    near = grown(tissue, MERGE_GAP_UM / TISSUE_MPP / 2).astype(np.uint8)
    # Outer outlines are filled, so that a ring of tissue and what lies inside it become one group.
    outlines, _ = cv2.findContours(near, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(near, outlines, -1, 1, cv2.FILLED)
    num, number = cv2.connectedComponents(filled, connectivity=8)
    # What is filled has no holes, so that each group has one outline. OpenCV's own boxes take ten times as long.
    boxes = [Box(0, 0, tissue.shape[1], tissue.shape[0])] * num
    for outline in outlines:
        x, y = outline[0, 0]
        boxes[number[y, x]] = Box(*(int(side) for side in cv2.boundingRect(outline)))
    return _pieces(np.where(tissue, number, 0).astype(np.int32), boxes)


def _pieces(number: NDArray[np.int32], boxes: list[Box]) -> Pieces:
    return Pieces(number, np.bincount(number.ravel(), minlength=len(boxes)), boxes)


def distances_px(wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The distance of each pixel's centre to that of the nearest wanted one, [h, w]: the same bits in every run.

    It is large everywhere where none is wanted.
    """
    # Intel's IPP, which OpenCV takes where it has one thread, gives another last digit from one run to the next.
    uses_ipp = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        others = (~wanted).astype(np.uint8)
        return np.asarray(cv2.distanceTransform(others, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32)
    finally:
        cv2.ipp.setUseIPP(uses_ipp)
