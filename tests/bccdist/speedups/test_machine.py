"""A machine is known by what its numbers depend on, and another kind of machine is told in words."""

from dataclasses import replace

import pytest

from bccdist.speedups import machine as machines
from bccdist.speedups.machine import Machine, cpu_here, why_unsuited

_GPU = Machine(
    device_type="cuda",
    name="GPU A",
    instruction_set="compute capability 9.0",
    num_threads=8,
    versions={"bccdist": "1", "torch": "2"},
)
_CPU = replace(
    _GPU, device_type="cpu", name="a processor", instruction_set="avx2", versions={"torch": "2", "openvino": "3"}
)
_SERVER = "fpu avx2 fma avx512f avx512dq avx512bw avx512vl avx512_vnni"


def test_a_processor_is_described_by_what_kernels_choose_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = [("model name", "A Processor"), ("flags", _SERVER), ("model name", "A Processor")]
    monkeypatch.setattr(machines, "_cpuinfo", lambda: iter(text))
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(name, raising=False)
    here = cpu_here(4)
    assert (here.name, here.instruction_set, here.num_threads) == ("A Processor", "avx2 avx512 avx512_vnni", 4)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert cpu_here(4).instruction_set == "avx2 avx512 avx512_vnni ONEDNN_MAX_CPU_ISA=AVX2"
    assert cpu_here(4).key != here.key


def test_a_system_that_says_nothing_of_its_processor_is_described_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_cpuinfo", lambda: iter(()))
    monkeypatch.setattr(machines.platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(machines, "_LIMITS", ())
    assert (cpu_here(1).name, cpu_here(1).instruction_set) == ("riscv64", "riscv64")


def test_only_what_an_engine_depends_on_is_compared() -> None:
    assert why_unsuited(_CPU, replace(_CPU, name="other", num_threads=9), "openvino") is None
    newer = replace(_CPU, versions={"torch": "2", "openvino": "4"})
    assert why_unsuited(_CPU, newer, "openvino") == "it was measured with openvino 3, here 4"
    assert why_unsuited(_CPU, newer, "folded") is None
    assert why_unsuited(_CPU, replace(_CPU, versions={}), "eager") == "it was measured with torch 2, here None"
    assert why_unsuited(_GPU, replace(_GPU, name="GPU B"), "compiled") == "it was measured with GPU GPU A, here GPU B"
    assert "device cuda, here cpu" in (why_unsuited(_GPU, _CPU, "eager") or "")
