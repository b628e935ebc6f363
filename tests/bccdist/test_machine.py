"""What a machine can do is found out by asking it."""

import importlib.util

import pytest
import torch

from bccdist import machine
from bccdist.machine import cannot_compile, cannot_compute_in


def test_what_compiling_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert cannot_compile(torch.device("cpu")) == "the C++ compiler no-such-compiler was not found"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert cannot_compile(torch.device("cuda")) == "the package triton is not installed"


def test_a_precision_that_a_gpu_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(machine, "gpu_has_bf16", lambda: False)
    assert cannot_compute_in("bf16", gpu) == "Old GPU has no bf16"
    assert cannot_compute_in("tf32", gpu) == "Old GPU has no TF32, which takes a GPU of compute capability 8.0"
    assert cannot_compute_in("float32", gpu) is None
    assert cannot_compute_in("bf16", torch.device("cpu")) is None
