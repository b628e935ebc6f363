"""The largest region's area as a function of the threshold: it decides a section for every t_p and t_A at once.

A section is Tumor if a region of probability >= t_p has an area >= t_A (paper, section 2.4). So the area of the
largest region at each t_p is all that a verdict needs. Probabilities are stored as whole numbers from 0 to 255,
so there are 256 thresholds that differ, and the curve holds them all.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

NUM_LEVELS = 256
_EIGHT_CONNECTED = 8


def quantise(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities 0 to 1 as whole numbers 0 to 255, to the nearest."""
    return np.rint(probability * (NUM_LEVELS - 1)).astype(np.uint8)


def level_of(threshold: float) -> int:
    """The smallest stored value that counts as at least `threshold` (t_p, 0 to 1)."""
    return math.ceil(threshold * (NUM_LEVELS - 1) - 1e-9)


def largest_region_curve(probability: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """For each level v the number of pixels in the largest 8-connected region of pixels >= v.

    Labelling a section once for each of 256 levels takes minutes. Two facts save most of it: the curve never
    rises, so levels between two equal values are known; and a region lies within a region of every lower level,
    so regions that are too small to win between two levels are dropped before those levels are looked at.

    Args:
        probability: uint8 [h, w]; 0 is no probability, or not covered.

    Returns:
        uint32 [256]; it never rises. Entry 0 counts all pixels, whatever their value.
    """
    curve = np.zeros(NUM_LEVELS, dtype=np.uint32)
    if probability.size:
        curve[0] = probability.size
        curve[-1] = _regions(probability >= NUM_LEVELS - 1).largest_px
        _fill_between(curve, probability, low=0, high=NUM_LEVELS - 1)
    return curve


class _Regions(NamedTuple):
    """The 8-connected regions of a mask; label 0 is what lies outside of them."""

    labels: NDArray[np.int32]
    """[h, w]."""
    boxes: NDArray[np.int32]
    """[labels, 4]: x, y, width, height."""
    areas_px: NDArray[np.int32]
    """[labels]; 0 for label 0."""

    @property
    def largest_px(self) -> int:
        return int(self.areas_px.max())


def _regions(mask: NDArray[np.bool_]) -> _Regions:
    binary = mask.astype(np.uint8)
    _, labels, boxes_and_areas, _ = cv2.connectedComponentsWithStats(binary, connectivity=_EIGHT_CONNECTED)
    stats = np.asarray(boxes_and_areas, dtype=np.int32)
    areas_px = stats[:, cv2.CC_STAT_AREA].copy()
    areas_px[0] = 0
    return _Regions(np.asarray(labels, dtype=np.int32), stats[:, :4], areas_px)


def _fill_between(curve: NDArray[np.uint32], pixels: NDArray[np.uint8], *, low: int, high: int) -> None:
    """Fill the curve between two levels at which it is known.

    Args:
        curve: uint32 [256].
        pixels: uint8 [h, w]; holds every region that is larger than `curve[high]` at a level above `low`.
        low, high: the two levels.
    """
    if curve[low] == curve[high]:
        curve[low:high] = curve[high]
    if curve[low] == curve[high] or high - low < 2:
        return
    middle = (low + high) // 2
    regions = _regions(pixels >= middle)
    curve[middle] = max(regions.largest_px, int(curve[high]))
    larger = regions.areas_px > curve[high]
    if larger.any():
        _fill_between(curve, _only(pixels, regions, larger), low=middle, high=high)
    else:
        curve[middle:high] = curve[high]
    del regions  # its labels take four times the memory of the pixels
    _fill_between(curve, pixels, low=low, high=middle)


def _only(pixels: NDArray[np.uint8], regions: _Regions, kept: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The pixels of the kept regions, 0 around them, cut to the box that holds them all."""
    x, y, width, height = regions.boxes[kept].T
    inside = slice(y.min(), (y + height).max()), slice(x.min(), (x + width).max())
    return np.where(kept[regions.labels[inside]], pixels[inside], np.uint8(0))
