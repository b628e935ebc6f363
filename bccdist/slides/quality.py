"""How well a slide was stained, scanned and stored, told from the pixels that the network sees: classical measures.

Each is taken by cell of 256 px of the target frame, on its tissue alone, and none needs a network:

- focus: the texture of the density of green at 0.7 to 1.4 px against that at 1.4 to 2.8 px. Blur takes the fine one
  first. It is a ratio, so that faint and strong stains are alike, and noise and JPEG, finer than both, move it little.
- compression: how far differences across the edges of JPEG's blocks of 8 px stand out from those beside them. Only
  where the file's own pixels are read: resampling moves the blocks.
- stain_density and stain_hue: how much the tissue dims green, and whether it dims red or blue more.

What lies on the tissue (ink, folds, air) is found in the overview, by `bccdist.slides.artefacts`.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX
from bccdist.slides.artefacts import artefacts_on
from bccdist.slides.cell_rows import CellRow
from bccdist.slides.quality_measures import CELL_MEASURES, SlideQuality
from bccdist.slides.slide import Slide
from bccdist.slides.stain import LEAST_PINKNESS, LEAST_PINKNESS_SHARE, density_table
from bccdist.slides.tissue import TISSUE_MPP

LEAST_TISSUE_PX = 2000
"""Of a cell's 65,536: on less tissue nothing is measured."""
_FINE_PX, _MIDDLE_PX, _COARSE_PX = 0.7, 1.4, 2.8
"""Sigmas of the Gaussians whose differences are the two textures."""
_BLOCK_PX = 8
_LEAST_TEXTURE = 1e-6


class QualityMeter:
    """Measures a slide while its cells are read, row by row; what lies on the tissue it finds at once."""

    def __init__(self, slide: Slide, tissue: NDArray[np.bool_], shape: tuple[int, int]) -> None:
        """Prepare for a slide.

        Args:
            slide: open; the overview that was kept is read.
            tissue: its mask at `TISSUE_MPP`: bool [h, w].
            shape: rows and cols of its cells.
        """
        smooth, glass = slide.overview_on_glass(TISSUE_MPP)
        self._densities = density_table(glass)
        self._tissue = tissue
        self._mask_px = CELL_PX * slide.resolution.mpp / TISSUE_MPP
        self._is_as_stored = slide.resolution.resize == 1
        self._cells = np.full((len(CELL_MEASURES), *shape), np.nan, dtype=np.float32)
        self._artefacts = artefacts_on(smooth, glass, tissue)

    def look_at(self, row: int, found: CellRow) -> None:
        """Measure the cells of a row that was read."""
        for col in np.flatnonzero(~found.unread).tolist():
            is_tissue = self._tissue_of(row, col)
            if is_tissue.any():
                pixels = found.pixels[:, col * CELL_PX : (col + 1) * CELL_PX]
                measured = cell_measures(pixels, is_tissue, self._densities, is_as_stored=self._is_as_stored)
                self._cells[:, row, col] = measured

    def result(self) -> SlideQuality:
        """What was measured."""
        return SlideQuality(self._cells, self._artefacts)

    def _tissue_of(self, row: int, col: int) -> NDArray[np.bool_]:
        """The mask under a cell: bool, some 32 pixels along its edge; empty beside the mask."""
        (top, bottom), (left, right) = (
            (int(place * self._mask_px), max(int((place + 1) * self._mask_px), int(place * self._mask_px) + 1))
            for place in (row, col)
        )
        return self._tissue[top:bottom, left:right]


def cell_measures(
    pixels: NDArray[np.uint8], is_tissue: NDArray[np.bool_], densities: NDArray[np.float32], *, is_as_stored: bool
) -> tuple[float, ...]:
    """`CELL_MEASURES` of one cell.

    Args:
        pixels: RGB [256, 256, 3].
        is_tissue: the tissue's mask under it, [h, w] of any size; gaps in the tissue are found in the pixels.
        densities: of the slide's glass, from `density_table`.
        is_as_stored: whether these are the file's own pixels, not resampled.

    Returns:
        the measures; all NaN on less tissue than `LEAST_TISSUE_PX`, and compression where pixels were resampled.
    """
    planes = [np.ascontiguousarray(pixels[..., colour]) for colour in range(3)]
    red, green, blue = (
        np.asarray(cv2.LUT(plane, table), dtype=np.float32) for plane, table in zip(planes, densities, strict=True)
    )
    size = (CELL_PX, CELL_PX)
    mask = np.asarray(cv2.resize(is_tissue.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    pinkness = (1 - LEAST_PINKNESS_SHARE) * green - 0.5 * red - 0.5 * blue
    counted = mask & (pinkness > LEAST_PINKNESS)
    if counted.sum() < LEAST_TISSUE_PX:
        return (np.nan,) * len(CELL_MEASURES)
    middle_rgb = [_median_of(plane, counted, table) for plane, table in zip(planes, densities, strict=True)]
    total = max(middle_rgb[0] + middle_rgb[2], _LEAST_TEXTURE)
    return (
        _focus(green, counted),
        _compression(planes[1]) if is_as_stored else np.nan,
        middle_rgb[1],
        (middle_rgb[0] - middle_rgb[2]) / total,
    )


def _median_of(plane: NDArray[np.uint8], counted: NDArray[np.uint8], table: NDArray[np.float32]) -> float:
    """The density of the middle one of the counted values, which is the median of their densities."""
    counts = np.asarray(cv2.calcHist([plane], [0], counted, [256], [0, 256])).ravel().cumsum()
    return float(table[int(np.searchsorted(counts, (counts[-1] + 1) // 2))])


def _focus(green: NDArray[np.float32], counted: NDArray[np.uint8]) -> float:
    """The logarithm of the fine texture's spread over the coarse one's, on some pixels of a density [h, w]."""
    fine, middle, coarse = (
        # So many pixels hold three sigmas on either side.
        np.asarray(cv2.GaussianBlur(green, (2 * int(3 * sigma) + 1,) * 2, sigma), dtype=np.float32)
        for sigma in (_FINE_PX, _MIDDLE_PX, _COARSE_PX)
    )
    spreads = [
        float(np.asarray(cv2.meanStdDev(band, mask=counted)[1]).item()) + _LEAST_TEXTURE
        for band in (fine - middle, middle - coarse)
    ]
    return float(np.log(spreads[0] / spreads[1]))


def _compression(plane: NDArray[np.uint8]) -> float:
    """How far steps across the edges of blocks stand out: the logarithm of their mean over that of the other steps."""
    found = []
    for turned in (plane, plane.T):
        values = turned.astype(np.int16)
        steps = np.abs(np.diff(values, axis=1)).sum(axis=0)
        # Blocks may begin anywhere: the file's tiles need not begin where cells do.
        by_phase = steps[: len(steps) // _BLOCK_PX * _BLOCK_PX].reshape(-1, _BLOCK_PX).mean(axis=0)
        # One step of one pixel is added, as a picture that is flat all over has none.
        found.append((1 + by_phase.max()) / (1 + np.median(by_phase)))
    return float(np.log(max(found)))
