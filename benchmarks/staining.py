"""Patches stained otherwise, and stain normalisation, both in optical density."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bccdist.training.augmentation import RGB_OF_STAINS

_LEAST_OF_DARK = 0.1
"""A pixel is tissue where its density is more than this share of the slide's dark end, however faint the stain."""
_LEAST_SPREAD = 1e-3
_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)


class StainStatistics(NamedTuple):
    """How the tissue of a slide is stained."""

    mean: NDArray[np.float64]
    """Of the densities of red, green and blue, [3]."""
    spread: NDArray[np.float64]
    """Their standard deviations between pixels, [3]."""


def restained(image: NDArray[np.uint8], *, haematoxylin: float, eosin: float) -> NDArray[np.uint8]:
    """RGB [h, w, 3] with so many times the density of each stain; the residual stays."""
    factors = np.diag([haematoxylin, eosin, 1.0])
    matrix = (np.linalg.inv(RGB_OF_STAINS) @ factors @ RGB_OF_STAINS).astype(np.float32)
    return _as_pixels(_DENSITY[image] @ matrix)


def stain_statistics(images: Sequence[NDArray[np.uint8]]) -> StainStatistics:
    """How the tissue in patches of one slide is stained, each RGB [h, w, 3]."""
    densities = np.concatenate([_DENSITY[image].reshape(-1, 3) for image in images])
    strength = densities.mean(axis=1)
    tissue = densities[strength > _LEAST_OF_DARK * np.percentile(strength, 99)].astype(np.float64)
    return StainStatistics(tissue.mean(axis=0), tissue.std(axis=0))


def normalised(image: NDArray[np.uint8], *, here: StainStatistics, wanted: StainStatistics) -> NDArray[np.uint8]:
    """RGB [h, w, 3] of a slide that is stained as `here`, moved so that its tissue has the statistics `wanted`.

    The same is done to glass: each colour has one factor and one offset, and what comes out below 0 is white.
    """
    factor = wanted.spread / np.maximum(here.spread, _LEAST_SPREAD)
    offset = wanted.mean - factor * here.mean
    return _as_pixels(_DENSITY[image] * factor.astype(np.float32) + offset.astype(np.float32))


def _as_pixels(densities: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(256 * np.exp(-densities) - 1, 0, 255).round(), dtype=np.uint8)
