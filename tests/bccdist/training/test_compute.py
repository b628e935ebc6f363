"""Every arithmetic is chosen by name, refused where it cannot work, and compared with float32 eager."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bccdist.configuration import ComputeConfig, Setting, Switch, TrainConfig
from bccdist.errors import ConfigurationError
from bccdist.networks import unet
from bccdist.networks.unet import DeeplySupervisedUNet, upsample, upsample_by_matrices
from bccdist.training import compute as compute_module
from bccdist.training.compute import (
    Compute,
    autocast,
    compile_parallel,
    difference_to_float32_eager,
    kernels,
    make_optimizer,
    prepare_network,
    resolve_compute,
)

CPU = torch.device("cpu")
PLAIN = ComputeConfig(precision="float32", channels_last="off", compile="off", fused_adam=False)


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def _resolved(config: ComputeConfig) -> Compute:
    return resolve_compute(config, CPU, world_size=1)


def _network(width: int = 16, setting: Setting = "resnet34_ds") -> DeeplySupervisedUNet:
    torch.manual_seed(0)
    return DeeplySupervisedUNet(setting, width=width)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, :40, 8:] = 1
    return images, masks


def test_auto_on_the_cpu_is_float32_eager_channels_first() -> None:
    assert str(_resolved(ComputeConfig())) == "float32 eager channels-first fused Adam deterministic"
    assert str(_resolved(PLAIN)) == "float32 eager channels-first Adam deterministic"


def test_what_is_asked_for_is_what_is_said() -> None:
    config = ComputeConfig(precision="bf16", channels_last="on", compile="on", deterministic=False)
    assert str(_resolved(config)) == "bf16 compiled channels-last fused Adam not deterministic"


class Impossible(NamedTuple):
    config: ComputeConfig
    says: str


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize(
    "case",
    [
        Impossible(ComputeConfig(sync_batch_norm=True), r"compute.sync_batch_norm is True, but the network is on cpu"),
        Impossible(ComputeConfig(precision="tf32"), r"compute.precision is 'tf32', but the cpu has no TF32"),
    ],
    ids=lambda case: case.says.split()[0],
)
def test_what_a_cpu_cannot_do_is_refused(case: Impossible) -> None:
    with pytest.raises(ConfigurationError, match=case.says):
        _resolved(case.config)


@pytest.mark.parametrize(
    ("asked", "world_size", "says"),
    [
        ("auto", 2, "eager (SyncBN is not compiled)"),
        ("on", 2, "compiled"),
        ("off", 2, "eager"),
        ("auto", 1, "compiled"),
    ],
)
def test_batch_statistics_of_all_ranks_are_not_compiled_unasked(
    asked: Switch, world_size: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute_module, "cannot_compile", lambda _: None)
    config = ComputeConfig(precision="float32", compile=asked, sync_batch_norm=True)
    found = resolve_compute(config, torch.device("cuda"), world_size=world_size)
    assert f" {says} channels-last" in str(found)
    assert found.sync_batch_norm == (world_size == 2)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigurationError, match=r"compute.compile is 'on', but the C\+\+ compiler no-such-compiler"):
        _resolved(ComputeConfig(compile="on"))


@pytest.mark.parametrize(("width", "expected"), [(16, torch.channels_last), (8, torch.contiguous_format)])
def test_channels_come_last_only_where_that_is_safe(width: int, expected: torch.memory_format) -> None:
    compute = _resolved(replace(PLAIN, channels_last="on"))
    network = prepare_network(_network(width), compute)
    assert network.memory_format == expected
    assert network.encoder.get_parameter("layer2.0.conv1.weight").is_contiguous(memory_format=expected)
    assert compute.is_plain_for(network) == (width == 8)


def test_kernels_are_chosen_for_the_run_and_set_back_after_it() -> None:
    before = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
    with kernels(_resolved(ComputeConfig())):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_float32_matmul_precision() == "highest"
    with kernels(_resolved(ComputeConfig(deterministic=False))):
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == before


def test_autocast_is_for_bf16_alone() -> None:
    conv, images = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    with autocast(_resolved(replace(PLAIN, precision="bf16"))):
        assert conv(images).dtype == torch.bfloat16
    with autocast(_resolved(PLAIN)):
        assert conv(images).dtype == torch.float32


def test_fused_adam_makes_the_same_steps() -> None:
    networks = [nn.Linear(5, 3) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    optimizers = [
        make_optimizer(network, 1e-2, _resolved(replace(PLAIN, fused_adam=fused)))
        for network, fused in zip(networks, (False, True), strict=True)
    ]
    for _ in range(5):
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            network(torch.linspace(-1, 1, 10).view(2, 5)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(networks[0].weight, networks[1].weight, rtol=1e-5, atol=1e-6)


def test_the_difference_of_an_arithmetic_is_measured_and_nothing_is_changed(batch: tuple[Tensor, Tensor]) -> None:
    network, config = _network(), TrainConfig(width=16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_before = torch.get_rng_state()
    found = {}
    for name, changed in {"plain": PLAIN, "bf16": replace(PLAIN, precision="bf16")}.items():
        compute = _resolved(changed)
        found[name] = difference_to_float32_eager(network, *batch, compute=compute, config=config)
    assert list(found["bf16"]) == ["psi_0", "psi_1", "psi_2", "psi_3", "psi_4", "gradient"]
    assert set(found["plain"].values()) == {0.0}
    assert all(0 < value < 0.5 for name, value in found["bf16"].items() if name != "gradient")
    assert found["bf16"]["gradient"] > 0
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())
    assert torch.equal(torch.get_rng_state(), random_before)


@pytest.mark.slow  # compiling takes most of a minute
def test_a_compiled_network_has_the_same_gradient_and_the_same_bits_each_time(batch: tuple[Tensor, Tensor]) -> None:
    compute, config = _resolved(replace(PLAIN, compile="on")), TrainConfig(width=16)
    network = _network(setting="resnet34_linear")  # it has all that the other settings have
    images, masks = batch[0].tile(1, 2, 2, 1), batch[1].tile(1, 2, 2)  # 64 px are too few for torch to lose a gradient
    with kernels(_resolved(PLAIN)):
        found = difference_to_float32_eager(network, images, masks, compute=compute, config=config)
        again = difference_to_float32_eager(network, images, masks, compute=compute, config=config)
    assert all(value < 1e-3 for name, value in found.items() if name != "gradient")
    assert found["gradient"] < 0.1  # a ReLU that falls on the other side of 0 changes more than rounding does
    assert found == again


class Resize(NamedTuple):
    old: tuple[int, int]
    new: tuple[int, int]


@pytest.mark.parametrize(
    "case", [Resize((16, 24), (32, 48)), Resize((4, 6), (64, 96)), Resize((1, 2), (2, 4)), Resize((5, 7), (20, 28))]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_matrices_upsample_as_torch_does_and_so_does_their_gradient(
    case: Resize, memory_format: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, *case.old, dtype=torch.float64, generator=generator).contiguous(memory_format=memory_format)
    weights = torch.randn(2, 3, *case.new, dtype=torch.float64, generator=generator)
    x.requires_grad_()
    expected = F.interpolate(x, size=case.new, mode="bilinear", align_corners=False)
    found = upsample_by_matrices(x, case.new)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert found.is_contiguous(memory_format=memory_format)
    gradients = [torch.autograd.grad(out, x, weights)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=0)


class Upsampling(NamedTuple):
    device: str
    deterministic: bool
    compiling: bool
    by_matrices: bool


@pytest.mark.parametrize(
    "case",
    [
        Upsampling("cpu", deterministic=True, compiling=False, by_matrices=False),
        Upsampling("cpu", deterministic=True, compiling=True, by_matrices=True),
        Upsampling("cpu", deterministic=False, compiling=True, by_matrices=False),
        Upsampling("meta", deterministic=True, compiling=False, by_matrices=True),  # stands for a GPU
        Upsampling("meta", deterministic=False, compiling=False, by_matrices=False),
    ],
)
def test_matrices_upsample_only_where_torch_cannot_give_the_same_bits(
    case: Upsampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unet, "upsample_by_matrices", lambda x, _: x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: case.compiling)
    with kernels(_resolved(replace(PLAIN, deterministic=case.deterministic))):
        found = upsample(torch.zeros(1, 1, 2, 2, device=case.device), (4, 4))
    assert tuple(found.shape[-2:]) == ((2, 2) if case.by_matrices else (4, 4))


def test_compiling_keeps_the_names_of_the_weights() -> None:
    network = _network()
    names = list(network.state_dict())
    compile_parallel(network, _resolved(replace(PLAIN, compile="on")))
    assert list(network.state_dict()) == names
