"""What a machine can do is found out by asking it."""

import ctypes

import pytest
import torch

from bccdist import machine
from bccdist.machine import cannot_compile, keep_freed_memory


def test_freed_memory_is_kept_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_freed_memory() == hasattr(ctypes.CDLL(None), "mallopt")
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()


def test_what_compiling_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert cannot_compile(torch.device("cpu")) == "the C++ compiler no-such-compiler was not found"
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda _: None)
    assert cannot_compile(torch.device("cuda")) == "the package triton is not installed"
