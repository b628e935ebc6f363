"""Where the sections of a slide lie, and which of them hold tumor; lengths in 10x pixels (downsample 2)."""

import numpy as np

from bccdist.errors import ConfigurationError
from bccdist.parts import Label
from bccdist.phantom.outlines import Window

GAP_PX = 160
BORDER_PX = 50
MAX_SECTION_PX = 1000
MIN_CELL_PX = 320


def draw_labels(rng: np.random.Generator, *, num_sections: int, tumor_share: float) -> list[Label]:
    """Labels in random order; the number of Tumor is the share of the sections, its fraction decided by chance."""
    num_tumor = int(np.floor(num_sections * tumor_share + rng.random()))
    labels = [Label.TUMOR] * num_tumor + [Label.NORMAL] * (num_sections - num_tumor)
    return [labels[index] for index in rng.permutation(num_sections)]


def draw_boxes(rng: np.random.Generator, *, num_sections: int, width_px: int, height_px: int) -> list[Window]:
    """Boxes of the sections in reading order, at least GAP_PX apart, one in each cell of the best grid.

    Raises:
        ConfigurationError: the slide is too small for that many sections.
    """
    cells = _cells(num_sections, width_px=width_px, height_px=height_px)
    if min(cells[0].width_px, cells[0].height_px) < MIN_CELL_PX:
        raise ConfigurationError(
            f"{num_sections} sections on a slide of {2 * width_px} x {2 * height_px} level-0 px leave less than "
            f"{MIN_CELL_PX} px at 10x for each; make the slides larger or put fewer sections on each"
        )
    return [_draw_box(rng, cell) for cell in cells]


def _cells(num_sections: int, *, width_px: int, height_px: int) -> list[Window]:
    """The cells of the grid whose cells have the longest short side, in reading order."""
    grids = [_grid(rows, num_sections, width_px=width_px, height_px=height_px) for rows in range(1, num_sections + 1)]
    return max(grids, key=lambda cells: min(cells[0].width_px, cells[0].height_px))


def _grid(num_rows: int, num_sections: int, *, width_px: int, height_px: int) -> list[Window]:
    num_columns = -(-num_sections // num_rows)
    cell_width_px = (width_px - 2 * BORDER_PX - (num_columns - 1) * GAP_PX) // num_columns
    cell_height_px = (height_px - 2 * BORDER_PX - (num_rows - 1) * GAP_PX) // num_rows
    places = [divmod(index, num_columns) for index in range(num_sections)]
    return [
        Window(
            left_px=BORDER_PX + column * (cell_width_px + GAP_PX),
            top_px=BORDER_PX + row * (cell_height_px + GAP_PX),
            width_px=cell_width_px,
            height_px=cell_height_px,
        )
        for row, column in places
    ]


def _draw_box(rng: np.random.Generator, cell: Window) -> Window:
    """A box of 80 to 100 % of the cell's sides (or of the largest section), anywhere across the cell.

    In height it stays near the middle and overlaps every box of its row, so reading order is the cells' order.
    """
    full_width_px, full_height_px = min(cell.width_px, MAX_SECTION_PX), min(cell.height_px, MAX_SECTION_PX)
    width_px, height_px = (int(side * rng.uniform(0.8, 1)) for side in (full_width_px, full_height_px))
    spare_px = (cell.height_px - full_height_px) // 2
    return Window(
        left_px=cell.left_px + int(rng.integers(cell.width_px - width_px + 1)),
        top_px=cell.top_px + spare_px + int(rng.integers(full_height_px - height_px + 1)),
        width_px=width_px,
        height_px=height_px,
    )
