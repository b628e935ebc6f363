"""Numbers that are not finite, or will not stay so, are refused with their layer before any engine can hide them."""

import math
from pathlib import Path

import pytest
import torch

from bccdist.configuration import SETTINGS, Setting
from bccdist.errors import CheckpointError, NotFiniteError
from bccdist.networks.engines import Arithmetic, candidates, make_runner
from bccdist.networks.finite import first_overflow, not_finite, require_sound
from bccdist.networks.inference import FirstBlock, LaterBlocks, WholeNetwork
from bccdist.networks.inputs import to_network_input
from bccdist.networks.openvino_engine import make_int8_model
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import load_network, save_network

pytestmark = pytest.mark.usefixtures("one_torch_thread")
_CPU = torch.device("cpu")
_FAULTS = {
    "nan": ("encoder.layer2.1.conv1.weight", math.nan),
    "infinite": ("blocks.2.convs.1.0.weight", -math.inf),
    "nan in the last layer": ("heads.psi_4.bias", math.nan),
    "an infinite statistic": ("encoder.layer3.0.bn1.running_var", math.inf),
    "a negative variance": ("encoder.layer3.0.bn1.running_var", -1.0),
    "a large weight": ("encoder.layer2.1.conv1.weight", 3e38),
    "a large weight that ReLU hides": ("blocks.2.convs.0.0.weight", -3e38),
    "a large score": ("heads.psi_1.weight", 3e38),
}
"""What is wrong, and in which tensor."""


def _network(setting: Setting = "resnet34_ds", *, fault: str | None = None) -> DeeplySupervisedUNet:
    torch.manual_seed(0)
    network = DeeplySupervisedUNet(setting, width=8).eval()
    if fault is not None:
        name, value = _FAULTS[fault]
        tensor = network.state_dict()[name]
        tensor[(0,) * tensor.ndim] = value
    return network


def _layer(fault: str) -> str:
    return _FAULTS[fault][0].rpartition(".")[0]


@pytest.mark.parametrize("fault", _FAULTS)
@pytest.mark.parametrize("arithmetic", candidates(_CPU), ids=str)
def test_every_engine_refuses_them_with_the_layer(fault: str, arithmetic: Arithmetic, tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=_layer(fault)):
        make_runner(WholeNetwork(_network(fault=fault)), arithmetic, device=_CPU, int8_file=tmp_path / "int8.xml")


def test_the_parts_of_a_cascade_and_int8_models_refuse_them(tmp_path: Path) -> None:
    network, patches = _network(fault="nan"), torch.zeros((1, 64, 64, 3), dtype=torch.uint8)
    for part in (FirstBlock(network, with_features=True), LaterBlocks(network)):
        with pytest.raises(NotFiniteError, match=_layer("nan")):
            require_sound(part)
    with pytest.raises(NotFiniteError, match=_layer("nan")):
        make_int8_model(WholeNetwork(network), [(patches,)], tmp_path / "int8.xml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_sound_network_is_left_alone(setting: Setting, scale: float) -> None:
    network = _network(setting)
    network.train()(to_network_input(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)))
    with torch.no_grad():
        for head in network.heads.values():
            head.weight *= scale
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    require_sound(WholeNetwork(network.eval()))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_the_first_layer_is_named_that_a_patch_drives_to_infinity() -> None:
    network = _network()
    patch = torch.zeros((1, 64, 64, 3), dtype=torch.uint8)
    assert not first_overflow(network, patch, largest=math.inf)
    with torch.no_grad():
        network.encoder.get_submodule("layer1.0.conv1").weight.fill_(3e38)  # type: ignore[operator, union-attr]
    assert first_overflow(network, patch, largest=math.inf) == "encoder.layer1.0.conv1"


def test_names_are_listed_and_many_are_counted() -> None:
    bad, good = torch.tensor([1.0, math.nan]), torch.tensor([1, 2])
    assert not not_finite({"a": good, "b": torch.zeros(0), "c": torch.ones(3)})
    assert not_finite({"a": good, "b": bad}) == "layer b holds a number that is not finite"
    assert not_finite(dict.fromkeys("abcde", bad)) == "layer a, b, c and 2 more holds a number that is not finite"


@pytest.mark.parametrize("fault", ["nan", "infinite", "an infinite statistic"])
def test_weights_that_are_not_finite_are_not_loaded(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "epoch-001.safetensors"
    save_network(path, _network(fault=fault), {})
    with pytest.raises(CheckpointError, match=rf"{path}: layer {_FAULTS[fault][0]} holds a number that is not finite"):
        load_network(path)
