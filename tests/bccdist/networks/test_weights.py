"""Weights come back as they were, and whatever is not ours is refused with its path."""

import json
from pathlib import Path

import pytest
import torch
from damage import assert_never_used
from safetensors.torch import save_file

from bccdist.configuration import SETTINGS, Setting
from bccdist.errors import CheckpointError
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import load_network, save_network, weights_digest


def _network(setting: Setting = "resnet34_ds", *, width: int = 4) -> DeeplySupervisedUNet:
    torch.manual_seed(0)
    return DeeplySupervisedUNet(setting, width=width)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "epoch-001.safetensors"
    save_network(path, _network(), {"epoch": "1", "target_mpp": "0.92"})
    return path


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_loaded_network_says_the_same(setting: Setting, tmp_path: Path) -> None:
    network, images = _network(setting), torch.randn(2, 3, 64, 64)
    network.train()(images)  # moves the running statistics away from their start
    path = tmp_path / "weights.safetensors"
    save_network(path, network, {})
    loaded, _ = load_network(path)
    before, after = network.eval()(images), loaded(images)
    assert loaded.setting == setting
    assert not loaded.training
    assert list(before) == list(after)
    assert all(torch.equal(before[psi], after[psi]) for psi in before)


def test_metadata_is_kept_with_setting_and_width(weights: Path) -> None:
    _, metadata = load_network(weights)
    assert metadata == {"epoch": "1", "target_mpp": "0.92", "setting": "resnet34_ds", "width": "4"}


def test_nothing_but_the_weights_is_left_in_the_folder(weights: Path) -> None:
    assert list(weights.parent.iterdir()) == [weights]


def test_the_digest_names_the_content(weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_network(other, _network("unet"), {})
    assert len(weights_digest(weights)) == 12
    assert weights_digest(weights) != weights_digest(other)


def test_equal_weights_give_equal_bytes(weights: Path) -> None:
    before = weights.read_bytes()
    for metadata in ({"epoch": "1", "target_mpp": "0.92"}, {"target_mpp": "0.92", "epoch": "1"}):
        save_network(weights, _network(), metadata)
        assert weights.read_bytes() == before
    header = json.loads(before[8 : 8 + int.from_bytes(before[:8], "little")])
    assert list(header["__metadata__"]) == ["bccdist.seal", "epoch", "setting", "target_mpp", "width"]
    assert int.from_bytes(before[:8], "little") % 8 == 0


def _refusal(path: Path) -> str:
    """The message with which `path` is refused."""
    with pytest.raises(CheckpointError) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    assert "no weights there" in _refusal(tmp_path / "epoch-007.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(weights: Path, share: float) -> None:
    weights.write_bytes(weights.read_bytes()[: int(share * weights.stat().st_size)])
    assert "damaged" in _refusal(weights)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    torch.save(_network().state_dict(), path)
    assert "damaged or no safetensors file" in _refusal(path)


@pytest.mark.parametrize(
    "metadata",
    [None, {"format": "pt"}, {"setting": "resnet50", "width": "4"}, {"setting": "unet", "width": "wide"}],
    ids=["none", "foreign", "setting", "width"],
)
def test_foreign_weights_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    assert "name no setting and width" in _refusal(path)


@pytest.mark.parametrize(("setting", "width"), [("resnet34_ds", "8"), ("unet", "4"), ("resnet34_linear", "4")])
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, setting: str, width: str) -> None:
    path = tmp_path / "other.safetensors"
    save_file(_network().state_dict(), path, metadata={"setting": setting, "width": width})
    assert f"do not fit {setting} of width {width}" in _refusal(path)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_weights_are_never_used(weights: Path, seed: int) -> None:
    assert assert_never_used(weights, lambda: _content(weights), seed=seed) > 50


def _content(path: Path) -> list[object]:
    network, metadata = load_network(path)
    return [metadata, *(tensor.tolist() for tensor in network.state_dict().values())]


def test_weights_of_before_hold_no_digest_and_are_used_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, network = tmp_path / "old.safetensors", _network()
    save_file(network.state_dict(), path, metadata={"setting": "resnet34_ds", "width": "4", "epoch": "1"})
    loaded, _ = load_network(path)
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), loaded.parameters(), strict=True))
    assert f"{path}: it holds no SHA-256 of its bytes" in caplog.text
