"""Coarse frames under the pixels of a heatmap: cells, and the tissue mask with its sections.

A heatmap's pixel is taken where its centre lies, and counts whole: also one of psi_0, 16 target-frame pixels wide,
that merely touches a section's box or tissue. An area is right to half a pixel along the edge.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bccdist.heatmaps.store import Heatmap
from bccdist.slides.geometry import Box
from bccdist.slides.section_map import SectionMap, share_out


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


def map_of_sections(heatmap: Heatmap, tissue: NDArray[np.bool_], boxes_level0_px: Sequence[Box]) -> SectionMap:
    """Whose the tissue of a heatmap's slide is.

    Args:
        heatmap: the slide's.
        tissue: its mask at `TISSUE_MPP`, bool [h, w].
        boxes_level0_px: of all sections of the slide.
    """
    # Every reader of a heatmap goes through here, so that what is shown is what was counted.
    mpp_level0 = heatmap.attributes.mpp / heatmap.attributes.downsample
    return share_out(tissue, boxes_level0_px, mpp_level0=mpp_level0)


def is_own_under(
    shares: SectionMap, number: int, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which pixels belong to the section with this number in `shares`: bool [rows, cols].

    Args:
        shares: whose the slide's tissue is.
        number: of the section, from 1.
        rows: int64 [h], the rows of the tissue mask under the pixels; they never fall.
        cols: int64 [w], the columns likewise.
    """
    if not rows.size or not cols.size:
        return np.zeros((rows.size, cols.size), dtype=bool)
    # Compared in the mask's pixels, which are far fewer than those of most outputs.
    own = shares.number[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] == number
    return np.asarray(own[np.ix_(rows - rows[0], cols - cols[0])], dtype=bool)
