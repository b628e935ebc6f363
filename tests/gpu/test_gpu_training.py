"""Training on a GPU: float32's numbers in each precision, the same bits each time, nothing waited for in a step."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import numpy as np
import pytest
import torch
from places import REPOSITORY
from small_study import SmallStudy, write_finished_study
from training_outcome import assert_same, outcome

from bccdist.configuration import AugmentConfig, ComputeConfig, TrainConfig
from bccdist.networks.arithmetic import torch_settings
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.paths import RunPaths, StudyPaths
from bccdist.ranks import Ranks
from bccdist.training import step
from bccdist.training.augmentation import Augmentation, augment, draw_augmentation
from bccdist.training.compute import (
    compile_parallel,
    difference_to_float32_eager,
    kernels,
    make_optimizer,
    prepare_network,
    resolve_compute,
)
from bccdist.training.device_augmentation import Changes, augment_batch
from bccdist.training.loader import Batch
from bccdist.training.run import Run
from bccdist.training.stop import StopRequest
from bccdist.training.validation import ValidationResult, validate

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
CPU = torch.device("cpu")
PLAIN = ComputeConfig(precision="float32", channels_last="off", compile="off")
CONFIG = TrainConfig(width=16, global_batch=8, micro_batch=4)
NUM_STEPS = 5


def _changes(*, first: int = 0) -> list[Augmentation]:
    return [draw_augmentation(AugmentConfig(), seed=0, epoch=1, position=first + each) for each in range(4)]


def _batches(num: int, *, with_changes: bool = False) -> Iterator[Batch]:
    """Micro-batches of four patches of 128 px: coloured clouds, tumor where they are dark."""
    for number in range(num):
        random = np.random.default_rng(number)
        clouds = torch.from_numpy(random.uniform(20, 250, (4, 3, 16, 16)).astype(np.float32))
        smooth = torch.nn.functional.interpolate(clouds, size=(128, 128), mode="bilinear")
        images = smooth.permute(0, 2, 3, 1).to(torch.uint8).contiguous()
        changes = _changes(first=4 * number)
        masks = (smooth[:, 0] < 120).to(torch.uint8)
        yield Batch(images, masks, Changes.stack(changes) if with_changes else None)


def _run(config: ComputeConfig, device: torch.device) -> Run:
    compute = resolve_compute(config, device, world_size=1)
    torch.manual_seed(0)
    network = prepare_network(DeeplySupervisedUNet("resnet34_ds", width=16).to(device), compute).train()
    compile_parallel(network, compute)
    return cast(
        "Run",
        SimpleNamespace(
            config=CONFIG,
            ranks=Ranks(),
            parts=[range(4), range(4, 8)],
            device=device,
            compute=compute,
            network=network,
            parallel=network,
            optimizer=make_optimizer(network, CONFIG.learning_rate, compute),
        ),
    )


def _train(run: Run, *, num_steps: int = NUM_STEPS, with_changes: bool = False) -> list[dict[str, float]]:
    """The losses of each step."""
    batches = _batches(2 * num_steps, with_changes=with_changes)
    with kernels(run.compute):
        return [
            step.train_step(run, batches, StopRequest(), save_is_due=False, where="here").losses
            for _ in range(num_steps)
        ]


@pytest.fixture(scope="module")
def on_the_cpu() -> list[dict[str, float]]:
    """Losses of the same steps in float32, eager, channels first, on the CPU."""
    return _train(_run(PLAIN, CPU))


class Arithmetic(NamedTuple):
    """An arithmetic of training, and how far its losses may be from float32 on the CPU, relative to them."""

    config: ComputeConfig
    first: float
    """In the first step, whose weights are equal: rounding of one forward pass alone."""
    later: float
    """In the steps after it: Adam divides by the gradient's size, so small gradients' rounding moves weights, too."""


ARITHMETICS = {
    # 24 bits, and sums of some thousand terms in another order.
    "float32": Arithmetic(PLAIN, 1e-5, 1e-2),
    "float32 compiled": Arithmetic(replace(PLAIN, compile="on", channels_last="on"), 1e-5, 1e-2),
    # Factors of 11 bits (5e-4), through some 45 layers whose errors partly cancel.
    "tf32": Arithmetic(replace(PLAIN, precision="tf32", channels_last="on"), 5e-3, 3e-2),
    # Factors and feature maps of 8 bits (4e-3), the same.
    "bf16": Arithmetic(replace(PLAIN, precision="bf16", channels_last="on"), 3e-2, 0.1),
    "default": Arithmetic(ComputeConfig(), 3e-2, 0.1),
    "default, not deterministic": Arithmetic(ComputeConfig(deterministic=False), 3e-2, 0.1),
}


@pytest.mark.parametrize("name", ARITHMETICS)
def test_losses_are_those_of_float32_on_the_cpu(
    name: str, gpu: torch.device, on_the_cpu: list[dict[str, float]]
) -> None:
    arithmetic = ARITHMETICS[name]
    found = _train(_run(arithmetic.config, gpu))
    differences = [
        max(abs(ours[psi] - theirs[psi]) / theirs[psi] for psi in theirs)
        for ours, theirs in zip(found, on_the_cpu, strict=True)
    ]
    assert differences[0] < arithmetic.first, differences
    assert max(differences) < arithmetic.later, differences


def test_the_default_differs_from_float32_eager_by_what_bf16_rounds(gpu: torch.device) -> None:
    compute = resolve_compute(ComputeConfig(), gpu, world_size=1)
    assert (compute.compile, compute.eager_because, compute.channels_last) == (True, None, True)
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34_ds", width=16).to(gpu)
    images, masks, _ = next(_batches(1))
    with kernels(compute):
        found = difference_to_float32_eager(network, images.to(gpu), masks.to(gpu), compute=compute, config=CONFIG)
    # The gradient's relative error is larger than the losses': it is a sum of terms of both signs.
    assert found.pop("gradient") < 0.2
    assert max(found.values()) < 3e-2


@pytest.mark.parametrize("name", ["float32", "tf32", "default"])
def test_the_same_steps_give_the_same_bits(name: str, gpu: torch.device) -> None:
    # No tolerance: that is what `deterministic` promises.
    first, second = (_run(ARITHMETICS[name].config, gpu) for _ in range(2))
    assert _train(first, with_changes=True) == _train(second, with_changes=True)
    assert_same(first.network.state_dict(), second.network.state_dict())


def test_a_step_is_not_waited_for(gpu: torch.device) -> None:
    run = _run(replace(PLAIN, precision="bf16", channels_last="on"), gpu)
    _train(run, num_steps=1, with_changes=True)
    batches = [
        Batch(each.images.pin_memory(), each.masks.pin_memory(), cast("Changes", each.changes).pin_memory())
        for each in _batches(2, with_changes=True)
    ]
    torch.cuda.synchronize(gpu)
    torch.cuda.set_sync_debug_mode("error")  # an error at whatever waits for the GPU
    try:
        step._accumulate(run, iter(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("matmul", ["highest", "high"])
def test_augmentation_is_the_hosts(matmul: str, gpu: torch.device) -> None:
    rounded = {"matmul_precision": matmul, "cudnn_precision": "tf32" if matmul == "high" else "ieee"}
    (batch,) = _batches(1, with_changes=True)
    changes = _changes()
    with torch_settings(**rounded):
        images, masks = augment_batch(
            batch.images.to(gpu),
            batch.masks.to(gpu),
            Changes.stack(changes).to(gpu),
            max_blur_sigma_px=AugmentConfig().blur_sigma_px,
        )
    pairs = zip(batch.images.numpy(), batch.masks.numpy(), changes, strict=True)
    expected = [augment(image, mask, change) for image, mask, change in pairs]
    difference = np.abs(images.cpu().numpy().astype(int) - np.stack([image for image, _ in expected]))
    # The host rounds to whole grey values after each change, and the GPU once; TF32 adds up to 0.3 % of a value.
    assert difference.mean() < (0.5 if matmul == "highest" else 1.0)
    assert np.percentile(difference, 99.9) <= (2 if matmul == "highest" else 3)
    # A pixel whose source lies on the edge between two may take the other one.
    assert (masks.cpu().numpy() != np.stack([mask for _, mask in expected])).mean() < 1e-3


def test_validation_counts_what_the_cpu_counts(gpu: torch.device) -> None:
    found = []
    for device in (CPU, gpu):
        run = _run(PLAIN, device)
        with kernels(run.compute):
            found.append(validate(run.network, _batches(2), CONFIG, run.compute, num_batches=2, request=StopRequest()))
    on_cpu, on_gpu = (cast("ValidationResult", each) for each in found)
    for psi, expected in on_cpu.confusion_px.items():
        # Pixels at the threshold itself may fall to the other side: rounding, at most one in a thousand.
        moved = np.abs(np.array(on_gpu.confusion_px[psi]) - np.array(expected)).sum() / 2
        assert moved <= max(2, 1e-3 * sum(expected)), psi
    assert on_gpu.losses == pytest.approx(on_cpu.losses, rel=1e-4)


def test_a_step_keeps_to_its_memory(gpu: torch.device) -> None:
    run = _run(ComputeConfig(), gpu)
    _train(run, num_steps=2)
    torch.cuda.reset_peak_memory_stats(gpu)
    before = torch.cuda.memory_allocated(gpu)
    _train(run, num_steps=2)
    first = torch.cuda.max_memory_allocated(gpu)
    _train(run, num_steps=6)
    # Later steps need what the second one did; the allocator's blocks may differ by a little.
    assert torch.cuda.max_memory_allocated(gpu) <= 1.02 * first
    assert torch.cuda.memory_allocated(gpu) <= before + 2**20


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """Built and finished; not to be trained in."""
    return write_finished_study(tmp_path_factory.mktemp("shards"), width_px=800, height_px=560)


_TRAIN = """
import sys
from pathlib import Path
from bccdist.configuration import TrainConfig
from bccdist.training.loop import train
config = TrainConfig(width=16, epochs=2, global_batch=4, micro_batch=2, max_steps=4, keep_best=1, save_every_min=0)
train(Path(sys.argv[1]), "resnet34_ds", config)
"""


def _started(study: SmallStudy) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SUBMITIT_"))}
    return subprocess.Popen([sys.executable, "-c", _TRAIN, str(study.root)], cwd=REPOSITORY, env=environment)


def _saved(run: RunPaths) -> tuple[int, int]:
    if not run.last.exists():
        return 0, 0
    position = torch.load(run.last, weights_only=True, map_location="cpu")["position"]
    return position["epoch"], position["step"]


@pytest.mark.timeout(500)
def test_a_stopped_run_ends_with_the_bits_of_one_that_was_left_alone(shards: SmallStudy, tmp_path: Path) -> None:
    alone, stopped = (shards.copied_to(tmp_path / name) for name in ("alone", "stopped"))
    assert _started(alone).wait() == 0
    run = StudyPaths(stopped.root).run("resnet34_ds")
    process = _started(stopped)
    while process.poll() is None and _saved(run) < (1, 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.wait()
    assert (1, 1) < _saved(run) < (3, 0)
    assert _started(stopped).wait() == 0
    # No tolerance: weights, optimiser, statistics and metrics are equal.
    assert_same(outcome(run), outcome(StudyPaths(alone.root).run("resnet34_ds")))
