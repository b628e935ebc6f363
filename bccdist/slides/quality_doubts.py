"""What a look at a few cells says against a slide's quality, where there is no model to compare it with.

The limits are absolute and generous (`bccdist.slides.quality_measures`): what is beyond them nobody would read. A
model's own are far narrower (`bccdist.sections.assessable`).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX
from bccdist.errors import SlideError
from bccdist.slides.artefacts import artefacts_on
from bccdist.slides.geometry import Box, cell_shape, tissue_cells
from bccdist.slides.quality import cell_measures
from bccdist.slides.quality_measures import CELL_MEASURES, LEAST, MOST, SHARES
from bccdist.slides.slide import Slide
from bccdist.slides.stain import density_table
from bccdist.slides.tissue import TISSUE_MPP

NUM_CELLS = 12
"""Evenly spread over the tissue: a tenth of a second."""
_SPOKEN = {"ink_share": "ink", "fold_share": "folds", "air_share": "air bubbles or the edge of a coverslip"}


def quality_doubts(slide: Slide, tissue: NDArray[np.bool_]) -> Iterator[str]:
    """Why a slide would hardly be read well; nothing where nothing speaks against it.

    Args:
        slide: open; the overview that was kept and a few cells of tissue are read.
        tissue: its mask at `TISSUE_MPP`: bool [h, w].
    """
    smooth, glass = slide.overview_on_glass(TISSUE_MPP)
    found = _medians(slide, tissue, density_table(glass))
    if found["focus"] < LEAST["focus"]:
        yield f"its tissue is out of focus: {found['focus']:.2f}, expected {LEAST['focus']} or more"
    if found["compression"] > MOST["compression"]:
        yield f"it was compressed strongly: {found['compression']:.2f}, expected {MOST['compression']} or less"
    if found["stain_density"] < LEAST["stain_density"]:
        least = LEAST["stain_density"]
        yield f"its stain is faint: optical density {found['stain_density']:.2f}, expected {least} or more"
    lying = artefacts_on(smooth, glass, tissue)
    area_px = max(1, int((tissue | (lying > 0)).sum()))
    for name, artefact in SHARES.items():
        share = float((lying == artefact).sum()) / area_px
        if share > MOST[name]:
            yield f"{share:.0%} of its tissue is under {_SPOKEN[name]}, expected {MOST[name]:.0%} or less"


def _medians(slide: Slide, tissue: NDArray[np.bool_], densities: NDArray[np.float32]) -> dict[str, float]:
    """The middle of each measure over some cells; NaN, which is beyond no limit, where none could be measured."""
    rows = list(_of_cells(slide, tissue, densities))
    values = np.array([row for row in rows if np.isfinite(row[0])]).reshape(-1, len(CELL_MEASURES))
    middle = np.median(values, axis=0) if len(values) else np.full(len(CELL_MEASURES), np.nan)
    return {name: float(value) for name, value in zip(CELL_MEASURES, middle, strict=True)}


def _of_cells(slide: Slide, tissue: NDArray[np.bool_], densities: NDArray[np.float32]) -> Iterator[tuple[float, ...]]:
    scale = slide.resolution.mpp / TISSUE_MPP
    shape = cell_shape(slide.width_px, slide.height_px, cell_px=CELL_PX)
    cells = np.flatnonzero(tissue_cells(tissue, shape=shape, pixels_per_cell=CELL_PX * scale))
    for cell in cells[np.linspace(0, len(cells) - 1, min(NUM_CELLS, len(cells))).astype(int)].tolist():
        row, col = divmod(cell, shape[1])
        image = np.empty((CELL_PX, CELL_PX, 3), dtype=np.uint8)
        top, bottom, left, right = (int(edge * CELL_PX * scale) for edge in (row, row + 1, col, col + 1))
        try:
            if slide.read_into(image, Box(col * CELL_PX, row * CELL_PX, CELL_PX, CELL_PX)) is None:
                is_tissue = tissue[top:bottom, left:right]
                if is_tissue.any():
                    as_stored = slide.resolution.resize == 1
                    yield cell_measures(image, is_tissue, densities, is_as_stored=as_stored)
        except SlideError:
            slide.reopen()  # what cannot be read is told of elsewhere
