"""An encoder of timm is one of ours: five feature maps, its colours, saved by name; what does not fit is refused."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import small_timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bccdist.configuration import InferConfig
from bccdist.errors import CheckpointError, ConfigurationError
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predictors import make_predictor
from bccdist.networks.block_costs import first_block_share
from bccdist.networks.engines import candidates, make_runner, resolve_engine
from bccdist.networks.inference import FirstBlock, LaterBlocks, WholeNetwork
from bccdist.networks.inputs import to_network_input
from bccdist.networks.pretrained import load_encoder_weights
from bccdist.networks.receptive_field import effective_receptive_field
from bccdist.networks.starting import read_start
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import load_network, save_network

CPU = torch.device("cpu")
FITTING = ("small", "small_half", "small_from_4", "small_nhwc", "small_one_size")

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(autouse=True)
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    small_timm.install(monkeypatch)


def _network(encoder: str) -> DeeplySupervisedUNet:
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("resnet34_linear", encoder=encoder)
    network.train()(to_network_input(_patches(4)))  # statistics of some patches, as training leaves them
    return network.eval()


def _patches(num: int = 2) -> Tensor:
    return torch.randint(0, 256, (num, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("encoder", FITTING)
def test_every_output_has_its_size_and_every_weight_learns(encoder: str) -> None:
    network = _network(encoder).train()
    scores = network(to_network_input(_patches()))
    assert {psi: tuple(score.shape) for psi, score in scores.items()} == {
        **{f"psi_{block}": (2, 2, 4 << block, 4 << block) for block in range(5)},
        "merged": (2, 2, 64, 64),
    }
    sum(score.square().mean() for score in scores.values()).backward()  # type: ignore[union-attr]
    assert all(each.grad is not None and each.grad.any() for each in network.encoder.parameters())


def test_the_encoder_sees_the_colours_that_it_was_trained_on() -> None:
    network, seen = _network("small_half"), []
    network.encoder.features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[union-attr, operator]
    network(to_network_input(_patches()))
    mean, std = (torch.tensor(each)[:, None, None] for each in (small_timm.MEAN, small_timm.STD))
    torch.testing.assert_close(seen[0], (_patches().permute(0, 3, 1, 2) / 255 - mean) / std, atol=1e-5, rtol=0)


def test_nothing_is_random_in_training_but_augmentation() -> None:
    network = _network("small").train()
    x = to_network_input(_patches())
    assert torch.equal(network(x)["merged"], network(x)["merged"])


@pytest.mark.parametrize("encoder", FITTING)
def test_a_saved_network_comes_back_by_its_encoders_name(encoder: str, tmp_path: Path) -> None:
    network, path = _network(encoder), tmp_path / "weights.safetensors"
    save_network(path, network, {"epoch": "1"})
    back, metadata = load_network(path)
    assert metadata == {"epoch": "1", "setting": "resnet34_linear", "width": str(network.width), "encoder": encoder}
    x = to_network_input(_patches())
    assert torch.equal(back(x)["merged"], network(x)["merged"])


def test_a_network_is_not_taken_for_one_with_another_encoder(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    facts = {"epoch": "1", "target_mpp": "0.92", "phantom": "false", "config_digest": "d"}
    save_network(path, _network("small"), facts)
    assert "epoch 1 of run d" in read_start(path, setting="resnet34_linear", width=64, encoder="small").lineage
    for encoder, words in (("", "width 64"), ("small_half", "encoder small_half")):
        with pytest.raises(CheckpointError, match=f"is resnet34_linear of encoder small with .*, expected .* {words}"):
            read_start(path, setting="resnet34_linear", width=4 if encoder else 64, encoder=encoder)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("patch14", r"reductions \(14, 14\), expected \(2, 4, 8, 16, 32\), or the same without 2"),
        ("gap", r"reductions \(2, 4, 32\), expected"),
        ("to_16", r"reductions \(2, 4, 8, 16\), expected"),
        ("thin", "has 8 channels, expected at least 32"),
        ("small_one_size_always", r"takes no patch of 64 px \(Input height \(64\) doesn't match model \(96\).\)"),
        ("nosuch", r"makes no such network with feature maps \(RuntimeError: Unknown model \(nosuch\)\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(encoder: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^encoder {encoder}: .*{message}") as caught:
        DeeplySupervisedUNet("resnet34", encoder=encoder)
    assert "\n" not in str(caught.value)


def test_the_plain_setting_has_no_place_for_it() -> None:
    with pytest.raises(ConfigurationError, match="takes the place of ResNet34, which unet does not have"):
        DeeplySupervisedUNet("unet", encoder="small")


def test_without_timm_network_and_weights_say_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.safetensors"
    save_network(path, _network("small"), {})
    monkeypatch.delitem(__import__("sys").modules, "timm")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"encoder small: timm is not installed; install it with `pip"):
        DeeplySupervisedUNet("resnet34", encoder="small")
    with pytest.raises(CheckpointError, match=f"{path}: encoder small: timm is not installed"):
        load_network(path)


@pytest.mark.parametrize("encoder", FITTING)
def test_engines_pieces_and_measurements_know_it(encoder: str) -> None:
    network, patches = _network(encoder), _patches()
    eager, folded = candidates(CPU, encoder=encoder)[:2]
    assert {each.engine for each in candidates(CPU, encoder=encoder)} <= {"eager", "folded", "compiled"}
    expected = make_runner(WholeNetwork(network), eager, device=CPU)(patches)
    found = make_runner(WholeNetwork(network), folded, device=CPU)(patches)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    _, *rest = make_runner(FirstBlock(network, with_features=True), folded, device=CPU)(patches)
    (final,) = make_runner(LaterBlocks(network), folded, device=CPU)(*rest)
    torch.testing.assert_close(final, expected[-1], atol=1e-5, rtol=0)
    assert 0 < first_block_share(network) < 1
    assert effective_receptive_field(network, patches)["merged"]["99"] > 0


@pytest.mark.parametrize(
    "asked", [{"engine": "openvino"}, {"engine": "mnn"}, {"precision": "int8"}], ids=["openvino", "mnn", "int8"]
)
def test_engines_of_others_are_refused_and_auto_is_torch(asked: dict[str, str]) -> None:
    config = replace(InferConfig(), **asked)
    with pytest.raises(ConfigurationError, match="the encoder small of timm is run by torch alone"):
        Method.of(config, CPU, encoder="small")
    assert resolve_engine("float32", "auto", CPU, encoder="small") == "folded"


def test_a_heatmaps_predictor_runs_it_as_it_was_asked_for() -> None:
    network = _network("small_from_4")
    method = Method.of(InferConfig(), CPU, encoder=network.encoder_name)
    assert make_predictor(network, method, device=CPU, int8_file=Path)


def _file(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    path = tmp_path / "encoder.safetensors"
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    return path


def _whole(encoder: str, seed: int = 5) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state: dict[str, Tensor] = small_timm.create_model(encoder, pretrained=False).state_dict()
    return state


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.model."])
def test_weights_of_the_whole_network_fill_the_encoder(prefix: str, tmp_path: Path) -> None:
    state, network = _whole("small"), _network("small")
    path = _file(tmp_path, {f"{prefix}{name}": tensor for name, tensor in state.items()})
    said = load_encoder_weights(path, network)
    assert said.startswith(f"the encoder starts from the small in {path}: 30 tensors; 2 of the whole network's are")
    filled = network.encoder.state_dict()
    for name, tensor in state.items():
        if not name.startswith("head"):
            assert torch.equal(filled[f"features.{name.replace('stages.', 'stages_')}"], tensor)


def test_a_torch_file_of_the_encoder_alone_fills_it_too(tmp_path: Path) -> None:
    path, network = tmp_path / "encoder.pth", _network("small")
    torch.save({"state_dict": _network("small").encoder.features.state_dict()}, path)  # type: ignore[union-attr]
    assert load_encoder_weights(path, network).endswith(": 30 tensors")


def test_weights_that_do_not_fit_are_refused_by_name_and_change_nothing(tmp_path: Path) -> None:
    state, network = _whole("small"), _network("small")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    del state["stages.1.conv.weight"]
    state["stages.9.conv.weight"] = torch.zeros(1)
    state["stages.2.bn_1.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as caught:
        load_encoder_weights(_file(tmp_path, state), network)
    for words in (
        "does not fit the encoder small: missing: stages_1.conv.weight",
        "left over: stages.9.conv.weight",
        "stages_2.bn_1.bias [3] against [8]",
        "Give the state dict of timm's small",
    ):
        assert words in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    state = {**_whole("small"), "stages.0.conv.weight": torch.full((4, 3, 2, 2), torch.nan)}
    with pytest.raises(CheckpointError, match=r"layer stages_0\.conv\.weight holds a number that is not finite"):
        load_encoder_weights(_file(tmp_path, state), network)


@pytest.mark.parametrize("encoder", ["", "small"])
def test_a_frozen_encoder_stays_to_the_bit(encoder: str) -> None:
    network = DeeplySupervisedUNet("resnet34_ds", width=4, encoder=encoder)
    network.freeze_encoder()
    before = {name: tensor.clone() for name, tensor in network.encoder.state_dict().items()}
    network.train()
    assert not any(part.training for part in network.encoder.modules())
    assert network.blocks.training
    optimizer = torch.optim.Adam([each for each in network.parameters() if each.requires_grad])
    nn.functional.mse_loss(network(to_network_input(_patches()))["psi_4"], torch.zeros(2, 2, 64, 64)).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.encoder.state_dict().items())
