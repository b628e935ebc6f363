"""How fast training reads its patches: `python benchmarks/sample_reading.py SHARDS`, with a finished shard set.

Three ways, by turns in one run, each over every training patch of the set once:
`webdataset`: tar after tar, images decoded as WebDataset does by itself ("rgb8");
`webdataset, cv2`: the same, with OpenCV's decoder handed in;
`plan`: the project's loader, by offset in the order of an epoch plan, each patch checked, not augmented.
Medians, and their ratios to the others. Cold means that the kernel was told to forget the tars before each pass; what
the disk's own cache then still holds, it cannot say.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro
import webdataset
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from bccdist.configuration import AugmentConfig, BalanceConfig
from bccdist.parts import Part
from bccdist.shard_set.epoch_plan import plan_epoch
from bccdist.shard_set.index import ShardSet, read_set
from bccdist.shard_set.reader import PatchReader
from bccdist.training.loader import read_ahead
from bccdist.training.samples import Patches, training_draws

BATCH = 16
IMAGE, MASK = "jpg;png;webp", "mask.png"
EACH_ONCE = BalanceConfig(tumor_free=1, tumor=1, tumor_dense=0, stroma=0, normal=0)
Way = Callable[[int], Iterable[Any]]
"""Makes batches with a number of loader workers."""


def main(shards: Annotated[Path, tyro.conf.Positional], workers: tuple[int, ...] = (0, 1, 2), rounds: int = 5) -> None:
    """Measure and print tables.

    Args:
        shards: The folder of a finished shard set.
        workers: Numbers of loader processes; of the plan, of threads.
        rounds: Passes of each way; at least 5 for medians that mean something.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    shard_set = read_set(shards)
    tars = training_tars(shard_set)
    num_patches = len(shard_set.part(Part.TRAINING).rows)
    ways: dict[str, Way] = {
        "webdataset": lambda num_workers: sequential(tars, num_workers=num_workers, with_cv2=False),
        "webdataset, cv2": lambda num_workers: sequential(tars, num_workers=num_workers, with_cv2=True),
        "plan": planned(shard_set),
    }
    size_mib = sum(tar.stat().st_size for tar in tars) / 2**20
    print(f"{num_patches} patches in {len(tars)} tars, {size_mib:.0f} MiB, {os.cpu_count()} cores\n")
    for is_cold in (False, True):
        print(f"{'cold' if is_cold else 'warm'}, patches/s, medians of {rounds}:\n")
        print("| workers | " + " | ".join(ways) + " | plan / webdataset | plan / webdataset, cv2 |")
        print("|---" * (3 + len(ways)) + "|")
        for num_workers in workers:
            rates = measure(ways, tars, num_workers=num_workers, num_patches=num_patches, rounds=rounds, cold=is_cold)
            ratios = [rates["plan"] / rates[name] for name in ("webdataset", "webdataset, cv2")]
            cells = [f"{rate:.0f}" for rate in rates.values()] + [f"{ratio:.2f}" for ratio in ratios]
            print(f"| {num_workers} | " + " | ".join(cells) + " |", flush=True)
        print()


def training_tars(shard_set: ShardSet) -> list[Path]:
    """The tars that hold training patches."""
    codes, names = shard_set.coded_column("tar")
    return [shard_set.root / names[code] for code in np.unique(codes[shard_set.part(Part.TRAINING).rows])]


def measure(
    ways: dict[str, Way], tars: Sequence[Path], *, num_workers: int, num_patches: int, rounds: int, cold: bool
) -> dict[str, float]:
    """The median patches/s of each way; they take turns, after one pass of each that does not count."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            if cold:
                forget(tars)
            start_s = time.perf_counter()
            seen = sum(len(images) for images, _ in way(num_workers))
            rate = seen / (time.perf_counter() - start_s)
            assert seen == num_patches, f"{name}: {seen} patches, expected {num_patches}"
            if number:
                rates[name].append(rate)
    return {name: statistics.median(found) for name, found in rates.items()}


def forget(tars: Sequence[Path]) -> None:
    """Tell the kernel that the tars' pages are not needed."""
    for tar in tars:
        file = os.open(tar, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def sequential(tars: Sequence[Path], *, num_workers: int, with_cv2: bool) -> Iterable[Any]:
    """Batches of (images, masks) as a script without this project would read them."""
    patches = webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False, empty_check=False)
    if with_cv2:
        patches = patches.to_tuple(IMAGE, MASK).map_tuple(_image_of, _mask_of)
    else:
        patches = patches.decode("rgb8", only=[*IMAGE.split(";"), MASK]).to_tuple(IMAGE, MASK)
    return DataLoader(patches.batched(BATCH), batch_size=None, num_workers=num_workers)


def planned(shard_set: ShardSet) -> Way:
    """The project's loader over one epoch that draws every training patch once."""
    training = shard_set.part(Part.TRAINING)
    plan = plan_epoch(training.members, EACH_ONCE, seed=0, epoch=1, global_batch=len(training.rows))
    reader = PatchReader(shard_set)
    patches = Patches(reader=reader, augment_config=AugmentConfig(enabled=False), seed=0, epoch=1)

    def batches(num_workers: int) -> Iterable[Any]:
        parts = [range(at, min(at + BATCH, plan.global_batch)) for at in range(0, plan.global_batch, BATCH)]
        draws = training_draws(plan, training.rows, parts)
        with read_ahead(patches, draws, num_threads=num_workers) as read:
            yield from ((batch.images, batch.masks) for batch in read)

    return batches


def _image_of(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), dtype=np.uint8)


def _mask_of(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


if __name__ == "__main__":
    tyro.cli(main)
