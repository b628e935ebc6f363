"""A network as TorchScript: what libtorch reads, from C++, Java (QuPath's Deep Java Library) and WSInfer.

torch calls TorchScript deprecated and writes it all the same; it stays here as long as these tools read nothing else.
"""

import io
import re
import warnings
from collections.abc import Callable
from zipfile import ZipFile

import torch
from torch import Tensor, nn

from bccdist.files import stored_entry

EXTRA = "bccdist.json"
"""The name under which the file holds its facts; `torch.jit.load` returns it as an extra file."""
_NOT_KEPT = (".debug_pkl", ".data/serialization_id")
"""Where the code lay that was traced, and a number that depends on it."""
_COUNTER = re.compile(r"[./]___torch_mangle_\d+")


def torchscript_bytes(module: nn.Module, sample: Tensor, facts: str) -> bytes:
    """A module as TorchScript; equal modules give equal bytes, and no path of this machine is in them.

    Args:
        module: in evaluation mode.
        sample: an input; others may have another n, height and width.
        facts: JSON that the file holds beside the network.
    """
    written = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # Of deprecation; and tracing says of every size that it reads that it may be a constant.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(_Flat(module), sample, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, written, _extra_files={EXTRA: facts})
    return _without_traces(written)


def open_torchscript(data: bytes) -> Callable[[Tensor], Tensor]:
    """The network of one input and output in these bytes, on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(patches: Tensor) -> Tensor:
        with torch.inference_mode():
            found: Tensor = network(patches)
        return found

    return run


def run_torchscript(data: bytes, patches: Tensor) -> Tensor:
    """What the network in these bytes gives for an input."""
    return open_torchscript(data)(patches)


class _Flat(nn.Module):
    """A module whose parts have no class of their own in TorchScript: the file is one class with all weights."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        # In a list torch does not see the module; tracing knows its tensors by themselves, under this class's names.
        self._module = [module]
        for name, parameter in module.named_parameters():
            self.register_parameter(_flat(name), parameter)
        for name, buffer in module.named_buffers():
            self.register_buffer(_flat(name), buffer)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self._module[0](x)
        return found


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _without_traces(archive: io.BytesIO) -> bytes:
    """The same network without what this process and machine left in the archive."""
    kept = io.BytesIO()
    with ZipFile(archive) as whole, ZipFile(kept, "w") as clean:
        for name in whole.namelist():
            if not name.endswith(_NOT_KEPT) and "/traced_inputs" not in name:
                clean.writestr(stored_entry(_COUNTER.sub("", name)), _uncounted(name, whole.read(name)))
    return kept.getvalue()


def _uncounted(name: str, data: bytes) -> bytes:
    """Without the counter by which torch tells the classes of one process apart: there is one class."""
    is_text = name.endswith((".py", "data.pkl"))
    return _COUNTER.sub("", data.decode("latin-1")).encode("latin-1") if is_text else data
