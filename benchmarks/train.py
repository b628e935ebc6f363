"""How fast a network is trained, against eager float32 with channels first as torch comes.

    python benchmarks/train.py STUDY --width 64 --micro-batch 8 --ranks 1 2

First the arithmetic alone: steps (forward, losses, backward, Adam) on one batch of real patches, the ways in turn.
Then the whole of a training: `launch_train.py` on the study's shards with 1 to N ranks, each with as many cores.
"""

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.parquet as pq
import torch
import tyro
from torch import Tensor

from bccdist.configuration import ComputeConfig, Setting, TrainConfig
from bccdist.freed_memory import keep_freed_memory
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.paths import StudyPaths
from bccdist.ranks import Ranks
from bccdist.shard_set.index import read_set
from bccdist.shard_set.reader import PatchReader
from bccdist.training.compute import (
    Compute,
    autocast,
    compile_parallel,
    kernels,
    make_optimizer,
    prepare_network,
    resolve_compute,
)
from bccdist.training.distributed import choose_device
from bccdist.training.losses import losses

PLAIN = ComputeConfig(precision="float32", channels_last="off", compile="off", fused_adam=False, deterministic=False)
Clock = Literal["wall", "processor"]
"""What is counted: the time that passes, or all threads' time on processors, which other programs hardly change."""
CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
GMACS = {"unet": 61.0, "resnet34": 31.2, "resnet34_ds": 31.2, "resnet34_linear": 31.2}
"""Multiply-accumulates of a forward pass at width 64 (paper, section 2.2); backward takes twice as many."""
LAUNCHER = Path(__file__).resolve().parent.parent / "jobs" / "launch_train.py"


@dataclass(frozen=True)
class Way:
    """One arithmetic."""

    name: str
    config: ComputeConfig
    keeps_memory: bool


def main(  # noqa: PLR0917 - tyro makes flags of them
    study: Annotated[Path, tyro.conf.Positional],
    setting: Setting = "resnet34_ds",
    width: int = 64,
    micro_batch: int = 8,
    repeats: int = 5,
    compiled: bool = False,
    bf16: bool = False,
    clock: Clock = "wall",
    ranks: tuple[int, ...] = (),
    steps: int = 10,
) -> None:
    """Measure and print tables.

    Args:
        study: Folder of a study with a finished shard set.
        setting: One of the paper's four.
        width: Filters of the first encoder block.
        micro_batch: Patches of a step.
        repeats: Turns of each way; at least 5 for medians that mean something.
        compiled: Also with torch.compile on the CPU, which takes minutes to begin.
        bf16: Also in bf16 on the CPU, which processors without instructions for it emulate.
        clock: What a step's time is; processor on a machine that others use, best with OMP_NUM_THREADS=1.
        ranks: Numbers of ranks for whole trainings; none leaves them out.
        steps: Of each whole training.
    """
    device = choose_device(Ranks())
    print(
        f"{setting}, width {width}, {micro_batch} patches of 512 px, torch {torch.__version__}, {_name_of(device)}\n"
    )
    images, masks = _patches(study, micro_batch)
    config = TrainConfig(width=width)
    every = ways(device, compiled=compiled, bf16=bf16)
    measured = _measure(every, setting, config, (images.to(device), masks.to(device)), repeats=repeats, clock=clock)
    rate = dense_rate(device, clock) if width == 64 else None
    _print_ways(measured, setting=setting, micro_batch=micro_batch, device=device, rate=rate)
    for num in ranks:
        _print_training(
            study,
            setting,
            num,
            cores_per_rank=_num_cores() // max(ranks),
            arguments=_flags(width=width, micro_batch=micro_batch, steps=steps),
        )


def ways(device: torch.device, *, compiled: bool, bf16: bool) -> list[Way]:
    """The named alternative first, then what this project can choose on the device, its default last."""
    every = [Way("eager, channels first", PLAIN, keeps_memory=False)]
    if device.type == "cpu":
        every.append(Way("the same, freed memory kept", PLAIN, keeps_memory=True))
    every.append(Way("channels last", replace(PLAIN, channels_last="on"), keeps_memory=True))
    if compiled and device.type == "cpu":
        every.append(Way("compiled", replace(PLAIN, compile="on"), keeps_memory=True))
    if bf16 and device.type == "cpu":
        every.append(Way("bf16", replace(PLAIN, precision="bf16"), keeps_memory=True))
    if device.type == "cuda" or bf16:
        every.append(
            Way("bf16, channels last", replace(PLAIN, channels_last="on", precision="bf16"), keeps_memory=True)
        )
    if device.type == "cuda":
        every.append(Way("default, not deterministic", ComputeConfig(deterministic=False), keeps_memory=True))
    return [*every, Way("default", ComputeConfig(), keeps_memory=True)]


@dataclass(frozen=True)
class Measured:
    """What one way took, and its losses."""

    seconds: list[float]
    losses: list[float]
    """Losses of the first step."""


def _patches(study: Path, num: int) -> tuple[Tensor, Tensor]:
    """The first training patches of a study, without augmentation."""
    shard_set = read_set(StudyPaths(study).shards.root)
    reader = PatchReader(shard_set)
    pairs = [reader.read(row) for row in range(num)]
    images, masks = (torch.stack([torch.from_numpy(pair[kind]) for pair in pairs]) for kind in range(2))
    return images, masks


def _measure(
    every: list[Way],
    setting: Setting,
    config: TrainConfig,
    batch: tuple[Tensor, Tensor],
    *,
    repeats: int,
    clock: Clock,
) -> dict[str, Measured]:
    """The ways take turns on images and masks; each turn begins with a step that is not timed."""
    images, masks = batch
    now_s = CLOCKS[clock]
    steps = {way.name: step_of(way, setting, config, images, masks) for way in every}
    found = {}
    for way in every:
        # In the kernels of the way: it is compiled for them, and cuBLAS asks once and for all what is allowed.
        with kernels(resolve_compute(way.config, images.device, world_size=1)):
            found[way.name] = Measured([], steps[way.name]())
    for _ in range(repeats):
        for way in every:
            _set_allocator(keeps=way.keeps_memory)
            with kernels(resolve_compute(way.config, images.device, world_size=1)):
                steps[way.name]()
                start_s = now_s()
                steps[way.name]()
                found[way.name].seconds.append(now_s() - start_s)
    return found


def step_of(
    way: Way, setting: Setting, config: TrainConfig, images: Tensor, masks: Tensor
) -> Callable[[], list[float]]:
    """A training step, which returns its losses."""
    device = images.device
    compute: Compute = resolve_compute(way.config, device, world_size=1)
    torch.manual_seed(0)
    network = prepare_network(DeeplySupervisedUNet(setting, width=config.width).to(device), compute).train()
    compile_parallel(network, compute)
    optimizer = make_optimizer(network, config.learning_rate, compute)

    def step() -> list[float]:
        optimizer.zero_grad(set_to_none=True)
        with autocast(compute):
            scores = network(to_network_input(images))
        parts = losses(setting, scores, masks, gamma=config.focal_gamma, method=config.mask_downsampling)
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return [loss.item() for loss in parts.values()]

    return step


def _set_allocator(*, keeps: bool) -> None:
    """Let the process give freed memory back, as glibc comes, or keep it, as a run on the CPU does."""
    if keeps:
        keep_freed_memory()
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 65536)
    libc.mallopt(-1, 128 * 1024)
    libc.malloc_trim(0)


def _print_ways(
    measured: dict[str, Measured], *, setting: Setting, micro_batch: int, device: torch.device, rate: float | None
) -> None:
    plain = next(iter(measured.values()))
    print("| way | patches/s | times eager | largest difference of a loss | share of the dense rate |")
    print("|---|---|---|---|---|")
    for name, found in measured.items():
        seconds = statistics.median(found.seconds)
        ratio = statistics.median(plain_s / own_s for plain_s, own_s in zip(plain.seconds, found.seconds, strict=True))
        worst = max(abs(own - ref) / ref for own, ref in zip(found.losses, plain.losses, strict=True))
        share = f"{6e9 * GMACS[setting] * micro_batch / seconds / rate:.2f}" if rate else ""
        print(f"| {name} | {micro_batch / seconds:.2f} | {ratio:.2f} | {worst:.1e} | {share} |")
    if rate:
        print(
            f"\ndense rate of a matrix product in {'bf16' if device.type == 'cuda' else 'float32'}: "
            f"{rate / 1e12:.3f} TFLOP/s"
        )
    print()


def dense_rate(device: torch.device, clock: Clock) -> float:
    """Floating-point operations a second of large matrix products, the best of five."""
    # On a GPU several in a row, so that neither a launch nor the wait for the last one counts.
    side, dtype, num = (8192, torch.bfloat16, 20) if device.type == "cuda" else (2048, torch.float32, 1)
    factor = torch.randn(side, side, device=device, dtype=dtype)
    seconds = []
    for _ in range(6):
        start_s = CLOCKS[clock]()
        for _ in range(num):
            product = factor @ factor
        product[0, 0].item()
        seconds.append(CLOCKS[clock]() - start_s)
    return 2 * num * side**3 / min(seconds[1:])


def _flags(*, width: int, micro_batch: int, steps: int) -> list[str]:
    values = {"width": width, "micro-batch": micro_batch, "global-batch": 2 * micro_batch, "max-steps": steps}
    return [word for name, value in {**values, "epochs": 1}.items() for word in (f"--{name}", str(value))]


def _print_training(study: Path, setting: Setting, num: int, *, cores_per_rank: int, arguments: list[str]) -> None:
    row = train_shortly(study, setting, num, cores_per_rank=cores_per_rank, arguments=arguments)
    print(
        f"{num} rank(s), {cores_per_rank} core(s) each: {row['patches_per_s']:.2f} patches/s, "
        f"{row['loader_wait_share']:.2%} of the time waiting for patches, peak memory {row['memory_gib']:.2f} GiB",
        flush=True,
    )


def train_shortly(
    study: Path, setting: Setting, num: int, *, cores_per_rank: int, arguments: list[str]
) -> dict[str, Any]:
    """Train with so many ranks, in a folder that shares the study's shards; returns the last row of its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("shards", "study.json"):
            (Path(folder) / name).symlink_to((study / name).resolve())
        cores = sorted(os.sched_getaffinity(0))[: num * cores_per_rank]
        command = [sys.executable, str(LAUNCHER), "--study", folder, "--setting", setting, "--cluster", "local"]
        subprocess.run(
            ["taskset", "--cpu-list", ",".join(map(str, cores)), *command, "--ranks-per-node", str(num), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        row: dict[str, Any] = pq.read_table(StudyPaths(Path(folder)).run(setting).metrics).to_pylist()[-1]
        return row


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU thread(s)"


if __name__ == "__main__":
    tyro.cli(main)
