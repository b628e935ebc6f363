"""A thin closed line around pieces of tissue: mostly a pen's, of an ink that passes for stain.

What lies inside a ring counts as one section with it, which is right for tissue and wrong for a circle that somebody
drew around two sections. In a mask both look alike.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.slides.stain import deepest_px, grown

REACHES_UM = (0.0, 50.0)
"""A line is closed where its gaps are twice as wide or less. Looked for with gaps and without: a line that is near a
piece would count as one with it."""
LEAST_INSIDE_UM2 = 100_000.0
"""Of tissue: a pen goes around what can be seen with the eye."""
WIDEST_LINE_UM = 1000.0
"""Of a pen; tissue is wider somewhere."""

WIDEST_BIT_UM = 80.0
"""Of a line that comes out of the mask in bits."""
LEAST_AROUND = 0.4
"""Share of the directions around a piece in which such bits lie."""
_MOST_ALIKE = 0.75
"""Of the directions in which there is anything narrow, those that have it on the line."""
_NUM_DIRECTIONS = 72
_LARGEST_STEP = 0.12
"""Of the distance from one direction to the next, as a share."""


def has_line_around_pieces(tissue: NDArray[np.bool_], *, mpp: float) -> bool:
    """Whether a thin closed line runs around pieces of tissue that it does not touch.

    Args:
        tissue: the mask, bool [h, w].
        mpp: um per pixel of it.
    """
    if _has_broken_line_around_pieces(tissue, mpp=mpp):
        return True
    return any(_is_line_around_pieces(tissue, grown(tissue, reach_um / mpp), mpp=mpp) for reach_um in REACHES_UM)


def _has_broken_line_around_pieces(tissue: NDArray[np.bool_], *, mpp: float) -> bool:
    """Whether narrow bits lie on one smooth curve most of the way around a large piece.

    A thin line comes out of the mask in bits, with gaps that are wider than its distance from the tissue.
    """
    num_pieces, pieces, stats, middles = cv2.connectedComponentsWithStats(tissue.astype(np.uint8), connectivity=8)
    is_narrow = 2 * deepest_px(pieces, num_pieces) * mpp <= WIDEST_BIT_UM
    rows, cols = np.nonzero(tissue & is_narrow[pieces])
    areas_um2 = stats[:, cv2.CC_STAT_AREA] * mpp**2
    large = [piece for piece in range(1, num_pieces) if not is_narrow[piece] and areas_um2[piece] >= LEAST_INSIDE_UM2]
    return any(_lie_around(cols - middles[piece][0], rows - middles[piece][1]) for piece in large)


def _lie_around(x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> bool:
    """Whether points lie on one smooth curve around the origin, as far as there are any in a direction."""
    radius = np.hypot(x_px, y_px)
    direction = ((np.arctan2(y_px, x_px) / (2 * np.pi) + 0.5) * _NUM_DIRECTIONS).astype(int) % _NUM_DIRECTIONS
    nearest, farthest = np.full(_NUM_DIRECTIONS, np.inf), np.zeros(_NUM_DIRECTIONS)
    np.minimum.at(nearest, direction, radius)
    np.maximum.at(farthest, direction, radius)
    # Debris lies near and far in one direction, a line at one distance.
    on_line = (farthest > 0) & (farthest - nearest <= _LARGEST_STEP * nearest)
    steps = np.abs(np.diff(np.log(farthest[on_line]))) if on_line.any() else np.zeros(0)
    num_smooth = int(np.count_nonzero(steps <= _LARGEST_STEP))
    num_filled = int(np.count_nonzero(farthest))
    return num_smooth >= LEAST_AROUND * _NUM_DIRECTIONS and num_smooth >= _MOST_ALIKE * num_filled


def _is_line_around_pieces(tissue: NDArray[np.bool_], near: NDArray[np.bool_], *, mpp: float) -> bool:
    num_pieces, pieces = cv2.connectedComponents(near.astype(np.uint8), connectivity=8)
    outlines, _ = cv2.findContours(near.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(outlines) == num_pieces - 1:
        return False  # nothing lies inside of anything
    depth = cv2.distanceTransform(tissue.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3)
    depth_px = np.asarray(depth, dtype=np.float32)
    areas_um2 = np.bincount(pieces[tissue], minlength=num_pieces) * mpp**2
    for outline in outlines:
        line = int(pieces[outline[0, 0, 1], outline[0, 0, 0]])
        x, y, width, height = cv2.boundingRect(outline)
        inside = np.zeros((height, width), dtype=np.uint8)
        cv2.drawContours(inside, [outline], -1, 1, cv2.FILLED, offset=(-x, -y))
        view = (slice(y, y + height), slice(x, x + width))
        others = set(np.unique(pieces[view][inside > 0]).tolist()) - {0, line}
        widest_um = 2 * depth_px[view][pieces[view] == line].max() * mpp
        if widest_um <= WIDEST_LINE_UM and any(areas_um2[other] >= LEAST_INSIDE_UM2 for other in others):
            return True
    return False
