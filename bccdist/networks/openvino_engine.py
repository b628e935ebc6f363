"""Networks through OpenVINO on the CPU, in float32 or, by NNCF, in int8."""

import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bccdist.configuration import PATCH_PX, pixel_px
from bccdist.files import atomic_path
from bccdist.networks.finite import require_sound
from bccdist.networks.folding import folded
from bccdist.networks.inference import corner, is_patch

_NEVER_FREED: list[Any] = []
"""OpenVINO's requests and what they were made of: once some are freed, the next signal crashes the process."""
INT8_RECIPE = "2"
"""Raised when the same network and patches come to give other int8 weights."""


class OpenVinoRunner:
    """A module or an int8 model through OpenVINO: a request for each patch, several at work at once."""

    def __init__(self, source: nn.Module | Path) -> None:
        self._source = source
        self._model: Any = None
        self._queues: dict[tuple[tuple[int, ...], ...], Any] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs for n patches, in their order."""
        arrays = [np.ascontiguousarray(each.numpy()) for each in inputs]
        shapes = tuple((1, *array.shape[1:]) for array in arrays)
        # The model waits for the first patches, whose shapes say which piece of the network it is.
        if self._model is None:
            self._model = _load_model(self._source, inputs)
        if shapes not in self._queues:
            self._queues[shapes] = _make_queue(self._model, shapes)
        queue = self._queues[shapes]
        # Requests end in any order, so each puts what it found in its own place.
        found: list[list[NDArray[np.float32]]] = [[] for _ in arrays[0]]

        def keep(request: Any, index: int) -> None:
            found[index] = [np.array(output.data) for output in request.output_tensors]

        queue.set_callback(keep)
        for index in range(len(arrays[0])):
            queue.start_async([array[index : index + 1] for array in arrays], userdata=index, share_inputs=True)
        queue.wait_all()
        # The queue lives as long as the process and would keep this call's arrays with it.
        queue.set_callback(_ignore)
        return tuple(torch.from_numpy(np.concatenate(outputs)) for outputs in zip(*found, strict=True))


def _load_model(source: nn.Module | Path, inputs: Sequence[Tensor]) -> Any:
    """The model for patches of any size; a module is traced with a small part of its first inputs."""
    if isinstance(source, Path):
        return _openvino().Core().read_model(source)
    return _converted(source, corner(inputs))


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
    """Take the place of a function that belongs to a call that is over."""


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


def _is_large(shape: Sequence[int]) -> bool:
    """Whether a patch, or what the first block made of it, is larger than the paper's."""
    edge_px = shape[1] if is_patch(shape) else shape[-1] * pixel_px("psi_0")
    return edge_px > PATCH_PX


def make_int8_model(module: nn.Module, samples: Iterable[tuple[Tensor, ...]], path: Path) -> None:
    """Make the int8 model of a module by NNCF, and write it to `path` (.xml) with its weights beside it (.bin).

    Args:
        module: of `bccdist.networks.inference`, in evaluation mode; not changed.
        samples: inputs with a leading 1, from which the ranges of all features are taken.
        path: of the model; patches of any size go through it. The same inputs give the same bytes on one machine.

    Raises:
        NotFiniteError: the module's numbers are not finite, or may not stay so.
    """
    require_sound(module)
    _openvino()
    import nncf
    from nncf.quantization.advanced_parameters import OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    inputs = [tuple(each.numpy() for each in sample) for sample in samples]
    model = _converted(folded(module), corner([torch.from_numpy(array) for array in inputs[0]]))
    advanced = nncf.AdvancedQuantizationParameters(
        # Weights use half of their range, because a processor without VNNI adds two products in 16 bits.
        overflow_fix=OverflowFix.ENABLE,
        # What any sample holds is kept; by default the samples' largest values are averaged and half of them clipped.
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
    )
    with _quiet():
        quantised = nncf.quantize(
            model,
            nncf.Dataset(inputs, list),
            subset_size=len(inputs),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            # Layer after layer on what the int8 layers before it give, instead of each by itself.
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(names=_first_and_last(model), validate=False),
            advanced_parameters=advanced,
        )
    _rename_by_place(quantised)
    _save(quantised, path)


def _first_and_last(model: Any) -> list[str]:
    """The convolutions that see colours or give scores, which stay in float32: names of a model's operations."""
    convolutions = [each for each in model.get_ordered_ops() if each.get_type_name() == "Convolution"]
    kernels = [(each.get_friendly_name(), each.input(1).get_partial_shape().to_shape()) for each in convolutions]
    return [name for name, (scores, channels, *size) in kernels if channels == 3 or (scores, *size) == (2, 1, 1)]


def write_float_model(module: nn.Module, sample: Tensor, path: Path, *, names: tuple[str, str], facts: str) -> None:
    """Write a module to `path` (.xml) with its weights beside it (.bin), in float32, for patches of any size.

    Args:
        module: in evaluation mode, with one input and one output.
        sample: an input, [n, c, h, w].
        path: of the model. The same module gives the same bytes.
        names: of input and output.
        facts: a line that the file holds as its rt_info/bccdist.
    """
    model = _converted(module, [sample])
    _rename_by_place(model)
    for port, name in zip([*model.inputs, *model.outputs], names, strict=True):
        port.get_tensor().set_names({name})
    model.set_rt_info(facts, ["bccdist"])
    _save(model, path)


def run_float_model(path: Path, patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """What OpenVINO finds with the model of one input and output at `path` (.xml), on the CPU in float32."""
    compiled = _openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = np.array(compiled([patches])[0])
    _NEVER_FREED.append(compiled)
    return found


def _save(model: Any, path: Path) -> None:
    # The graph last: where it is, its weights are.
    with (
        atomic_path(path) as graph,
        atomic_path(path.with_suffix(".bin")) as weights,
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
    ):
        saved = Path(folder) / "model.xml"
        _openvino().save_model(model, saved, compress_to_fp16=False)
        saved.with_suffix(".bin").replace(weights)
        saved.replace(graph)


def _rename_by_place(model: Any) -> None:
    """Give a model's operations names that do not count what else this process has made."""
    model.set_friendly_name("model")
    for place, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{place}")


def _open_shape(shape: Sequence[int]) -> list[int]:
    """Colours or channels stay; n and the sides may differ."""
    return [-1, -1, -1, 3] if is_patch(shape) else [-1, shape[1], -1, -1]


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
