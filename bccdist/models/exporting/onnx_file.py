"""A network as ONNX."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

OPSET = 17
"""Old enough for OpenCV, Java and browsers, new enough for what the networks compute."""


def onnx_bytes(module: nn.Module, sample: Tensor, *, names: tuple[str, str], facts: str) -> bytes:
    """A module as ONNX, for any n, height and width; equal modules give equal bytes.

    Args:
        module: in evaluation mode, with one input and one output.
        sample: an input, [n, c, h, w].
        names: of input and output.
        facts: JSON that the file holds in its metadata under `bccdist`.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        # torch's newer way needs onnxscript, takes ten times as long, and writes paths of this machine into the file.
        warnings.simplefilter("ignore")
        written = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            (sample,),
            written,
            dynamo=False,
            opset_version=OPSET,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes={name: {0: "n", 2: "height", 3: "width"} for name in names},
        )
        model = onnx.load(written)
    model.metadata_props.add(key="bccdist", value=facts)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def run_onnx(data: bytes, patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ONNX Runtime finds with the model in these bytes, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: patches})
    return np.asarray(found)
