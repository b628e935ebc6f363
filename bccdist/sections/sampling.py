"""Coarse frames under the pixels of a heatmap: cells, and the tissue mask. A pixel is taken where its centre lies."""

import numpy as np
from numpy.typing import NDArray

from bccdist.slides.geometry import Box


def pixels_under(
    box: Box, shape: tuple[int, ...], *, edge_px: int, scale: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pixels of a coarse frame under the centres of an output's pixels, as rows and columns for `np.ix_`.

    Args:
        box: in pixels of the output.
        shape: height and width of the coarse frame.
        edge_px: edge of an output's pixel in target-frame pixels, from `pixel_px`.
        scale: pixels of the coarse frame per target-frame pixel.

    Returns:
        int64 [box height] and int64 [box width]; neither ever falls.
    """
    rows = indices_of((np.arange(box.y, box.y_end) + 0.5) * edge_px, shape[0], scale=scale)
    cols = indices_of((np.arange(box.x, box.x_end) + 0.5) * edge_px, shape[1], scale=scale)
    return rows, cols


def indices_of(positions: NDArray[np.floating], length: int, *, scale: float) -> NDArray[np.int64]:
    """The pixels of a coarse frame under positions of a fine one; rounding at the far edge is held inside."""
    return np.minimum((positions * scale).astype(np.int64), length - 1)
