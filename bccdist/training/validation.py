"""How good a network is on the pixels of Validation I (paper, section 2.5)."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from bccdist.configuration import MaskDownsampling, Psi, TrainConfig
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet, ScoreMaps
from bccdist.training.compute import Compute, autocast
from bccdist.training.distributed import sum_over_ranks
from bccdist.training.loader import Batch
from bccdist.training.losses import downsample_mask, losses, supervised_outputs


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """Sums over all ranks; ratios are formed from them and never averaged."""

    confusion_px: dict[Psi, tuple[int, int, int, int]]
    """For each output the pixels (tp, fp, fn, tn) at probability 0.5."""
    losses: dict[Psi, float]
    """Mean loss of each supervised output."""


@torch.inference_mode()
def validate(
    network: DeeplySupervisedUNet,
    batches: Iterable[Batch],
    config: TrainConfig,
    device: torch.device,
    compute: Compute,
) -> ValidationResult:
    """Hold a network against the masks of this rank's share of the patches, and add up over the ranks.

    Args:
        network: it is left in evaluation mode.
        batches: as they were stored.
        config: of the loss.
        device: of the network.
        compute: its arithmetic.
    """
    network.eval()
    supervised = supervised_outputs(network.setting)
    counts = torch.zeros(len(network.outputs), 4, dtype=torch.int64, device=device)
    loss_sums = torch.zeros(len(supervised) + 1, dtype=torch.float64, device=device)
    for batch in batches:
        images, masks = (each.to(device, non_blocking=True) for each in (batch.images, batch.masks))
        with autocast(compute, device):
            scores = network(to_network_input(images))
        counts += confusion_px(scores, masks, config.mask_downsampling)
        parts = losses(network.setting, scores, masks, gamma=config.focal_gamma, method=config.mask_downsampling)
        loss_sums[:-1] += torch.stack([parts[psi] for psi in supervised]).double() * len(images)
        loss_sums[-1] += len(images)
    *sums, num_patches = sum_over_ranks(loss_sums).tolist()
    return ValidationResult(
        confusion_px=dict(zip(network.outputs, map(tuple, sum_over_ranks(counts).tolist()), strict=True)),
        losses={psi: total / num_patches for psi, total in zip(supervised, sums, strict=True)},
    )


def confusion_px(scores: ScoreMaps, masks: Tensor, method: MaskDownsampling) -> Tensor:
    """Pixels (tp, fp, fn, tn) of each output at probability 0.5: int64 [num_outputs, 4].

    Each output is held against the masks at its own resolution (Pi_l).
    """
    counts = []
    for score in scores.values():
        truth = downsample_mask(masks, (score.shape[-2], score.shape[-1]), method).bool()
        said = score[:, 1] > score[:, 0]
        cells = (said & truth, said & ~truth, ~said & truth, ~said & ~truth)
        counts.append(torch.stack([cell.sum() for cell in cells]))
    return torch.stack(counts)
