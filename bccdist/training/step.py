"""One optimiser step over all ranks, in the order in which it happens (paper, section 2.3)."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from signal import Signals

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from bccdist.errors import DistributedError
from bccdist.networks.inputs import to_network_input
from bccdist.training.compute import autocast
from bccdist.training.device_augmentation import augment_batch
from bccdist.training.distributed import sums_by_name
from bccdist.training.loader import Batch
from bccdist.training.losses import losses
from bccdist.training.run import Run
from bccdist.training.stop import StopRequest, asked_to_stop


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What all ranks know after a step."""

    losses: dict[str, float]
    """The loss of each supervised output: the mean over the patches of all ranks."""
    gradient_norm: float
    """Euclidean norm of the gradient over all weights."""
    stop: Signals | None
    """The signal that some rank was told to stop with."""
    save: bool
    """Whether some rank finds that a save is due."""


def train_step(
    run: Run, batches: Iterator[Batch], request: StopRequest, *, save_is_due: bool, where: str
) -> StepResult:
    """Gradients of one global batch, agreement of the ranks, and the optimiser's step.

    Raises:
        DistributedError: the loss or its gradient is not finite; no rank has made the step.
    """
    run.optimizer.zero_grad(set_to_none=True)
    losses_here = _accumulate(run, batches)
    norm_here = get_total_norm([each.grad for each in run.network.parameters() if each.grad is not None])
    # One exchange for everything, so that the ranks cannot disagree on what comes next.
    told: dict[str, Tensor | float] = {**losses_here, "gradient_norm": norm_here, "save": float(save_is_due)}
    total = sums_by_name({**told, **request.as_counts}, run.device)
    found = StepResult(
        losses={psi: total[psi] / run.ranks.world_size for psi in losses_here},
        gradient_norm=total["gradient_norm"] / run.ranks.world_size,
        stop=asked_to_stop(total),
        save=total["save"] > 0,
    )
    # Before the weights are touched, and on all ranks alike.
    _refuse_non_finite(run, found, where)
    run.optimizer.step()
    return found


def _accumulate(run: Run, batches: Iterator[Batch]) -> dict[str, Tensor]:
    """Backward passes of this rank's micro-batches; returns its part of the losses times world_size.

    Ranks average their gradients, and their shares can differ. So a patch counts world_size / global_batch on its
    rank: then the average is the mean over the patches, whatever the shares.
    """
    config, world_size = run.config, run.ranks.world_size
    num_micro = len(run.parts)
    sums: dict[str, Tensor] = {}
    for number, batch in enumerate(islice(batches, num_micro), start=1):
        with _synchronised_if(run.parallel, number == num_micro):
            weight = len(batch.images) * world_size / config.global_batch
            weighted = {psi: loss * weight for psi, loss in _losses(run, batch).items()}
            torch.stack(list(weighted.values())).sum().backward()  # type: ignore[no-untyped-call]
        sums = {psi: sums.get(psi, 0.0) + loss.detach() for psi, loss in weighted.items()}
    return sums


def _losses(run: Run, batch: Batch) -> dict[str, Tensor]:
    images, masks = on_device(run, batch)
    config = run.config
    with autocast(run.compute):
        scores = run.parallel(to_network_input(images))
    return losses(run.network.setting, scores, masks, gamma=config.focal_gamma, method=config.mask_downsampling)


def on_device(run: Run, batch: Batch) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, h, w, 3] and masks uint8 [n, h, w] where the network is, augmented if they were not yet."""
    images = batch.images.to(run.device, non_blocking=True)
    masks = batch.masks.to(run.device, non_blocking=True)
    if batch.changes is None:
        return images, masks
    changes = batch.changes.to(run.device, non_blocking=True)
    return augment_batch(images, masks, changes, max_blur_sigma_px=run.config.augment.blur_sigma_px)


def _synchronised_if(parallel: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Only the last micro-batch of a step exchanges gradients between ranks."""
    if last or not isinstance(parallel, DistributedDataParallel):
        return nullcontext()
    return parallel.no_sync()


def _refuse_non_finite(run: Run, found: StepResult, where: str) -> None:
    """Stop all ranks before the optimiser's step; what was found is the same on all, so all of them stop."""
    if all(map(math.isfinite, [*found.losses.values(), found.gradient_norm])):
        return
    what = "the loss" if not all(map(math.isfinite, found.losses.values())) else "its gradient"
    raise DistributedError(
        f"{run.network.setting}, {where}: {what} is not finite: losses {found.losses}, norm of the gradient "
        f"{found.gradient_norm}; no rank made this step. Lower the learning rate, or look for damaged patches with "
        "`python shards/check.py`"
    )
