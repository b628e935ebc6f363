"""A network whose weights are set by hand, so that what it says of a place follows from the colours there."""

import torch
from torch import nn

from bccdist.configuration import Setting
from bccdist.networks.inputs import MEAN_RGB, STD_RGB
from bccdist.networks.unet import DeeplySupervisedUNet

_DARK_RED = 0.66
"""Red, 0 to 1, below which a place counts as tumor: densely packed nuclei take most of it."""
_STEEPNESS = 12.0
_SHARPENING = 0.5


def colour_network(
    setting: Setting, *, width: int, merge_weight_std: float = 0.0, encoder: str = ""
) -> DeeplySupervisedUNet:
    """A plain UNet that calls Tumor where little red light comes through.

    One channel carries the darkness of every second pixel, sharpened, from the stem over the finest skip to psi_4; all
    other weights are 0. The sharpening makes it notice pixels that were averaged, or shifted by less than one.

    Args:
        setting: `unet`.
        width: filters of the first block.
        merge_weight_std, encoder: of no use; they are there so that this stands in for the network's own class.
    """
    del merge_weight_std, encoder
    network = DeeplySupervisedUNet(setting, width=width)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # training that runs over it leaves its statistics as they are
    state = {name: torch.zeros_like(values) for name, values in network.state_dict().items()}
    for name, values in state.items():
        # What batch normalisation divides by, and its factor.
        if name.endswith("running_var") or (name.endswith("1.weight") and values.ndim == 1):
            values.fill_(1.0)
    kernel = torch.zeros(7, 7)
    kernel[2:5, 2:5] = -_SHARPENING / 9
    kernel[3, 3] += 1 + _SHARPENING
    # The input is (red - mean) / std; what goes on is 1 - red, sharpened.
    state["encoder.stem.0.weight"][0, 0] = -STD_RGB[0] * kernel
    state["encoder.stem.1.bias"][0] = 1 - MEAN_RGB[0]
    first_of_skip = state["blocks.3.convs.0.0.weight"].shape[1] - width
    for conv, channel in (("3.convs.0", first_of_skip), ("3.convs.1", 0), ("4.convs.0", 0), ("4.convs.1", 0)):
        state[f"blocks.{conv}.0.weight"][0, channel, 1, 1] = 1.0
    state["heads.psi_4.weight"][1, 0] = _STEEPNESS
    state["heads.psi_4.bias"][1] = -_STEEPNESS * (1 - _DARK_RED)
    network.load_state_dict(state)
    return network
