"""How good a network is on the pixels of Validation I (paper, section 2.5)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from signal import Signals
from typing import NamedTuple

import torch
from torch import Tensor

from bccdist.configuration import MaskDownsampling, Psi, TrainConfig
from bccdist.errors import NotFiniteError
from bccdist.networks.finite import not_finite
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet, ScoreMaps
from bccdist.training.compute import Compute, autocast
from bccdist.training.distributed import sum_over_ranks, sums_by_name
from bccdist.training.loader import Batch
from bccdist.training.losses import downsample_mask, losses, supervised_outputs
from bccdist.training.stop import StopRequest, asked_to_stop


class PixelCounts(NamedTuple):
    """Pixels by what they are called and what they are."""

    tp: int
    fp: int
    fn: int
    tn: int


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """Sums over all ranks; ratios are formed from them and never averaged."""

    confusion_px: dict[Psi, PixelCounts]
    """For each output its pixels at the configuration's `iou_probability`."""
    losses: dict[Psi, float]
    """Mean loss of each supervised output."""


@torch.inference_mode()
def validate(
    network: DeeplySupervisedUNet,
    batches: Iterator[Batch],
    config: TrainConfig,
    compute: Compute,
    *,
    num_batches: int,
    request: StopRequest,
) -> ValidationResult | Signals:
    """Hold a network against the masks of this rank's share of the patches, and add up over the ranks.

    Args:
        network: it is left in evaluation mode.
        batches: patches as they were stored.
        config: the run's, for its loss and the probability of the IoU.
        compute: the run's arithmetic, where the network is.
        num_batches: the same on all ranks: the most that one of them has.
        request: whether this rank is asked to stop.

    Returns:
        The result; or the signal that the ranks agree to stop with, after any batch. Then nothing was changed, and
        the validation is to be begun anew.

    Raises:
        NotFiniteError: scores are infinite or no numbers, on any rank; all of them raise it.
    """
    network.eval()
    device = compute.device
    supervised = supervised_outputs(network.setting)
    counts = torch.zeros(len(network.outputs), 4, dtype=torch.int64, device=device)
    num_unsound = torch.zeros(len(network.outputs), dtype=torch.int64, device=device)
    # Sums and counts alone go over the ranks: a mean of their means would weigh unequal shares alike.
    num_patches = 0
    loss_sums: dict[str, Tensor] = {psi: torch.zeros((), dtype=torch.float64, device=device) for psi in supervised}
    for _ in range(num_batches):
        # One exchange a batch, also by a rank whose share is smaller and used up.
        if (stop := asked_to_stop(sums_by_name(request.as_counts, device))) is not None:
            return stop
        if (batch := next(batches, None)) is None:
            continue
        images, masks = (each.to(device, non_blocking=True) for each in (batch.images, batch.masks))
        with autocast(compute):
            scores = network(to_network_input(images))
        counts += confusion_px(scores, masks, config.mask_downsampling, probability=config.iou_probability)
        num_unsound += torch.stack([(~score.isfinite()).any(dim=1).sum() for score in scores.values()])
        parts = losses(network.setting, scores, masks, gamma=config.focal_gamma, method=config.mask_downsampling)
        for psi, loss in parts.items():
            loss_sums[psi] += loss.double() * len(images)
        num_patches += len(images)
    _refuse_unsound(network, dict(zip(network.outputs, sum_over_ranks(num_unsound).tolist(), strict=True)))
    total = sums_by_name({**loss_sums, "patches": float(num_patches)}, device)
    confusions = [PixelCounts(*cells) for cells in sum_over_ranks(counts).tolist()]
    return ValidationResult(
        confusion_px=dict(zip(network.outputs, confusions, strict=True)),
        losses={psi: total[psi] / total["patches"] for psi in supervised},
    )


def _refuse_unsound(network: DeeplySupervisedUNet, num_unsound_px: Mapping[Psi, int]) -> None:
    """NaN is not above anything, so that its pixels would count as called Normal, and the IoU be a sound 0."""
    counts = [f"{num} px of {psi}" for psi, num in num_unsound_px.items() if num]
    if counts:
        layer = not_finite(network.state_dict()) or "all weights are finite, so features overflow"
        raise NotFiniteError(
            f"{network.setting}: on Validation I the scores of {', '.join(counts)} are not finite ({layer}); no IoU "
            "is recorded. Lower the learning rate and train again, or look for damaged patches with `python "
            "shards/check.py`"
        )


def confusion_px(scores: ScoreMaps, masks: Tensor, method: MaskDownsampling, *, probability: float = 0.5) -> Tensor:
    """Pixels of each output, in the order of `PixelCounts`: int64 [num_outputs, 4].

    Each output is held against the masks at its own resolution (Pi_l). A pixel is called tumor where its probability
    lies above `probability`, between 0 and 1.
    """
    # Softmax of two scores reaches a probability where their difference reaches its logit: 0 at 0.5.
    logit = math.log(probability / (1 - probability))
    counts = []
    for score in scores.values():
        truth = downsample_mask(masks, (score.shape[-2], score.shape[-1]), method).bool()
        said = score[:, 1] - score[:, 0] > logit
        cells = {"tp": said & truth, "fp": said & ~truth, "fn": ~said & truth, "tn": ~said & ~truth}
        counts.append(torch.stack([cells[name].sum() for name in PixelCounts._fields]))
    return torch.stack(counts)
