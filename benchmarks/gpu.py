"""How fast training and heatmaps are on this machine's GPUs: a section for benchmarks/RESULTS.md.

    python -m benchmarks.gpu --out gpu.md

Runs unattended in under ten minutes on one H200 (planned, not measured). The goals that it holds figures against:
training at 45 % or more of the dense bf16 rate that is measured in the same run, less than 2 % of a training spent
waiting for patches, heatmaps of a slide of about 2,000 overlapping patches in under 1 s. Random weights and generated
pixels: it says nothing about how good a network is. Without a GPU it says that it has not run, and fails.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from bccdist.configuration import ComputeConfig, Setting, ShardConfig, TrainConfig
from bccdist.heatmaps.layout import PAPER, place_patches
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import PredictionTally, SlidePass, predict_rows
from bccdist.heatmaps.predictors import make_predictor
from bccdist.networks.engines import Arithmetic, candidates
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.parts import Part
from bccdist.phantom import PhantomConfig, make_phantom
from bccdist.slides.manifest import read_manifest
from bccdist.slides.slide import Slide
from bccdist.study import keep_manifest
from bccdist.training.compute import kernels, resolve_compute
from benchmarks.train import GMACS, PLAIN, Way, dense_rate, step_of, train_shortly
from shards.build import build_slides
from shards.finish import finish_set

PATCH_PX, CELL_PX, MPP = 512, 256, 0.92
SLIDE_CELLS = 44
"""Cells along each edge of the paper-size slide: 45 x 45 overlapping patches, 127 Mpx of tissue."""
_PHANTOM = PhantomConfig(num_train=2, num_val1=1, num_val2=0, num_test=0)
"""What whole trainings train on."""
GOAL_SHARE, GOAL_WAIT, GOAL_SLIDE_S = 0.45, 0.02, 1.0


@dataclass(frozen=True, kw_only=True)
class GpuArguments:
    """What is measured."""

    out: Path | None = None
    """File of the section; it is printed, too."""
    setting: Setting = "resnet34_ds"
    """One of the paper's four."""
    width: int = 64
    """Filters of the first encoder block; shares of the dense rate are known for 64."""
    micro_batch: int = 16
    """Patches of a training step of the arithmetic alone."""
    batch: int = 16
    """Patches of a forward pass for heatmaps."""
    turns: int = 5
    """Turns of each way, for medians."""
    steps: int = 40
    """Steps of each of the two epochs of a whole training; the second is told."""
    budget_s: float = 540.0
    """Parts that would begin later than this are left out, and said to be."""


class Section:
    """Lines of the section, printed as they come."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.has_failed = False

    def add(self, *lines: str) -> None:
        """Add lines."""
        self.lines += lines
        print(*lines, sep="\n", flush=True)


def main(arguments: GpuArguments) -> None:
    """Measure each part for itself: one that fails is said to have failed, and the others go on.

    Raises:
        SystemExit: there is no GPU, or a part failed or was left out.
    """
    if not torch.cuda.is_available():
        sys.exit(f"GPU BENCHMARK NOT RUN: torch {torch.__version__} finds no GPU here; nothing was measured")
    started_s = time.monotonic()
    section, device = Section(), torch.device("cuda", 0)
    torch.cuda.set_device(device)
    section.add(*_heading())
    rate = dense_rate(device, "wall")
    section.add("", f"Dense rate of bf16 matrix products of 8192 x 8192: {rate / 1e12:.0f} TFLOP/s.")
    parts: list[tuple[str, Callable[[], None]]] = [
        ("Training step", lambda: _training_steps(arguments, section, device, rate)),
        ("Heatmaps", lambda: _heatmaps(arguments, section, device, rate)),
        ("Whole trainings", lambda: whole_trainings(arguments, section, num_gpus=torch.cuda.device_count())),
    ]
    for name, measure in parts:
        section.add("", f"### {name}", "")
        _attempt(measure, section, is_late=time.monotonic() - started_s > arguments.budget_s)
    section.add("", f"All of it took {time.monotonic() - started_s:.0f} s.")
    if arguments.out is not None:
        arguments.out.write_text("\n".join(section.lines) + "\n", encoding="utf-8")
    sys.exit(1 if section.has_failed else 0)


def _attempt(measure: Callable[[], None], section: Section, *, is_late: bool) -> None:
    if is_late:
        section.has_failed = True
        section.add("NOT RUN: the time was up.")
        return
    try:
        measure()
    except Exception as error:  # noqa: BLE001 - the other parts are wanted all the same
        traceback.print_exception(error)
        section.has_failed = True
        section.add(f"FAILED: {type(error).__name__}: {str(error).partition(chr(10))[0]}")


def _heading() -> list[str]:
    names = {torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())}
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    driver = _said_by("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    text = (
        f"`python -m benchmarks.gpu`, {datetime.now(UTC):%Y-%m-%d}: {torch.cuda.device_count()} x {', '.join(names)}, "
        f"driver {driver}, torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN "
        f"{cudnn}, {len(os.sched_getaffinity(0))} cores, commit "
        f"{_said_by('git', 'rev-parse', '--short', 'HEAD')}. Random weights, generated pixels; medians."
    )
    return ["## On GPUs", "", text]


def _said_by(*command: str) -> str:
    """The first line of what a command says; a copy of the repository may be without git."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.strip().partition("\n")[0] or "unknown"


def _against(goal: str, *, is_met: bool) -> str:
    return f"goal {goal}: {'met' if is_met else 'NOT met'}"


def training_ways() -> list[Way]:
    """Float32 eager as torch comes, which is the reference, to the default."""
    last = replace(PLAIN, channels_last="on")
    return [
        Way("float32 eager, channels first", PLAIN, keeps_memory=True),
        Way("tf32 eager", replace(last, precision="tf32", fused_adam=True), keeps_memory=True),
        Way("bf16 eager", replace(last, precision="bf16", fused_adam=True), keeps_memory=True),
        Way("default, not deterministic", ComputeConfig(deterministic=False), keeps_memory=True),
        Way("default", ComputeConfig(), keeps_memory=True),
    ]


def _training_steps(arguments: GpuArguments, section: Section, device: torch.device, rate: float) -> None:
    """One way after the other, so that each has the memory for itself; forward, losses, backward and Adam."""
    num, setting = arguments.micro_batch, arguments.setting
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num, PATCH_PX, PATCH_PX, 3), generator=generator, dtype=torch.uint8).to(device)
    masks = (images[..., 0] > 128).to(torch.uint8)
    section.add("| way | patches/s | share of the dense rate | largest difference of a loss | GiB |", 5 * "|---" + "|")
    reference: list[float] = []
    shares: dict[str, float] = {}
    for way in training_ways():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        with kernels(resolve_compute(way.config, device, world_size=1)):
            step = step_of(way, setting, TrainConfig(width=arguments.width), images, masks)
            losses = step()
            reference = reference or losses
            seconds = _median_s(step, device, turns=arguments.turns, warm_ups=2)
        worst = max(abs(own - ref) / ref for own, ref in zip(losses, reference, strict=True))
        shares[way.name] = 6e9 * GMACS[setting] * (arguments.width / 64) ** 2 * num / seconds / rate
        memory_gib = torch.cuda.max_memory_allocated(device) / 2**30
        section.add(f"| {way.name} | {num / seconds:.0f} | {shares[way.name]:.2f} | {worst:.1e} | {memory_gib:.1f} |")
        torch.compiler.reset()
    best, default = max(shares.values()), shares["default"]
    section.add(
        "",
        f"Steps of {num} patches, {setting}, width {arguments.width}. The fastest trains at {best:.0%} of the "
        f"dense rate, the default at {default:.0%}; {_against(f'{GOAL_SHARE:.0%}', is_met=default >= GOAL_SHARE)}.",
    )


def _median_s(work: Callable[[], object], device: torch.device, *, turns: int, warm_ups: int) -> float:
    for _ in range(warm_ups):
        work()
    seconds = []
    for _ in range(turns):
        torch.cuda.synchronize(device)
        start_s = time.perf_counter()
        work()
        torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start_s)
    return statistics.median(seconds)


def write_paper_size_slide(path: Path, *, cells: int) -> None:
    """A tiled JPEG pyramid at the target resolution, tissue from edge to edge: one generated field, repeated."""
    random = np.random.default_rng(0)
    clouds = random.normal(0, 40, (32, 32, 3)).astype(np.float32)
    grain = random.normal(0, 12, (4 * CELL_PX, 4 * CELL_PX, 1))
    field = cv2.resize(clouds, (4 * CELL_PX,) * 2, interpolation=cv2.INTER_CUBIC) + grain + (190, 110, 165)
    repeats = -(-cells // 4)
    picture = np.tile(field.clip(0, 255).astype(np.uint8), (repeats, repeats, 1))[: cells * CELL_PX, : cells * CELL_PX]
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for downsample in (1, 8):
            tiff.write(
                picture if downsample == 1 else cv2.resize(picture, None, fx=1 / 8, fy=1 / 8),
                tile=(CELL_PX, CELL_PX),
                compression="jpeg",
                photometric="rgb",
                subfiletype=int(downsample > 1),
                resolution=(1e4 / (MPP * downsample),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def _heatmaps(arguments: GpuArguments, section: Section, device: torch.device, rate: float) -> None:
    torch.manual_seed(0)
    network = DeeplySupervisedUNet(arguments.setting, width=arguments.width).eval()
    cells = np.ones((SLIDE_CELLS, SLIDE_CELLS), dtype=bool)
    num_patches = sum(len(row.cols) for row in place_patches(cells, PAPER))
    section.add(
        "| way | network alone, patches/s | share of the dense rate | slide from its file, s | network's part, s "
        "| reading, s | first slide, s | GiB | mean difference, steps of 255 |",
        "|---|---|---|---|---|---|---|---|---|",
    )
    fastest = float("inf")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        write_paper_size_slide(path, cells=SLIDE_CELLS)
        reference = None
        for arithmetic in candidates(device):
            measured = _measure_way(arithmetic, network, path, cells, arguments, device)
            reference = measured.final if reference is None else reference
            difference = np.abs(measured.final.astype(int) - reference).mean()
            share = 2e9 * GMACS[arguments.setting] * (arguments.width / 64) ** 2 * measured.patches_per_s / rate
            section.add(
                f"| {arithmetic} | {measured.patches_per_s:.0f} | {share:.2f} | {measured.slide_s:.2f} | "
                f"{measured.network_s:.2f} | {measured.read_s:.2f} | {measured.first_s:.1f} | "
                f"{measured.memory_gib:.1f} | {difference:.2f} |"
            )
            fastest = min(fastest, measured.slide_s)
    section.add(
        "",
        f"{num_patches} overlapping patches, {cells.sum() * CELL_PX**2 / 1e6:.0f} Mpx, all outputs; reading goes on "
        f"beside the network. The fastest takes {fastest:.2f} s; "
        f"{_against(f'under {GOAL_SLIDE_S:g} s', is_met=fastest < GOAL_SLIDE_S)}.",
    )


@dataclass(frozen=True, kw_only=True)
class MeasuredEngine:
    """What one way took."""

    patches_per_s: float
    slide_s: float
    first_s: float
    """The first slide, with what an engine does once."""
    network_s: float
    read_s: float
    memory_gib: float
    final: NDArray[np.uint8]
    """The final output's heatmap: uint8."""


def _measure_way(
    arithmetic: Arithmetic,
    network: DeeplySupervisedUNet,
    path: Path,
    cells: NDArray[np.bool_],
    arguments: GpuArguments,
    device: torch.device,
) -> MeasuredEngine:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    method = Method(precision=arithmetic.precision, engine=arithmetic.engine)
    predictor = make_predictor(network, method, device=device, int8_file=Path)
    how = SlidePass(predictors=[predictor], batch=arguments.batch, device=device)
    taken = []
    for _ in range(1 + max(3, arguments.turns // 2)):
        tally = PredictionTally.of(how)
        start_s = time.perf_counter()
        with Slide(path, target_mpp=MPP) as slide:
            rows = list(predict_rows(slide, cells, how, tally))
        taken.append((time.perf_counter() - start_s, tally))
    middle_s, tally = sorted(taken[1:], key=lambda each: each[0])[len(taken[1:]) // 2]
    patches: Tensor = torch.randint(0, 256, (arguments.batch, PATCH_PX, PATCH_PX, 3), dtype=torch.uint8).to(device)
    many = 10
    pass_s = _median_s(lambda: [predictor(patches) for _ in range(many)], device, turns=arguments.turns, warm_ups=1)
    memory_gib = torch.cuda.max_memory_allocated(device) / 2**30
    torch.compiler.reset()
    return MeasuredEngine(
        patches_per_s=many * arguments.batch / pass_s,
        slide_s=middle_s,
        first_s=taken[0][0],
        network_s=tally.network_s[0],
        read_s=tally.reading.read_s,
        memory_gib=memory_gib,
        final=np.concatenate([row.maps[0][predictor.outputs[-1]] for row in rows]),
    )


def whole_trainings(
    arguments: GpuArguments, section: Section, *, num_gpus: int, phantom: PhantomConfig = _PHANTOM
) -> None:
    """The training job on 1, 2, 4, ... GPUs: loader, augmentation, DDP and all; its second epoch.

    Args:
        arguments: what is measured.
        section: gets the lines.
        num_gpus: the most ranks; without GPUs each is a process on the CPU.
        phantom: what it trains on.
    """
    counts = sorted({1 << power for power in range(num_gpus.bit_length()) if 1 << power <= num_gpus} | {num_gpus})
    cores = len(os.sched_getaffinity(0)) // num_gpus
    flags = {
        "width": arguments.width,
        "micro-batch": arguments.micro_batch,
        "global-batch": 4 * arguments.micro_batch * num_gpus,
        "max-steps": arguments.steps,
        "epochs": 2,
        "num-workers": max(1, cores - 1),
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    section.add("| GPUs | patches/s | times one | waiting for patches | GiB |", "|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder), phantom)
        first, worst_wait = None, 0.0
        for num in counts:
            row = train_shortly(study, arguments.setting, num, cores_per_rank=cores, arguments=words)
            first = first or row["patches_per_s"]
            worst_wait = max(worst_wait, row["loader_wait_share"])
            section.add(
                f"| {num} | {row['patches_per_s']:.0f} | {row['patches_per_s'] / first:.2f} | "
                f"{row['loader_wait_share']:.1%} | {row['memory_gib']:.1f} |"
            )
    section.add(
        "",
        f"{flags['global-batch']} patches a step; {cores} cores and {flags['num-workers']} loader threads for each "
        f"GPU; {_against(f'waiting under {GOAL_WAIT:.0%}', is_met=worst_wait < GOAL_WAIT)}."
        + ("" if num_gpus > 1 else " One GPU: DDP's scaling was NOT measured."),
    )


def write_study(folder: Path, phantom: PhantomConfig) -> Path:
    """A study of drawn slides with its shard set."""
    manifest_path = make_phantom(folder / "phantom", phantom, report=lambda _: None)
    manifest = read_manifest(manifest_path)
    slides = manifest.slides_of([Part.TRAINING, Part.VALIDATION_1])
    study = folder / "study"
    keep_manifest(study, manifest)
    build_slides(manifest_path, [slide.slide_id for slide in slides], study, ShardConfig())
    finish_set(manifest_path, study, ShardConfig())
    return study


if __name__ == "__main__":
    main(tyro.cli(GpuArguments))
