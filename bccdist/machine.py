"""What this machine and its torch can do."""

import ctypes
import importlib.util
import os
import shutil

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt."""


def keep_freed_memory() -> bool:
    """Let this process keep what it frees for its next step, where the C library is glibc; returns whether it is.

    Feature maps of a step are hundreds of MiB. glibc gives each back to the system and asks for it again in the next
    step, and the system fills every page with zeros first. Results stay the same to the bit.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def gpu_has_bf16() -> bool:
    """Whether the GPU computes in bf16 by itself."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def cannot_compile(device: torch.device) -> str | None:
    """What torch.compile lacks on this machine for networks on this device, if anything."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else f"the C++ compiler {compiler} was not found"
