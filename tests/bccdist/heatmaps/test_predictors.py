"""A cascade computes the later blocks where psi_0 is undecided, and only there."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bccdist.configuration import Setting
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predictors import CascadePredictor, is_undecided, make_predictor, repeated
from bccdist.networks.unet import DeeplySupervisedUNet

_CPU = torch.device("cpu")


def _predictor(setting: Setting, **changes: Any) -> Any:
    torch.manual_seed(0)
    network = DeeplySupervisedUNet(setting, width=8).eval()
    return make_predictor(network, Method(engine="eager", **changes), device=_CPU, int8_file=Path)


def test_a_patch_is_undecided_where_any_pixel_lies_within_the_band() -> None:
    psi_0 = torch.zeros((4, 2, 2))
    psi_0[0, 0, 1] = 0.3
    psi_0[1] = 0.9
    psi_0[2, 1, 1] = 0.95
    assert is_undecided(psi_0, (0.1, 0.8)).tolist() == [True, False, False, False]
    assert is_undecided(psi_0, (0.3, 1.0)).tolist() == [True, True, True, False]
    assert is_undecided(psi_0, (0.0, 0.0)).tolist() == [True, False, True, True]


def test_decided_patches_repeat_psi_0_and_the_others_are_computed() -> None:
    calls = []

    def first(patches: Tensor) -> tuple[Tensor, ...]:
        psi_0 = patches[:, :1, :1, 0].float() / 255
        return psi_0.repeat(1, 2, 2), patches[..., 0].float()

    def later(features: Tensor) -> tuple[Tensor]:
        calls.append(len(features))
        return (torch.full((len(features), 32, 32), 0.5),)

    predictor = CascadePredictor(first, later, band=(0.1, 0.9), final="psi_4")
    patches = torch.zeros((3, 32, 32, 3), dtype=torch.uint8)
    patches[1] = 102
    patches[2] = 255
    found = predictor(patches)
    assert found["psi_4"][:, 0, 0].tolist() == [0.0, 0.5, 1.0]
    assert torch.equal(found["psi_0"], patches[:, :2, :2, 0].float() / 255)
    assert (calls, predictor.num_patches, predictor.num_undecided) == ([1], 3, 1)
    predictor(patches[:1])
    assert (calls, predictor.num_patches, predictor.num_undecided) == ([1], 4, 1)


def test_each_pixel_becomes_a_square() -> None:
    assert repeated(torch.tensor([[[1.0, 2.0]]]), 2).tolist() == [[[1, 1, 2, 2], [1, 1, 2, 2]]]


@pytest.mark.parametrize("setting", ["resnet34_ds", "resnet34_linear"])
def test_a_band_of_everything_gives_the_whole_network(setting: Setting) -> None:
    patches = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    whole, cascade = _predictor(setting), _predictor(setting, band=(0.0, 1.0))
    expected, found = whole(patches), cascade(patches)
    final = whole.outputs[-1]
    assert cascade.outputs == ("psi_0", final)
    assert torch.allclose(found[final], expected[final], atol=1e-5)
    assert cascade.num_undecided == 2
    early = _predictor(setting, exit="psi_0")
    assert early.outputs == ("psi_0",)
    assert torch.allclose(early(patches)["psi_0"], expected["psi_0"], atol=1e-5)


@pytest.mark.parametrize("changes", [{"exit": "psi_0"}, {"band": (0.1, 1.0)}])
def test_a_setting_without_psi_0_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="needs a psi_0, which resnet34 does not have"):
        _predictor("resnet34", **changes)
