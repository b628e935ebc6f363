"""Every engine gives what float32 eager gives, for any number of patches, and leaves the network as it was."""

import gc
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import pytest
import torch
from pretended_gpu import GPU, pretended_gpu
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy

from bccdist import machine
from bccdist.configuration import SETTINGS, Engine, Precision, Setting, pixel_px
from bccdist.errors import ConfigurationError
from bccdist.installed import has_openvino
from bccdist.networks import engines
from bccdist.networks.engines import (
    Arithmetic,
    Runner,
    candidates,
    make_runner,
    resolve_engine,
)
from bccdist.networks.folding import folded
from bccdist.networks.inference import FirstBlock, LaterBlocks, WholeNetwork
from bccdist.networks.inputs import to_network_input
from bccdist.networks.openvino_engine import make_int8_model
from bccdist.networks.unet import DeeplySupervisedUNet, tumor_probability

pytestmark = pytest.mark.usefixtures("one_torch_thread")
CPU = torch.device("cpu")
ROUNDING = 2e-5
"""Of probabilities, between two orders of the same float32 sums; they are stored in steps of 1 / 255."""
INT8_MEAN, INT8_CROSSING = 0.15, 0.15
"""A network of width 4 after 40 steps: mean difference, and the share of pixels that change their side of 0.5,
on patches of colours at random; 0.062 and 0.087 at most were measured."""
EAGER = Arithmetic(precision="float32", engine="eager")
FOLDED = Arithmetic(precision="float32", engine="folded")
OPENVINO = Arithmetic(precision="float32", engine="openvino")
MNN = Arithmetic(precision="float32", engine="mnn")


def _network(setting: Setting = "resnet34_ds", *, width: int = 16) -> DeeplySupervisedUNet:
    """With batch statistics that are not those of a fresh network, so that folding has something to fold."""
    torch.manual_seed(0)
    network = DeeplySupervisedUNet(setting, width=width).train()
    with torch.no_grad():
        for _ in range(3):
            network(to_network_input(_patches(2, 128)))
    return network.eval()


def _patches(num: int, edge_px: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randint(0, 256, (num, 3, edge_px // 8, edge_px // 8), generator=generator).float()
    smooth = torch.nn.functional.interpolate(coarse, size=(edge_px, edge_px), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).to(torch.uint8).contiguous()


def _runner(network: DeeplySupervisedUNet, arithmetic: Arithmetic) -> Runner:
    return make_runner(WholeNetwork(network), arithmetic, device=CPU)


def _largest_difference(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("setting", SETTINGS)
def test_eager_is_the_network_itself(setting: Setting) -> None:
    network, patches = _network(setting, width=8), _patches(2)
    found = _runner(network, EAGER)(patches)
    with torch.no_grad():
        scores = network(to_network_input(patches))
    assert [tuple(each.shape) for each in found] == [(2, 64 // pixel_px(psi), 64 // pixel_px(psi)) for psi in scores]
    assert _largest_difference(found, tuple(tumor_probability(each) for each in scores.values())) < 1e-6


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("engine", ["folded", "openvino", "mnn"])
def test_float32_engines_equal_eager(setting: Setting, engine: Any) -> None:
    network, patches = _network(setting), _patches(3, 96)
    expected = _runner(network, EAGER)(patches)
    found = _runner(network, Arithmetic(precision="float32", engine=engine))(patches)
    assert _largest_difference(found, expected) < ROUNDING
    assert all(float(each.std()) > 1e-4 for each in expected)


@pytest.mark.slow
def test_compiled_equals_eager() -> None:
    network, patches = _network(), _patches(4)
    expected = _runner(network, EAGER)(patches)
    runner = _runner(network, Arithmetic(precision="float32", engine="compiled"))
    assert _largest_difference(runner(patches), expected) < ROUNDING
    assert _largest_difference(runner(patches[:1]), tuple(each[:1] for each in runner(patches))) < 1e-6


def test_bf16_is_near_float32() -> None:
    network, patches = _network(), _patches(2)
    expected = _runner(network, EAGER)(patches)
    found = _runner(network, Arithmetic(precision="bf16", engine="folded"))(patches)
    assert all(each.dtype == torch.float32 for each in found)
    assert 0 < _largest_difference(found, expected) < 0.05


@pytest.mark.parametrize(
    "arithmetic", [EAGER, Arithmetic(precision="float32", engine="folded"), OPENVINO, MNN], ids=str
)
def test_the_number_of_patches_changes_nothing(arithmetic: Arithmetic) -> None:
    network, patches = _network(), _patches(5)
    runner = _runner(network, arithmetic)
    together = runner(patches)
    # To OpenVINO and MNN each patch is a request of its own; torch's kernels depend on how many there are.
    limit = 0 if arithmetic in (OPENVINO, MNN) else ROUNDING
    for num in (1, 2):
        assert _largest_difference(runner(patches[:num]), tuple(each[:num] for each in together)) <= limit


@pytest.mark.parametrize("arithmetic", [OPENVINO, MNN], ids=str)
def test_one_runner_takes_patches_of_several_sizes(arithmetic: Arithmetic) -> None:
    network = _network()
    runner, eager = _runner(network, arithmetic), _runner(network, EAGER)
    for edge_px in (64, 160, 64):
        patches = _patches(2, edge_px)
        assert _largest_difference(runner(patches), eager(patches)) < ROUNDING
    oblong = _patches(1, 288)[:, :96]
    assert _largest_difference(runner(oblong), eager(oblong)) < ROUNDING


@pytest.mark.parametrize("arithmetic", [OPENVINO, MNN], ids=str)
def test_a_runner_that_was_used_goes_without_a_crash(arithmetic: Arithmetic) -> None:
    runner = _runner(_network(width=8), arithmetic)
    for edge_px in (64, 160):
        runner(_patches(2, edge_px))
    del runner
    assert gc.collect() >= 0


@pytest.mark.parametrize("setting", ["resnet34_ds", "resnet34_linear"])
@pytest.mark.parametrize("arithmetic", [EAGER, OPENVINO, MNN], ids=str)
def test_the_two_parts_are_the_whole(setting: Setting, arithmetic: Arithmetic) -> None:
    network, patches = _network(setting), _patches(3)
    whole = _runner(network, EAGER)(patches)
    parts = [FirstBlock(network, with_features=True), LaterBlocks(network)]
    first, later = (make_runner(part, arithmetic, device=CPU) for part in parts)
    psi_0, *features = first(patches)
    assert _largest_difference((psi_0, *later(*features)), (whole[0], whole[-1])) < ROUNDING
    alone = make_runner(FirstBlock(network, with_features=False), arithmetic, device=CPU)(patches)
    assert _largest_difference(alone, (psi_0,)) < ROUNDING


@pytest.mark.parametrize("setting", ["unet", "resnet34"])
def test_a_setting_without_psi_0_has_no_first_part(setting: Setting) -> None:
    network = _network(setting, width=8)
    for make in (lambda: FirstBlock(network, with_features=True), lambda: LaterBlocks(network)):
        with pytest.raises(ConfigurationError, match="take resnet34_ds or resnet34_linear"):
            make()


def test_the_network_is_left_as_it_was() -> None:
    network = _network()
    network.use_memory_format(channels_last=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for arithmetic in (EAGER, Arithmetic(precision="bf16", engine="folded"), OPENVINO, MNN):
        _runner(network, arithmetic)(_patches(1))
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())
    assert network.memory_format == torch.contiguous_format


def test_folding_leaves_no_batch_normalisation() -> None:
    parts = list(folded(WholeNetwork(_network("unet", width=8))).modules())
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in parts)


def _trained_network() -> DeeplySupervisedUNet:
    """Has learned, at each block, to find the patches' red parts: int8 is no better than its ranges are."""
    torch.manual_seed(0)
    network, patches = DeeplySupervisedUNet("resnet34_ds", width=4).train(), _patches(8, 128)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(40):
        found = tuple(tumor_probability(each) for each in network(to_network_input(patches)).values())
        loss = sum(binary_cross_entropy(each, _redness(patches, each)) for each in found)
        optimizer.zero_grad()
        torch.as_tensor(loss).backward()
        optimizer.step()
    return network.eval()


def _redness(patches: Tensor, like: Tensor) -> Tensor:
    is_red = (patches[..., 0] > 128).float()
    return (adaptive_avg_pool2d(is_red, like.shape[-2:]) > 0.5).float()


@pytest.mark.slow
def test_int8_is_near_float32_and_made_the_same_twice(tmp_path: Path) -> None:
    network, patches = _trained_network(), _patches(8, 128)
    module = WholeNetwork(network)
    for name in ("first", "second"):
        make_int8_model(module, [(patch[None],) for patch in patches], tmp_path / f"{name}.xml")
    for suffix in (".bin", ".xml"):
        assert (tmp_path / f"first{suffix}").read_bytes() == (tmp_path / f"second{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.bin", "first.xml", "second.bin", "second.xml"]
    int8 = Arithmetic(precision="int8", engine="openvino")
    runner = make_runner(module, int8, device=CPU, int8_file=tmp_path / "first.xml")
    for edge_px in (128, 192):
        patches = _patches(2, edge_px)
        for exact, found in zip(_runner(network, EAGER)(patches), runner(patches), strict=True):
            assert found.dtype == torch.float32
            assert 0 < float((found - exact).abs().mean()) < INT8_MEAN
            assert float(((found > 0.5) != (exact > 0.5)).float().mean()) < INT8_CROSSING
    with pytest.raises(ConfigurationError, match=r"none\.xml: no int8 model there"):
        make_runner(module, int8, device=CPU, int8_file=tmp_path / "none.xml")


_DIGEST = """
import hashlib, sys, torch
from pathlib import Path
from bccdist.heatmaps.stitching import to_steps
from bccdist.networks.openvino_engine import OpenVinoRunner
from bccdist.speedups.probes import probe_patches

for num_threads in map(int, sys.argv[2:]):
    torch.set_num_threads(num_threads)
    found = OpenVinoRunner(Path(sys.argv[1]))(probe_patches())
    print(hashlib.sha256(b"".join(to_steps(each).numpy().tobytes() for each in found)).hexdigest(), file=sys.stderr)
"""


class _Saturating(torch.nn.Module):
    """Sums of many large products of one sign, which a processor without VNNI clips where weights fill 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = torch.nn.ModuleList([torch.nn.Conv2d(each, 16, 3, padding=1) for each in (3, 16, 16)])
        for convolution in self.convolutions:
            torch.nn.init.uniform_(convolution.weight, 0.9 / 256, 1.0 / 256)  # type: ignore[arg-type]

    def forward(self, patches_NPP3: Tensor) -> tuple[Tensor, ...]:
        x_NCHW = patches_NPP3.float().permute(0, 3, 1, 2)
        for convolution in self.convolutions:
            x_NCHW = convolution(x_NCHW).relu()
        return (x_NCHW.mean(dim=1) / 16,)


def _heatmaps_under(limit: str, model: Path, *num_threads: int) -> tuple[str, set[str]]:
    """The instructions that oneDNN says it uses, and the digests of the heatmaps, with at most those of `limit`."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": limit, "ONEDNN_VERBOSE": "check"}
    command = [sys.executable, "-c", _DIGEST, str(model), *map(str, num_threads)]
    told = subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[3], capture_output=True)
    isa = "".join(set(re.findall(r",isa:(.*)", told.stdout.decode())))
    digests = re.findall(r"^[0-9a-f]{64}$", told.stderr.decode(), flags=re.MULTILINE)
    assert len(digests) == len(num_threads), told.stderr.decode()
    return isa, set(digests)


@pytest.mark.slow
def test_int8_gives_the_same_heatmap_with_all_instructions_and_numbers_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a weight had its whole range, a processor without VNNI would clip sums, which shows that limits limit."""
    module, samples = WholeNetwork(_trained_network()), [(patch[None],) for patch in _patches(8, 128)]
    make_int8_model(module, samples, tmp_path / "halved.xml")
    limits = ("AVX2", "AVX512_CORE", "ALL")
    found = {limit: _heatmaps_under(limit, tmp_path / "halved.xml", 1, 2, 3) for limit in limits}
    assert found["AVX2"][0] == "Intel AVX2"
    (digest,) = set.union(*(digests for _, digests in found.values()))
    assert digest
    if "DL Boost" not in found["ALL"][0]:
        pytest.skip(f"halved weights agree; whole ones were not compared, as this processor has no VNNI: {found}")
    assert "DL Boost" not in found["AVX512_CORE"][0]
    # It is imported after what keeps it from reporting its use.
    from nncf.quantization import advanced_parameters

    make_int8_model(_Saturating(), samples, tmp_path / "halved.xml")
    whole = SimpleNamespace(ENABLE=advanced_parameters.OverflowFix.DISABLE)
    monkeypatch.setattr(advanced_parameters, "OverflowFix", whole)
    make_int8_model(_Saturating(), samples, tmp_path / "whole.xml")
    for name, num_found in (("halved", 1), ("whole", 2)):
        each = [_heatmaps_under(limit, tmp_path / f"{name}.xml", 1)[1] for limit in ("AVX512_CORE", "ALL")]
        assert len(set.union(*each)) == num_found


class _TellsWhetherFloat32IsExact(torch.nn.Module):
    """Gives 1 where cuDNN would compute in float32."""

    def forward(self, patches: Tensor) -> tuple[Tensor, ...]:
        kinds: Any = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
        return (patches.new_tensor([all(kind.fp32_precision == "ieee" for kind in kinds)]),)


def test_float32_is_not_tf32_within_a_runner_and_the_process_keeps_its_setting() -> None:
    convolutions: Any = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    assert before != "ieee"
    (is_exact,) = make_runner(_TellsWhetherFloat32IsExact(), EAGER, device=CPU)(_patches(1))
    assert is_exact.item()
    assert convolutions.fp32_precision == before


_NO_REPORTS = """
import sys, torch
from pathlib import Path
from bccdist.networks.engines import Arithmetic, make_runner
from bccdist.networks.openvino_engine import make_int8_model

class Module(torch.nn.Module):
    def forward(self, patches):
        return (patches.float(),)

def refuse(event, arguments):
    assert not event.startswith(("socket.connect", "socket.getaddrinfo")), (event, arguments)

sys.addaudithook(refuse)
patches = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
for engine in ("openvino", "mnn"):
    make_runner(Module(), Arithmetic(precision="float32", engine=engine), device=torch.device("cpu"))(patches)
make_int8_model(Module(), [(patches,)], Path.home() / "int8.xml")
assert sys.modules["openvino_telemetry"] is None
"""


def test_openvino_nncf_and_mnn_report_nothing_and_leave_the_home_folder_alone(tmp_path: Path) -> None:
    """In a process of its own, because NNCF is silent by itself wherever pytest is."""
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", _NO_REPORTS], check=True, env=environment, cwd=Path(__file__).parents[3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8.bin", "int8.xml"]


class _Asked(NamedTuple):
    precision: Precision
    engine: Literal["auto"] | Engine
    device: str
    found: str
    """The engine, or what is wrong."""
    is_refused: bool = False


@pytest.mark.parametrize(
    "asked",
    [
        _Asked("float32", "auto", "cpu", "openvino"),
        _Asked("float32", "eager", "cpu", "eager"),
        _Asked("float32", "mnn", "cpu", "mnn"),
        _Asked("int8", "auto", "cpu", "openvino"),
        _Asked("bf16", "auto", "cpu", "folded"),
        _Asked("float32", "auto", "cuda", "compiled"),
        _Asked("bf16", "auto", "cuda", "compiled"),
        _Asked("int8", "folded", "cpu", "int8 is OpenVINO's alone", is_refused=True),
        _Asked("bf16", "eager", "cpu", "bf16 is for the engines folded and compiled", is_refused=True),
        _Asked("float32", "openvino", "cuda", "OpenVINO runs on the CPU and the network is on cuda", is_refused=True),
        _Asked("float32", "mnn", "cuda", "MNN runs on the CPU and the network is on cuda", is_refused=True),
        _Asked("bf16", "mnn", "cpu", "bf16 is for the engines folded and compiled", is_refused=True),
        _Asked("int8", "mnn", "cpu", "int8 is OpenVINO's alone", is_refused=True),
        _Asked("int8", "auto", "cuda", "OpenVINO runs on the CPU", is_refused=True),
    ],
)
def test_what_is_asked_for_is_resolved_or_refused(asked: _Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "cannot_compile", lambda _: None)
    monkeypatch.setattr(machine, "gpu_has_bf16", lambda: True)
    device = torch.device(asked.device)
    if asked.is_refused:
        with pytest.raises(ConfigurationError, match=asked.found):
            resolve_engine(asked.precision, asked.engine, device)
    else:
        assert resolve_engine(asked.precision, asked.engine, device) == asked.found


def test_without_openvino_the_folded_network_runs_and_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_openvino()
    monkeypatch.setattr(engines, "has_openvino", lambda: False)
    assert resolve_engine("float32", "auto", CPU) == "folded"
    with pytest.raises(ConfigurationError, match=r"pip install 'bccdist\[openvino\]'"):
        resolve_engine("int8", "auto", CPU)
    monkeypatch.setattr(engines, "cannot_compile", lambda _: "no compiler")
    assert [str(each) for each in candidates(CPU)] == ["float32 eager", "float32 folded", "float32 mnn"]
    with pytest.raises(ConfigurationError, match="no compiler; install it, or set engine to folded"):
        resolve_engine("float32", "compiled", CPU)


def test_candidates_begin_with_the_reference() -> None:
    assert [str(each) for each in candidates(CPU)] == [
        "float32 eager",
        "float32 folded",
        "float32 openvino",
        "float32 mnn",
        "int8 openvino",
    ]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("arithmetic", [EAGER, FOLDED, replace(FOLDED, precision="bf16")], ids=str)
def test_a_gpu_is_not_waited_for(setting: Setting, arithmetic: Arithmetic) -> None:
    runner = make_runner(WholeNetwork(_network(setting)), arithmetic, device=GPU)
    with pretended_gpu() as waits:
        found = runner(torch.zeros(2, 64, 64, 3, dtype=torch.uint8, device=GPU))
    assert waits == []
    assert all((each.device, each.dtype) == (GPU, torch.float32) for each in found)


def test_both_pieces_of_a_cascade_do_not_wait_for_a_gpu() -> None:
    network, arithmetic = _network("resnet34_linear"), Arithmetic(precision="bf16", engine="folded")
    first = make_runner(FirstBlock(network, with_features=True), arithmetic, device=GPU)
    later = make_runner(LaterBlocks(network), arithmetic, device=GPU)
    with pretended_gpu() as waits:
        _, *features = first(torch.zeros(2, 64, 64, 3, dtype=torch.uint8, device=GPU))
        (final,) = later(*features)
    assert (waits, tuple(final.shape)) == ([], (2, 64, 64))


def test_no_graphs_that_belong_to_a_thread_are_captured_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch, "compile", lambda module, **how: asked.append(how) or module)
    engines._compiled(torch.nn.Identity(), torch.device("cuda"))
    assert asked == [{"dynamic": False}]


def test_without_mnn_its_extra_is_named_and_it_is_no_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_mnn", lambda: False)
    assert resolve_engine("float32", "auto", CPU) == "openvino"
    with pytest.raises(ConfigurationError, match=r"mnn and onnx are not installed.*pip install 'bccdist\[mnn\]'"):
        resolve_engine("float32", "mnn", CPU)
    assert "float32 mnn" not in [str(each) for each in candidates(CPU)]
