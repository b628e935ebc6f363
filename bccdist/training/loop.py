"""The training of one setting: epochs of balanced, augmented patches over all ranks (paper, section 2.3)."""

import math
import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import bccdist
from bccdist.configuration import AugmentConfig, Setting, TrainConfig, claim_config
from bccdist.errors import DistributedError
from bccdist.files import write_json
from bccdist.networks.inputs import to_network_input
from bccdist.networks.pretrained import encoder_weights_sha256, load_encoder_weights
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import save_network
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.training.checkpoints import load_state, save_state
from bccdist.training.distributed import (
    Ranks,
    average_batch_statistics,
    barrier,
    choose_device,
    process_group,
    resolve_ranks,
    sum_over_ranks,
)
from bccdist.training.epoch_plan import (
    EpochPlan,
    drawn_unbalance,
    draws_of_pools,
    empty_pools,
    expected_unbalance,
    plan_epoch,
    share_of,
    unbalance_before,
)
from bccdist.training.events import EventLog
from bccdist.training.losses import losses
from bccdist.training.metrics import MetricsRow, best_epochs, epoch_rows, write_metrics
from bccdist.training.progress import Progress
from bccdist.training.samples import Patches, PatchReader, training_loader, validation_loader
from bccdist.training.shard_set import PartPatches, ShardSet, read_set
from bccdist.training.validation import ValidationResult, validate

Batch = tuple[Tensor, Tensor]
"""RGB uint8 [n, h, w, 3] and mask uint8 [n, h, w]."""
_PARTS = (Part.TRAINING, Part.VALIDATION_1)


@dataclass(kw_only=True)
class Run:
    """All that one rank holds while it trains."""

    config: TrainConfig
    config_digest: str
    paths: RunPaths
    ranks: Ranks
    device: torch.device
    shard_set: ShardSet
    training: PartPatches
    validation: PartPatches
    reader: PatchReader
    network: DeeplySupervisedUNet
    parallel: nn.Module
    """The network, wrapped in DDP where there are several ranks."""
    optimizer: torch.optim.Optimizer
    events: EventLog
    metrics: list[MetricsRow]
    encoder_start: str | None
    """Where the encoder of a fresh run comes from, if not from chance."""

    def say(self, text: str) -> None:
        """Print a line of progress, once for all ranks."""
        if self.ranks.is_first:
            print(text, flush=True)  # noqa: T201


def train(study_root: Path, setting: Setting, config: TrainConfig) -> None:
    """Train one setting to its last epoch, from where the run folder says that it stands.

    Args:
        study_root: folder of the study; its shard set must be finished.
        setting: one of the paper's four.
        config: of the run.

    Raises:
        BccdistError: shards are missing, the run folder has another configuration, ranks or encoder weights do not
            fit, or the loss is not finite.
    """
    ranks = resolve_ranks(os.environ)
    config.check_ranks(ranks.world_size)
    device = choose_device(ranks)
    study = StudyPaths(study_root)
    paths = study.run(setting)
    with process_group(ranks, paths.root, device):
        run = _prepare(paths, setting, config, ranks, device, read_set(study.shards.root))
        with closing(run.events):
            _train_to_the_end(run)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """The rate of Adam: times 0.8 every 5 epochs; the first epoch is 1."""
    return config.learning_rate * config.lr_factor ** ((epoch - 1) // config.lr_every_epochs)


def _train_to_the_end(run: Run) -> None:
    first_epoch = _resume(run)
    if first_epoch > run.config.epochs:
        run.say(f"{run.network.setting}: all {run.config.epochs} epochs are done in {run.paths.root}; nothing to do")
        return
    run.say(_opening_line(run, first_epoch))
    if run.encoder_start:
        run.events.write("encoder_weights", text=run.encoder_start)
        run.say(run.encoder_start)
    _report_empty_pools(run)
    for epoch in range(first_epoch, run.config.epochs + 1):
        _train_epoch(run, epoch)
    run.events.write("done", epochs=run.config.epochs)


def _prepare(
    paths: RunPaths, setting: Setting, config: TrainConfig, ranks: Ranks, device: torch.device, shard_set: ShardSet
) -> Run:
    training, validation = (shard_set.part(part) for part in _PARTS)
    torch.manual_seed(config.seed)
    network = DeeplySupervisedUNet(setting, width=config.width, merge_weight_std=config.merge_weight_std)
    # Before the folder is claimed, so that a file that does not fit leaves it to the one that does.
    encoder_start = _start_encoder(network, config, paths)
    context = {"setting": setting, "shard_set": shard_set.digest, **_weights_context(config)}
    digest = _claim(paths, ranks, config, **context)
    network.to(device)
    return Run(
        config=config,
        config_digest=digest,
        paths=paths,
        ranks=ranks,
        device=device,
        shard_set=shard_set,
        training=training,
        validation=validation,
        reader=PatchReader(shard_set),
        network=network,
        parallel=_in_parallel(network, ranks),
        optimizer=torch.optim.Adam(network.parameters(), lr=config.learning_rate),
        events=EventLog(paths.events(ranks.rank)),
        metrics=[],
        encoder_start=encoder_start,
    )


def _start_encoder(network: DeeplySupervisedUNet, config: TrainConfig, paths: RunPaths) -> str | None:
    """Give a fresh run its encoder weights, if it has some; a run with a state has them in there."""
    if config.encoder_weights is None or paths.last.exists():
        return None
    return load_encoder_weights(config.encoder_weights, network)


def _weights_context(config: TrainConfig) -> dict[str, str]:
    """The content of the encoder weights, not only their path, names the run."""
    if config.encoder_weights is None:
        return {}
    return {"encoder_weights_sha256": encoder_weights_sha256(config.encoder_weights)}


def _in_parallel(network: nn.Module, ranks: Ranks) -> nn.Module:
    """The network as all ranks train it: gradients are averaged; each rank keeps its own running statistics.

    Were they sent around, every step would begin with those of the first rank, and the data of the others would
    be lost to them; so they are averaged at the end of the epoch.
    """
    if ranks.world_size == 1:
        return network
    with warnings.catch_warnings():
        # torch 2.13 deprecates the option for one that the earlier versions do not have.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(network, broadcast_buffers=False)


def _claim(paths: RunPaths, ranks: Ranks, config: TrainConfig, **context: str) -> str:
    """The run's digest; the first rank writes the folder's configuration before the others check it."""
    if ranks.is_first:
        claim_config(paths.config, config, **context)
        write_json(paths.environment, _environment(ranks))
    barrier()
    return claim_config(paths.config, config, **context)


def _environment(ranks: Ranks) -> dict[str, str | int]:
    return {
        "bccdist": bccdist.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.node(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "world_size": ranks.world_size,
    }


def _resume(run: Run) -> int:
    """Restore the newest state where there is one; returns the epoch to begin with."""
    epochs_done, run.metrics = load_state(
        run.paths.last,
        network=run.network,
        optimizer=run.optimizer,
        config_digest=run.config_digest,
        device=run.device,
    )
    return epochs_done + 1


def _opening_line(run: Run, first_epoch: int) -> str:
    config = run.config
    totals = run.training.totals
    draws = draws_of_pools(totals.num_patches, config.balance)
    phantom = "PHANTOM DATA, " if run.shard_set.is_phantom else ""
    return (
        f"{phantom}{run.network.setting}, width {config.width}: epochs {first_epoch} to {config.epochs}, "
        f"{totals.num_distinct} training patches with {unbalance_before(totals):.2f} tumor-free pixels per tumor "
        f"pixel, {sum(draws.values())} draws an epoch with {expected_unbalance(totals, draws):.2f}, "
        f"{len(run.validation.rows)} validation patches, {run.ranks.world_size} rank(s) on {run.device.type}"
    )


def _report_empty_pools(run: Run) -> None:
    """Say which pools of Table 2 should be drawn from and hold no patch."""
    for pool in empty_pools(run.training.totals.num_patches, run.config.balance):
        run.events.write("empty_pool", pool=pool)
        run.say(f"pool {pool} of Table 2 holds no training patch, so nothing is drawn from it")


def _train_epoch(run: Run, epoch: int) -> None:
    """One epoch: steps, validation, files."""
    start_s = time.monotonic()
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.config, epoch)
    plan = _plan(run, epoch)
    train_losses = _train_steps(run, epoch, plan)
    patches_per_s = plan.num_steps * plan.global_batch / (time.monotonic() - start_s)
    average_batch_statistics(run.network)
    validation = _validate(run)
    run.metrics += epoch_rows(
        run.network.setting,
        epoch,
        validation,
        train_losses,
        learning_rate=learning_rate(run.config, epoch),
        seconds=time.monotonic() - start_s,
        patches_per_s=patches_per_s,
        phantom=run.shard_set.is_phantom,
    )
    _save_epoch(run, epoch)
    _report_epoch(run, epoch)


def _plan(run: Run, epoch: int) -> EpochPlan:
    """The epoch's draws among the training patches."""
    plan = plan_epoch(
        run.training.members,
        run.config.balance,
        seed=run.config.seed,
        epoch=epoch,
        global_batch=run.config.global_batch,
        max_steps=run.config.max_steps,
    )
    totals = run.training.totals
    run.events.write(
        "plan",
        epoch=epoch,
        num_draws=len(plan.draws),
        num_steps=plan.num_steps,
        draws=draws_of_pools(totals.num_patches, run.config.balance),
        unbalance_before=unbalance_before(totals),
        unbalance_after=drawn_unbalance(run.training.tumornest_fraction, plan),
    )
    return plan


def _train_steps(run: Run, epoch: int, plan: EpochPlan) -> dict[str, float]:
    """All optimiser steps of an epoch; returns the mean loss of each supervised output."""
    run.parallel.train()
    loader = training_loader(
        Patches(reader=run.reader, augment_config=run.config.augment, seed=run.config.seed, epoch=epoch),
        plan,
        run.training.rows,
        micro_batch=run.config.micro_batch,
        rank=run.ranks.rank,
        world_size=run.ranks.world_size,
        num_workers=run.config.num_workers,
    )
    progress = Progress(epoch=epoch, num_epochs=run.config.epochs, plan=plan, say=run.say)
    totals: dict[str, float] = {}
    batches = iter(loader)
    for step in range(1, plan.num_steps + 1):
        step_losses = _train_step(run, batches)
        _refuse_non_finite(run, step_losses, f"epoch {epoch}, step {step}")
        run.optimizer.step()
        totals = {psi: totals.get(psi, 0.0) + loss for psi, loss in step_losses.items()}
        run.events.write("step", epoch=epoch, step=step, losses=step_losses)
        progress.report(step, step_losses)
    return {psi: total / plan.num_steps for psi, total in totals.items()}


def _train_step(run: Run, batches: Iterator[Batch]) -> dict[str, float]:
    """Gradients of one global batch, in micro-batches; returns the mean losses over all its patches.

    Ranks average their gradients, and their shares can differ by a patch. So a patch counts world_size / global_batch
    on its rank: then the average is the mean over the patches, whatever the shares.
    """
    config, world_size = run.config, run.ranks.world_size
    share = share_of(config.global_batch, rank=run.ranks.rank, world_size=world_size)
    num_micro = -(-len(share) // config.micro_batch)
    sums: dict[str, Tensor] = {}
    run.optimizer.zero_grad(set_to_none=True)
    for number, (images, masks) in enumerate(islice(batches, num_micro), start=1):
        with _synchronised_if(run.parallel, number == num_micro):
            parts = _losses(run, images, masks)
            weighted = {psi: loss * (len(images) * world_size / config.global_batch) for psi, loss in parts.items()}
            torch.stack(list(weighted.values())).sum().backward()  # type: ignore[no-untyped-call]
        sums = {psi: sums.get(psi, 0.0) + loss.detach() for psi, loss in weighted.items()}
    means = sum_over_ranks(torch.stack(list(sums.values()))) / world_size
    return dict(zip(sums, means.tolist(), strict=True))


def _synchronised_if(parallel: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Only the last micro-batch of a step exchanges gradients between ranks."""
    if last or not isinstance(parallel, DistributedDataParallel):
        return nullcontext()
    return parallel.no_sync()


def _refuse_non_finite(run: Run, step_losses: dict[str, float], where: str) -> None:
    """Stop all ranks before the optimiser's step; the mean is the same on all, so all of them stop."""
    if not all(math.isfinite(loss) for loss in step_losses.values()):
        raise DistributedError(
            f"{run.network.setting}, {where}: the loss is not finite: {step_losses}; no rank made this step. "
            "Lower the learning rate, or look for damaged patches with `python shards/check.py`"
        )


def _losses(run: Run, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
    scores = run.parallel(to_network_input(images.to(run.device, non_blocking=True)))
    masks = masks.to(run.device, non_blocking=True)
    config = run.config
    return losses(run.network.setting, scores, masks, gamma=config.focal_gamma, method=config.mask_downsampling)


def _validate(run: Run) -> ValidationResult:
    """Validation I, shared out over the ranks and added up."""
    loader = validation_loader(
        Patches(reader=run.reader, augment_config=AugmentConfig(enabled=False), seed=0, epoch=0),
        run.validation.rows,
        batch=run.config.micro_batch,
        rank=run.ranks.rank,
        world_size=run.ranks.world_size,
        num_workers=run.config.num_workers,
    )
    return validate(run.network, loader, run.config, run.device)


def _save_epoch(run: Run, epoch: int) -> None:
    """The first rank writes weights, metrics and state, and drops weights that are no longer among the best."""
    if run.ranks.is_first:
        kept = best_epochs(run.metrics, run.config.keep_best)
        if epoch in kept:
            save_network(run.paths.weights(epoch), run.network, _weights_metadata(run, epoch))
        write_metrics(run.paths.metrics, run.metrics)
        save_state(
            run.paths.last,
            network=run.network,
            optimizer=run.optimizer,
            epoch=epoch,
            metrics=run.metrics,
            config_digest=run.config_digest,
        )
        for dropped in set(range(1, epoch + 1)) - set(kept):
            run.paths.weights(dropped).unlink(missing_ok=True)
    barrier()


def _weights_metadata(run: Run, epoch: int) -> dict[str, str]:
    return {
        "epoch": str(epoch),
        "config_digest": run.config_digest,
        "target_mpp": str(run.shard_set.target_mpp),
        "phantom": str(run.shard_set.is_phantom).lower(),
        "bccdist": bccdist.__version__,
    }


def _report_epoch(run: Run, epoch: int) -> None:
    row = run.metrics[-1]
    run.events.write("epoch", epoch=epoch, iou=row["iou"], seconds=row["seconds"])
    run.say(
        f"epoch {epoch}/{run.config.epochs}: Validation I IoU of {row['psi']} {row['iou']:.3f}, "
        f"{row['patches_per_s']:.1f} patches/s, {row['seconds']:.0f} s"
    )
