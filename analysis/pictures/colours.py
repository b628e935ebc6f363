"""Colours and outlines of pictures: probabilities, heat over tissue, masks (paper, Figures 2 to 8).

Nothing is read and nothing laid out here: arrays in, arrays out.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from numpy.typing import NDArray

from bccdist.parts import Label

LABEL_COLOURS = {Label.TUMOR.value: "#d7191c", Label.NORMAL.value: "#1a9641", None: "#6b6b6b"}
DARK, BRIGHT = "#101010", "#ffffff"
PROBABILITY_COLOURS = colormaps["viridis"]
"""Evenly brighter with the probability, also to the colour-blind."""
HEAT_COLOURS = LinearSegmentedColormap.from_list(
    "tumor probability", ("#2c3e9e", "#1fa6c9", "#7fd34e", "#ffe135", "#ff8c1a")
)
SHOWN_FROM = 0.5
"""Probabilities below this share of t_p leave the tissue as it is."""
_LEAST_OPAQUE, _MOST_OPAQUE = 0.28, 0.62


@dataclass(frozen=True, kw_only=True)
class ColourBar:
    """The key to the colours of a picture."""

    colours: NDArray[np.uint8]
    """RGB [n, 3], of the probabilities from 0 to 1."""
    t_p: float | None = None
    """Prediction threshold to mark; None marks none."""


def in_colours(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities 0 to 1 as colours: [...] becomes uint8 RGB [..., 3]."""
    return np.asarray(PROBABILITY_COLOURS(probability, bytes=True), dtype=np.uint8)[..., :3]


def heat_layer(probability: NDArray[np.float32], t_p: float) -> NDArray[np.float32]:
    """RGBA [h, w, 4] of probabilities [h, w], transparent where no tumor is suspected."""
    lowest = SHOWN_FROM * t_p
    strength = np.clip((probability - lowest) / (1 - lowest), 0, 1)
    layer = HEAT_COLOURS(probability).astype(np.float32)
    layer[..., 3] = np.where(
        probability >= lowest, _LEAST_OPAQUE + (_MOST_OPAQUE - _LEAST_OPAQUE) * strength, np.float32(0)
    )
    return np.asarray(layer, dtype=np.float32)


def heated(tissue: NDArray[np.uint8], probability: NDArray[np.float32], t_p: float) -> NDArray[np.uint8]:
    """Tissue under the colours of `heat_layer`: uint8 RGB [h, w, 3]; probability is [h, w], 0 to 1."""
    layer = heat_layer(probability, t_p)
    opacity = layer[..., 3:]
    mixed = tissue * (1 - opacity) + 255 * layer[..., :3] * opacity
    return np.asarray(np.round(mixed), dtype=np.uint8)


def outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_], *, bright: bool = False) -> NDArray[np.uint8]:
    """A copy of an RGB image with the outlines of a mask; none is drawn along the image's edge.

    Args:
        image: [h, w, 3].
        mask: [h, w].
        bright: a bright line with dark edges, which is seen on any colour; without, a fine dark one for heat.
    """
    lines = ((DARK, 4), (BRIGHT, 2)) if bright else ((DARK, 1),)
    # A region that reaches the edge goes on beyond it, so that its outline runs outside of what is shown.
    margin = 8
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    mask_padded = np.pad(mask.astype(np.uint8), margin, mode="edge")
    contours, _ = cv2.findContours(mask_padded, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, width_px in lines:
        rgb = tuple(round(255 * share) for share in to_rgb(colour))
        cv2.drawContours(padded, contours, -1, rgb, width_px, cv2.LINE_AA)
    return padded[margin:-margin, margin:-margin].copy()


def probability_bar() -> ColourBar:
    """The key to the colours of `in_colours`."""
    return ColourBar(colours=in_colours(np.linspace(0, 1, 256, dtype=np.float32)))


def heat_bar(t_p: float) -> ColourBar:
    """The key to the colours of `heated`, as they look on white glass, with t_p marked."""
    white = np.full((1, 256, 3), 255, dtype=np.uint8)
    colours = heated(white, np.linspace(0, 1, 256, dtype=np.float32)[None], t_p)
    return ColourBar(colours=colours.reshape(256, 3), t_p=t_p)
