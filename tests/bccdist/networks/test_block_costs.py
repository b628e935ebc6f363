"""What each output takes rises from block to block, and its scores spread as they do in a plain forward pass."""

import pytest
import torch

from bccdist.configuration import Setting
from bccdist.networks.block_costs import first_block_share, output_costs
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet


@pytest.mark.parametrize("setting", ["unet", "resnet34_ds", "resnet34_linear"])
def test_times_rise_and_scores_spread_as_in_one_pass(setting: Setting) -> None:
    torch.manual_seed(0)
    network = DeeplySupervisedUNet(setting, width=8).eval()
    patches = torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8)
    costs = output_costs(network, patches, batch=2)
    assert tuple(costs) == network.outputs
    times = [cost.patch_s for cost in costs.values()]
    assert times == sorted(times)
    assert times[0] > 0
    with torch.inference_mode():
        scores = network(to_network_input(patches))
    for psi, cost in costs.items():
        difference = scores[psi][:, 1] - scores[psi][:, 0]
        assert cost.score_std == pytest.approx(float(difference.std(correction=0)), rel=1e-4)


def test_no_hook_stays_behind() -> None:
    network = DeeplySupervisedUNet("resnet34_ds", width=8).eval()
    output_costs(network, torch.zeros((1, 64, 64, 3), dtype=torch.uint8), batch=1)
    assert not any(head._forward_hooks for head in network.heads.values())


def test_the_first_part_takes_the_share_of_the_paper() -> None:
    network = DeeplySupervisedUNet("resnet34_ds", width=64)
    assert first_block_share(network) == pytest.approx(21.6 / 31.2, abs=0.003)
