"""Patches are drawn in the plan's order and changed by their position, whatever the ranks."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from small_study import write_finished_study

from bccdist.configuration import AugmentConfig
from bccdist.ranks import Ranks
from bccdist.shard_set.epoch_plan import EpochPlan, MicroBatches
from bccdist.shard_set.index import ShardSet, read_set
from bccdist.shard_set.reader import PatchReader
from bccdist.training.augmentation import augment
from bccdist.training.samples import Draw, Patches, training_draws, validation_draws

AS_STORED = AugmentConfig(enabled=False)


@pytest.fixture(scope="module")
def shard_set(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Not to be changed."""
    return read_set(write_finished_study(tmp_path_factory.mktemp("study")).shards.root)


def _patches(shard_set: ShardSet, augment_config: AugmentConfig = AS_STORED) -> Patches:
    return Patches(reader=PatchReader(shard_set), augment_config=augment_config, seed=5, epoch=2)


def _plan(num_patches: int, *, global_batch: int = 4) -> EpochPlan:
    draws = np.random.default_rng(0).permutation(np.repeat(np.arange(num_patches), 2))[:20]
    return EpochPlan(draws=draws, global_batch=global_batch, num_steps=len(draws) // global_batch)


def _draws(
    plan: EpochPlan, *, rank: int = 0, world_size: int = 1, micro_batch: int = 2, first_step: int = 0
) -> Iterator[list[Draw]]:
    """Of the rows from 3 on."""
    cut = MicroBatches.of_run(global_batch=plan.global_batch, largest=micro_batch, world_size=world_size)
    parts = cut.of_rank(rank, world_size=world_size)
    return training_draws(plan, np.arange(3, 30), parts, first_step=first_step)


def test_micro_batches_follow_the_plan() -> None:
    plan = _plan(27)
    draws = list(_draws(plan, micro_batch=3))
    assert [len(batch) for batch in draws] == [2, 2] * plan.num_steps
    expected = [(position, 3 + int(plan.draws[position])) for position in range(plan.num_steps * plan.global_batch)]
    assert [draw for batch in draws for draw in batch] == expected


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_out_each_step(world_size: int) -> None:
    plan = _plan(27)
    whole = list(_draws(plan, micro_batch=4))
    ranks = [list(_draws(plan, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert [[draw for share in shares for draw in share] for shares in zip(*ranks, strict=True)] == whole


@pytest.mark.parametrize("first_step", [0, 3, 5, 6])
def test_draws_that_begin_later_are_the_rest_of_the_epoch(first_step: int) -> None:
    plan = _plan(27)
    rest = list(_draws(plan, micro_batch=3))[2 * first_step :]
    assert list(_draws(plan, micro_batch=3, first_step=first_step)) == rest


def test_the_batches_of_an_epoch_are_made_one_by_one() -> None:
    plan = EpochPlan(draws=np.zeros(10_000_000, dtype=np.int32), global_batch=10, num_steps=1_000_000)
    tracemalloc.start()
    batches = _draws(plan, micro_batch=3)
    first = [next(batches) for _ in range(4)]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [position for batch in first for position, _ in batch] == list(range(10))
    assert peak_bytes < 100_000


def test_a_patch_is_changed_by_its_position(shard_set: ShardSet) -> None:
    changed, stored = _patches(shard_set, AugmentConfig()), _patches(shard_set)
    assert np.array_equal(changed[Draw(0, 4)].image, changed[Draw(0, 4)].image)
    assert not np.array_equal(changed[Draw(0, 4)].image, changed[Draw(1, 4)].image)
    assert np.array_equal(stored[Draw(0, 4)].image, stored[Draw(1, 4)].image)


def test_changes_that_are_made_elsewhere_are_those_that_are_made_here(shard_set: ShardSet) -> None:
    here = _patches(shard_set, AugmentConfig())
    image, mask, change = replace(here, augment_here=False)[Draw(7, 4)]
    assert change is not None
    changed_image, changed_mask = augment(image, mask, change)
    assert np.array_equal(changed_image, here[Draw(7, 4)].image)
    assert np.array_equal(changed_mask, here[Draw(7, 4)].mask)
    assert here[Draw(7, 4)].change is None
    assert np.array_equal(image, here.reader.read(4)[0])


@pytest.mark.parametrize("world_size", [1, 2, 5, 7])
def test_validation_covers_every_row_once(world_size: int) -> None:
    rows = np.arange(30, 36)
    seen: list[int] = []
    for rank in range(world_size):
        draws = list(validation_draws(rows, Ranks(rank=rank, world_size=world_size), batch=2))
        assert all(0 < len(batch) <= 2 for batch in draws)
        seen += [row for batch in draws for _, row in batch]
    assert sorted(seen) == rows.tolist()
