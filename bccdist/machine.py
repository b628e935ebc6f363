"""What this machine and its torch can do."""

import torch

from bccdist.installed import lack_for_compiling

_TF32_CAPABILITY = (8, 0)
"""Compute capability of the first GPUs that have TF32."""


def gpu_has_bf16() -> bool:
    """Whether the GPU computes in bf16 by itself."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def cannot_compute_in(precision: str, device: torch.device) -> str | None:
    """Why a device does not compute in a precision, if it does not; a CPU emulates bf16."""
    is_gpu = device.type == "cuda"
    if precision == "bf16" and is_gpu and not gpu_has_bf16():
        return f"{torch.cuda.get_device_name(device)} has no bf16"
    if precision == "tf32" and not (is_gpu and torch.cuda.get_device_capability(device) >= _TF32_CAPABILITY):
        name = torch.cuda.get_device_name(device) if is_gpu else f"the {device.type}"
        return f"{name} has no TF32, which takes a GPU of compute capability {'.'.join(map(str, _TF32_CAPABILITY))}"
    return None


def cannot_compile(device: torch.device) -> str | None:
    """What torch.compile lacks on this machine for networks on this device, if anything."""
    return lack_for_compiling(for_gpu=device.type == "cuda")
