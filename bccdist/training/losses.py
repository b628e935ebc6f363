"""Focal loss, the targets Pi_l, and deep supervision (paper, section 2.3 and eq. 1)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bccdist.configuration import MaskDownsampling, Psi, Setting, outputs_of
from bccdist.networks.unet import ScoreMaps


def focal_loss(scores: Tensor, target: Tensor, *, gamma: float) -> Tensor:
    """Mean over pixels of -(1 - p_t)^gamma log p_t for a softmax over two classes (Lin et al. 2017).

    Args:
        scores: [n, 2, h, w], before the softmax.
        target: the true class 0 or 1, [n, h, w], of any whole or boolean type.
        gamma: 0 is cross-entropy.

    Returns:
        A scalar, computed in float32 at least.
    """
    scores = scores if scores.dtype == torch.float64 else scores.float()
    margin = scores[:, 1] - scores[:, 0]
    margin = torch.where(target.bool(), margin, -margin)
    # (1 - p_t)^gamma by its logarithm: where it underflows, the gradient of a power below 1 would be infinite.
    return -((gamma * F.logsigmoid(-margin)).exp() * F.logsigmoid(margin)).mean()


def downsample_mask(mask: Tensor, size: tuple[int, int], method: MaskDownsampling) -> Tensor:
    """Pi_l: a hard mask at the size of a score map.

    Args:
        mask: 0 or 1, uint8 [n, h, w].
        size: rows and columns of the result; they divide h and w.
        method: `nearest-exact` takes the pixel beside the cell's centre, `majority` what more than half of the
            cell is, `max` Tumor where any of the cell is.

    Returns:
        uint8 [n, *size].
    """
    if tuple(mask.shape[-2:]) == size:
        return mask
    planes = mask[:, None].float()
    if method == "nearest-exact":
        return F.interpolate(planes, size=size, mode="nearest-exact")[:, 0].to(mask.dtype)
    pool = F.adaptive_max_pool2d if method == "max" else F.adaptive_avg_pool2d
    return (pool(planes, size)[:, 0] > 0.5).to(mask.dtype)


def supervised_outputs(setting: Setting) -> tuple[Psi, ...]:
    """The outputs that the loss reaches: every psi with deep supervision, else the final output alone."""
    outputs = outputs_of(setting)
    return outputs if setting == "resnet34_ds" else outputs[-1:]


def losses(
    setting: Setting, scores: ScoreMaps, mask: Tensor, *, gamma: float, method: MaskDownsampling
) -> dict[str, Tensor]:
    """The focal loss of each supervised output; the training loss is their plain sum (eq. 1).

    Args:
        setting: one of the paper's four.
        scores: what the network returned.
        mask: 1 where Tumornest, uint8 [n, h, w] in the input's size.
        gamma: the focal loss's.
        method: Pi_l.
    """
    return {
        psi: focal_loss(
            scores[psi],
            downsample_mask(mask, (scores[psi].shape[-2], scores[psi].shape[-1]), method),
            gamma=gamma,
        )
        for psi in supervised_outputs(setting)
    }
