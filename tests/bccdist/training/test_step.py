"""A training step leaves a GPU busy: nothing mixes its tensors with the CPU's, and it is waited for once."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from pretended_gpu import GPU, pretended_gpu
from torch import Tensor, nn

from bccdist.configuration import AugmentConfig, Setting, TrainConfig
from bccdist.networks.arithmetic import compiling, torch_settings
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.ranks import Ranks
from bccdist.training import distributed, step
from bccdist.training.augmentation import draw_augmentation
from bccdist.training.compute import Compute, prepare_network
from bccdist.training.device_augmentation import Changes
from bccdist.training.loader import Batch
from bccdist.training.losses import losses
from bccdist.training.run import Run
from bccdist.training.stop import StopRequest

SETTINGS: tuple[Setting, ...] = ("unet", "resnet34", "resnet34_ds", "resnet34_linear")
NUM_MICRO = 2

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def _compute(device: torch.device) -> Compute:
    return Compute(
        device=device,
        precision="float32",
        channels_last=True,
        compile=False,
        fused_adam=False,
        sync_batch_norm=False,
        deterministic=True,
    )


def _batch() -> Batch:
    changes = [draw_augmentation(AugmentConfig(), seed=0, epoch=1, position=number) for number in range(2)]
    pixels = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    return Batch(pixels, pixels[..., 0].contiguous(), Changes.stack(changes))


def _run(setting: Setting) -> Run:
    compute = _compute(GPU)
    network = prepare_network(DeeplySupervisedUNet(setting, width=16).to(GPU), compute).train()
    return cast(
        "Run",
        SimpleNamespace(
            config=TrainConfig(width=16, global_batch=2 * NUM_MICRO, micro_batch=2),
            ranks=Ranks(),
            parts=[range(2), range(2, 4)],
            device=GPU,
            compute=compute,
            network=network,
            parallel=network,
            optimizer=torch.optim.Adam(network.parameters()),
        ),
    )


@pytest.mark.parametrize(
    ("setting", "deterministic"), [*((setting, True) for setting in SETTINGS), ("resnet34_linear", False)]
)
def test_a_step_waits_for_a_gpu_once(setting: Setting, deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def all_finite(values: dict[str, Tensor | float], device: torch.device) -> dict[str, float]:
        asked.append(values)
        return dict.fromkeys(values, 0.0)

    monkeypatch.setattr(step, "sums_by_name", all_finite)
    monkeypatch.setattr(step, "autocast", lambda _: nullcontext())  # torch has none for this device
    run, batches = _run(setting), iter([_batch() for _ in range(NUM_MICRO)])
    with pretended_gpu() as waits, torch_settings(deterministic=(deterministic, False)):
        step.train_step(run, batches, StopRequest(), save_is_due=False, where="here")
    assert waits == []
    (values,) = asked
    assert {each.device.type for each in values.values() if isinstance(each, Tensor)} == {"meta"}


def test_the_ranks_exchange_is_one_copy_of_what_the_cpu_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    exchanged: list[Tensor] = []

    def as_is(numbers: Tensor) -> Any:
        exchanged.append(numbers)
        return SimpleNamespace(tolist=lambda: list(range(len(numbers))))

    monkeypatch.setattr(distributed, "sum_over_ranks", as_is)
    computed = torch.zeros((), device=GPU)
    with pretended_gpu() as waits:
        found = distributed.sums_by_name({"loss": computed, "a": 1.0, "norm": computed, "b": 2.0}, GPU)
    assert waits == ["aten._to_copy.default of [2]"]
    assert (exchanged[0].device, exchanged[0].dtype) == (GPU, torch.float64)
    assert sorted(found) == ["a", "b", "loss", "norm"]


def test_alone_with_what_it_knows_a_rank_asks_no_gpu() -> None:
    with pretended_gpu() as waits:
        assert distributed.sums_by_name({"INT": 1.0, "TERM": 0.0}, GPU) == {"INT": 1.0, "TERM": 0.0}
    assert waits == []


class _Supervised(nn.Module):
    """Network and losses, as a step computes them."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.network = DeeplySupervisedUNet(setting, width=16)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        scores = self.network(to_network_input(images))
        found = losses(self.network.setting, scores, masks, gamma=2.0, method="nearest-exact")
        return torch.stack(list(found.values())).sum()


@pytest.mark.parametrize(
    ("setting", "deterministic"),
    [
        ("resnet34_linear", True),
        *(
            pytest.param(setting, deterministic, marks=pytest.mark.slow)
            for setting in SETTINGS
            for deterministic in (True, False)
            if (setting, deterministic) != ("resnet34_linear", True)
        ),
    ],
)
def test_network_and_losses_are_one_graph(setting: Setting, deterministic: bool) -> None:
    images, masks, _ = _batch()
    with torch_settings(deterministic=(deterministic, False)), compiling():
        found = torch._dynamo.explain(_Supervised(setting))(images, masks)
    assert (found.graph_count, found.graph_break_count) == (1, 0)


def test_a_mixed_operation_is_found() -> None:
    with pretended_gpu(), pytest.raises(AssertionError, match="of the CPU and of the GPU together"):
        nn.functional.conv2d(torch.zeros(1, 3, 8, 8, device=GPU), torch.zeros(1, 3, 3, 3))


def test_a_copy_that_is_waited_for_is_found() -> None:
    with pretended_gpu() as waits:
        torch.tensor([0.1, 0.2], device=GPU)
        torch.zeros(3).to(GPU)
        torch.zeros(5).to(GPU, non_blocking=True)
    assert len(waits) == 2
