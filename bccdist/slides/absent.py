"""Tissue that a slide's overview shows and the level that is read does not hold: it was not read, and is no glass."""

import numpy as np
from numpy.typing import NDArray

from bccdist.slides.geometry import Box
from bccdist.slides.tissue import TISSUE_MPP


def absent_cells(
    is_absent: NDArray[np.bool_], tissue: NDArray[np.bool_], *, top_px: int, cell_px: int, mpp: float
) -> NDArray[np.bool_]:
    """The cells of a row that lack tissue: bool [cols].

    Scanners leave tiles of bare glass out of a file, so what is absent matters only under tissue, and there from the
    size of one pixel of its mask on: its border is no sharper than that.

    Args:
        is_absent: bool [cell_px, cols * cell_px] of the target frame: pixels that the file does not hold.
        tissue: the slide's mask at `TISSUE_MPP`: bool [h, w].
        top_px: the row's first row of pixels in the target frame.
        cell_px: edge of a cell in the target frame.
        mpp: um per pixel of the target frame.
    """
    scale = mpp / TISSUE_MPP
    lacking = np.zeros(is_absent.shape[1] // cell_px, dtype=bool)
    for col in np.flatnonzero(is_absent.reshape(cell_px, -1, cell_px).any(axis=(0, 2))).tolist():
        cell = Box(col * cell_px, top_px, cell_px, cell_px)
        rows, cols = (
            (np.arange(start, start + cell_px) * scale).astype(int).clip(max=length - 1)
            for start, length in zip((cell.y, cell.x), tissue.shape, strict=True)
        )
        here = is_absent[:, cell.x : cell.x_end] & tissue[np.ix_(rows, cols)]
        lacking[col] = here.sum() * scale**2 >= 1
    return lacking
