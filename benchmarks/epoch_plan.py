"""Time and memory of an epoch's plan: `python benchmarks/epoch_plan.py [--patches 185308 10000000]`.

The pools have the paper's shares (Table 2). Each size is planned in a process of its own, whose peak is what the
kernel counted for it; it holds the interpreter, the libraries and the pools' members too.
"""

import multiprocessing
import resource
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import tyro
from numpy.typing import NDArray

from bccdist.configuration import BalanceConfig
from bccdist.shard_set.epoch_plan import MicroBatches, drawn_unbalance, plan_epoch

PAPER_PATCHES = 185_308
PAPER_STARTS = {"tumor": 175_771, "tumor_dense": 179_780, "stroma": 171_771, "normal": 173_771}
"""The first patch of each pool, among 185,308 in a row."""
PAPER_SIZES = {"tumor": 9_537, "tumor_dense": 5_528, "stroma": 9_096, "normal": 9_458}
"""The number of patches of each pool, from its first on."""
GLOBAL_BATCH = 64
WORLD_SIZE = 4
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Time and memory of one plan."""

    num_draws: int
    draws_mib: float
    before_mib: float
    """Peak of the process before it plans: interpreter, libraries, members."""
    plan_s: float
    peak_mib: float
    steps_s: float
    """To ask for the patches of every step of one rank."""


def main(patches: tuple[int, ...] = (PAPER_PATCHES, 1_000_000, 10_000_000)) -> None:
    """Plan epochs of several sizes and print a table.

    Args:
        patches: Numbers of training patches.
    """
    print("| patches | draws | plan, s | peak, MiB | of which before, MiB | draws, MiB | all steps of a rank, s |")
    print("|---|---|---|---|---|---|---|")
    for num_patches in patches:
        found = _in_own_process(num_patches)
        print(
            f"| {num_patches:,} | {found.num_draws:,} | {found.plan_s:.2f} | {found.peak_mib:.0f} "
            f"| {found.before_mib:.0f} | {found.draws_mib:.0f} | {found.steps_s:.2f} |",
            flush=True,
        )


def members_of(num_patches: int) -> dict[str, NDArray[np.bool_]]:
    """Pools with the paper's shares of so many patches; stroma and normal lie across the first two."""
    patches = np.arange(num_patches, dtype=np.int32)
    scale = num_patches / PAPER_PATCHES
    members = {}
    for pool, start in PAPER_STARTS.items():
        first = round(scale * start)
        members[pool] = (patches >= first) & (patches < first + round(scale * PAPER_SIZES[pool]))
    return {"tumor_free": ~members["tumor"], **members}


def _in_own_process(num_patches: int) -> Measured:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(num_patches, sender))
    process.start()
    sender.close()
    found: Measured = receiver.recv()
    process.join()
    return found


def _measure(num_patches: int, sender: Connection) -> None:
    members = members_of(num_patches)
    before_mib = _peak_mib()
    start_s = time.perf_counter()
    plan = plan_epoch(members, BalanceConfig(), seed=0, epoch=1, global_batch=GLOBAL_BATCH)
    plan_s = time.perf_counter() - start_s
    drawn_unbalance(members["tumor"].astype(np.float64), plan)
    peak_mib = _peak_mib()
    (first,) = MicroBatches(global_batch=GLOBAL_BATCH, num=WORLD_SIZE).of_rank(0, world_size=WORLD_SIZE)
    start_s = time.perf_counter()
    for step in range(plan.num_steps):
        plan.draws[plan.positions(step, first)].tolist()
    sender.send(
        Measured(
            num_draws=len(plan.draws),
            draws_mib=plan.draws.nbytes / MIB,
            before_mib=before_mib,
            plan_s=plan_s,
            peak_mib=peak_mib,
            steps_s=time.perf_counter() - start_s,
        )
    )


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    tyro.cli(main)
