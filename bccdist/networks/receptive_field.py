"""How far a network sees: the effective receptive field of each of its outputs (Luo et al. 2016)."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from bccdist.configuration import pixel_px
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet

SHARES = (0.99, 0.999)


def effective_receptive_field(
    network: DeeplySupervisedUNet, patches_NPP3: Tensor, *, shares: Sequence[float] = SHARES
) -> dict[str, dict[str, int]]:
    """How far each output sees: half the width of the square that holds most of what input pixels do to its middle.

    What an input pixel does is the absolute gradient of (Tumor score - Normal score), summed over colours and patches.

    Args:
        network: in evaluation mode; not changed.
        patches_NPP3: uint8 RGB [n, p, p, 3] of tissue, on the network's device; p is a multiple of 32.
        shares: of the sum over the patch, 0 to 1.

    Returns:
        for each output and each share, as a percentage such as "99.9", px of the target frame; at most p / 2, which
        means that the patch was too small to tell.
    """
    # Gradients of the input alone: those of the weights would take several times the memory.
    network = copy.deepcopy(network).requires_grad_(requires_grad=False)
    found: dict[str, dict[str, int]] = {}
    for psi in network.outputs:
        influence = torch.zeros(patches_NPP3.shape[1:3], device=patches_NPP3.device, dtype=torch.float64)
        for patch in patches_NPP3:
            x = to_network_input(patch[None]).detach().requires_grad_()
            scores = network(x)[psi]
            middle = scores.shape[-1] // 2
            difference = scores[0, 1, middle, middle] - scores[0, 0, middle, middle]
            (gradient,) = torch.autograd.grad(difference, x)
            influence += gradient[0].abs().sum(dim=0)
        found[psi] = {f"{100 * share:g}": _half_width(influence, psi, share) for share in shares}
    return found


def _half_width(influence_PP: Tensor, psi: str, share: float) -> int:
    """The half-width around the pixel in the middle of `psi` within which this share of the influence lies."""
    edge = len(influence_PP)
    # The middle of a coarse pixel lies between input pixels.
    centre = edge // 2 + (pixel_px(psi) - 1) / 2
    away = (torch.arange(edge, device=influence_PP.device) - centre).abs()
    rings = torch.maximum(away[:, None], away[None, :]).ceil().long()
    by_distance = torch.zeros(edge + 1, device=influence_PP.device, dtype=torch.float64)
    by_distance.index_add_(0, rings.flatten(), influence_PP.flatten())
    within = by_distance.cumsum(0) / by_distance.sum()
    return min(int((within < share).sum()), edge // 2)
