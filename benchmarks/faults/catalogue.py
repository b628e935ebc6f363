"""All faults, by kind."""

from benchmarks.faults import annotations, factors, glass, leakage, levels, pixels, sections, stored_bytes
from benchmarks.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *pixels.FAULTS,
    *factors.FAULTS,
    *levels.FAULTS,
    *glass.FAULTS,
    *sections.FAULTS,
    *annotations.FAULTS,
    *stored_bytes.FAULTS,
    *leakage.FAULTS,
)
