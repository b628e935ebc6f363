"""The network's input, made from stored pixels."""

import torch
from torch import Tensor

MEAN_RGB = (0.485, 0.456, 0.406)
STD_RGB = (0.229, 0.224, 0.225)
"""ImageNet's statistics, of values from 0 to 1: torchvision's and timm's ResNets were trained with them, so that an
encoder from there (`bccdist.networks.pretrained`) sees what it knows. [open]"""


def to_network_input(images_NHW3: Tensor) -> Tensor:
    """Normalised float32 [n, 3, h, w], channels last in memory, from uint8 RGB [n, h, w, 3]."""
    mean = torch.tensor(MEAN_RGB, device=images_NHW3.device).mul(255)
    std = torch.tensor(STD_RGB, device=images_NHW3.device).mul(255)
    return images_NHW3.float().sub(mean).div(std).permute(0, 3, 1, 2)
