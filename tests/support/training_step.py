"""One optimiser step's gradients on a known global batch, for the tests of ranks and of micro-batches."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from bccdist.configuration import ComputeConfig, TrainConfig
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.ranks import Ranks
from bccdist.shard_set.epoch_plan import MicroBatches
from bccdist.training.compute import prepare_network, resolve_compute
from bccdist.training.distributed import in_parallel
from bccdist.training.loader import Batch
from bccdist.training.run import Run
from bccdist.training.step import train_step
from bccdist.training.stop import StopRequest

GLOBAL_BATCH = 4
CPU = torch.device("cpu")
Gradients = dict[str, Tensor]


def gradients(
    ranks: Ranks,
    *,
    micro_batch: int,
    global_batch: int = GLOBAL_BATCH,
    device: torch.device = CPU,
    in_training: bool = False,
) -> tuple[Gradients, dict[str, float]]:
    """Of one training step on this rank's share of the batch, and the losses that it reports.

    Batch statistics are those of evaluation: in training, every micro-batch of every rank is normalised by itself,
    unless there are several ranks, which then normalise together (SyncBN).
    Numbers are float64, so that the order of sums, which differs with ranks and threads, does not matter.
    """
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34_ds", width=4).train(in_training).double().to(device)
    config = ComputeConfig(precision="float32", compile="off", sync_batch_norm=in_training and device != CPU)
    compute = resolve_compute(config, device, world_size=ranks.world_size)
    network = prepare_network(network, compute)
    network.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    cut = MicroBatches.of_run(global_batch=global_batch, largest=micro_batch, world_size=ranks.world_size)
    parts = cut.of_rank(ranks.rank, world_size=ranks.world_size)
    run = SimpleNamespace(
        config=TrainConfig(width=4, global_batch=global_batch, micro_batch=micro_batch),
        ranks=ranks,
        parts=parts,
        device=device,
        compute=compute,
        network=network,
        parallel=in_parallel(network, ranks),
        optimizer=torch.optim.Adam(network.parameters()),
    )
    images, masks = _global_batch()
    batches = (Batch(images[part.start : part.stop], masks[part.start : part.stop], None) for part in parts)
    found = train_step(cast("Run", run), batches, StopRequest(), save_is_due=False, where="here")
    return {name: cast("Tensor", weight.grad) for name, weight in network.named_parameters()}, found.losses


def _global_batch() -> tuple[Tensor, Tensor]:
    """Images and masks of 64 px, each patch with another share of tumor."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (GLOBAL_BATCH, 64, 64, 3), dtype=np.uint8))
    masks = torch.zeros(GLOBAL_BATCH, 64, 64, dtype=torch.uint8)
    for number in range(GLOBAL_BATCH):
        masks[number, : 16 * number] = 1
    return images, masks


def largest_difference(found: Gradients, expected: Gradients) -> float:
    """Relative to each gradient's largest value."""
    assert list(found) == list(expected)
    return max(
        float((found[name] - gradient).abs().max() / gradient.abs().max().clamp(min=1e-6))
        for name, gradient in expected.items()
    )
