"""What a plan looks like in the terminal: a table at most 120 columns wide, and what is to be known about it."""

from collections.abc import Iterator

from bccdist.configuration import PHANTOM_WARNING
from bccdist.stages.table import SPEEDUPS
from jobs.planning.prediction import FEW, NOTHING, Figure, Plan, Size, StagePlan
from jobs.planning.probe import Probe
from jobs.text_columns import in_columns

_HEADINGS = ("stage", "GPU hours", "core hours", "wall hours", "size", "files")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def plan_lines(plan: Plan, size: Size, probe: Probe) -> list[str]:
    """Head, table and notes."""
    parts = ", ".join(f"{num:,} {part.value}" for part, num in size.num_slides.items())
    of_what = "of a cohort" if probe.is_cohort else f"({parts})"
    head = [
        f"{sum(size.num_slides.values()):,} slides {of_what}, at most {size.max_parallel} elements at once",
        f"from a probe of {sum(probe.num_slides.values())} slides: {probe.paths.root}",
    ]
    if probe.manifest.is_phantom:
        head.append(f"{PHANTOM_WARNING}: what real slides take is another matter")
    rows = [_row(stage) for stage in plan.stages]
    return [*head, "", *in_columns([_HEADINGS, *rows, _total_row(plan)], numbers=True), "", *_notes(plan, probe)]


def _row(stage: StagePlan) -> tuple[str, ...]:
    times = (stage.gpu_hours, stage.cpu_hours, stage.wall_s / 3600)
    name = f"{stage.name} *" if stage.is_from_few else stage.name
    return (name, *map(as_hours, times), as_size(stage.num_bytes.estimate), f"{stage.num_files:,.0f}")


def _total_row(plan: Plan) -> tuple[str, ...]:
    gpu_hours = sum((stage.gpu_hours for stage in plan.stages), NOTHING)
    cpu_hours = sum((stage.cpu_hours for stage in plan.stages), NOTHING)
    num_bytes = sum((stage.num_bytes for stage in plan.stages), NOTHING)
    num_files = sum(stage.num_files for stage in plan.stages)
    times = (gpu_hours, cpu_hours, plan.wall_s / 3600)
    return ("all", *map(as_hours, times), as_size(num_bytes.estimate), f"{num_files:,.0f}")


def _notes(plan: Plan, probe: Probe) -> Iterator[str]:
    yield "In brackets: the 90 % range of the mean over resampled slides, or what a single run leaves open."
    yield "Wall hours of all: stage after stage, but all trainings at the same time; without waiting in the queue."
    if any(stage.is_from_few for stage in plan.stages):
        yield f"* from fewer than {FEW} slides of the probe: its range is too narrow, take it as a first guess."
    yield from (f"{stage.name}: {stage.note}" for stage in plan.stages if stage.note)
    if not probe.is_cohort and not any(stage.is_like(SPEEDUPS) for stage in probe.stages):
        yield "The plan has no stage `speedups`, as no speed-ups were measured in the probe."
    yield from (f"NOT IN THE PLAN: {reason}" for reason in plan.unknown)


def as_hours(hours: Figure) -> str:
    """An estimate, and its range where there is one."""
    if not hours.high:
        return "-"
    if hours.low == hours.high:
        return as_number(hours.estimate)
    return f"{as_number(hours.estimate)} ({as_number(hours.low)}-{as_number(hours.high)})"


def as_number(value: float) -> str:
    """Three digits that matter, and all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else "0" if not value else "<0.001"


def as_size(num_bytes: float) -> str:
    """Bytes in the unit that fits."""
    if not num_bytes:
        return "-"
    power = 0
    while num_bytes >= 1024 and power < len(_UNITS) - 1:
        num_bytes /= 1024
        power += 1
    return f"{num_bytes:.3g} {_UNITS[power]}" if num_bytes < 1000 else f"{num_bytes:.0f} {_UNITS[power]}"
