"""Haematoxylin and eosin: from stain densities to the colour of light that passed the glass."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bccdist.phantom.outlines import Float

HEMATOXYLIN_RGB = (0.62, 0.74, 0.36)
EOSIN_RGB = (0.10, 0.86, 0.38)


@dataclass(frozen=True, kw_only=True)
class Staining:
    """How one slide was stained: strength and absorption (red, green, blue) of both stains."""

    hematoxylin_rgb: NDArray[np.float32]
    eosin_rgb: NDArray[np.float32]

    def transmittance(self, hematoxylin: Float, eosin: Float) -> Float:
        """Share of the light that passes, [h, w, 3] in 0 to 1, for densities [h, w] of about 0 to 1.5."""
        density = hematoxylin[..., None] * self.hematoxylin_rgb + eosin[..., None] * self.eosin_rgb
        light: Float = np.exp(-density)
        return light


def draw_staining(rng: np.random.Generator) -> Staining:
    """A slide's staining: strengths within about 15 % of the usual, hues slightly off."""
    hematoxylin = np.array(HEMATOXYLIN_RGB) + rng.normal(0, 0.02, 3)
    eosin = np.array(EOSIN_RGB) + rng.normal(0, 0.02, 3)
    strength = rng.uniform(0.85, 1.15, 2)
    return Staining(
        hematoxylin_rgb=(hematoxylin * strength[0]).astype(np.float32),
        eosin_rgb=(eosin * strength[1]).astype(np.float32),
    )
