"""Networks through MNN on the CPU in float32: 3x3 convolutions by Winograd, which take fewer multiplications.

Sessions of one interpreter take turns, so each has an interpreter for itself, and all read the same file. A session
keeps the convolutions that it chose for the first size that it saw. For the paper's patches it would choose tiles of
6 x 6 px, whose rounding reaches 4e-3 of a probability; for a corner of 64 px it chooses smaller ones, with the
rounding of other engines. The choice also depends on a session's number of threads. So every session has one thread
and sees a corner first: then neither size, number of patches nor number of threads changes a bit.
"""

import ctypes
import importlib
import os
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from operator import itemgetter
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bccdist.errors import ConfigurationError
from bccdist.networks.inference import corner, is_patch

Arrays = list[NDArray[np.float32]]
_OPSET = 17
_HIGH = 1
"""MNN's number for float32 as it says; by its name it prints a line for each session."""
_IMPORTING = Lock()
_INSTEAD = "set engine to auto or folded"
_CONVERT = "import sys, _tools; sys.exit(not _tools.mnnconvert(sys.argv))"
"""The converter itself: the module around it, MNN.tools.mnnconvert, installs a package and reports to its makers."""


class MnnRunner:
    """A module through MNN: a session of one thread for each patch that is at work."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._num_threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="mnn")
        self._lock = Lock()
        self._model: _Model | None = None
        self._num_sessions = 0
        self._idle: SimpleQueue[_Session] = SimpleQueue()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs for n patches, in their order.

        Raises:
            ConfigurationError: MNN cannot compute them.
        """
        self._make_sessions(inputs)
        arrays = [np.ascontiguousarray(each.numpy(), dtype=np.float32) for each in inputs]

        def run(index: int) -> Arrays:
            session = self._idle.get()
            try:
                return session([array[index : index + 1] for array in arrays])
            finally:
                self._idle.put(session)

        found = list(self._pool.map(run, range(len(arrays[0]))))
        return tuple(torch.from_numpy(np.concatenate(outputs)) for outputs in zip(*found, strict=True))

    def _make_sessions(self, inputs: Sequence[Tensor]) -> None:
        """As many as these patches and the processor can use: each has the weights for itself."""
        with self._lock:
            part = corner(inputs)
            # The model waits for the first patches, whose shapes say which piece of the network it is.
            if self._model is None:
                self._model = _converted(self._module, part)
            for _ in range(self._num_sessions, min(self._num_threads, len(inputs[0]))):
                first = [np.ascontiguousarray(each.numpy(), dtype=np.float32) for each in part]
                self._idle.put(_Session(self._model, first))
                self._num_sessions += 1


class _Model:
    """What MNN reads, in open files whose names are gone: they end with the process, however it ends.

    Attributes:
        graph: a path by which this process finds the first of them.
        weights: of the second.
    """

    def __init__(self, graph: Path, weights: Path) -> None:
        files = [os.open(path, os.O_RDONLY) for path in (graph, weights)]
        self.graph, self.weights = (f"/dev/fd/{file}" for file in files)
        for file in files:
            weakref.finalize(self, os.close, file)


class _Session:
    """One thread of MNN with its own copy of the weights."""

    def __init__(self, model: _Model, first: Arrays) -> None:
        """Choose the convolutions for the first input."""
        # Sessions of one interpreter wait for each other: whatever is asked of it takes its only lock.
        self._interpreter = _mnn().Interpreter(model.graph)
        self._interpreter.setExternalFile(model.weights)
        self._session = self._interpreter.createSession({"backend": "CPU", "precision": _HIGH, "numThread": 1})
        self._shapes: list[tuple[int, ...]] = []
        self._resize([array.shape for array in first])

    def __call__(self, arrays: Arrays) -> Arrays:
        """The outputs for one patch."""
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            self._resize(shapes)
        for index, port in _by_place(self._interpreter.getSessionInputAll(self._session)):
            port.copyFrom(_as_tensor(arrays[index]))
        if code := self._interpreter.runSession(self._session):
            raise ConfigurationError(f"MNN ended with code {code} for inputs of {shapes}; {_INSTEAD}")
        found = []
        for _, port in _by_place(self._interpreter.getSessionOutputAll(self._session)):
            held = _as_tensor(np.empty(port.getShape(), dtype=np.float32))
            port.copyToHostTensor(held)
            found.append(np.array(held.getNumpyData()))
        return found

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        for index, port in _by_place(self._interpreter.getSessionInputAll(self._session)):
            self._interpreter.resizeTensor(port, shapes[index])
        self._interpreter.resizeSession(self._session)
        self._shapes = shapes


def _by_place(ports: dict[str, Any]) -> list[tuple[int, Any]]:
    """Inputs or outputs with their places in the module's, which their names end in; what is not used is left out."""
    return sorted(((int(name[1:]), port) for name, port in ports.items()), key=itemgetter(0))


def _mnn() -> Any:
    """The package; what it prints of the processor while it is imported goes nowhere."""
    with _IMPORTING, nullcontext() if "MNN" in sys.modules else _without_c_output():
        return importlib.import_module("MNN")


@contextmanager
def _without_c_output() -> Iterator[None]:
    """Send what C code prints to nowhere, where the C library lets its stream be set; Python writes without it."""
    libc = ctypes.CDLL(None)
    try:
        stream = ctypes.c_void_p.in_dll(libc, "stdout")
    except ValueError:
        yield
        return
    libc.fopen.restype = ctypes.c_void_p
    before, stream.value = stream.value, libc.fopen(os.devnull.encode(), b"we")
    try:
        yield
    finally:
        # What was opened stays so: another thread may be at writing there.
        stream.value = before


def _as_tensor(array: NDArray[np.float32]) -> Any:
    mnn = _mnn()
    return mnn.Tensor(array.shape, mnn.Halide_Type_Float, array, mnn.Tensor_DimensionType_Caffe)


def _converted(module: nn.Module, sample: Sequence[Tensor]) -> _Model:
    """The module as MNN's model of single patches, of any size."""
    with tempfile.TemporaryDirectory(prefix="bccdist-mnn-") as folder:
        exported, converted = Path(folder) / "model.onnx", Path(folder) / "model.mnn"
        weights = Path(f"{converted}.weight")
        _export(module, sample, exported)
        words = ["-f", "ONNX", "--modelFile", str(exported), "--MNNModel", str(converted), "--bizCode", "bccdist"]
        # Otherwise each interpreter keeps the weights beside those that its session makes of them.
        words.append("--saveExternalData")
        # A process of its own: it writes to the terminal, and what it cannot read may end it.
        done = subprocess.run(
            [sys.executable, "-c", _CONVERT, *words], check=False, capture_output=True, text=True, errors="replace"
        )
        if done.returncode or not (converted.is_file() and weights.is_file()):
            last = " / ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
            raise ConfigurationError(
                f"MNN's converter ended with {done.returncode} and gave no model of this network: {last}; {_INSTEAD}"
            )
        return _Model(converted, weights)


def _export(module: nn.Module, sample: Sequence[Tensor], path: Path) -> None:
    """Write the module as ONNX for single inputs of any height and width; MNN takes no integers, so all are float."""
    inputs = tuple(each.float() for each in sample)
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing says of every size that it reads that it may be a constant.
        warnings.simplefilter("ignore")
        outputs = module(*inputs)
        names = [f"i{index}" for index in range(len(inputs))]
        torch.onnx.export(
            module,
            inputs,
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=names,
            output_names=[f"o{index}" for index in range(len(outputs))],
            dynamic_axes={
                name: {side: f"{name}_{side}" for side in ((1, 2) if is_patch(each.shape) else (2, 3))}
                for name, each in zip(names, inputs, strict=True)
            },
        )
