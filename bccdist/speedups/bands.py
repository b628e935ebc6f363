"""Bands of the cascade, tried all at once: the reference is computed once, and every band looks at what it gave."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bccdist.configuration import Psi, pixel_px
from bccdist.heatmaps.predict import Predictor
from bccdist.heatmaps.predictors import is_undecided, repeated

LOWS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
"""Lower ends of the bands of psi_0 that are tried; each is tried with 1 minus itself, and with 1, as the upper end."""


def bands() -> list[tuple[float, float]]:
    """The bands that are tried."""
    return [(low, high) for low in LOWS for high in (1 - low, 1.0)]


class Remembered:
    """The reference, which keeps what it gave last, so that every band can look at it."""

    def __init__(self, predictor: Predictor) -> None:
        self.outputs = predictor.outputs
        self.network = getattr(predictor, "network", None)
        self._predictor = predictor
        self.last: Mapping[Psi, Tensor] = {}

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        """What the predictor gives."""
        self.last = self._predictor(patches_NPP3)
        return self.last


class BandView:
    """What a cascade with this band would have given, by what the reference gave on the same patches.

    It has to come after the reference in the same pass over a slide.
    """

    def __init__(self, reference: Remembered, band: tuple[float, float]) -> None:
        self.outputs: tuple[Psi, ...] = (reference.outputs[-1],)
        self.band = band
        self.num_undecided = 0
        self._reference = reference

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:  # noqa: ARG002 - the reference had them before
        """The final output, which is psi_0 where that is decided."""
        found = self._reference.last
        undecided = is_undecided(found["psi_0"], self.band)
        self.num_undecided += int(undecided.sum())
        early = repeated(found["psi_0"], pixel_px("psi_0"))
        return {psi: torch.where(undecided[:, None, None], found[psi], early) for psi in self.outputs}
