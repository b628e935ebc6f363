"""How far predicted tumor lies from the edge of the tissue. Research use only.

The edge is that of the tissue found on the slide. It need not be a surgical margin: tissue is cut to size before it is
embedded, and sections tear and fold. Nothing here has been validated for use on patients.

What counts as an edge:

- the border between tissue and glass, also along a crack that is open to the glass;
- the border of the slide, because tissue may go on beyond what was scanned;
- not a gap that tissue encloses, however wide: glands, vacuoles, clefts around tumor, what lies inside of a ring.
  Tissue that touches in a corner encloses, as regions are 8-connected.

A heatmap pixel has the distance of the tissue pixel under its centre, so a margin is right to about `TISSUE_MPP`, or
to half a pixel of an output that is coarser (psi_0).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.sections.curve import CURVE_LENGTH
from bccdist.slides.pieces import distances_px
from bccdist.slides.tissue import TISSUE_MPP

MARGIN_WARNING = (
    "Research use only: margins are distances to the edge of the tissue found on the slide, which need not be a "
    f"surgical margin; they are right to about {TISSUE_MPP:.0f} um."
)
"""Stands wherever margins do."""
_OUTSIDE = 2


def edge_distances_um(tissue: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The distance from the centre of each pixel of the tissue mask to the tissue's edge (research use only).

    It is the way to the centre of the nearest pixel outside, less half a pixel.

    Args:
        tissue: the whole slide's mask at `TISSUE_MPP`, bool [h, w].

    Returns:
        float32 [h, w] in um; 0 outside the tissue.
    """
    # What lies beyond the slide is outside, too, and it makes one of all that is open to it.
    framed = np.pad(tissue.astype(np.uint8), 1)
    cv2.floodFill(framed, None, (0, 0), _OUTSIDE)
    distance_px = distances_px(framed == _OUTSIDE)[1:-1, 1:-1]
    return np.asarray(np.maximum(distance_px - 0.5, 0) * TISSUE_MPP, dtype=np.float32)


def margin_curve(
    pixels: NDArray[np.uint8],
    distances_um: NDArray[np.float32],
    *,
    tissue_rows: NDArray[np.int64],
    tissue_cols: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The smallest distance of a pixel >= v to the tissue's edge, for each probability step v (research use only).

    It looks at all pixels, also those of regions that t_A drops: so it is a lower bound of the margins of those kept.

    Args:
        pixels: stored probabilities, uint8 [h, w].
        distances_um: of the slide, from `edge_distances_um`.
        tissue_rows: int64 [h], the rows of `distances_um` under the pixels; they never fall.
        tissue_cols: int64 [w], the columns likewise.

    Returns:
        float32 [256] in um; it never falls, and is NaN where no pixel reaches the step.
    """
    margins_um = np.full(CURVE_LENGTH, np.inf, dtype=np.float32)
    if pixels.size:
        rows, cols = _firsts(tissue_rows), _firsts(tissue_cols)
        # Of the pixels over one tissue pixel, which have one distance, the greatest decides: they are far fewer.
        greatest = np.maximum.reduceat(_greatest_of_rows(pixels, rows), cols, axis=1)
        distances_um = distances_um[np.ix_(tissue_rows[rows], tissue_cols[cols])]
        np.minimum.at(margins_um, greatest.ravel(), distances_um.ravel())
    # A pixel counts at its own step and at all lower ones.
    margins_um = np.minimum.accumulate(margins_um[::-1])[::-1]
    return np.where(np.isinf(margins_um), np.float32(np.nan), margins_um)


def _firsts(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each value of a row that never falls begins."""
    return np.flatnonzero(np.diff(indices, prepend=-1))


def _greatest_of_rows(pixels: NDArray[np.uint8], firsts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The greatest value of each column in groups of rows: uint8 [groups, w]."""
    # Several times as fast as reduceat, which goes down the columns one by one.
    return np.stack([rows.max(axis=0) for rows in np.split(pixels, firsts[1:])])
