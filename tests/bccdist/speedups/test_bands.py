"""A band that is only looked at gives what the cascade with that band gives."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bccdist.configuration import Psi
from bccdist.heatmaps.predictors import CascadePredictor
from bccdist.speedups.bands import BandView, Remembered, bands

_BAND = (0.3, 0.9)


class _Network:
    """psi_0 is a patch's brightness, psi_4 one half of it."""

    outputs: tuple[Psi, ...] = ("psi_0", "psi_4")

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        psi_0, pixels = self.first(patches_NPP3)
        return {"psi_0": psi_0, "psi_4": self.later(pixels)[0]}

    def first(self, patches_NPP3: Tensor) -> tuple[Tensor, ...]:
        pixels = patches_NPP3[..., 0].float() / 255
        return pixels[:, ::16, ::16], pixels

    def later(self, pixels_NPP: Tensor) -> tuple[Tensor]:
        return (pixels_NPP / 2,)


def test_a_view_of_a_band_is_the_cascade_with_that_band() -> None:
    patches = torch.zeros((3, 32, 32, 3), dtype=torch.uint8)
    patches[1, :16] = 128
    patches[2] = 255
    network = _Network()
    reference = Remembered(network)
    assert reference(patches)["psi_4"][1, 0, 0] == 64 / 255
    view = BandView(reference, _BAND)
    cascade = CascadePredictor(network.first, network.later, band=_BAND, final="psi_4")
    assert torch.equal(view(patches)["psi_4"], cascade(patches)["psi_4"])
    assert view.num_undecided == cascade.num_undecided == 1


def test_bands_end_at_the_mirror_of_their_beginning_or_at_one() -> None:
    assert all(high in (1 - low, 1.0) and low < high for low, high in bands())
    assert len(set(bands())) == len(bands())
