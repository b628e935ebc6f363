"""What is drawn in an epoch, in which order, by which rank (paper, Table 2).

A plan is a pure function of its arguments: no rank talks to another, a run can go on at any step, and the same
patches make up step s whatever the number of ranks.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import BalanceConfig
from bccdist.errors import ConfigurationError
from bccdist.training.pools import POOLS

_SHUFFLE_STREAM = len(POOLS)
"""Random streams 0 to 4 belong to the pools."""


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """The draws of one epoch, cut into steps.

    Attributes:
        draws: the patch (row of the index) at each position of the epoch, int64 [num_draws].
        global_batch: positions per step, over all ranks.
        num_steps: full steps; what is left over is not used.
    """

    draws: NDArray[np.int64]
    global_batch: int
    num_steps: int

    def positions(self, step: int, *, rank: int, world_size: int) -> NDArray[np.int64]:
        """The positions of the epoch that a rank computes in a step; equally many on every rank."""
        share = self.global_batch // world_size
        start = step * self.global_batch + rank * share
        return np.arange(start, start + share)


def plan_epoch(
    members: Mapping[str, NDArray[np.bool_]],
    balance: BalanceConfig,
    *,
    seed: int,
    epoch: int,
    global_batch: int,
    max_steps: int | None = None,
) -> EpochPlan:
    """Draw an epoch.

    Args:
        members: for each pool of Table 2 which patches belong to it, bool [num_patches].
        balance: draws per member of each pool.
        seed: of the run.
        epoch: the first is 1.
        global_batch: patches per step over all ranks.
        max_steps: cut the shuffled epoch after so many steps.

    Raises:
        ConfigurationError: the epoch is shorter than one step.
    """
    ratios = asdict(balance)
    drawn = [
        draw_pool(np.flatnonzero(members[pool]), ratios[pool], _random(seed, epoch, stream))
        for stream, pool in enumerate(POOLS)
    ]
    draws = _random(seed, epoch, _SHUFFLE_STREAM).permutation(np.concatenate(drawn))
    num_steps = len(draws) // global_batch
    if num_steps == 0:
        raise ConfigurationError(
            f"an epoch has {len(draws)} draws, fewer than one global batch of {global_batch}; "
            "lower global_batch or add training slides"
        )
    if max_steps is not None:
        num_steps = min(num_steps, max_steps)
    return EpochPlan(draws=draws, global_batch=global_batch, num_steps=num_steps)


def draw_pool(members: NDArray[np.int64], ratio: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Every member floor(k) times, and the remainder drawn without replacement.

    Args:
        members: the pool's patches.
        ratio: draws per member; the number of draws is the nearest whole one.
        random: decides the remainder.
    """
    if len(members) == 0:
        return members
    num_draws = round(ratio * len(members))
    num_whole, num_extra = divmod(num_draws, len(members))
    extra = random.choice(members, size=num_extra, replace=False)
    return np.concatenate([np.tile(members, num_whole), extra])


def pixel_unbalance(tumornest_fraction: NDArray[np.float64], draws: NDArray[np.int64]) -> float:
    """Tumor-free pixels per tumor pixel over some draws (Table 2's last row); infinite without tumor."""
    tumor = float(tumornest_fraction[draws].sum())
    return (len(draws) - tumor) / tumor if tumor else float("inf")


def _random(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, epoch, stream]))
