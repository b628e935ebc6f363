"""A slide as rows of cells, past the parts of the file that are damaged."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX
from bccdist.errors import SlideError
from bccdist.slides.absent import SeenTissue, absent_cells, unread_cells
from bccdist.slides.ahead import one_ahead
from bccdist.slides.level import WHITE
from bccdist.slides.slide import PixelsThere, Slide


@dataclass(kw_only=True)
class ReadingTally:
    """What reading one slide took, counted while it goes on."""

    read_s: float = 0.0
    num_unread_cells: int = 0
    unread_reason: str = ""
    """Why the first of the unread cells could not be read."""


class CellRow(NamedTuple):
    """One row of cells of a slide."""

    pixels: NDArray[np.uint8]
    """The row in RGB, white where not needed or not readable: [256, cols * 256, 3]."""
    unread: NDArray[np.bool_]
    """Cells that are needed, but not readable: [cols]."""


def blank_row(num_cols: int) -> CellRow:
    """A row of cells outside the slide: white, and nothing unread."""
    pixels = np.full((CELL_PX, num_cols * CELL_PX, 3), WHITE, dtype=np.uint8)
    return CellRow(pixels, np.zeros(num_cols, dtype=bool))


def readable_rows(
    slide: Slide,
    needed: NDArray[np.bool_],
    tally: ReadingTally,
    tissue: NDArray[np.bool_] | None = None,
    *,
    look_at: Callable[[int, CellRow], None] | None = None,
) -> Generator[CellRow, None, None]:
    """The slide's rows of cells from the top, each source pixel read once; one row is read ahead in a thread.

    Args:
        slide: left to the thread until the last row is out.
        needed: bool [rows, cols], at least one row: the cells to read.
        tally: counts on.
        tissue: bool [h, w] at `TISSUE_MPP`: a cell is unread if the file does not hold the tissue in it, or shows
            something else there than the overview; None takes all pixels for tissue, and compares nothing.
        look_at: called by that thread with the number of each row and what was read of it.
    """
    seen = None if tissue is None else SeenTissue.of(slide, tissue)
    slide.expect_cells(needed, cell_px=CELL_PX)
    return one_ahead(_rows(slide, needed, tally, seen, look_at))


def _rows(
    slide: Slide,
    needed: NDArray[np.bool_],
    tally: ReadingTally,
    seen: SeenTissue | None,
    look_at: Callable[[int, CellRow], None] | None,
) -> Generator[CellRow, None, None]:
    for row, flags in enumerate(needed):
        found = _read_row(slide, row, flags, tally, seen)
        if look_at is not None:
            look_at(row, found)
        yield found


def _read_row(
    slide: Slide, row: int, needed: NDArray[np.bool_], tally: ReadingTally, seen: SeenTissue | None
) -> CellRow:
    started = perf_counter()
    try:
        band = slide.read_cell_row(row, needed, cell_px=CELL_PX)
        unread = _lacking(slide, row, band, needed, seen)
        if unread.any():
            reason = f"{slide.path}: the level that is read does not show the tissue of its overview"
            tally.unread_reason = tally.unread_reason or reason
        cell_row = CellRow(band.pixels, unread)
    except SlideError as error:
        # The first reason is kept: what follows is mostly the same damage.
        tally.unread_reason = tally.unread_reason or str(error)
        slide.reopen()
        cell_row = _read_cell_by_cell(slide, row, needed, seen)
    tally.num_unread_cells += int(cell_row.unread.sum())
    tally.read_s += perf_counter() - started
    return cell_row


def _lacking(
    slide: Slide, row: int, band: PixelsThere, needed: NDArray[np.bool_], seen: SeenTissue | None
) -> NDArray[np.bool_]:
    """The needed cells of a row whose tissue was not read: bool [cols]."""
    top_px, mpp = row * CELL_PX, slide.resolution.mpp
    if seen is not None:
        return unread_cells(band, seen, needed, top_px=top_px, cell_px=CELL_PX, mpp=mpp)
    if band.is_absent is None:
        return np.zeros(needed.size, dtype=bool)
    everywhere = np.ones((1, 1), dtype=bool)
    return needed & absent_cells(band.is_absent, everywhere, top_px=top_px, cell_px=CELL_PX, mpp=mpp)


def _read_cell_by_cell(slide: Slide, row: int, needed: NDArray[np.bool_], seen: SeenTissue | None) -> CellRow:
    """A row in which something is damaged: the cells around the damage are still good."""
    cell_row = blank_row(needed.size)
    for col in np.flatnonzero(needed).tolist():
        cell = np.arange(needed.size) == col
        try:
            band = slide.read_cell_row(row, cell, cell_px=CELL_PX)
            cell_row.unread[col] = _lacking(slide, row, band, cell, seen)[col]
            here = slice(col * CELL_PX, (col + 1) * CELL_PX)
            cell_row.pixels[:, here] = band.pixels[:, here]
        except SlideError:
            cell_row.unread[col] = True
            slide.reopen()
    return cell_row
