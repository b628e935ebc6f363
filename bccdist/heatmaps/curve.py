"""The largest region's area as a function of the threshold: it decides a section for every t_p and t_A at once.

A section is Tumor if a region of probability >= t_p has an area >= t_A (paper, section 2.4). So the area of the
largest region at each t_p is all that a verdict needs. Probabilities are stored as whole numbers from 0 to 255,
so there are 256 thresholds that differ, and the curve holds them all.
"""

import math

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

    Args:
        probability: uint8 [h, w]; 0 is no probability, or not covered.

    Returns:
        uint32 [256]; it never rises. Entry 0 counts all pixels, whatever their value.
    """
    curve = np.zeros(NUM_LEVELS, dtype=np.uint32)
    present = np.unique(probability)
    for level, level_below in zip(present[::-1], [*present[-2::-1], -1], strict=True):
        # Levels between two values that occur have the same regions as the higher one.
        curve[int(level_below) + 1 : int(level) + 1] = _largest_region_px(probability >= level)
    return curve


def _largest_region_px(mask: NDArray[np.bool_]) -> int:
    num_labels, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=_EIGHT_CONNECTED)
    return int(stats[1:, cv2.CC_STAT_AREA].max()) if num_labels > 1 else 0
