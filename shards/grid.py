"""Which patches of a slide are stored, and which cells of it they need: pure arithmetic (paper, section 2.3)."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.slides.geometry import Box
from bccdist.slides.section_map import SectionMap
from bccdist.slides.sections import Section
from bccdist.slides.tissue import TISSUE_MPP


def tissue_shares(
    tissue: NDArray[np.bool_], boxes_px: Sequence[Box], *, width_px: int, height_px: int
) -> NDArray[np.float64]:
    """The share of each patch's area that is tissue; what lies outside the slide is none.

    Args:
        tissue: mask [h, w] of the whole slide in a coarse frame.
        boxes_px: patches in the target frame.
        width_px: the slide's width in the target frame.
        height_px: its height there.

    Returns:
        [n], 0 to 1.
    """
    integral = np.asarray(cv2.integral(tissue.astype(np.uint8), sdepth=cv2.CV_64F), dtype=np.float64)
    boxes = np.array(boxes_px, dtype=np.float64)
    scale_x, scale_y = tissue.shape[1] / width_px, tissue.shape[0] / height_px
    left, right = boxes[:, 0] * scale_x, (boxes[:, 0] + boxes[:, 2]) * scale_x
    top, bottom = boxes[:, 1] * scale_y, (boxes[:, 1] + boxes[:, 3]) * scale_y
    tissue_px = (
        _sum_above_left(integral, bottom, right)
        - _sum_above_left(integral, top, right)
        - _sum_above_left(integral, bottom, left)
        + _sum_above_left(integral, top, left)
    )
    return np.asarray(np.clip(tissue_px / ((right - left) * (bottom - top)), 0, 1))


def _sum_above_left(
    integral: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mask's area above and left of points that need not be whole.

    It is exact: inside a pixel, the integral is linear along both axes.
    """
    row, down = _split(y, integral.shape[0] - 1)
    col, right = _split(x, integral.shape[1] - 1)
    above = integral[row, col] * (1 - right) + integral[row, col + 1] * right
    below = integral[row + 1, col] * (1 - right) + integral[row + 1, col + 1] * right
    return np.asarray(above * (1 - down) + below * down)


def _split(positions: NDArray[np.float64], num_pixels: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pixel that each position lies in, and how far into it, 0 to 1."""
    inside = np.clip(positions, 0, num_pixels)
    pixels = np.minimum(inside.astype(np.int64), num_pixels - 1)
    return pixels, inside - pixels


def needed_cells(boxes_px: Sequence[Box], *, cell_px: int) -> NDArray[np.bool_]:
    """The cells that the patches touch: bool [rows, cols], just large enough to hold all of them."""
    shape = (-(-max(box.y_end for box in boxes_px) // cell_px), -(-max(box.x_end for box in boxes_px) // cell_px))
    needed = np.zeros(shape, dtype=bool)
    for box in boxes_px:
        needed[box.scaled(1 / cell_px).slices()] = True
    return needed


def are_made_of_cells(boxes_px: Sequence[Box], *, cell_px: int) -> bool:
    """Whether every patch is made of whole cells, as it is when the stride is a multiple of theirs."""
    return all(box.x % cell_px == 0 and box.y % cell_px == 0 for box in boxes_px)


def section_under(box_level0_px: Box, shares: SectionMap, sections: Sequence[Section], *, mpp_level0: float) -> str:
    """The section that has most tissue in a patch, the first of equals; empty if none has any.

    Args:
        box_level0_px: the patch.
        shares: whose the slide's tissue is, by the order of `sections`.
        sections: of the slide.
        mpp_level0: um per level-0 pixel.
    """
    height, width = shares.tissue.shape
    inside = box_level0_px.scaled(mpp_level0 / TISSUE_MPP).intersection(Box(0, 0, width, height)).slices()
    counts = np.bincount(shares.of_tissue[inside].ravel(), minlength=1)[1:]
    return sections[int(np.argmax(counts))].section_id if counts.any() else ""
