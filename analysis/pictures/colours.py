"""Colours and outlines of pictures: probabilities, heat over tissue, masks (paper, Figures 2 to 8).

Nothing is read and nothing laid out here: arrays in, arrays out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from numpy.typing import NDArray

from bccdist.parts import Label

LineStyle = Literal["solid", "dashed", "dotted"]
LABEL_COLOURS = {Label.TUMOR.value: "#b84e00", Label.NORMAL.value: "#0072b2", None: "#6b6b6b"}
"""Told apart by the colour-blind, too (Okabe and Ito), and dark enough for white letters."""
LABEL_LINES: Mapping[str | None, LineStyle] = {
    Label.TUMOR.value: "solid",
    Label.NORMAL.value: "dashed",
    None: "dotted",
}
"""And told apart without any colour."""
DARK, BRIGHT = "#101010", "#ffffff"
PROBABILITY_COLOURS = colormaps["viridis"]
"""Evenly brighter with the probability, also to the colour-blind."""
HEAT_COLOURS = LinearSegmentedColormap.from_list("tumor probability", ("#00695c", "#26a65b", "#a8d93a", "#ffe135"))
"""From t_p to 1; evenly brighter, also to the colour-blind. Below t_p the tissue stays as it is."""
_LEAST_OPAQUE, _MOST_OPAQUE = 0.38, 0.62
_LEAST_RANGE = 1e-6
"""Above t_p, so that a t_p of 1 has a colour."""


@dataclass(frozen=True, kw_only=True)
class ColourBar:
    """The key to the colours of a picture."""

    colours: NDArray[np.uint8]
    """RGB [n, 3], of the probabilities that are shown; none where none is."""
    shown: tuple[float, float] = (0.0, 1.0)
    """The smallest and the greatest probability that is shown."""
    t_p: float | None = None
    """Prediction threshold to mark; None marks none."""


def in_colours(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities 0 to 1 as colours: [...] becomes uint8 RGB [..., 3]."""
    return np.asarray(PROBABILITY_COLOURS(probability, bytes=True), dtype=np.uint8)[..., :3]


def heat_layer(probability: NDArray[np.float32], t_p: float) -> NDArray[np.float32]:
    """RGBA [h, w, 4] of probabilities [h, w], transparent below t_p."""
    share = np.clip((probability - t_p) / max(1 - t_p, _LEAST_RANGE), 0, 1)
    layer = HEAT_COLOURS(share).astype(np.float32)
    opacity = _LEAST_OPAQUE + (_MOST_OPAQUE - _LEAST_OPAQUE) * share
    layer[..., 3] = np.where(probability >= t_p, opacity, np.float32(0))
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
    lines = ((DARK, 3), (BRIGHT, 1)) if bright else ((DARK, 1),)
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


def heat_bar(t_p: float, shown: Iterable[tuple[NDArray[np.uint8], NDArray[np.float32]]]) -> ColourBar:
    """The key to the colours of `heated` as they look in a picture: over its tissue, up to its greatest probability.

    Args:
        t_p: prediction threshold, 0 to 1.
        shown: tissue, RGB [h, w, 3], and probabilities, [h, w], of each part of the picture.
    """
    under = [(tissue[mask], probability[mask]) for tissue, probability in shown if (mask := probability >= t_p).any()]
    if not under:
        return ColourBar(colours=np.zeros((0, 3), dtype=np.uint8), shown=(t_p, t_p), t_p=t_p)
    ground = np.median(np.concatenate([tissue for tissue, _ in under]), axis=0)
    greatest = max(float(probability.max()) for _, probability in under)
    row = np.broadcast_to(ground, (1, 256, 3)).astype(np.uint8)
    colours = heated(row, np.linspace(t_p, greatest, 256, dtype=np.float32).clip(t_p)[None], t_p)
    return ColourBar(colours=colours.reshape(256, 3), shown=(t_p, greatest), t_p=t_p)
