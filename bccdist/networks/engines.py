"""The engines that can run a network for heatmaps; all are compared with float32 eager (`bccdist.speedups.measure`).

eager     torch as it comes, channels first
folded    batch normalisation folded into the convolutions, channels last
compiled  the same through torch.compile; with CUDA graphs on a GPU, which was not tried on one yet
openvino  the same through OpenVINO, on the CPU; also int8, which NNCF makes after training
"""

import copy
import importlib.util
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bccdist.configuration import PATCH_PX, Engine, InferConfig, Precision, pixel_px
from bccdist.errors import ConfigurationError
from bccdist.files import atomic_path
from bccdist.machine import cannot_compile, gpu_has_bf16
from bccdist.networks.unet import DeeplySupervisedUNet

_NEVER_FREED: list[Any] = []
"""OpenVINO's requests and what they were made of: once some are freed, the next signal crashes the process."""
_TRACED_PX = 64
"""Edge of the patch that OpenVINO's converter follows through a network."""
Runner = Callable[..., tuple[Tensor, ...]]
"""Tensors with the same leading n, to tensors with the same n; all on the device."""


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Precision and engine, nothing left to `auto`."""

    precision: Precision
    engine: Engine

    def __str__(self) -> str:
        """Such as `float32 openvino`."""
        return f"{self.precision} {self.engine}"


def has_openvino() -> bool:
    """Whether OpenVINO and NNCF can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("openvino", "nncf"))


def resolve_arithmetic(config: InferConfig, device: torch.device) -> Arithmetic:
    """The arithmetic that a configuration means on this device; its precision is not `auto` any more.

    Raises:
        ConfigurationError: what is asked for is not possible here.
    """
    precision = config.precision
    if precision == "auto":
        raise ConfigurationError("precision is 'auto', which only a calibration resolves")
    engine = _engine_for(config, device)
    if reason := _reason_against(precision, engine, device):
        raise ConfigurationError(f"precision {precision} with engine {engine}: {reason}")
    return Arithmetic(precision=precision, engine=engine)


def candidates(device: torch.device) -> list[Arithmetic]:
    """All that can run here and is worth comparing, float32 eager first."""
    able = [
        Arithmetic(precision=precision, engine=engine)
        for precision in get_args(Precision)
        for engine in get_args(Engine)
        if _reason_against(precision, engine, device) is None
    ]
    if device.type == "cuda":
        return able
    # A processor without bf16 emulates it, and compiling takes minutes that OpenVINO does not need.
    dropped = {"bf16", "compiled"} if has_openvino() else {"bf16"}
    return [each for each in able if not {each.precision, each.engine} & dropped]


def _engine_for(config: InferConfig, device: torch.device) -> Engine:
    if config.engine != "auto":
        return config.engine
    if config.precision == "int8":
        return "openvino"
    if device.type == "cuda":
        return "folded" if cannot_compile(device) else "compiled"
    return "openvino" if config.precision == "float32" and has_openvino() else "folded"


def _reason_against(precision: str, engine: str, device: torch.device) -> str | None:
    """Why this cannot run here, and what to do; None where it can."""
    if precision == "int8" and engine != "openvino":
        return "int8 is OpenVINO's alone; set engine to openvino or auto"
    if precision == "bf16" and engine in ("eager", "openvino"):
        return "bf16 is for the engines folded and compiled; set one of these, or auto"
    if engine == "openvino":
        return _reason_against_openvino(device)
    if precision == "bf16" and device.type == "cuda" and not gpu_has_bf16():
        return f"{torch.cuda.get_device_name(device)} has no bf16; set precision to float32"
    lack = cannot_compile(device) if engine == "compiled" else None
    return f"{lack}; install it, or set engine to folded" if lack else None


def _reason_against_openvino(device: torch.device) -> str | None:
    if device.type != "cpu":
        return f"OpenVINO runs on the CPU and the network is on {device.type}; set engine to auto"
    if not has_openvino():
        return "openvino and nncf are not installed; install them with `pip install 'bccdist[openvino]'`"
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
    """
    if arithmetic.precision == "int8":
        if int8_file is None or not int8_file.is_file():
            raise ConfigurationError(f"{int8_file}: no int8 model there; run `python jobs/launch_calibrate.py` first")
        return _OpenVinoRunner(int8_file)
    if arithmetic.engine == "eager":
        return _in_inference_mode(_channels_first(copy.deepcopy(module)).to(device))
    module = folded(module).to(device)
    if arithmetic.engine == "openvino":
        return _OpenVinoRunner(module)
    if arithmetic.precision == "bf16":
        module = module.to(torch.bfloat16)
    return _compiled(module, device) if arithmetic.engine == "compiled" else _in_inference_mode(module)


def _channels_first(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if isinstance(part, DeeplySupervisedUNet):
            part.use_memory_format(channels_last=False)
    return module.eval()


def folded(module: nn.Module) -> nn.Module:
    """A copy in which every batch normalisation is part of the convolution before it; channels last where safe."""
    module = copy.deepcopy(module).eval()
    for parent in list(module.modules()):
        previous: tuple[str, nn.Module] = ("", parent)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and isinstance(previous[1], nn.Conv2d):
                setattr(parent, previous[0], fuse_conv_bn_eval(previous[1], child))
                setattr(parent, name, nn.Identity())
            previous = (name, child)
    for part in module.modules():
        if isinstance(part, DeeplySupervisedUNet):
            part.use_memory_format(channels_last=True)
    return module.requires_grad_(requires_grad=False)


def _in_inference_mode(module: nn.Module) -> Runner:
    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), _exact_convolutions():
            return cast("tuple[Tensor, ...]", module(*inputs))

    return run


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Float32 as it says: torch lets cuDNN round factors to TF32 unless it is told not to."""
    cudnn: Any = torch.backends.cudnn
    kinds = (cudnn.conv, cudnn.rnn)  # Both, because torch refuses to say whether cuDNN uses TF32 where they differ.
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


def _compiled(module: nn.Module, device: torch.device) -> Runner:
    """Compiled for each size of patches and the most of them that came; fewer are filled up to that number."""
    how: dict[str, Any] = {"mode": "reduce-overhead"} if device.type == "cuda" else {"options": {"freezing": True}}
    with _without_deprecations():
        compiled = torch.compile(module, dynamic=False, **how)
    most: dict[torch.Size, int] = {}

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        num, size = len(inputs[0]), inputs[0].shape[1:]
        most[size] = max(num, most.get(size, 0))
        filled = [torch.cat([each, each.new_zeros((most[size] - num, *each.shape[1:]))]) for each in inputs]
        with torch.no_grad(), _exact_convolutions(), _without_deprecations():
            found = compiled(*filled)
        # The next call of a CUDA graph writes to the same memory.
        return tuple(each[:num].clone() for each in found)

    return run


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Be silent on what is deprecated: torch 2.13's compiler imports such parts of torch itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


class _OpenVinoRunner:
    """A module or an int8 model through OpenVINO: a request for each patch, several at work at once."""

    def __init__(self, source: nn.Module | Path) -> None:
        self._source = source
        self._model: Any = None
        self._queues: dict[tuple[tuple[int, ...], ...], Any] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = [np.ascontiguousarray(each.numpy()) for each in inputs]
        shapes = tuple((1, *array.shape[1:]) for array in arrays)
        if self._model is None:
            self._model = _load_model(self._source, inputs)
        if shapes not in self._queues:
            self._queues[shapes] = _make_queue(self._model, shapes)
        queue = self._queues[shapes]
        found: list[list[NDArray[np.float32]]] = [[] for _ in arrays[0]]

        def keep(request: Any, index: int) -> None:
            found[index] = [np.array(output.data) for output in request.output_tensors]

        queue.set_callback(keep)
        for index in range(len(arrays[0])):
            queue.start_async([array[index : index + 1] for array in arrays], userdata=index, share_inputs=True)
        queue.wait_all()
        queue.set_callback(_ignore)
        return tuple(torch.from_numpy(np.concatenate(outputs)) for outputs in zip(*found, strict=True))


def _load_model(source: nn.Module | Path, inputs: Sequence[Tensor]) -> Any:
    """The model for patches of any size; a module is traced with a small part of its first inputs."""
    if isinstance(source, Path):
        return _openvino().Core().read_model(source)
    return _converted(source, _corner(inputs))


def _make_queue(model: Any, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Requests for one shape of patches, as many as fill the processor."""
    openvino = _openvino()
    model = model.clone()
    model.reshape({port: list(shape) for port, shape in zip(model.inputs, shapes, strict=True)})
    compiled = openvino.Core().compile_model(
        model,
        "CPU",
        {
            # Large patches one after the other: the features of each take as much memory as several small ones.
            "PERFORMANCE_HINT": "LATENCY" if _is_large(shapes[0]) else "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        },
    )
    queue = openvino.AsyncInferQueue(compiled, compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    _NEVER_FREED.append((queue, compiled))
    return queue


def _ignore(*_: Any) -> None:
    """In place of a function that belongs to a call that is over."""


def _openvino() -> Any:
    """The package, which, with NNCF after it, reports its use to nobody and leaves the home folder alone."""
    # Where this package is missing both do without it, and None stands for missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _converted(module: nn.Module, sample: Sequence[Tensor]) -> Any:
    """The module as an OpenVINO model for patches of any number and size."""
    openvino = _openvino()
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing says of every size that it reads that it may be a constant.
        warnings.simplefilter("ignore")
        return openvino.convert_model(
            module,
            example_input=tuple(sample),
            input=[openvino.PartialShape(_open_shape(each.shape)) for each in sample],
        )


def _corner(inputs: Sequence[Tensor]) -> list[Tensor]:
    """A corner of one patch, or of its features: 64 px are traced in a fraction of the time, and give the same."""
    first = inputs[0]
    if _is_patch(first.shape):
        return [first[:1, :_TRACED_PX, :_TRACED_PX]]
    # The first of the features is the first decoder block's, whose pixel is 16 px wide.
    parts = first.shape[-1] * pixel_px("psi_0") // _TRACED_PX
    return [each[:1, :, : each.shape[-2] // parts, : each.shape[-1] // parts] for each in inputs]


def _is_large(shape: Sequence[int]) -> bool:
    """Whether a patch, or what the first block made of it, is larger than the paper's."""
    edge_px = shape[1] if _is_patch(shape) else shape[-1] * pixel_px("psi_0")
    return edge_px > PATCH_PX


def _is_patch(shape: Sequence[int]) -> bool:
    """Patches end in their colours; features have channels before their sides."""
    return shape[-1] == 3


def make_int8_model(module: nn.Module, samples: Iterable[tuple[Tensor, ...]], path: Path) -> None:
    """Make the int8 model of a module by NNCF, and write it to `path` (.xml) with its weights beside it (.bin).

    Args:
        module: of `bccdist.networks.inference`, in evaluation mode; not changed.
        samples: inputs with a leading 1, from which the ranges of all features are taken.
        path: of the model; patches of any size go through it. The same inputs give the same
            bytes on one machine.
    """
    openvino = _openvino()
    import nncf
    from nncf.quantization.advanced_parameters import OverflowFix

    inputs = [tuple(each.numpy() for each in sample) for sample in samples]
    model = _converted(folded(module), _corner([torch.from_numpy(array) for array in inputs[0]]))
    # Weights use half of their range, because a processor without VNNI adds two products in 16 bits.
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE)
    with _quiet():
        quantised = nncf.quantize(
            model,
            nncf.Dataset(inputs, list),
            subset_size=len(inputs),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            advanced_parameters=advanced,
        )
    _rename_by_place(quantised)
    # The graph last: where it is, its weights are.
    with (
        atomic_path(path) as graph,
        atomic_path(path.with_suffix(".bin")) as weights,
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
    ):
        saved = Path(folder) / "model.xml"
        openvino.save_model(quantised, saved, compress_to_fp16=False)
        saved.with_suffix(".bin").replace(weights)
        saved.replace(graph)


def _rename_by_place(model: Any) -> None:
    """Give a model's operations names that do not count what else this process has made."""
    model.set_friendly_name("model")
    for place, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{place}")


def _open_shape(shape: Sequence[int]) -> list[int]:
    """Colours or channels stay; n and the sides may differ."""
    return [-1, -1, -1, 3] if _is_patch(shape) else [-1, shape[1], -1, -1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF's progress bars and notes out of the job's log."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
