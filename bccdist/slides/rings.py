"""A thin closed line around pieces of tissue: mostly a pen's, of an ink that passes for stain.

What lies inside a ring counts as one section with it, which is right for tissue and wrong for a circle that somebody
drew around two sections. In a mask both look alike.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

REACHES_UM = (0.0, 50.0)
"""A line is closed where its gaps are twice as wide or less. Looked for with gaps and without: a line that is near a
piece would count as one with it."""
LEAST_INSIDE_UM2 = 100_000.0
"""Of tissue: a pen goes around what can be seen with the eye."""
WIDEST_LINE_UM = 1000.0
"""Of a pen; tissue is wider somewhere."""


def has_line_around_pieces(tissue: NDArray[np.bool_], *, mpp: float) -> bool:
    """Whether a thin closed line runs around pieces of tissue that it does not touch.

    Args:
        tissue: the mask, bool [h, w].
        mpp: um per pixel of it.
    """
    distance_px = cv2.distanceTransform((~tissue).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    depth = cv2.distanceTransform(tissue.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3)
    depth_px = np.asarray(depth, dtype=np.float32)
    return any(
        _is_line_around_pieces(tissue, distance_px <= reach_um / mpp, depth_px, mpp=mpp) for reach_um in REACHES_UM
    )


def _is_line_around_pieces(
    tissue: NDArray[np.bool_], near: NDArray[np.bool_], depth_px: NDArray[np.float32], *, mpp: float
) -> bool:
    num_pieces, pieces = cv2.connectedComponents(near.astype(np.uint8), connectivity=8)
    outlines, _ = cv2.findContours(near.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(outlines) == num_pieces - 1:
        return False  # nothing lies inside of anything
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
