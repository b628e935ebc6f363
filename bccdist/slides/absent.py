"""Tissue that a slide's overview shows and the level that is read does not: it was not read, and is no glass."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.slides.geometry import Box, runs
from bccdist.slides.pyramid import correlation
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
_MOST_AT_ONCE = 16
"""Cells side by side."""
_STRIDE_PX = 4
"""Of the rows of pixels that these means are taken of."""
_LEAST_TISSUE = 0.75
"""Share of a square that is tissue by the mask; others are not compared."""
_INSIDE = 0.999
_LEAST_SQUARES = 64
"""Of the squares of a cell, those with tissue, from which their correlation says anything."""


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
    for first, last in runs(needed):
        # A wide slide's whole row would take much memory at once.
        for start in range(first, last, _MOST_AT_ONCE):
            end = min(last, start + _MOST_AT_ONCE)
            strip = pixels[::_STRIDE_PX, start * cell_px : end * cell_px]
            found[start:end] = _are_other(strip, seen, Box(start * cell_px, top_px, cell_px, cell_px), scale)
    return found


def _are_other(strip: NDArray[np.uint8], seen: SeenTissue, first_cell: Box, scale: float) -> NDArray[np.bool_]:
    """Which cells that lie side by side show another thing than the overview: bool [cols].

    Args:
        strip: every `_STRIDE_PX`-th row of their pixels, RGB.
        seen: the slide's tissue.
        first_cell: in the target frame.
        scale: overview px per pixel of the target frame.
    """
    num = first_cell.width // _FINE_PX
    shape = (num, strip.shape[1] // _FINE_PX)
    edges_y = (first_cell.y + np.arange(shape[0] + 1) * _FINE_PX) * scale
    edges_x = (first_cell.x + np.arange(shape[1] + 1) * _FINE_PX) * scale
    there, share, is_inside = _squares_of(seen, edges_y, edges_x)
    is_tissue = (share >= _LEAST_TISSUE) & is_inside
    here = np.asarray(cv2.resize(strip, shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.float32)
    found = _differ(here - there, is_tissue, num_cells=shape[1] // num)
    green_here, green_there, tissue = (_by_cell(values, num) for values in (here[..., 1], there[..., 1], is_tissue))
    for col in np.flatnonzero(~found & _may_not_correlate(green_here, green_there, tissue)).tolist():
        found[col] = _do_not_correlate(green_here[col], green_there[col], tissue[col])
    return found


def _squares_of(
    seen: SeenTissue, edges_y: NDArray[Any], edges_x: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """The overview's mean colour in squares [h, w, 3], the share of tissue, and whether they lie inside of it.

    The edges are in its pixels and need not be whole.
    """
    length_y, length_x = seen.mask.shape
    # Patches stick out of the slide, and with them cells that lie wholly beyond the overview.
    y, y_end = min(int(edges_y[0]), length_y - 1), min(int(np.ceil(edges_y[-1])), length_y)
    x, x_end = min(int(edges_x[0]), length_x - 1), min(int(np.ceil(edges_x[-1])), length_x)
    within_y, within_x = edges_y.clip(max=length_y), edges_x.clip(max=length_x)
    area = np.outer(np.diff(edges_y), np.diff(edges_x))
    # What lies beyond the slide has no share of any square, so that squares across its border are not compared.
    is_inside = np.outer(np.diff(within_y), np.diff(within_x)) > _INSIDE * area
    here = np.dstack([seen.picture[y:y_end, x:x_end], seen.mask[y:y_end, x:x_end]])
    sums = _sums_between(_sums_between(here, within_y - y).swapaxes(0, 1), within_x - x).swapaxes(0, 1)
    means = (sums / area[..., None]).astype(np.float32)
    return means[..., :3], means[..., 3], is_inside


def _sums_between(values: NDArray[Any], edges: NDArray[Any]) -> NDArray[np.float64]:
    """The sums along the first axis between edges that need not be whole: [edges - 1, ...]."""
    whole = edges.astype(int)
    num, most = len(edges) - 1, int(np.diff(whole).max()) + 1
    # A square has so few pixels that adding them up is faster than taking differences of sums from the first one on.
    sums = np.zeros((num, *values.shape[1:]))
    for each in range(most):
        pixel = whole[:-1] + each
        share = (edges[1:].clip(max=pixel + 1) - edges[:-1].clip(min=pixel)).clip(min=0)
        sums += share.reshape(-1, *(1,) * (values.ndim - 1)) * values[pixel.clip(max=len(values) - 1)]
    return sums


def _by_cell(values: NDArray[Any], num: int) -> NDArray[Any]:
    """Squares of cells side by side, [num, cols * num], cell by cell: [cols, num, num]."""
    return np.ascontiguousarray(values.reshape(num, -1, num).swapaxes(0, 1))


def _differ(change: NDArray[np.float32], is_tissue: NDArray[np.bool_], *, num_cells: int) -> NDArray[np.bool_]:
    """Which cells have a large square of tissue with another mean colour, from that change of small ones: bool [cols].

    The small ones are [h, w, 3], of cells side by side.
    """
    size = (is_tissue.shape[1] // _COARSE, is_tissue.shape[0] // _COARSE)
    share = cv2.resize(is_tissue.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(change * is_tissue[..., None], size, interpolation=cv2.INTER_AREA)
    # Only where there is enough tissue to compare does the mean count, so that no share of 0 divides.
    means = sums / np.maximum(share, _LEAST_TISSUE)[..., None]
    largest = np.maximum(np.abs(means).max(axis=-1), np.abs(means[..., 0] - means[..., 2]))
    differs = (share >= _LEAST_TISSUE) & (largest > LARGEST_DIFFERENCE)
    return np.asarray(differs.reshape(size[1], num_cells, -1).any(axis=(0, 2)))


def _may_not_correlate(
    here: NDArray[np.float32], there: NDArray[np.float32], is_tissue: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which cells have contrast, and as they lie show another structure: bool [cols]; all are [cols, n, n]."""
    weights = is_tissue.reshape(len(is_tissue), -1).astype(np.float32)
    count = np.maximum(weights.sum(axis=1), 1)
    first, other = (
        (flat - ((flat * weights).sum(axis=1) / count)[:, None]) * weights
        for flat in (values.reshape(weights.shape) for values in (here, there))
    )
    has_contrast = (count >= _LEAST_SQUARES) & ((other**2).sum(axis=1) >= LEAST_CONTRAST**2 * count)
    norm = np.sqrt((first**2).sum(axis=1) * (other**2).sum(axis=1))
    is_alike = (norm > 0) & ((first * other).sum(axis=1) >= LEAST_CORRELATION * norm)
    return np.asarray(has_contrast & ~is_alike, dtype=bool)


def _do_not_correlate(here: NDArray[np.float32], there: NDArray[np.float32], is_tissue: NDArray[np.bool_]) -> bool:
    """Whether what both show is not the same in its structure, with whatever shift by a square; all are [n, n]."""
    num, padded = len(here), np.pad(here, 1, mode="edge")
    shifted = (padded[dy : dy + num, dx : dx + num] for dy in range(3) for dx in range(3))
    alike = (correlation(each[is_tissue], there[is_tissue]) for each in shifted)
    return not any(each is not None and each >= LEAST_CORRELATION for each in alike)


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
