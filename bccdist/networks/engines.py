"""The engines that can run a network for heatmaps; all are compared with float32 eager (`bccdist.speedups`).

eager     torch as it comes, channels first
folded    batch normalisation folded into the convolutions, channels last
compiled  the same through torch.compile
openvino  the same through OpenVINO, on the CPU; also int8, which NNCF makes after training
mnn       the same through MNN, on the CPU, whose Winograd convolutions are faster where AVX-512 is missing or slow
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from bccdist.configuration import Engine, Precision, encoder_against
from bccdist.errors import ConfigurationError
from bccdist.installed import has_mnn, has_openvino
from bccdist.machine import cannot_compile, cannot_compute_in
from bccdist.networks.arithmetic import compiling, torch_settings
from bccdist.networks.finite import require_sound
from bccdist.networks.folding import channels_first, folded
from bccdist.networks.mnn_engine import MnnRunner
from bccdist.networks.openvino_engine import OpenVinoRunner

Runner = Callable[..., tuple[Tensor, ...]]
"""Tensors with the same leading n, to tensors with the same n; all on the device."""
_EXACT = {"cudnn_precision": "ieee"}
"""Float32 as it says: torch lets cuDNN round factors to TF32 unless it is told not to."""


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Precision and engine, nothing left to `auto`."""

    precision: Precision
    engine: Engine

    def __str__(self) -> str:
        """Both in words, such as `float32 openvino`."""
        return f"{self.precision} {self.engine}"


def resolve_engine(
    precision: Precision, engine: Literal["auto"] | Engine, device: torch.device, *, encoder: str = ""
) -> Engine:
    """The engine that is meant on this device, for a network with the paper's encoder or one of timm.

    Raises:
        ConfigurationError: it cannot run here, or not in this precision.
    """
    if engine == "auto":
        engine = _fastest_engine(precision, device, encoder)
    if reason := encoder_against(precision, engine, encoder) or _reason_against(precision, engine, device):
        raise ConfigurationError(f"precision {precision} with engine {engine}: {reason}")
    return engine


def _fastest_engine(precision: Precision, device: torch.device, encoder: str) -> Engine:
    """The fastest that is installed, as far as the precision leaves a choice, and that needs no measurement.

    MNN is not among them: on some processors it is slower than OpenVINO, so a speed-up record has to choose it.
    """
    if precision == "int8":
        return "openvino"
    if device.type == "cuda":
        return "folded" if cannot_compile(device) else "compiled"
    return "openvino" if precision == "float32" and has_openvino() and not encoder else "folded"


def candidates(device: torch.device, *, encoder: str = "") -> list[Arithmetic]:
    """Every arithmetic that can run here and is worth comparing, float32 eager first.

    An `encoder` of timm leaves fewer.
    """
    able = [
        Arithmetic(precision=precision, engine=engine)
        for precision in get_args(Precision)
        for engine in get_args(Engine)
        if (encoder_against(precision, engine, encoder) or _reason_against(precision, engine, device)) is None
    ]
    if device.type == "cuda":
        return able
    # A processor without bf16 emulates it, and compiling takes minutes that OpenVINO does not need.
    dropped = {"bf16", "compiled"} if has_openvino() else {"bf16"}
    return [each for each in able if not {each.precision, each.engine} & dropped]


def _reason_against(precision: str, engine: str, device: torch.device) -> str | None:
    """Why this cannot run here, and what to do; None where it can."""
    if precision == "int8" and engine != "openvino":
        return "int8 is OpenVINO's alone; set engine to openvino or auto"
    if precision == "bf16" and engine in ("eager", "openvino", "mnn"):
        return "bf16 is for the engines folded and compiled; set one of these, or auto"
    if engine in ("openvino", "mnn"):
        return _reason_against_cpu_engine(engine, device)
    if reason := cannot_compute_in(precision, device):
        return f"{reason}; set precision to float32"
    lack = cannot_compile(device) if engine == "compiled" else None
    return f"{lack}; install it, or set engine to folded" if lack else None


def _reason_against_cpu_engine(engine: str, device: torch.device) -> str | None:
    name, packages, is_there = {
        "openvino": ("OpenVINO", "openvino and nncf", has_openvino()),
        "mnn": ("MNN", "mnn and onnx", has_mnn()),
    }[engine]
    if device.type != "cpu":
        return f"{name} runs on the CPU and the network is on {device.type}; set engine to auto"
    if not is_there:
        return f"{packages} are not installed; install them with `pip install 'bccdist[{engine}]'`"
    return None


def make_runner(
    module: nn.Module,
    arithmetic: Arithmetic,
    *,
    device: torch.device,
    int8_file: Path | None = None,
) -> Runner:
    """A module of `bccdist.networks.inference` as an engine runs it.

    Args:
        module: in evaluation mode; it is copied, not changed.
        arithmetic: what to run it with.
        device: where the tensors are.
        int8_file: of the quantised module, where the precision is int8.

    Raises:
        ConfigurationError: there is no int8 model.
        NotFiniteError: the module's numbers are not finite, or may not stay so.
    """
    # Before any engine, because some hide it: OpenVINO makes 0 of NaN.
    require_sound(module)
    if arithmetic.precision == "int8":
        if int8_file is None or not int8_file.is_file():
            raise ConfigurationError(f"{int8_file}: no int8 model there; run `python jobs/launch_calibrate.py` first")
        return OpenVinoRunner(int8_file)
    if arithmetic.engine == "eager":
        return _in_inference_mode(channels_first(module).to(device))
    module = folded(module).to(device)
    if arithmetic.engine == "openvino":
        return OpenVinoRunner(module)
    if arithmetic.engine == "mnn":
        return MnnRunner(module)
    if arithmetic.precision == "bf16":
        module = module.to(torch.bfloat16)
    return _compiled(module, device) if arithmetic.engine == "compiled" else _in_inference_mode(module)


def _in_inference_mode(module: nn.Module) -> Runner:
    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), torch_settings(**_EXACT):
            return cast("tuple[Tensor, ...]", module(*inputs))

    return run


def _compiled(module: nn.Module, device: torch.device) -> Runner:
    """Compiled for each size of patches and the most of them that came; fewer are filled up to that number."""
    # No CUDA graphs on a GPU: torch keeps them for each thread, and every slide is computed in a thread of its own.
    # They would be captured anew at each slide, and before torch 2.13 fail.
    how: dict[str, Any] = {} if device.type == "cuda" else {"options": {"freezing": True}}
    with compiling():
        compiled = torch.compile(module, dynamic=False, **how)
    most: dict[torch.Size, int] = {}

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        num, size = len(inputs[0]), inputs[0].shape[1:]
        most[size] = max(num, most.get(size, 0))
        filled = [torch.cat([each, each.new_zeros((most[size] - num, *each.shape[1:]))]) for each in inputs]
        with torch.no_grad(), torch_settings(**_EXACT), compiling():
            found = compiled(*filled)
        return tuple(each[:num] for each in found)

    return run
