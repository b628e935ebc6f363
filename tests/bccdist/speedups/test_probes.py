"""The probes are the same everywhere, look like tissue to a network, and tell one network's numbers from another's."""

import hashlib
from pathlib import Path

import torch

from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predictors import make_predictor
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.speedups.probes import NUM_PROBES, machine_of, probe_patches, probe_sha256

_CPU = torch.device("cpu")


def test_the_probes_are_the_same_to_the_bit_on_every_machine() -> None:
    patches = probe_patches()
    assert patches.shape == (NUM_PROBES, 512, 512, 3)
    assert hashlib.sha256(patches.numpy().tobytes()).hexdigest()[:32] == "0e72bb9bc75cc7dd8f4a52012532a5ef"
    assert 20 < patches.float().std() < 100


def test_a_change_of_one_weight_shows_in_the_digest() -> None:
    torch.manual_seed(0)
    network = DeeplySupervisedUNet("unet", width=4).eval()

    def digest() -> str:
        return probe_sha256(make_predictor(network, Method(engine="eager"), device=_CPU, int8_file=Path), _CPU)

    before = digest()
    assert digest() == before
    with torch.no_grad():
        next(iter(network.parameters())).view(-1)[0].mul_(1.05)
    assert digest() != before


def test_a_machine_is_named_by_what_computes() -> None:
    machine = machine_of(_CPU)
    assert machine.num_threads == torch.get_num_threads()
    assert machine.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert machine.key.startswith("cpu-")
