"""Weights of a ResNet from elsewhere make the same features here, and whatever does not fit is refused by name."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from functional_networks import RESNET18, RESNET34, State, resnet_features
from safetensors.torch import save_file

from bccdist.configuration import Setting
from bccdist.errors import CheckpointError
from bccdist.files import sha256_of_file
from bccdist.networks.encoders import ResNet34Encoder
from bccdist.networks.pretrained import encoder_weights_sha256, load_encoder_weights
from bccdist.networks.unet import DeeplySupervisedUNet

Refusal = Callable[[Path], str]
WIDTH = 8
"""An eighth of torchvision's, so that files are small; the names of the tensors are the same."""


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def _conv(state: State, name: str, out_channels: int, in_channels: int, kernel: int) -> None:
    scale = (2 / (in_channels * kernel**2)) ** 0.5
    state[f"{name}.weight"] = torch.randn(out_channels, in_channels, kernel, kernel) * scale


def _norm(state: State, name: str, channels: int) -> None:
    state[f"{name}.weight"] = torch.rand(channels) + 0.5
    state[f"{name}.bias"] = torch.randn(channels) * 0.1
    state[f"{name}.running_mean"] = torch.randn(channels) * 0.1
    state[f"{name}.running_var"] = torch.rand(channels) + 0.5
    state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def _resnet(num_blocks: tuple[int, ...]) -> State:
    """Random weights under torchvision's names, classifier and all."""
    return dict(_weights(num_blocks, WIDTH))


@cache
def _weights(num_blocks: tuple[int, ...], width: int) -> State:
    torch.manual_seed(1)
    channels = (width, width, 2 * width, 4 * width, 8 * width)
    state: State = {}
    _conv(state, "conv1", width, 3, 7)
    _norm(state, "bn1", width)
    for layer, num in enumerate(num_blocks, start=1):
        fine, coarse = channels[layer - 1], channels[layer]
        for block in range(num):
            name = f"layer{layer}.{block}"
            _conv(state, f"{name}.conv1", coarse, fine if block == 0 else coarse, 3)
            _norm(state, f"{name}.bn1", coarse)
            _conv(state, f"{name}.conv2", coarse, coarse, 3)
            _norm(state, f"{name}.bn2", coarse)
            if block == 0 and fine != coarse:
                _conv(state, f"{name}.downsample.0", coarse, fine, 1)
                _norm(state, f"{name}.downsample.1", coarse)
    return {**state, "fc.weight": torch.randn(1000, 8 * width), "fc.bias": torch.randn(1000)}


def _network(setting: Setting = "resnet34", *, width: int = WIDTH) -> DeeplySupervisedUNet:
    torch.manual_seed(0)
    return DeeplySupervisedUNet(setting, width=width)


@pytest.fixture(scope="module")
def resnet34() -> State:
    """Not to be changed."""
    return _resnet(RESNET34)


@pytest.fixture(scope="module")
def refusal() -> Refusal:
    """The message with which a path is refused; the network stays as it was."""
    network = _network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def refused(path: Path) -> str:
        message = _refusal_by(network, path)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
        return message

    return refused


def _refusal_by(network: DeeplySupervisedUNet, path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_encoder_weights(path, network)
    assert str(path) in str(caught.value)
    return str(caught.value)


def _saved(folder: Path, state: State) -> Path:
    path = folder / "weights.safetensors"
    save_file(state, path)
    return path


def test_names_and_shapes_are_those_of_a_whole_resnet34() -> None:
    theirs, ours = _weights(RESNET34, 64), ResNet34Encoder(64).state_dict()
    expected = {name: tensor.shape for name, tensor in theirs.items() if not name.startswith("fc.")}
    assert {name: tensor.shape for name, tensor in ours.items()} == expected


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("num_blocks", [RESNET34, RESNET18], ids=["resnet34", "resnet18"])
def test_the_encoder_gives_the_features_of_the_resnet_in_the_file(
    tmp_path: Path, num_blocks: tuple[int, ...], training: bool
) -> None:
    state, network = _resnet(num_blocks), _network()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    load_encoder_weights(_saved(tmp_path, state), network)
    with torch.no_grad():
        found = network.double().train(training).encoder(images)
        in_double = {name: tensor.double() for name, tensor in state.items()}
        expected = resnet_features(in_double, num_blocks, images, training=training)
    assert len(found) == 5
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_blocks_that_a_resnet18_lacks_can_learn(tmp_path: Path) -> None:
    network = _network()
    load_encoder_weights(_saved(tmp_path, _resnet(RESNET18)), network)
    network.encoder(torch.randn(2, 3, 64, 64))[-1].square().mean().backward()
    for block in ("layer1.2", "layer2.3", "layer3.5", "layer4.2"):
        factor = network.encoder.get_parameter(f"{block}.bn2.weight")
        assert not factor.any()
        assert factor.grad is not None
        assert factor.grad.any()


def _plain(state: State) -> object:
    return state


def _wrapped(state: State) -> object:
    return {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 90}


def _wrapped_twice(state: State) -> object:
    return {"model": {"state_dict": {f"module.encoder.{name}": tensor for name, tensor in state.items()}}}


@pytest.mark.parametrize(
    ("form", "is_zip"), [(_plain, True), (_plain, False), (_wrapped, True), (_wrapped_twice, True)]
)
def test_a_torch_file_fills_the_encoder_in_each_of_its_forms(
    tmp_path: Path, resnet34: State, form: Callable[[State], object], is_zip: bool
) -> None:
    path, network = tmp_path / "resnet34.pth", _network()
    torch.save(form(resnet34), path, _use_new_zipfile_serialization=is_zip)
    load_encoder_weights(path, network)
    filled = network.encoder.state_dict()
    assert set(filled) == set(resnet34) - {"fc.weight", "fc.bias"}
    assert all(torch.equal(tensor, resnet34[name]) for name, tensor in filled.items())


def test_the_decoder_stays_as_it_was(tmp_path: Path, resnet34: State) -> None:
    network, untouched = _network("resnet34_linear"), _network("resnet34_linear").state_dict()
    load_encoder_weights(_saved(tmp_path, resnet34), network)
    same = {name for name, tensor in network.state_dict().items() if torch.equal(tensor, untouched[name])}
    assert same == {name for name in untouched if not name.startswith("encoder.")}


def test_it_is_said_what_was_copied_and_what_was_left_out(tmp_path: Path, resnet34: State) -> None:
    path = _saved(tmp_path, resnet34)
    assert load_encoder_weights(path, _network()) == (
        f"the encoder starts from the ResNet34 in {path}: 216 tensors; its classifier (fc.bias, fc.weight) is left out"
    )
    headless = {name: tensor for name, tensor in _resnet(RESNET18).items() if not name.startswith("fc.")}
    assert load_encoder_weights(_saved(tmp_path, headless), _network()) == (
        f"the encoder starts from the ResNet18 in {path}: 120 tensors; it has no layer1.2, layer2.2, layer2.3, "
        "layer3.2, layer3.3, layer3.4, layer3.5, layer4.2, which start as identities"
    )


def test_a_file_from_before_torch_counted_batches_is_taken(tmp_path: Path, resnet34: State) -> None:
    old, network = {name: tensor for name, tensor in resnet34.items() if "num_batches" not in name}, _network()
    assert "it has no num_batches_tracked, which start at 0" in load_encoder_weights(_saved(tmp_path, old), network)
    assert torch.equal(network.encoder.get_parameter("conv1.weight"), resnet34["conv1.weight"])
    assert int(network.encoder.get_buffer("bn1.num_batches_tracked")) == 0


class Misfit(NamedTuple):
    """A change to a whole state dict, and what the refusal says."""

    says: str
    without: str = ""
    extra: tuple[str, tuple[int, ...]] | None = None
    num_blocks: tuple[int, ...] = RESNET34


@pytest.mark.parametrize(
    "case",
    [
        Misfit("missing: layer3.4.bn2.bias.", without="layer3.4.bn2.bias"),
        Misfit("missing: layer1.0.conv1.weight.", without="layer1.0.conv1.weight"),
        Misfit("missing: layer1.1.bn2.bias.", without="layer1.1.bn2.bias", num_blocks=RESNET18),
        Misfit("missing: bn1.num_batches_tracked.", without="bn1.num_batches_tracked"),
        Misfit("left over: layer1.0.se.weight.", extra=("layer1.0.se.weight", (8,))),
        Misfit("expected: bn1.bias [4] against [8].", extra=("bn1.bias", (4,)), num_blocks=RESNET18),
        Misfit(
            "missing: conv1.weight; left over: conv1.0.weight.",
            without="conv1.weight",
            extra=("conv1.0.weight", (4, 3, 3, 3)),
        ),
    ],
    ids=lambda case: case.says,
)
def test_tensors_that_do_not_fit_are_listed(tmp_path: Path, case: Misfit, refusal: Refusal) -> None:
    state = {name: tensor for name, tensor in _resnet(case.num_blocks).items() if name != case.without}
    if case.extra is not None:
        state[case.extra[0]] = torch.zeros(case.extra[1])
    message = refusal(_saved(tmp_path, state))
    assert "does not fit the ResNet34 encoder: " in message
    assert case.says in message


def test_a_tensor_outside_the_common_prefix_is_left_over(tmp_path: Path, resnet34: State, refusal: Refusal) -> None:
    state = {f"encoder.{name}": tensor for name, tensor in resnet34.items()}
    path = _saved(tmp_path, {**state, "decoder.weight": torch.zeros(1), "conv1.weight": torch.zeros(WIDTH, 3, 7, 7)})
    assert "left over: conv1.weight, decoder.weight." in refusal(path)


def test_a_second_network_in_the_file_is_left_over(tmp_path: Path, resnet34: State, refusal: Refusal) -> None:
    state = {f"{side}.{name}": tensor.clone() for side in ("student", "teacher") for name, tensor in resnet34.items()}
    assert "left over: teacher." in refusal(_saved(tmp_path, state))


def test_a_long_list_of_faults_ends_with_a_count(tmp_path: Path, refusal: Refusal) -> None:
    message = refusal(_saved(tmp_path, {"blocks.weight": torch.zeros(1)}))
    assert "missing: conv1.weight, bn1.weight," in message
    assert "and 172 more; left over: blocks.weight." in message


def test_another_encoder_is_refused(tmp_path: Path, resnet34: State) -> None:
    message = _refusal_by(_network("unet"), _saved(tmp_path, resnet34))
    assert "for a ResNet34 encoder, which unet does not have; train it without encoder_weights" in message


def test_another_width_is_refused_with_both_shapes(tmp_path: Path, resnet34: State) -> None:
    message = _refusal_by(_network("resnet34_ds", width=4), _saved(tmp_path, resnet34))
    assert "shape got against expected: conv1.weight [8, 3, 7, 7] against [4, 3, 7, 7], " in message
    assert "resnet34 or resnet18, whose width is 64" in message


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_missing_or_damaged_file_is_refused(tmp_path: Path, resnet34: State, name: str, refusal: Refusal) -> None:
    path = tmp_path / name
    assert "no encoder weights there" in refusal(path)
    with pytest.raises(CheckpointError, match="no encoder weights there"):
        encoder_weights_sha256(path)
    for content in (b"", b"no weights", bytes(1000)):
        path.write_bytes(content)
        assert "damaged" in refusal(path)
    (save_file if path.suffix == ".safetensors" else torch.save)(resnet34, path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds a list, expected a state dict"),
        ({"model": {"conv1.weight": 3}}, "these are no named tensors: conv1.weight"),
        ({1: torch.zeros(1)}, "these are no named tensors: 1"),
        ({"model": torch.nn.ReLU()}, "code in it is not run"),
    ],
    ids=["list", "number", "no name", "pickled network"],
)
def test_a_torch_file_of_something_else_is_refused(
    tmp_path: Path, content: object, says: str, refusal: Refusal
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert says in refusal(path)


def test_the_sha256_is_that_of_the_file(tmp_path: Path) -> None:
    path = _saved(tmp_path, {"weight": torch.zeros(1)})
    assert encoder_weights_sha256(path) == sha256_of_file(path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_weights_that_are_not_finite_are_refused(name: str, tmp_path: Path, refusal: Refusal) -> None:
    state, path = _resnet(RESNET34), tmp_path / name
    state["layer2.0.bn1.running_var"] = torch.full_like(state["layer2.0.bn1.running_var"], torch.inf)
    if name.endswith(".pt"):
        torch.save(state, path)
    else:
        save_file(state, path)
    assert "layer layer2.0.bn1.running_var holds a number that is not finite" in refusal(path)


def test_a_flipped_bit_in_a_torch_file_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    torch.save(_resnet(RESNET34), tmp_path / "a.pt")
    data = bytearray((tmp_path / "a.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.pt").write_bytes(data)
    assert "damaged" in refusal(tmp_path / "a.pt")
