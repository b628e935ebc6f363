"""The training of one setting: epochs of balanced, augmented patches over all ranks (paper, section 2.3)."""

import os
import resource
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from signal import Signals

import torch

import bccdist
from bccdist.configuration import AugmentConfig, Setting, TrainConfig, read_claimed
from bccdist.errors import ConfigurationError
from bccdist.files import is_read_only
from bccdist.freed_memory import keep_freed_memory
from bccdist.log import LOG
from bccdist.networks.starting import LINEAGE_KEY
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import save_network
from bccdist.paths import StudyPaths
from bccdist.ranks import resolve_ranks
from bccdist.shard_set.epoch_plan import (
    EpochPlan,
    drawn_unbalance,
    draws_of_pools,
    unbalance_before,
)
from bccdist.shard_set.folds import difference_to, read_folds
from bccdist.shard_set.index import ShardSet, read_set
from bccdist.training.checkpoints import Position
from bccdist.training.compute import kernels, resolve_compute
from bccdist.training.distributed import (
    average_batch_statistics,
    choose_device,
    largest_over_ranks,
    process_group,
)
from bccdist.training.loader import read_ahead
from bccdist.training.reporting.metrics import (
    EpochFacts,
    best_epochs,
    epoch_rows,
    num_epochs_done,
    write_metrics,
)
from bccdist.training.reporting.opening import report_fewer_ranks, report_start
from bccdist.training.reporting.record import StepRecord, TimedBatches, report_stop
from bccdist.training.reporting.summary import write_summary
from bccdist.training.run import Run, prepare_run
from bccdist.training.samples import Patches, validation_draws
from bccdist.training.step import train_step
from bccdist.training.stop import StopRequest, leave
from bccdist.training.validation import ValidationResult, validate


def train(
    study_root: Path, setting: Setting, config: TrainConfig, *, asked_ranks: int = 1, fold: int | None = None
) -> None:
    """Train one setting to its last epoch, from where the run folder says that it stands.

    A signal to stop (USR2, TERM, HUP, Ctrl-C) is obeyed after the step at hand, once the state is saved; one that
    comes during validation after the batch at hand, and the validation is begun anew by the next start.

    Args:
        study_root: folder of the study; its shard set must be finished.
        setting: one of the paper's four.
        config: how it is trained.
        asked_ranks: the most that the launch asked for; with fewer the global batch is the same.
        fold: train without the slides of this fold, for the audit of the annotations; None trains with all.

    Raises:
        BccdistError: shards are missing, the run folder has another configuration, ranks or encoder weights do not
            fit, the loss is not finite, or a newer start of the job holds the run folder.
        SystemExit: a signal to stop was obeyed.
        KeyboardInterrupt: Ctrl-C was.
    """
    ranks = resolve_ranks(os.environ)
    config.check_ranks(ranks.world_size)
    device = choose_device(ranks)
    if device.type == "cpu":
        keep_freed_memory()
    study = StudyPaths(study_root)
    paths = study.run(setting) if fold is None else study.audit(setting).run(fold)
    if is_read_only(paths.root) and num_epochs_done(paths) >= read_claimed(paths.config)["epochs"] >= config.epochs:
        LOG.info(f"{setting}: all epochs are done in {paths.root}, which is read-only; nothing to do")
        return
    compute = resolve_compute(config.compute, device, world_size=ranks.world_size)
    with process_group(ranks, paths.root, device) as peers, kernels(compute):
        with StopRequest() as request:
            shard_set = read_set(study.shards.root)
            left_out = () if fold is None else _left_out(study, setting, fold, shard_set)
            run = prepare_run(paths, setting, config, ranks, compute, shard_set, left_out=left_out)
            with closing(run):
                report_fewer_ranks(run, asked_ranks)
                stopped_by = _train_to_the_end(run, request)
        if stopped_by is not None:
            leave(stopped_by, is_first=ranks.is_first, wait_for_the_first=peers.wait_for_the_first)


def _left_out(study: StudyPaths, setting: Setting, fold: int, shard_set: ShardSet) -> Collection[str]:
    """The slides of a fold.

    Raises:
        ConfigurationError: the folds were dealt of another shard set.
    """
    folds = read_folds(study.audit(setting).folds)
    if difference := difference_to(study.audit(setting).folds, replace(folds, shard_set=shard_set.digest)):
        raise ConfigurationError(difference)
    return folds.left_out(fold)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Adam's rate in an epoch, the first of which is 1: times `lr_factor` every `lr_every_epochs` epochs."""
    return config.learning_rate * config.lr_factor ** ((epoch - 1) // config.lr_every_epochs)


def _train_to_the_end(run: Run, request: StopRequest) -> Signals | None:
    """All epochs that are left; returns the signal that ended them early."""
    state = run.restore()
    position = state.position
    if position.epoch > run.config.epochs:
        run.say(f"{run.network.setting}: all {run.config.epochs} epochs are done in {run.paths.root}; nothing to do")
        return None
    if run.epochs_before is not None:
        run.events.write("more_epochs", before=run.epochs_before, now=run.config.epochs)
        run.say(
            f"{run.network.setting}: {run.config.epochs} epochs are asked for, and were {run.epochs_before}: it "
            f"goes on in epoch {position.epoch}; inference, selection and tables are out of date then"
        )
    report_start(run, state)
    while position.epoch <= run.config.epochs:
        plan = _plan(run, position.epoch)
        position, stopped_by = _train_steps(run, plan, position, request)
        if stopped_by is not None:
            return stopped_by
        found = _finish_epoch(run, plan, position, request)
        if isinstance(found, Signals):
            return found
        position = found
    run.events.write("done", epochs=run.config.epochs)
    return None


def _plan(run: Run, epoch: int) -> EpochPlan:
    """The epoch's draws among the training patches, and a record of how balanced they are."""
    plan, totals = run.plan(epoch), run.training.totals
    run.events.write(
        "plan",
        epoch=epoch,
        num_draws=len(plan.draws),
        num_steps=plan.num_steps,
        learning_rate=learning_rate(run.config, epoch),
        draws=draws_of_pools(totals.num_patches, run.config.balance),
        unbalance_before=unbalance_before(totals),
        unbalance_after=drawn_unbalance(run.training.tumornest_fraction, plan),
    )
    return plan


def _train_steps(
    run: Run, plan: EpochPlan, position: Position, request: StopRequest
) -> tuple[Position, Signals | None]:
    """The steps of an epoch that are left; a save after the last one, when one is due, and before a stop."""
    run.parallel.train()
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.config, position.epoch)
    record = StepRecord(run, plan, position)
    saved_s = time.monotonic()
    draws = run.training_draws(plan, position)
    with read_ahead(run.patches(position.epoch), draws, num_threads=run.config.num_workers) as batches:
        timed = TimedBatches(batches)
        while position.step < plan.num_steps:
            start_s = time.monotonic()
            # Each rank has a clock of its own, so whether a save is due is agreed on within the step.
            is_due = start_s - saved_s > 60 * run.config.save_every_min
            where = f"epoch {position.epoch}, step {position.step + 1}"
            found = train_step(run, timed, request, save_is_due=is_due, where=where)
            seconds, waited_s = time.monotonic() - start_s, timed.take_waited_s()
            position = position.after_step(found.losses, seconds=seconds, waited_s=waited_s)
            record.step(position, found, waited_s=waited_s)
            if found.save or found.stop is not None or position.step == plan.num_steps:
                run.save(position)
                saved_s = time.monotonic()
            if found.stop is not None:
                return position, found.stop
    return position, None


def _finish_epoch(run: Run, plan: EpochPlan, position: Position, request: StopRequest) -> Position | Signals:
    """Validation and files of an epoch whose steps are done; returns the start of the next, or what stopped it."""
    start_s = time.monotonic()
    # Until here each rank has followed its own patches; one network is validated and kept.
    average_batch_statistics(run.network)
    validation = _validate(run, request)
    if isinstance(validation, Signals):
        # Nothing is saved: the state of after the last step is on disk, with the ranks' own statistics.
        report_stop(run, position, validation, where="in the validation")
        return validation
    validation_s = time.monotonic() - start_s
    facts = EpochFacts(
        setting=run.network.setting,
        epoch=position.epoch,
        learning_rate=learning_rate(run.config, position.epoch),
        seconds=position.train_s + validation_s,
        patches_per_s=plan.num_steps * plan.global_batch / position.train_s,
        num_steps=plan.num_steps,
        loader_wait_share=position.waited_s / position.train_s,
        memory_gib=largest_over_ranks(_peak_memory_gib(run.device), run.device),
        phantom=run.shard_set.is_phantom,
    )
    run.metrics += epoch_rows(facts, validation, position.mean_losses, merge_weights=_merge_weights(run.network))
    done = Position(epoch=position.epoch + 1, validation_s=validation_s)
    _save_epoch(run, position.epoch, done)
    _report_epoch(run, position.epoch)
    return done


def _merge_weights(network: DeeplySupervisedUNet) -> dict[str, float] | None:
    """Eq. 2's w of each block, where they are trained."""
    if "merged" not in network.outputs:
        return None
    return dict(zip(network.outputs[:-1], network.merge_weights.tolist(), strict=True))


def _validate(run: Run, request: StopRequest) -> ValidationResult | Signals:
    """Validation I, shared out over the ranks and added up; or the signal that stopped it."""
    patches = Patches(reader=run.reader, augment_config=AugmentConfig(enabled=False), seed=0, epoch=0)
    rows, batch = run.validation.rows, run.config.micro_batch
    draws = validation_draws(rows, run.ranks, batch=batch)
    num_batches = -(-len(rows[:: run.ranks.world_size]) // batch)  # of the first rank, whose share is the largest
    with read_ahead(patches, draws, num_threads=run.config.num_workers) as batches:
        return validate(run.network, batches, run.config, run.compute, num_batches=num_batches, request=request)


def _peak_memory_gib(device: torch.device) -> float:
    """Most memory since the process began: the GPU's where there is one, else the process's own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _save_epoch(run: Run, epoch: int, done: Position) -> None:
    """The first rank writes weights, metrics and state, and drops weights that are no longer among the best."""
    run.refuse_lost()
    kept = best_epochs(run.metrics, run.config.keep_best)
    # Weights, then metrics, then the state, and only then are weights dropped: a start that is killed in between finds
    # the state of before, does this epoch again, and misses no weights that some metrics name.
    if run.ranks.is_first:
        if epoch in kept:
            save_network(run.paths.weights(epoch), run.network, _weights_metadata(run, epoch))
        write_metrics(run.paths.metrics, run.metrics)
        write_summary(run.paths.summary, run.metrics, title=_title(run), num_best=run.config.keep_best)
    run.save(done)
    if run.ranks.is_first:
        for dropped in set(range(1, epoch + 1)) - set(kept):
            run.paths.weights(dropped).unlink(missing_ok=True)


def _title(run: Run) -> str:
    start = f", from weights {run.start.sha256[:12]}" if run.start else ""
    return f"{run.network.setting}, width {run.config.width}, configuration {run.config_digest}{start}"


def _weights_metadata(run: Run, epoch: int) -> dict[str, str]:
    return {
        "epoch": str(epoch),
        "config_digest": run.config_digest,
        "target_mpp": str(run.shard_set.target_mpp),
        "phantom": str(run.shard_set.is_phantom or (run.start is not None and run.start.phantom)).lower(),
        "bccdist": bccdist.__version__,
        **({LINEAGE_KEY: run.start.lineage} if run.start else {}),
    }


def _report_epoch(run: Run, epoch: int) -> None:
    row = run.metrics[-1]
    run.events.write("epoch", epoch=epoch, iou=row["iou"], seconds=row["seconds"])
    if run.board is not None:
        run.board.epoch([each for each in run.metrics if each["epoch"] == epoch])
    run.say(
        f"epoch {epoch}/{run.config.epochs}: Validation I IoU of {row['psi']} {row['iou']:.3f}, "
        f"{row['patches_per_s']:.1f} patches/s, {row['loader_wait_share']:.1%} of it waiting for patches, "
        f"{row['seconds']:.0f} s"
    )
