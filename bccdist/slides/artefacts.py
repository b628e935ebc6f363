"""What lies on a slide's tissue in its overview: ink, folds, and air under the coverslip with the edges of both.

All three are told by optical density on the smoothed overview (`bccdist.slides.stain`): ink by a hue that no stain
has, or by black; a fold by a narrow band in which all colours are far denser than around it; air by grey lines, and
what they enclose. Only what lies within the tissue's outline counts.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.slides.quality_measures import Artefact
from bccdist.slides.stain import (
    BAND_ROWS,
    BLUE_INK_DEEP_RATIO,
    BLUE_INK_DENSITY,
    LEAST_PINKNESS,
    RED_INK_BLUE,
    RED_INK_DENSITY,
    RED_INK_RED,
    RED_INK_WIDTH_UM,
    Glass,
    density_table,
)
from bccdist.slides.tissue import TISSUE_MPP

CLOSED_UM = 200.0
"""The tissue's outline bridges gaps of up to twice this, as a pen leaves them in the mask."""
BLACK_DENSITY = 1.3
"""Black ink dims every colour at least so much."""
GREY_DENSITY = 0.18
"""Edges of air and coverslips dim every colour at least so much, ..."""
GREY_SPREAD = 0.35
"""... and none more than another by this share of their mean."""
DARK_BLUE_RATIO, DARK_BLUE_DENSITY = 1.03, 0.8
"""Dark blue ink dims red little more than green: it is told where it is deeper than haematoxylin of that hue, ..."""
DARK_BLUE_SHARE = 0.8
"""... and dims blue by less than this share of red."""
FOLD_FACTOR = 1.45
"""A fold is so many times as dense, in every colour, as the tissue is on average ..."""
FOLD_AROUND_UM = 408.0
"""... in a square of this edge around it, ..."""
FOLD_WIDTH_UM = 240.0
"""... not wider than this, ..."""
FOLD_LENGTH_UM = 120.0
"""... and at least so long: nuclei lie closely in smaller spots."""
LARGEST_AIR_UM = 4000.0
"""What a grey line encloses is air up to this width, and the whole slide beyond it."""
_FEWEST_PX = 30
_LEAST_SHARE = 1e-3


def artefacts_on(smooth: NDArray[np.uint8], glass: Glass, tissue: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What lies on each pixel within the tissue's outline, as numbers of `Artefact`, 0 for nothing: [h, w].

    Args:
        smooth: the smoothed overview: uint8 RGB [h, w, 3].
        glass: what is seen of it there.
        tissue: its mask at `TISSUE_MPP`: bool [h, w].
    """
    found = np.zeros(tissue.shape, dtype=np.uint8)
    if not tissue.any():
        return found
    outline, densities = tissue_outline(tissue), density_table(glass)
    # In bands: the densities of a whole slide would take many times the memory of its overview.
    bands = [_colours(smooth[row : row + BAND_ROWS], densities) for row in range(0, len(smooth), BAND_ROWS)]
    inky, red, grey = (np.concatenate(part) for part in zip(*bands, strict=True))
    ink = _ink(inky, red) & outline
    found[_folds(smooth, densities, tissue)] = Artefact.FOLD
    found[_air(grey & ~ink) & outline & ~ink] = Artefact.AIR
    found[ink] = Artefact.INK
    return found


def tissue_outline(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The tissue with its gaps and holes: bool [h, w]."""
    radius = round(CLOSED_UM / TISSUE_MPP)
    # Padded, as closing takes what lies beyond the picture for tissue.
    padded = np.pad(tissue.astype(np.uint8), radius + 1)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _disk(radius))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(closed, outlines, -1, 1, cv2.FILLED)
    inner = slice(radius + 1, -radius - 1)
    return np.asarray(filled[inner, inner] > 0)


def _colours(
    smooth: NDArray[np.uint8], densities: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """The pixels of the colour of blue, green or black ink, of deep red, and of grey: bool [h, w] each."""
    red, green, blue = (_density(smooth, colour, densities) for colour in range(3))
    least, most = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    is_blue_or_green = (red > BLUE_INK_DENSITY) & (red > BLUE_INK_DEEP_RATIO * green)
    is_dark_blue = (red > DARK_BLUE_DENSITY) & (red > DARK_BLUE_RATIO * green) & (blue < DARK_BLUE_SHARE * red)
    is_red = (green > RED_INK_DENSITY) & (red < RED_INK_RED * green) & (blue > RED_INK_BLUE * green)
    is_grey = (
        (least > GREY_DENSITY)
        & (most - least < GREY_SPREAD * ((red + green + blue) / 3))
        & (green - (red + blue) / 2 < LEAST_PINKNESS + 0.05 * green)
    )
    return is_blue_or_green | is_dark_blue | (least > BLACK_DENSITY), is_red, is_grey


def _density(smooth: NDArray[np.uint8], colour: int, densities: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much pixels [h, w, 3] dim one colour: [h, w]."""
    return np.asarray(cv2.LUT(cv2.extractChannel(smooth, colour), densities[colour]), dtype=np.float32)


def _ink(inky: NDArray[np.bool_], red: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Blue, green, black and red ink, by the pixels of these colours and of deep red."""
    # Narrow patches of deep red are blood.
    wide = cv2.morphologyEx(red.astype(np.uint8), cv2.MORPH_OPEN, _disk(round(RED_INK_WIDTH_UM / TISSUE_MPP / 2)))
    return _large(inky | (wide > 0), _FEWEST_PX)


def _folds(smooth: NDArray[np.uint8], densities: NDArray[np.float32], tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Narrow bands of tissue in which all colours are far denser than in the tissue around."""
    size = (round(FOLD_AROUND_UM / TISSUE_MPP),) * 2
    share = np.maximum(cv2.blur(tissue.astype(np.float32), size), _LEAST_SHARE)
    is_dense = tissue
    # One colour at a time, for the memory.
    for colour in range(3):
        here = _density(smooth, colour, densities)
        is_dense = is_dense & (here > FOLD_FACTOR * (cv2.blur(here * tissue, size) / share))
    wide = cv2.morphologyEx(is_dense.astype(np.uint8), cv2.MORPH_OPEN, _disk(round(FOLD_WIDTH_UM / TISSUE_MPP / 2)))
    return _long(is_dense & (wide == 0), FOLD_LENGTH_UM / TISSUE_MPP)


def _air(grey: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grey lines, and what they enclose."""
    lines = _large(grey, _FEWEST_PX).astype(np.uint8)
    lines = np.asarray(cv2.morphologyEx(lines, cv2.MORPH_CLOSE, _disk(1)), dtype=np.uint8)
    contours, tree = cv2.findContours(lines, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for number, contour in enumerate(contours):
        is_hole = tree[0][number][3] >= 0
        if is_hole and max(cv2.boundingRect(contour)[2:]) <= LARGEST_AIR_UM / TISSUE_MPP:
            cv2.drawContours(lines, [contour], -1, 1, cv2.FILLED)
    return np.asarray(lines > 0)


def _large(mask: NDArray[np.bool_], fewest_px: int) -> NDArray[np.bool_]:
    """The pieces of a mask that have so many pixels."""
    _, number, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    is_large = stats[:, cv2.CC_STAT_AREA] >= fewest_px
    is_large[0] = False
    return np.asarray(is_large[number])


def _long(mask: NDArray[np.bool_], length_px: float) -> NDArray[np.bool_]:
    """The pieces of a mask whose box is so long, in one direction."""
    _, number, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    is_long = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1) >= length_px
    is_long[0] = False
    return np.asarray(is_long[number])


def _disk(radius_px: int) -> NDArray[np.uint8]:
    return np.asarray(
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1)), dtype=np.uint8
    )
