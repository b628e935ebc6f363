"""What is measured of a slide's quality, by name: what heatmaps, ledger, model files and reports share."""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Artefact(IntEnum):
    """What lies on a pixel of tissue."""

    INK = 1
    FOLD = 2
    AIR = 3


QUALITY_VERSION = 1
"""Raised when the same pixels come to give other numbers."""
CELL_MEASURES = ("focus", "compression", "stain_density", "stain_hue")
"""In the order in which `SlideQuality.cells` holds them."""
SHARES: Mapping[str, Artefact] = {
    "ink_share": Artefact.INK,
    "fold_share": Artefact.FOLD,
    "air_share": Artefact.AIR,
}
"""What of a section's tissue something lies on."""
MEASURES = (*CELL_MEASURES, *SHARES)
LEAST: Mapping[str, float] = {"focus": -0.6, "stain_density": 0.35}
"""Absolute and generous: below, nobody would read. Sharp tissue has a focus of -0.1, and -0.65 where it was blurred by
a Gaussian of 1.5 px at the network's resolution; real slides have a density of 0.7 and more."""
MOST: Mapping[str, float] = {"compression": 1.2, "ink_share": 0.05, "fold_share": 0.1, "air_share": 0.05}
"""As `LEAST`, above. Tissue that was stored well has a compression of 0.5, with JPEG's quality of 15 0.75; real slides
without any artefact have shares below 0.02, in folds below 0.05."""


class SlideQuality(NamedTuple):
    """What was measured on one slide."""

    cells: NDArray[np.float32]
    """`CELL_MEASURES` of each cell: [4, rows, cols]; NaN where it was not measured."""
    artefacts: NDArray[np.uint8]
    """What lies on the tissue, as numbers of `Artefact`, 0 for nothing: [h, w] at `TISSUE_MPP`."""
