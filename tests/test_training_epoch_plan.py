"""An epoch draws Table 2's numbers exactly, the same for every number of ranks, and from (seed, epoch) alone."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.configuration import BalanceConfig
from bccdist.errors import ConfigurationError
from bccdist.training.epoch_plan import EpochPlan, draw_pool, pixel_unbalance, plan_epoch
from bccdist.training.pools import POOLS

TABLE_2 = {
    "tumor_free": (175_771, 175_771),
    "tumor": (9_537, 30_000),
    "tumor_dense": (5_528, 10_000),
    "stroma": (9_096, 20_000),
    "normal": (9_458, 20_000),
}
"""Patches before, draws per epoch."""
Members = Mapping[str, NDArray[np.bool_]]


def _table_2_members() -> Members:
    """185,308 patches whose pools have the paper's sizes; stroma and normal lie across the first two."""
    num_free, num_tumor = TABLE_2["tumor_free"][0], TABLE_2["tumor"][0]
    patches = np.arange(num_free + num_tumor)
    ends = {"tumor": num_free, "tumor_dense": num_free, "stroma": num_free - 4_000, "normal": num_free - 2_000}
    members = {pool: (patches >= start) & (patches < start + TABLE_2[pool][0]) for pool, start in ends.items()}
    return {"tumor_free": patches < num_free, **members}


def _small_members(num_patches: int = 40) -> Members:
    fractions = np.linspace(0, 0.4, num_patches)
    return {
        "tumor_free": fractions < 0.1,
        "tumor": fractions >= 0.1,
        "tumor_dense": fractions >= 0.3,
        "stroma": np.arange(num_patches) % 3 == 0,
        "normal": np.zeros(num_patches, dtype=bool),
    }


def _plan(members: Members, **changes: Any) -> EpochPlan:
    arguments: dict[str, Any] = {"seed": 1, "epoch": 1, "global_batch": 12}
    return plan_epoch(members, BalanceConfig(), **(arguments | changes))


@pytest.fixture(scope="module")
def paper_plan() -> EpochPlan:
    return _plan(_table_2_members(), global_batch=64)


def test_the_papers_pools_give_the_papers_epoch(paper_plan: EpochPlan) -> None:
    assert len(paper_plan.draws) == sum(draws for _, draws in TABLE_2.values()) == 255_771
    assert paper_plan.num_steps == 3_996


def test_every_patch_is_drawn_as_often_as_its_pools_say(paper_plan: EpochPlan) -> None:
    counts = np.bincount(paper_plan.draws, minlength=185_308)
    least, most = np.zeros(len(counts)), np.zeros(len(counts))
    for pool, members in _table_2_members().items():
        before, draws = TABLE_2[pool]
        least[members] += draws // before
        most[members] += math.ceil(draws / before)
    assert (least <= counts).all()
    assert (counts <= most).all()
    assert counts.min() == 1  # no patch is left out


@pytest.mark.parametrize("pool", POOLS)
def test_each_pool_of_the_paper_gives_its_draws(pool: str) -> None:
    before, draws = TABLE_2[pool]
    drawn = draw_pool(np.arange(before) + 7, getattr(BalanceConfig(), pool), np.random.default_rng(0))
    assert len(drawn) == draws
    assert set(np.bincount(drawn - 7, minlength=before)) <= {draws // before, math.ceil(draws / before)}


@given(size=st.integers(1, 200), ratio=st.floats(0, 5), seed=st.integers(0, 99))
def test_a_member_is_drawn_floor_or_ceil_times(size: int, ratio: float, seed: int) -> None:
    drawn = draw_pool(np.arange(size), ratio, np.random.default_rng(seed))
    num_draws = round(ratio * size)
    assert len(drawn) == num_draws
    counts = np.bincount(drawn, minlength=size)
    assert counts.min() >= num_draws // size
    assert counts.max() <= -(-num_draws // size)


def test_an_empty_pool_gives_no_draws() -> None:
    assert len(draw_pool(np.arange(0), 2.0, np.random.default_rng(0))) == 0
    assert len(_plan(_small_members()).draws) > 0  # its pool `normal` is empty


def test_a_plan_is_a_pure_function_of_its_arguments() -> None:
    np.random.default_rng(0).random()
    assert np.array_equal(_plan(_small_members()).draws, _plan(_small_members()).draws)


@pytest.mark.parametrize("changes", [{"seed": 2}, {"epoch": 2}], ids=["seed", "epoch"])
def test_another_seed_or_epoch_is_another_plan(changes: dict[str, int]) -> None:
    first, other = _plan(_small_members()), _plan(_small_members(), **changes)
    assert len(first.draws) == len(other.draws)
    assert not np.array_equal(first.draws, other.draws)
    assert not np.array_equal(np.bincount(first.draws), np.bincount(other.draws))  # the remainder is drawn anew


def test_seed_and_epoch_do_not_stand_for_each_other() -> None:
    one_two = _plan(_small_members(), seed=1, epoch=2)
    two_one = _plan(_small_members(), seed=2, epoch=1)
    assert not np.array_equal(one_two.draws, two_one.draws)
    zeroth = [_plan(_small_members(), seed=seed, epoch=0).draws.tolist() for seed in (0, 1)]
    assert zeroth[0] != zeroth[1]


def test_the_pools_are_mixed_over_the_epoch(paper_plan: EpochPlan) -> None:
    has_tumor = paper_plan.draws >= TABLE_2["tumor_free"][0]
    assert has_tumor[: len(has_tumor) // 2].mean() == pytest.approx(has_tumor.mean(), rel=0.02)


@settings(max_examples=50)
@given(world_size=st.integers(1, 12), share=st.integers(1, 6), step=st.integers(0, 5))
def test_ranks_partition_every_step(world_size: int, share: int, step: int) -> None:
    plan = EpochPlan(draws=np.arange(500), global_batch=world_size * share, num_steps=6)
    of_ranks = [plan.positions(step, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert all(len(positions) == share for positions in of_ranks)
    together = np.concatenate(of_ranks)
    assert together.tolist() == plan.positions(step, rank=0, world_size=1).tolist()
    assert together.tolist() == list(range(step * world_size * share, (step + 1) * world_size * share))


def test_max_steps_cuts_the_shuffled_epoch() -> None:
    whole, cut = _plan(_small_members()), _plan(_small_members(), max_steps=3)
    assert cut.num_steps == 3
    assert whole.num_steps == len(whole.draws) // 12
    assert np.array_equal(whole.draws, cut.draws)
    assert _plan(_small_members(), max_steps=10_000).num_steps == whole.num_steps


def test_an_epoch_shorter_than_a_step_is_refused() -> None:
    num_draws = len(_plan(_small_members()).draws)
    assert _plan(_small_members(), global_batch=num_draws).num_steps == 1
    with pytest.raises(
        ConfigurationError, match=rf"{num_draws} draws, fewer than one global batch of {num_draws + 1}"
    ):
        _plan(_small_members(), global_batch=num_draws + 1)


def test_unbalance_counts_pixels_of_the_draws() -> None:
    fractions = np.array([0.5, 0.0, 0.25])
    assert pixel_unbalance(fractions, np.array([0, 1, 2])) == pytest.approx(2.25 / 0.75)
    assert pixel_unbalance(fractions, np.array([0, 0, 1])) == pytest.approx(2.0)
    assert pixel_unbalance(fractions, np.array([1, 1])) == math.inf


def test_the_plan_lowers_the_unbalance() -> None:
    members = _small_members()
    fractions = np.where(members["tumor"], 0.2, 0.0)
    before = pixel_unbalance(fractions, np.arange(len(fractions)))
    assert pixel_unbalance(fractions, _plan(members).draws) < before
