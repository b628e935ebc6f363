"""What is installed of that which not everybody needs; nothing is imported, so that a login node can ask."""

import importlib.util
import os
import shutil


def has_openvino() -> bool:
    """Whether OpenVINO and NNCF can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("openvino", "nncf"))


def lack_for_compiling(*, for_gpu: bool) -> str | None:
    """What torch.compile lacks on this machine, if anything."""
    if for_gpu and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else f"the C++ compiler {compiler} was not found"
