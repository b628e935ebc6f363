"""Pixels are counted at each output's own resolution, and sums do not depend on how patches were batched."""

import math
import os
import signal
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from bccdist.configuration import SETTINGS, Psi, Setting, TrainConfig, outputs_of
from bccdist.errors import NotFiniteError
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.training.compute import resolve_compute
from bccdist.training.loader import Batch
from bccdist.training.losses import focal_loss
from bccdist.training.stop import StopRequest
from bccdist.training.validation import ValidationResult, confusion_px, validate

CPU = torch.device("cpu")
CONFIG = TrainConfig(width=4)


def _scores(says_tumor: Tensor) -> Tensor:
    """Scores [n, 2, h, w] of a network that is sure of what it says."""
    return torch.stack([-says_tumor.float(), says_tumor.float() * 2 - 1], dim=1)


def _halves(*, side_px: int, tumor_columns: int) -> Tensor:
    mask = torch.zeros(1, side_px, side_px, dtype=torch.uint8)
    mask[:, :, :tumor_columns] = 1
    return mask


def test_pixels_of_each_kind_are_counted() -> None:
    truth = torch.tensor([[[1, 1, 1, 0, 0, 0, 0, 0]]], dtype=torch.uint8)
    said = torch.tensor([[[1, 0, 0, 1, 1, 1, 0, 0]]], dtype=torch.uint8)
    assert confusion_px({"psi_4": _scores(said)}, truth, "nearest-exact").tolist() == [[1, 3, 2, 2]]


def test_probability_one_half_is_not_tumor() -> None:
    undecided = torch.zeros(1, 2, 1, 3)
    assert confusion_px({"psi_4": undecided}, torch.ones(1, 1, 3, dtype=torch.uint8), "max").tolist() == [[0, 0, 3, 0]]


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_a_pixel_is_tumor_above_the_probability_that_is_asked_for(probability: float) -> None:
    """Held against the softmax that heatmaps are made with."""
    scores = torch.randn(1, 2, 40, 50, generator=torch.Generator().manual_seed(0))
    said = torch.softmax(scores, dim=1)[:, 1] > probability
    truth = torch.ones(1, 40, 50, dtype=torch.uint8)
    found = confusion_px({"psi_4": scores}, truth, "nearest-exact", probability=probability)
    assert found.tolist() == [[int(said.sum()), 0, int((~said).sum()), 0]]


def test_each_output_is_held_against_the_mask_at_its_own_size() -> None:
    mask = _halves(side_px=32, tumor_columns=16)
    scores: dict[Psi, Tensor] = {
        "psi_0": _scores(_halves(side_px=2, tumor_columns=1)),
        "psi_4": _scores(_halves(side_px=32, tumor_columns=8)),
    }
    assert confusion_px(scores, mask, "nearest-exact").tolist() == [[2, 0, 0, 2], [256, 0, 256, 512]]


def test_pi_l_follows_the_configuration() -> None:
    mask = _halves(side_px=32, tumor_columns=1)
    scores: dict[Psi, Tensor] = {"psi_0": _scores(torch.zeros(1, 2, 2))}
    assert confusion_px(scores, mask, "majority").tolist() == [[0, 0, 0, 4]]
    assert confusion_px(scores, mask, "max").tolist() == [[0, 0, 2, 2]]


@pytest.fixture
def patches() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(5, 64, 64, dtype=torch.uint8)
    for number in range(5):
        masks[number, : 12 * number, 8:] = 1
    return images, masks


def _network(setting: Setting) -> DeeplySupervisedUNet:
    torch.manual_seed(0)
    return DeeplySupervisedUNet(setting, width=4)


def _validated(network: DeeplySupervisedUNet, patches: tuple[Tensor, Tensor], batch: int) -> ValidationResult:
    images, masks = patches
    starts = range(0, len(images), batch)
    batches = [Batch(images[start : start + batch], masks[start : start + batch], None) for start in starts]
    compute = resolve_compute(CONFIG.compute, CPU, world_size=1)
    found = validate(network, iter(batches), CONFIG, compute, num_batches=len(batches), request=StopRequest())
    assert isinstance(found, ValidationResult)
    return found


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_size_of_batches_does_not_matter(setting: Setting, patches: tuple[Tensor, Tensor]) -> None:
    network = _network(setting)
    together, uneven = (_validated(network, patches, batch) for batch in (5, 2))
    assert together.confusion_px == uneven.confusion_px
    assert together.losses == pytest.approx(uneven.losses, rel=1e-5)
    assert list(together.confusion_px) == list(outputs_of(setting))
    assert list(together.losses) == list(outputs_of(setting) if setting == "resnet34_ds" else outputs_of(setting)[-1:])


def test_sums_are_those_of_all_patches(patches: tuple[Tensor, Tensor]) -> None:
    network, (images, masks) = _network("resnet34"), patches
    result = _validated(network, patches, 2)
    with torch.no_grad():
        scores = network(to_network_input(images))
    assert list(result.confusion_px["psi_4"]) == confusion_px(scores, masks, "nearest-exact")[0].tolist()
    assert sum(result.confusion_px["psi_4"]) == masks.numel()
    assert result.losses["psi_4"] == pytest.approx(focal_loss(scores["psi_4"], masks, gamma=2).item(), rel=1e-5)


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_validation_at_the_next_batch(
    patches: tuple[Tensor, Tensor], number: signal.Signals
) -> None:
    network = _network("resnet34")
    before = signal.signal(number, signal.default_int_handler)  # a shell may have had us ignore it
    taken: list[int] = []

    def batches() -> Iterator[Batch]:
        for place in range(5):
            taken.append(place)
            if place == 1:
                os.kill(os.getpid(), number)
            yield Batch(patches[0][place : place + 1], patches[1][place : place + 1], None)

    compute = resolve_compute(CONFIG.compute, CPU, world_size=1)
    with StopRequest() as request:
        assert validate(network, batches(), CONFIG, compute, num_batches=5, request=request) == number
    signal.signal(number, before)
    assert taken == [0, 1]


def test_the_network_is_left_in_evaluation_mode_and_unchanged(patches: tuple[Tensor, Tensor]) -> None:
    network = _network("resnet34").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _validated(network, patches, 5)
    assert not network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("heads.psi_4.bias", math.nan, r"scores of 20480 px of psi_4 .*layer heads\.psi_4\.bias holds"),
        ("heads.psi_0.bias", math.inf, r"scores of 80 px of psi_0 .*layer heads\.psi_0\.bias holds"),
        ("blocks.0.convs.0.1.running_var", math.nan, r"psi_0, .*layer blocks\.0\.convs\.0\.1\.running_var holds"),
        (
            "encoder.layer1.0.conv1.weight",
            3e38,
            r"psi_4 .*all weights are finite, so features overflow",
        ),
    ],
)
def test_scores_that_are_not_finite_are_an_error_and_no_iou(
    patches: tuple[Tensor, Tensor], name: str, value: float, said: str
) -> None:
    network = _network("resnet34_ds")
    network.state_dict()[name].fill_(value)
    with pytest.raises(NotFiniteError, match=said):
        _validated(network, patches, 2)
