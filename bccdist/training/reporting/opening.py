"""What a run says when it starts: how much there is to do, in which arithmetic, and how augmented patches look."""

import math
from dataclasses import replace

from bccdist.shard_set.epoch_plan import (
    EpochPlan,
    MicroBatches,
    draws_of_pools,
    empty_pools,
    expected_unbalance,
    unbalance_before,
)
from bccdist.training.checkpoints import Position, State
from bccdist.training.compute import difference_to_float32_eager
from bccdist.training.loader import read_ahead
from bccdist.training.reporting.board import Board
from bccdist.training.reporting.contact_sheet import sheet_of_plan, write_contact_sheet
from bccdist.training.run import Run, micro_batches_of
from bccdist.training.step import on_device


def report_start(run: Run, state: State) -> None:
    """Say, record and draw what is worth knowing before the first step."""
    position = state.position
    run.say(_opening_line(run, position))
    _report_empty_pools(run)
    if state.world_size is not None:
        _report_resume(run, state, state.world_size)
    if run.begins_with:
        run.events.write("encoder_weights" if run.start is None else "start_from", text=run.begins_with)
        run.say(run.begins_with)
    _warn_of_start(run)
    if run.ranks.is_first:
        plan = run.plan(position.epoch)
        if position == Position():
            _report_arithmetic(run, plan)
            _draw_contact_sheet(run, plan)
        run.board = Board(run.paths.tensorboard, first_step=position.num_steps_done(plan.num_steps))


def report_fewer_ranks(run: Run, asked: int) -> None:
    """Say that the site gave fewer ranks than were asked for, as where a job takes the nodes that are free."""
    found = run.ranks.world_size
    if found < asked:
        run.events.write("fewer_ranks", asked=asked, found=found, global_batch=run.config.global_batch)
        run.say(
            f"{asked} ranks were asked for, and {found} are there: a step keeps its {run.config.global_batch} "
            "patches, and takes longer"
        )


def _opening_line(run: Run, position: Position) -> str:
    config = run.config
    totals = run.training.totals
    draws = draws_of_pools(totals.num_patches, config.balance)
    phantom = "PHANTOM DATA, " if run.shard_set.is_phantom else ""
    after = f" (going on after step {position.step})" if position.step else ""
    return (
        f"{phantom}{run.network.setting}, width {config.width}: epochs {position.epoch}{after} to {config.epochs}, "
        f"{totals.num_distinct} training patches with {unbalance_before(totals):.2f} tumor-free pixels per tumor "
        f"pixel, {sum(draws.values())} draws an epoch with {expected_unbalance(totals, draws):.2f}, "
        f"{len(run.validation.rows)} validation patches, {run.ranks.world_size} rank(s) on {run.device.type}, "
        f"{run.compute}"
    )


def _report_resume(run: Run, state: State, saved_ranks: int) -> None:
    position, num_ranks, cut = state.position, run.ranks.world_size, run.micro_batches
    run.events.write(
        "resume",
        epoch=position.epoch,
        step=position.step,
        saved_ranks=saved_ranks,
        ranks=num_ranks,
        global_batch=cut.global_batch,
        micro_batches=cut.num,
    )
    if saved_ranks == num_ranks:
        return
    before = replace(cut, num=state.num_micro_batches or micro_batches_of(run.config, saved_ranks).num)
    sizes = sorted({sum(map(len, cut.of_rank(rank, world_size=num_ranks))) for rank in range(num_ranks)})
    text = (
        f"the state in {run.paths.last} is of {saved_ranks} rank(s), now there are {num_ranks}: a step has the same "
        f"{cut.global_batch} patches, {' to '.join(map(str, sizes[:: max(1, len(sizes) - 1)]))} for each rank. "
        f"{_as_normalised(cut, before)}; each rank takes the mean of their running batch statistics, so the outcome "
        "differs a little"
    )
    run.events.write("other_ranks", text=text)
    run.say(text)


def _as_normalised(cut: MicroBatches, before: MicroBatches) -> str:
    """What another number of ranks means for batch normalisation."""
    if cut == before:
        return f"Batch normalisation sees the same {cut.largest} patches at a time as before"
    return f"Batch normalisation sees {cut.largest} patches at a time, and saw {before.largest} before"


def _warn_of_start(run: Run) -> None:
    """Say in what the network that the run started from differs from what it is trained on now."""
    start, shard_set = run.start, run.shard_set
    if start is None:
        return
    if not math.isclose(start.target_mpp, shard_set.target_mpp, rel_tol=1e-6):
        run.say(
            f"start_from: that network was trained at {start.target_mpp:g} um/px, these patches have "
            f"{shard_set.target_mpp:g}: it has to learn another scale"
        )
    if start.phantom and not shard_set.is_phantom:
        run.say(
            "start_from: that network was trained on drawn slides, so that this one's weights count as PHANTOM, too"
        )


def _report_empty_pools(run: Run) -> None:
    """Say which pools of Table 2 should be drawn from and hold no patch."""
    for pool in empty_pools(run.training.totals.num_patches, run.config.balance):
        run.events.write("empty_pool", pool=pool)
        run.say(f"pool {pool} of Table 2 holds no training patch, so nothing is drawn from it")


def _report_arithmetic(run: Run, plan: EpochPlan) -> None:
    """How far the chosen arithmetic is from float32 eager, on the first patches of the first epoch's plan."""
    if run.compute.is_plain_for(run.network):
        return
    first = next(run.training_draws(plan, Position()))
    with read_ahead(run.patches(epoch=1), [first], num_threads=0) as batches:
        images, masks = on_device(run, next(batches))
    differences = difference_to_float32_eager(run.network, images, masks, compute=run.compute, config=run.config)
    run.events.write("arithmetic", chosen=str(run.compute), num_patches=len(images), **differences)
    run.say(f"{run.compute}, against float32 eager on {len(images)} patches: {_as_text(differences)}")


def _as_text(differences: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1e}" for name, value in differences.items())


def _draw_contact_sheet(run: Run, plan: EpochPlan) -> None:
    """Patches of the first epoch's plan, before and after augmentation."""
    config = run.config
    if config.augment.enabled:
        sheet = sheet_of_plan(run.reader, plan, run.training, config.augment, seed=config.seed, epoch=1)
        write_contact_sheet(run.paths.contact_sheet, sheet)
