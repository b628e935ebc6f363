"""Tissue that a slide's overview shows and the level that is read does not: it was not read, and is no glass."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.slides.geometry import Box
from bccdist.slides.slide import PixelsThere, Slide
from bccdist.slides.tissue import TISSUE_MPP

LARGEST_DIFFERENCE = 32.0
"""Of the mean colour of a square of 64 px of tissue to the overview's, of 255, in a channel or between red and blue;
at most 22 on real slides."""
LEAST_CORRELATION = 0.35
"""Of a cell's green with the overview's, wherever within a shift of 16 px; 0.5 to 1 on real slides without one."""
LEAST_CONTRAST = 8.0
"""Standard deviation of the overview's green in a cell, of 255, under which correlation says nothing."""
_FINE_PX, _COARSE = 16, 4
"""Edge of the squares whose means are compared, and how many of them make the edge of a large square."""
_STRIDE_PX = 4
"""Of the rows of pixels that these means are taken of."""
_LEAST_TISSUE = 0.75
"""Share of a square that is tissue by the mask; others are not compared."""
_INSIDE = 0.999
_LEAST_SQUARES = 64
"""Of the squares of a cell, those with tissue, from which their correlation says anything."""
_SHIFTS = ((1, 1), (0, 1), (1, 0), (1, 2), (2, 1), (0, 0), (0, 2), (2, 0), (2, 2))
"""Where a cell begins in one that is padded by a square: as it lies first, which is nearly always enough."""


class SeenTissue(NamedTuple):
    """What a slide's overview shows, at `TISSUE_MPP`."""

    mask: NDArray[np.bool_]
    """Tissue: [h, w]."""
    picture: NDArray[np.uint8]
    """The overview that it was found in, RGB: [h, w, 3]."""

    @classmethod
    def of(cls, slide: Slide, mask: NDArray[np.bool_]) -> "SeenTissue":
        """A slide's mask with its overview, which the slide has kept since the mask was made."""
        return cls(mask, slide.overview(TISSUE_MPP).pixels)


def unread_cells(
    row: PixelsThere, seen: SeenTissue, needed: NDArray[np.bool_], *, top_px: int, cell_px: int, mpp: float
) -> NDArray[np.bool_]:
    """The needed cells of a row whose tissue was not read: bool [cols].

    The file does not hold it, or shows something else there than its overview: a lost tile has got the bytes of
    another one, or of a blank one, or decodes to something.

    Args:
        row: the row of cells as it was read: [cell_px, cols * cell_px].
        seen: the slide's tissue.
        needed: bool [cols].
        top_px: the row's first row of pixels in the target frame.
        cell_px: edge of a cell in the target frame.
        mpp: um per pixel of the target frame.
    """
    other = _other_cells(row.pixels, seen, needed, top_px=top_px, cell_px=cell_px, scale=mpp / TISSUE_MPP)
    if row.is_absent is None:
        return other
    return needed & (other | absent_cells(row.is_absent, seen.mask, top_px=top_px, cell_px=cell_px, mpp=mpp))


def _other_cells(
    pixels: NDArray[np.uint8],
    seen: SeenTissue,
    needed: NDArray[np.bool_],
    *,
    top_px: int,
    cell_px: int,
    scale: float,
) -> NDArray[np.bool_]:
    """The needed cells of a row that show another thing than the overview; `scale` is overview px per pixel."""
    found = np.zeros(needed.size, dtype=bool)
    num = cell_px // _FINE_PX
    edges_y = (top_px + np.arange(num + 1) * _FINE_PX) * scale
    first, last = int(edges_y[0]), int(np.ceil(edges_y[-1]))
    mask, picture = (values[first:last] for values in seen)
    rows = _shares(edges_y - first, last - first)[:, : len(mask)]
    for col in np.flatnonzero(needed).tolist():
        edges_x = (col * cell_px + np.arange(num + 1) * _FINE_PX) * scale
        left, right = int(edges_x[0]), int(np.ceil(edges_x[-1]))
        here_mask = mask[:, left:right]
        if not here_mask.any():
            continue
        # What lies beyond the slide has no share of any square, so that squares across its border are not compared.
        cols = _shares(edges_x - left, right - left)[:, : here_mask.shape[1]]
        is_inside = np.outer(rows.sum(axis=1), cols.sum(axis=1)) > _INSIDE
        is_tissue = (rows @ here_mask.astype(np.float32) @ cols.T >= _LEAST_TISSUE) & is_inside
        planes = picture[:, left:right].astype(np.float32).transpose(2, 0, 1)
        there = np.stack([rows @ plane @ cols.T for plane in planes])
        cell = np.ascontiguousarray(pixels[::_STRIDE_PX, col * cell_px : (col + 1) * cell_px])
        here = np.asarray(cv2.resize(cell, (num, num), interpolation=cv2.INTER_AREA), dtype=np.float32)
        found[col] = _differ(here - there.transpose(1, 2, 0), is_tissue) or _do_not_correlate(
            here[..., 1], there[1], is_tissue
        )
    return found


def _shares(edges: NDArray[Any], length: int) -> NDArray[np.float32]:
    """The share that each pixel of a row has of each stretch between two edges: [edges - 1, length]."""
    starts, ends = edges[:-1, None], edges[1:, None]
    pixels = np.arange(length)
    overlaps = np.minimum(ends, pixels + 1) - np.maximum(starts, pixels)
    return np.asarray(overlaps.clip(min=0) / (ends - starts), dtype=np.float32)


def _differ(change: NDArray[np.float32], is_tissue: NDArray[np.bool_]) -> bool:
    """Whether a large square of tissue has another mean colour, from that change of small ones: [n, n, 3]."""
    size = (len(change) // _COARSE,) * 2
    share = cv2.resize(is_tissue.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    is_compared = share >= _LEAST_TISSUE
    if not is_compared.any():
        return False
    sums = cv2.resize(change * is_tissue[..., None], size, interpolation=cv2.INTER_AREA)
    means = sums[is_compared] / share[is_compared][:, None]
    return bool(max(np.abs(means).max(), np.abs(means[:, 0] - means[:, 2]).max()) > LARGEST_DIFFERENCE)


def _do_not_correlate(here: NDArray[np.float32], there: NDArray[Any], is_tissue: NDArray[np.bool_]) -> bool:
    """Whether what both show is not the same in its structure, with whatever shift by a square; all are [n, n]."""
    if np.count_nonzero(is_tissue) < _LEAST_SQUARES or there[is_tissue].std() < LEAST_CONTRAST:
        return False
    padded = np.pad(here, 1, mode="edge")
    num = len(here)
    expected = there[is_tissue] - there[is_tissue].mean()
    for dy, dx in _SHIFTS:
        shifted = padded[dy : dy + num, dx : dx + num][is_tissue]
        shifted = shifted - shifted.mean()
        norm = np.sqrt((shifted**2).sum() * (expected**2).sum())
        if norm and (shifted * expected).sum() >= LEAST_CORRELATION * norm:
            return False
    return True


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
