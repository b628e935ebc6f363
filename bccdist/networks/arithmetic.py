"""The arithmetic of torch that training and inference share: its settings, and silence while it compiles."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import deterministic as torch_deterministic

_Setting = tuple[Callable[[], Any], Callable[[Any], None]]


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(modes: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(modes[0], warn_only=modes[1])


def _set_cudnn_precision(precision: str) -> None:
    cudnn: Any = torch.backends.cudnn
    # Both, because torch refuses to say whether cuDNN uses TF32 where they differ.
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = precision


def _attribute(owner: Any, name: str) -> _Setting:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


_SETTINGS: dict[str, _Setting] = {
    "deterministic": (_deterministic, _set_deterministic),
    "fill_uninitialized_memory": _attribute(torch_deterministic, "fill_uninitialized_memory"),
    "cudnn_benchmark": _attribute(torch.backends.cudnn, "benchmark"),
    "matmul_precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "cudnn_precision": (lambda: torch.backends.cudnn.conv.fp32_precision, _set_cudnn_precision),  # type: ignore[attr-defined]
}
"""How to read and to set what torch keeps for the whole process, by our name."""


@contextmanager
def torch_settings(**settings: Any) -> Iterator[None]:
    """Settings of torch in force; afterwards they are what they were.

    Args:
        settings: some of `deterministic`, a pair of whether and whether only to warn; `fill_uninitialized_memory`;
            `cudnn_benchmark`, to try out which kernel is fastest; `matmul_precision`; `cudnn_precision`, "ieee" for
            float32 as it says or "tf32", which cuDNN takes unless it is told not to.
    """
    before = {name: _SETTINGS[name][0]() for name in settings}
    try:
        _set(settings)
        yield
    finally:
        _set(before)


def _set(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        _SETTINGS[name][1](value)


@contextmanager
def compiling() -> Iterator[None]:
    """Be silent on what is deprecated: torch 2.13's compiler imports such parts of torch itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
