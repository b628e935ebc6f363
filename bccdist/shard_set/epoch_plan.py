"""What is drawn in an epoch, in which order, by which rank (paper, Table 2).

A plan is a pure function of its arguments: no rank talks to another, a run can go on at any step, and the same
patches make up step s whatever the number of ranks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import BalanceConfig
from bccdist.errors import ConfigurationError
from bccdist.random_streams import Purpose, random_stream
from bccdist.shard_set.pools import POOLS, PoolTotals

Numbers = NDArray[np.signedinteger[Any]]
"""Patches by number: int32 where that holds them all."""


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """The draws of one epoch, cut into steps.

    Attributes:
        draws: the patch (number among the training patches) at each position of the epoch, [num_draws].
        global_batch: positions per step, over all ranks.
        num_steps: full steps; what is left over is not used.
    """

    draws: Numbers
    global_batch: int
    num_steps: int

    def positions(self, step: int, places: range) -> NDArray[np.int64]:
        """The positions of the epoch at some places of a step (the first is 0); any step can be asked for."""
        start = step * self.global_batch
        return np.arange(start + places.start, start + places.stop)


@dataclass(frozen=True, kw_only=True)
class MicroBatches:
    """The places of a step, cut into contiguous parts of which none is more than one longer than another.

    Batch normalisation sees one part at a time. So the parts are the step's, and ranks share whole ones: with another
    number of ranks the same gradient comes out, but for the order of its sum.
    """

    global_batch: int
    """Places of a step, over all ranks."""
    num: int
    """Parts, at most one for each place."""

    @classmethod
    def of_run(cls, *, global_batch: int, largest: int, world_size: int) -> "MicroBatches":
        """The parts of a run that begins with so many ranks: as many for each, and none larger than `largest`."""
        per_rank = -(-global_batch // (largest * world_size))
        return cls(global_batch=global_batch, num=min(per_rank * world_size, global_batch))

    def of_rank(self, rank: int, *, world_size: int) -> list[range]:
        """The parts that a rank computes: contiguous, and on no rank more than one more than on another."""
        mine = range(rank * self.num // world_size, (rank + 1) * self.num // world_size)
        size = self.global_batch
        return [range(part * size // self.num, (part + 1) * size // self.num) for part in mine]

    @property
    def largest(self) -> int:
        """Places of the largest part."""
        return -(-self.global_batch // self.num)


def plan_epoch(
    members: Mapping[str, NDArray[np.bool_]],
    balance: BalanceConfig,
    *,
    seed: int,
    epoch: int,
    global_batch: int,
    max_steps: int | None = None,
) -> EpochPlan:
    """What an epoch draws, cut into steps.

    Args:
        members: for each pool of Table 2 which patches belong to it, bool [num_patches].
        balance: draws of each pool.
        seed: the run's.
        epoch: the first is 1.
        global_batch: patches per step over all ranks.
        max_steps: cut the shuffled epoch after so many steps.

    Raises:
        ConfigurationError: the epoch is shorter than one step, or a count is given for an empty pool.
    """
    draws = draw_epoch(members, balance, seed=seed, epoch=epoch)
    num_steps = len(draws) // global_batch
    if num_steps == 0:
        raise ConfigurationError(
            f"an epoch has {len(draws)} draws, fewer than one global batch of {global_batch}; "
            "lower global_batch or add training slides"
        )
    if max_steps is not None:
        num_steps = min(num_steps, max_steps)
    return EpochPlan(draws=draws, global_batch=global_batch, num_steps=num_steps)


def draw_epoch(members: Mapping[str, NDArray[np.bool_]], balance: BalanceConfig, *, seed: int, epoch: int) -> Numbers:
    """The patches that an epoch draws from all pools, mixed; the arguments are those of `plan_epoch`.

    Raises:
        ConfigurationError: a count is given for an empty pool.
    """
    sizes = {pool: int(np.count_nonzero(members[pool])) for pool in POOLS}
    num_draws = draws_of_pools(sizes, balance)
    kind = np.int32 if len(members[POOLS[0]]) <= np.iinfo(np.int32).max else np.int64
    # Written into one array and shuffled there, so that the draws of millions of patches fit into memory.
    draws: Numbers = np.empty(sum(num_draws.values()), dtype=kind)
    start = 0
    for pool in POOLS:
        stop = start + num_draws[pool]
        patches: Numbers = np.flatnonzero(members[pool]).astype(kind)
        random = random_stream(Purpose.POOL_DRAWS, seed=seed, epoch=epoch, pool=pool)
        draws[start:stop] = draw_pool(patches, num_draws[pool], random)
        start = stop
    random_stream(Purpose.EPOCH_ORDER, seed=seed, epoch=epoch).shuffle(draws)
    return draws


def draws_of_pools(sizes: Mapping[str, int], balance: BalanceConfig) -> dict[str, int]:
    """Draws per epoch of each pool with so many patches.

    Raises:
        ConfigurationError: a count is given for a pool without patches.
    """
    return {pool: balance.num_draws(pool, num_members=sizes[pool]) for pool in POOLS}


def empty_pools(sizes: Mapping[str, int], balance: BalanceConfig) -> list[str]:
    """The pools without patches that would be drawn from if there were any."""
    wanted = [pool for pool in POOLS if getattr(balance.draws, pool) is None and getattr(balance, pool) > 0]
    return [pool for pool in wanted if not sizes[pool]]


def draw_pool(members: Numbers, num_draws: int, random: np.random.Generator) -> Numbers:
    """Every member floor(k) times, and the remainder drawn without replacement, where k = num_draws / members.

    Args:
        members: the pool's patches; empty only where nothing is drawn.
        num_draws: so many are returned.
        random: decides the remainder.
    """
    num_whole, num_extra = divmod(num_draws, max(1, len(members)))
    extra = random.choice(members, size=num_extra, replace=False, shuffle=False) if num_extra else members[:0]
    return np.concatenate([np.tile(members, num_whole), extra])


def pixel_unbalance(*, num_patches: float, tumornest_sum: float) -> float:
    """Tumor-free pixels per tumor pixel (Table 2's last row); infinite without tumor.

    Args:
        num_patches: the whole area, in patches.
        tumornest_sum: the tumor area, in patches: the sum of the patches' Tumornest fractions.
    """
    return (num_patches - tumornest_sum) / tumornest_sum if tumornest_sum else float("inf")


def unbalance_before(totals: PoolTotals) -> float:
    """Tumor-free pixels per tumor pixel of the patches themselves, each counted once (Table 2, before balancing)."""
    return pixel_unbalance(num_patches=totals.num_distinct, tumornest_sum=totals.distinct_tumornest_sum)


def expected_unbalance(totals: PoolTotals, draws: Mapping[str, int]) -> float:
    """The unbalance of an epoch with these draws of each pool, its members equally likely (Table 2, after)."""
    tumornest_sum = sum(
        draws[pool] * totals.tumornest_sum[pool] / totals.num_patches[pool] for pool in POOLS if draws[pool]
    )
    return pixel_unbalance(num_patches=sum(draws.values()), tumornest_sum=tumornest_sum)


def drawn_unbalance(tumornest: NDArray[np.floating[Any]], plan: EpochPlan) -> float:
    """The unbalance of the draws that an epoch happens to have.

    Args:
        tumornest: share of each training patch's pixels in Tumornest, 0 to 1, [num_patches].
        plan: what the epoch draws.
    """
    times = np.bincount(plan.draws, minlength=len(tumornest))
    return pixel_unbalance(num_patches=len(plan.draws), tumornest_sum=float(times @ tumornest))
