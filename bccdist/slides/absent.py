"""Tissue that a slide's overview shows and the level that is read does not hold: it was not read, and is no glass."""

import numpy as np
from numpy.typing import NDArray

from bccdist.slides.geometry import Box
from bccdist.slides.tissue import TISSUE_MPP

_BLOCK_PX = 64
"""Edge of the squares in which blankness is looked for; a cell is made of whole ones."""
_STRIDE_PX = 8
_LEAST_TISSUE = 0.75
"""Share of a square that is tissue by the mask; with less, the rest may be all that is seen."""
_FLATTEST = 24
"""Range of green, of 255, within a square of stained tissue is never so small: on real slides it is above 120."""
_LEAST_COLOUR = 40
"""Highest less lowest channel: neither glass, tinted or not, nor black has so much."""


def unread_cells(
    pixels: NDArray[np.uint8],
    is_absent: NDArray[np.bool_] | None,
    tissue: NDArray[np.bool_],
    *,
    top_px: int,
    cell_px: int,
    mpp: float,
) -> NDArray[np.bool_]:
    """The cells of a row whose tissue was not read, as the file does not hold it or shows blank glass: bool [cols].

    Args:
        pixels: RGB of the row: [cell_px, cols * cell_px, 3].
        is_absent: bool [cell_px, cols * cell_px]: pixels that the file does not hold; None where it holds all.
        tissue: the slide's mask at `TISSUE_MPP`: bool [h, w].
        top_px: the row's first row of pixels in the target frame.
        cell_px: edge of a cell in the target frame.
        mpp: um per pixel of the target frame.
    """
    blank = blank_cells(pixels, tissue, top_px=top_px, cell_px=cell_px, mpp=mpp)
    if is_absent is None:
        return blank
    return blank | absent_cells(is_absent, tissue, top_px=top_px, cell_px=cell_px, mpp=mpp)


def blank_cells(
    pixels: NDArray[np.uint8], tissue: NDArray[np.bool_], *, top_px: int, cell_px: int, mpp: float
) -> NDArray[np.bool_]:
    """The cells of a row that show nothing where the overview shows tissue: bool [cols].

    Writers give tiles that they lost the bytes of another one, or of a white or black one: the file then holds them,
    and what they show is no glass. Tissue has structure at every scale, so that a flat, colourless square is none.

    Args:
        pixels: RGB of the row: [cell_px, cols * cell_px, 3].
        tissue: the slide's mask at `TISSUE_MPP`: bool [h, w].
        top_px: the row's first row of pixels in the target frame.
        cell_px: edge of a cell in the target frame.
        mpp: um per pixel of the target frame.
    """
    scale = mpp / TISSUE_MPP
    blank = np.zeros(pixels.shape[1] // cell_px, dtype=bool)
    whole = Box(0, 0, tissue.shape[1], tissue.shape[0])
    # A few pixels of each square, and its middle in the mask, rule nearly all squares out at next to no cost.
    sparse = pixels[::_STRIDE_PX, ::_STRIDE_PX, 1].reshape(
        cell_px // _BLOCK_PX, _BLOCK_PX // _STRIDE_PX, -1, _BLOCK_PX // _STRIDE_PX
    )
    may_be_flat = sparse.max(axis=(1, 3)) - sparse.min(axis=(1, 3)) <= _FLATTEST
    middle_rows, middle_cols = (
        ((start + (np.arange(num) + 0.5) * _BLOCK_PX) * scale).astype(int).clip(max=length - 1)
        for start, num, length in zip((top_px, 0), may_be_flat.shape, tissue.shape, strict=True)
    )
    for row, col in np.argwhere(may_be_flat & tissue[np.ix_(middle_rows, middle_cols)]).tolist():
        at = Box(col * _BLOCK_PX, row * _BLOCK_PX, _BLOCK_PX, _BLOCK_PX)
        under = tissue[at._replace(y=at.y + top_px).scaled(scale).intersection(whole).slices()]
        block = pixels[at.slices()]
        if under.size and under.mean() >= _LEAST_TISSUE and np.ptp(block[..., 1]) <= _FLATTEST:
            blank[at.x // cell_px] |= np.ptp(block.mean(axis=(0, 1))) < _LEAST_COLOUR
    return blank


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
