"""The machine that a speed-up record was measured on, and whether what it says holds on another one.

A faster way's numbers are rounded as the processor's instructions and the engine's kernels round them. So a record
speaks of one kind of machine: instruction set or GPU, and the version of what runs the network. What such a
comparison cannot see (the number of threads, sizes of caches, a driver) shows in the numbers themselves, which are
computed again (`bccdist.speedups.probes`). Nothing here needs torch, so that launchers can ask.
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bccdist import __version__
from bccdist.configuration import Engine
from bccdist.files import digest_of

PACKAGES: dict[Engine, str] = {
    "eager": "torch",
    "folded": "torch",
    "compiled": "torch",
    "openvino": "openvino",
    "mnn": "mnn",
}
"""The package whose kernels compute, for each engine."""
_INSTRUCTIONS = {
    "avx2": {"avx2", "fma"},
    "avx_vnni": {"avx_vnni"},
    "avx512": {"avx512f", "avx512dq", "avx512bw", "avx512vl"},
    "avx512_vnni": {"avx512_vnni"},
    "avx512_bf16": {"avx512_bf16"},
    "avx512_fp16": {"avx512_fp16"},
    "amx": {"amx_tile", "amx_int8", "amx_bf16"},
    "neon": {"asimd"},
    "neon_dot": {"asimddp"},
    "i8mm": {"i8mm"},
    "sve": {"sve"},
}
"""Instructions between which kernels choose, and the flags that Linux gives a processor that has them."""
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that keep oneDNN, which computes for OpenVINO and torch, and torch itself from using what is there."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What computes: a processor or a GPU, and the packages whose kernels run on it."""

    device_type: str
    """cpu or cuda."""
    name: str
    """The processor's or GPU's name."""
    instruction_set: str
    """Of a processor those of `_INSTRUCTIONS` that it has, of a GPU its compute capability."""
    num_threads: int
    versions: dict[str, str]
    """Of bccdist and the packages of all engines that are installed."""

    @property
    def key(self) -> str:
        """Names this machine in the names of files, such as `cpu-1f0c3a5e`."""
        return f"{self.device_type}-{digest_of(asdict(self))[:8]}"

    def __str__(self) -> str:
        """The machine in words."""
        software = ", ".join(f"{package} {number}" for package, number in self.versions.items())
        return f"{self.name} ({self.instruction_set}), {self.num_threads} threads, {software}"


def cpu_here(num_threads: int) -> Machine:
    """This machine's processor, as `num_threads` threads of the engines use it."""
    names = [text for key, text in _cpuinfo() if key == "model name"]
    return Machine(
        device_type="cpu",
        name=names[0] if names else platform.machine(),
        instruction_set=_instruction_set(),
        num_threads=num_threads,
        versions=versions_here(),
    )


def versions_here() -> dict[str, str]:
    """Versions of bccdist and of each engine's package, where it is installed."""
    found = {"bccdist": __version__}
    for package in sorted(set(PACKAGES.values())):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def why_unsuited(measured: Machine, here: Machine, engine: Engine | None) -> str | None:
    """Why what was measured on one machine with an engine says nothing about another machine; None where it may.

    Without an engine no version is compared.

    Where it may, the numbers themselves have to be compared, too.
    """
    compared: dict[str, tuple[str | None, str | None]] = {
        "device": (measured.device_type, here.device_type),
        "instruction set": (measured.instruction_set, here.instruction_set),
    }
    if engine is not None:
        package = PACKAGES[engine]
        compared[package] = (measured.versions.get(package), here.versions.get(package))
    if here.device_type != "cpu":
        compared["GPU"] = (measured.name, here.name)
    differences = [f"{what} {there}, here {ours}" for what, (there, ours) in compared.items() if there != ours]
    return f"it was measured with {'; '.join(differences)}" if differences else None


def _instruction_set() -> str:
    flags = {flag for key, text in _cpuinfo() if key in ("flags", "Features") for flag in text.split()}
    names = [name for name, needed in _INSTRUCTIONS.items() if needed <= flags]
    limits = [f"{name}={value}" for name in _LIMITS if (value := os.environ.get(name))]
    return " ".join([*names, *limits]) or platform.machine()


def _cpuinfo() -> Iterator[tuple[str, str]]:
    """What Linux says of the processor's cores, as pairs of words; nothing on other systems."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        key, _, text = line.partition(":")
        yield key.strip(), text.strip()
