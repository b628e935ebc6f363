"""The effective receptive field of networks whose field is known."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bccdist.configuration import Psi, pixel_px
from bccdist.networks.receptive_field import effective_receptive_field
from bccdist.networks.unet import DeeplySupervisedUNet


class _Box(nn.Module):
    """Averages a square of (2 reach + 1) px around each pixel, then the pixels of the output's lattice."""

    def __init__(self, psi: Psi, *, reach_px: int) -> None:
        super().__init__()
        self.outputs = (psi,)
        self._reach_px = reach_px

    def forward(self, x_N3HW: Tensor) -> dict[Psi, Tensor]:
        mean = F.avg_pool2d(x_N3HW, 2 * self._reach_px + 1, stride=1, padding=self._reach_px)
        (psi,) = self.outputs
        return {psi: F.avg_pool2d(mean[:, :2], pixel_px(psi))}


@pytest.mark.parametrize(("psi", "reach_px", "expected_px"), [("psi_4", 20, 20), ("psi_4", 0, 0), ("psi_0", 20, 28)])
def test_a_box_reaches_as_far_as_it_is_wide(psi: Psi, reach_px: int, expected_px: int) -> None:
    patches = torch.zeros((2, 128, 128, 3), dtype=torch.uint8)
    network = _Box(psi, reach_px=reach_px)
    # psi_0's pixel is 16 px wide: its outermost px is 7.5 px from its centre.
    assert effective_receptive_field(network, patches, shares=[1 - 1e-9]) == {psi: {"100": expected_px}}  # type: ignore[arg-type]


def test_a_larger_share_reaches_further() -> None:
    patches = torch.zeros((1, 128, 128, 3), dtype=torch.uint8)
    found = effective_receptive_field(_Box("psi_4", reach_px=20), patches, shares=[0.25, 0.5, 0.999])  # type: ignore[arg-type]
    widths = list(found["psi_4"].values())
    assert widths == sorted(widths)
    # Half the area of a square lies within 0.71 of its half-width.
    assert found["psi_4"]["50"] == pytest.approx(0.71 * 20, abs=1.5)


def test_a_patch_that_is_too_small_says_so() -> None:
    patches = torch.zeros((1, 64, 64, 3), dtype=torch.uint8)
    assert effective_receptive_field(_Box("psi_4", reach_px=100), patches, shares=[0.999])["psi_4"]["99.9"] == 32  # type: ignore[arg-type]


def test_the_unet_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34_ds", width=16).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    patches = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8)
    found = effective_receptive_field(network, patches)
    assert list(found) == list(network.outputs)
    assert all(0 < shares["99"] <= shares["99.9"] <= 128 for shares in found.values())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
