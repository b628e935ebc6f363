"""The network as other tools take it: colour channels first, one tensor in and one out.

Shape suffixes: N patches, K outputs, H and W pixels; 3 colours.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bccdist.configuration import Psi, pixel_px
from bccdist.errors import ModelError
from bccdist.models.description import Description
from bccdist.models.exporting.facts import MULTIPLE_PX
from bccdist.networks.inputs import MEAN_RGB, STD_RGB
from bccdist.networks.unet import DeeplySupervisedUNet, tumor_probability


class TumorMaps(nn.Module):
    """Pixels to the Tumor probability of every output, all in the input's size."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: DeeplySupervisedUNet) -> None:
        """Share the network's weights."""
        super().__init__()
        self.network = network
        # Buffers go to the device with the weights; what tracing finds as a constant would stay on the CPU.
        self.register_buffer("mean", _of_colours(MEAN_RGB).mul(255))
        self.register_buffer("std", _of_colours(STD_RGB).mul(255))

    def forward(self, rgb_N3HW: Tensor) -> Tensor:
        """Float32 [n, k, h, w] from uint8 or float RGB of 0 to 255; other sides than multiples of 32 are an error."""
        scores = self.network(_whole(rgb_N3HW).float().sub(self.mean).div(self.std))
        return torch.cat([_full_size(tumor_probability(scores[psi]), psi) for psi in self.network.outputs], dim=1)


class PatchScores(nn.Module):
    """Normalised pixels of one patch to two scores, whose softmax is what a tool for patches calls probabilities.

    The probability of Tumor is the largest t_p at which an area of at least t_A of the patch is Tumor, connected or
    not: it is at least t_p where, and only where, that much of the patch has a probability of at least t_p.
    """

    def __init__(self, network: DeeplySupervisedUNet, psi: Psi, num_pixels: int) -> None:
        """Share the network's weights.

        Args:
            network: in evaluation mode.
            psi: the output that decides.
            num_pixels: its pixels in an area of t_A.
        """
        super().__init__()
        self.network = network
        self.psi = psi
        self.num_pixels = num_pixels

    def forward(self, x_N3HW: Tensor) -> Tensor:
        """Float32 [n, 2], (Normal, Tumor), from normalised RGB."""
        scores = self.network(x_N3HW)[self.psi].flatten(start_dim=2)
        largest = torch.topk(scores[:, 1] - scores[:, 0], self.num_pixels, dim=1).values[:, -1]
        return torch.stack([torch.zeros_like(largest), largest], dim=1)


def pixels_of_t_a(facts: Description) -> int:
    """The pixels of the deciding output that have an area of t_A.

    Raises:
        ModelError: a patch has fewer.
    """
    selection, network = facts.selection, facts.network
    edge_um = pixel_px(selection.psi) * (network.target_mpp if selection.area_unit == "physical" else 1.0)
    # An area such as 4 * 0.25 um2 must not become 5 pixels by a rounding error.
    num_pixels = max(1, math.ceil(selection.t_a_um2 / edge_um**2 - 1e-9))
    most = (network.patch_px // pixel_px(selection.psi)) ** 2
    if num_pixels > most:
        raise ModelError(
            f"t_A is {selection.t_a_um2:g} um2, {num_pixels} pixels of {selection.psi}, and a patch has {most}: a "
            "tool that judges patches one by one cannot decide with it; export another format"
        )
    return num_pixels


def _whole(rgb_N3HW: Tensor) -> Tensor:
    """The same pixels, by way of strips of `MULTIPLE_PX`, which no runtime can make of other sides.

    What is exported is the calculation alone, without a line that could look at sizes; and from some sides, such as 31
    px, a network makes maps of another size without a word.
    """
    num, colours, height, width = rgb_N3HW.shape
    by_columns = rgb_N3HW.reshape(num, colours, height, -1, MULTIPLE_PX).reshape(num, colours, -1, MULTIPLE_PX, width)
    return by_columns.reshape(num, colours, height, width)


def _of_colours(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _full_size(probability_NHW: Tensor, psi: Psi) -> Tensor:
    """Each pixel as a square of its own: [n, h, w] to [n, 1, H, W]."""
    probability_N1HW = probability_NHW[:, None]
    times = float(pixel_px(psi))
    return F.interpolate(probability_N1HW, scale_factor=times, mode="nearest") if times > 1 else probability_N1HW


_SEED = 19
_BLOCK_PX = 8


def drawn_patches(patch_px: int, *, num: int) -> NDArray[np.uint8]:
    """Coloured blocks, the same each time, to compare exports with: uint8 RGB [n, 3, p, p]."""
    draw = np.random.default_rng(_SEED)
    small = draw.integers(90, 250, (num, 3, patch_px // _BLOCK_PX, patch_px // _BLOCK_PX), dtype=np.uint8)
    return small.repeat(_BLOCK_PX, axis=2).repeat(_BLOCK_PX, axis=3)
