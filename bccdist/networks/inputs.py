"""The network's input, made from stored pixels."""

import torch
from torch import Tensor

MEAN_RGB = (0.485, 0.456, 0.406)
STD_RGB = (0.229, 0.224, 0.225)
"""ImageNet's statistics, of values from 0 to 1: torchvision's and timm's ResNets were trained with them, so that an
encoder from there (`bccdist.networks.pretrained`) sees what it knows. [open]"""


def to_network_input(images_NHW3: Tensor) -> Tensor:
    """Normalised float32 [n, 3, h, w], channels last in memory, from uint8 RGB [n, h, w, 3]."""
    mean, std = (_times_255(values, images_NHW3.device) for values in (MEAN_RGB, STD_RGB))
    return images_NHW3.float().sub(mean).div(std).permute(0, 3, 1, 2)


def _times_255(values: tuple[float, ...], device: torch.device) -> Tensor:
    # Filled where it is needed: for a copy from the CPU's memory a GPU would be waited for, at every batch.
    return torch.stack([torch.full((), value, dtype=torch.float32, device=device) for value in values]).mul(255)
