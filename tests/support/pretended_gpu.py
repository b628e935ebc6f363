"""A GPU that computes shapes alone, for tests where there is none; it says what a real one would refuse or wait for.

Torch's meta device stands for the GPU, because it runs on any machine, backward passes too. Tensors there have no
numbers, so whatever asks for one (`item`, `nonzero`) is an error, as is each operation on tensors of both devices.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("meta")
_TO_COPY, _COPY = torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default


class _Made(TorchFunctionMode):
    """Sees tensors made of Python's numbers, which torch itself brings to their device."""

    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outcome = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor) and outcome.device == GPU:
            self._waits.append(f"{func.__name__}({args[0]})")
        return outcome


class _Watched(TorchDispatchMode):
    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _devices((args, kwargs))
        outcome = func(*args, **kwargs)
        if func in (_TO_COPY, _COPY):
            if given | _devices(outcome) == {"cpu", "meta"} and not (kwargs.get("non_blocking") or True in args[2:3]):
                self.waits.append(f"{func} of {list(args[0].shape)}")
        elif given == {"cpu", "meta"}:
            raise AssertionError(f"{func}: tensors of the CPU and of the GPU together")
        return outcome


def _devices(values: Any) -> set[str]:
    """Of all tensors but single numbers, which a GPU takes from the CPU, too."""
    return {each.device.type for each in tree_leaves(values) if isinstance(each, Tensor) and each.dim()}


@contextmanager
def pretended_gpu() -> Iterator[list[str]]:
    """Watch what is done on `GPU`; gives the copies for which the CPU waits, a list that grows."""
    waits: list[str] = []
    with _Made(waits), _Watched(waits):
        yield waits
