"""Whether a slide's colours are those of haematoxylin and eosin, or were mixed up when the file was written or read.

Colours are compared as optical densities, the natural logarithm of glass over pixel. Haematoxylin dims red and green,
eosin green alone, and both some blue: so the density of red varies most from place to place, and that of blue less.
Where red and blue were swapped it is the other way round, and the tissue's place on the slide does not tell.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.errors import SlideError
from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide
from bccdist.slides.stain import Glass, density, find_glass, smoothed
from bccdist.slides.tissue import TISSUE_MPP

LEAST_RED_LEAD = -0.15
"""How much more red varies than blue in tissue, -1 to 1; 0.32 or more on real slides, or the negative if swapped."""
LARGEST_SHARES = (0.9, 0.75)
"""Of the mean densities of red and of blue in that of green; on real slides at most 0.77 and 0.66."""
GREEN_DENSITY = (0.27, 1.45)
"""The mean density of green in tissue; 0.39 to 1.26 on real slides."""
MOST_OFF_TISSUE = 0.3
"""Of the slide's coloured area; at most 0.01 on real slides with and without ink, 0.59 or more on inverted ones."""
LEAST_COLOURED = 0.005
"""Of the overview, from which its coloured area says anything."""
_COLOURED_FROM = 40
"""Of 255, between a pixel's largest and smallest channel."""
_STRIDE = 2
"""Of the overview's rows and columns that are looked at for that."""
_NEAR_PX = 7
_NUM_PLACES = 12
_PLACE_UM = 56.0
"""Edge of a place, ..."""
_DEPTH_PX = 9
"""... which lies in the middle of so many pixels of tissue in the overview."""
_LEAST_SPREAD = 0.08
"""Standard deviation of the density of green, under which red and blue vary with the noise of the pixels."""
_SMOOTH_PX = 3
_DENSITIES = (0.1, 2.5)
"""Of green, in which a pixel's colours say anything."""
_FEWEST_PX = 2000


class _Stain(NamedTuple):
    """What is measured in the tissue of a slide."""

    red_lead: float
    red_share: float
    blue_share: float
    green: float


def colour_doubt(slide: Slide, tissue: NDArray[np.bool_]) -> str:
    """Why a slide's colours are not those of a stain with haematoxylin and eosin; empty where they may be.

    A gamma curve is noticed only where it leaves the range of densities that real stains have.

    Args:
        slide: open; some places of tissue are read, and the overview that was kept.
        tissue: its mask at `TISSUE_MPP`: bool [h, w].
    """
    overview = smoothed(np.ascontiguousarray(slide.overview(TISSUE_MPP).pixels[::_STRIDE, ::_STRIDE]))
    off_tissue = _share_off_tissue(overview, tissue[::_STRIDE, ::_STRIDE])
    if off_tissue > MOST_OFF_TISSUE:
        return (
            f"{off_tissue:.0%} of what has a colour has none of haematoxylin and eosin: the colours are inverted, the "
            "channels are in another order, or it is ink"
        )
    stain = _stain_of(slide, tissue, find_glass(overview))
    if stain is None:
        return ""
    if stain.red_lead < LEAST_RED_LEAD:
        return (
            f"red varies less than blue in the tissue (by {-stain.red_lead:.2f} of 1), where haematoxylin dims red "
            "more: red and blue are swapped, or it is another stain"
        )
    if stain.red_share > LARGEST_SHARES[0] or stain.blue_share > LARGEST_SHARES[1]:
        return (
            f"tissue dims red and blue {stain.red_share:.2f} and {stain.blue_share:.2f} times as much as green, "
            f"expected at most {LARGEST_SHARES[0]} and {LARGEST_SHARES[1]}: the channels are in another order, or it "
            "is another stain"
        )
    low, high = GREEN_DENSITY
    if not low <= stain.green <= high:
        return (
            f"the mean optical density of green in tissue is {stain.green:.2f}, expected {low} to {high}: the colours "
            "went through a gamma curve, or the stain is very pale or very dark"
        )
    return ""


def colour_log(slide: Slide, tissue: NDArray[np.bool_]) -> str:
    """What a line of the log says of a slide's colours; empty where nothing speaks against them."""
    doubt = colour_doubt(slide, tissue)
    return f", UNLIKELY COLOURS: {doubt}" if doubt else ""


def tissue_colours(slide: Slide, tissue: NDArray[np.bool_]) -> dict[str, float]:
    """Mean and spread of the tissue's colours in the overview, 0 to 255: what tells one lab's stain from another's.

    Args:
        slide: open; the overview that was kept is read.
        tissue: its mask at `TISSUE_MPP`: bool [h, w].

    Returns:
        mean_red, mean_green, mean_blue, and spread_green, the standard deviation of green, which both stains dim; 0
        where there is no tissue.
    """
    pixels = slide.overview(TISSUE_MPP).pixels[tissue].astype(np.float64)
    if not len(pixels):
        return dict.fromkeys(("mean_red", "mean_green", "mean_blue", "spread_green"), 0.0)
    red, green, blue = pixels.mean(axis=0)
    return {
        "mean_red": float(red),
        "mean_green": float(green),
        "mean_blue": float(blue),
        "spread_green": float(pixels[:, 1].std()),
    }


def _share_off_tissue(overview: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> float:
    """The share of an overview's coloured area that is no tissue; 0 where little has a colour."""
    red, green, blue = cv2.split(overview)
    low, high = cv2.min(cv2.min(red, green), blue), cv2.max(cv2.max(red, green), blue)
    is_coloured = np.asarray(cv2.subtract(high, low) >= _COLOURED_FROM)
    if is_coloured.mean() < LEAST_COLOURED:
        return 0.0
    near = cv2.dilate(tissue.astype(np.uint8), np.ones((_NEAR_PX, _NEAR_PX), np.uint8)) > 0
    return float((is_coloured & ~near).sum() / is_coloured.sum())


def _stain_of(slide: Slide, tissue: NDArray[np.bool_], glass: Glass) -> _Stain | None:
    """What the tissue dims, by places that are spread over it; None where too little can be read."""
    places = [_densities(glass, place) for place in _places(slide, tissue)]
    if not places:
        return None
    densities = np.concatenate(places)
    densities = densities[(densities[:, 1] > _DENSITIES[0]) & (densities[:, 1] < _DENSITIES[1])]
    if len(densities) < _FEWEST_PX:
        return None
    red, green, blue = densities.T.astype(np.float64)
    spread = float(np.sqrt((red - blue).var() * (red + blue).var())) if green.std() >= _LEAST_SPREAD else 0.0
    return _Stain(
        red_lead=float(red.var() - blue.var()) / spread if spread else 0.0,
        red_share=float(red.mean() / green.mean()),
        blue_share=float(blue.mean() / green.mean()),
        green=float(green.mean()),
    )


def _densities(glass: Glass, place: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of the pixels of a place without the noise of single ones: [n, 3]."""
    smooth = np.asarray(cv2.blur(place, (_SMOOTH_PX, _SMOOTH_PX)), dtype=np.uint8)
    return density(glass, smooth).reshape(-1, 3)


def _places(slide: Slide, tissue: NDArray[np.bool_]) -> list[NDArray[np.uint8]]:
    """The pixels of places deep in the tissue; what is not in the file or cannot be read is told of elsewhere."""
    padded = np.pad(tissue.astype(np.uint8), 1)
    deep = np.flatnonzero(cv2.erode(padded, np.ones((_DEPTH_PX, _DEPTH_PX), np.uint8))[1:-1, 1:-1])
    edge_px = max(1, round(_PLACE_UM / slide.resolution.mpp))
    found = []
    for number in deep[np.linspace(0, len(deep) - 1, min(_NUM_PLACES, len(deep))).astype(int)].tolist():
        row, col = divmod(number, tissue.shape[1])
        x, y = (int((edge + 0.5) * TISSUE_MPP / slide.resolution.mpp) - edge_px // 2 for edge in (col, row))
        image = np.empty((edge_px, edge_px, 3), dtype=np.uint8)
        try:
            if slide.read_into(image, Box(x, y, edge_px, edge_px)) is None:
                found.append(image)
        except SlideError:
            slide.reopen()
    return found
