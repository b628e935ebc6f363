"""What the stages of a study took: core-hours, GPU-hours and energy, from the records of its tasks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from bccdist.stages.stage import find_stage
from bccdist.stages.table import TABLE
from bccdist.usage import Fields, Records, Usage

EnergySource = Literal["measured", "estimate", "in part an estimate", "not known"]
NO_STAGE = "(stage not recorded)"
FORMULA = (
    "Energy as an estimate: core-hours x watts_per_core + GPU-hours x watts_per_gpu, as the site's file named them "
    "when the jobs were launched; of the machines' real load, cooling and idle parts it knows nothing."
)
NOT_KNOWN = (
    "Energy is not known where neither Slurm's accounting measured it nor the site's file named watts_per_core (and, "
    "for jobs with GPUs, watts_per_gpu) when the jobs were launched."
)
UNENDED = "Starts without an end are at work, or were killed; what they took is not in it."
_J_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a stage took; of starts without an end nobody knows."""

    num_starts: int
    """Starts of its tasks that ended by themselves, whatever they ended with."""
    num_unended: int
    """Starts that have no end, and are not in what follows."""
    core_hours: float | None
    """Cores that its jobs had, times hours; None where no start has ended."""
    gpu_hours: float | None
    energy_kwh: float | None
    """None where it is not known of every start that ended."""
    energy_from: EnergySource

    @property
    def energy_text(self) -> str:
        """The energy with where it is from."""
        if self.energy_kwh is None:
            return "not known"
        source = "" if self.energy_from == "measured" else f", {self.energy_from}"
        return f"{_figure(self.energy_kwh)} kWh{source}"


def costs_of(records: Records, measured_j: Mapping[str, float] = MappingProxyType({})) -> dict[str, Cost]:
    """What each stage took, by its name, in the order in which their tasks first ended.

    Args:
        records: of the study's tasks.
        measured_j: energy that the accounting measured, in joules, by job; of an element of an array ARRAY_ELEMENT. It
            is of a job's newest start, so that of a job with several starts is not used.
    """
    usages = [start.usage for start in records.starts]
    starts = Counter([*(usage.job_id for usage in usages), *(each.job_id for each in records.unended)])
    once = {job_id: joules for job_id, joules in measured_j.items() if starts[job_id] == 1 and joules > 0}
    by_name: dict[str, list[Usage]] = {}
    for usage in usages:
        by_name.setdefault(_name(usage.stage), []).append(usage)
    unended = Counter(_name(each.stage) for each in records.unended)
    return {
        name: _cost(by_name.get(name, []), num_unended=unended[name], measured_j=once)
        for name in dict.fromkeys([*by_name, *unended])
    }


def heading_and_rows(costs: Mapping[str, Cost]) -> list[tuple[str, ...]]:
    """A table for people; its first row is the heading."""
    heading = ("stage", "starts", "without an end", "core-hours", "GPU-hours", "energy")
    return [heading, *((name, *_cells(cost)) for name, cost in costs.items())]


def notes_on(costs: Iterable[Cost]) -> list[str]:
    """What is to be known of the figures."""
    costs = list(costs)
    sources = {cost.energy_from for cost in costs}
    notes = [(FORMULA, sources & {"estimate", "in part an estimate"}), (NOT_KNOWN, sources & {"not known"})]
    return [note for note, holds in [*notes, (UNENDED, any(cost.num_unended for cost in costs))] if holds]


def _cells(cost: Cost) -> tuple[str, ...]:
    hours = ("not known" if each is None else _figure(each) for each in (cost.core_hours, cost.gpu_hours))
    return str(cost.num_starts), str(cost.num_unended or "-"), *hours, cost.energy_text


def _figure(value: float) -> str:
    """Three figures that count; a little is not nothing."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _name(stage: Fields | None) -> str:
    found = None if stage is None else find_stage(stage, TABLE)
    return NO_STAGE if stage is None else found.name if found else str(stage.get("kind"))


def _cost(usages: Sequence[Usage], *, num_unended: int, measured_j: Mapping[str, float]) -> Cost:
    kwh = [_energy_kwh(usage, measured_j) for usage in usages]
    known = [each for each in kwh if each is not None]
    num_measured = sum(usage.job_id in measured_j for usage in usages)
    source: EnergySource = "in part an estimate"
    if not usages or len(known) < len(usages):
        source = "not known"
    elif num_measured in (0, len(usages)):
        source = "measured" if num_measured else "estimate"
    return Cost(
        num_starts=len(usages),
        num_unended=num_unended,
        core_hours=sum(usage.core_hours for usage in usages) if usages else None,
        gpu_hours=sum(usage.gpu_hours for usage in usages) if usages else None,
        energy_kwh=None if source == "not known" else sum(known),
        energy_from=source,
    )


def _energy_kwh(usage: Usage, measured_j: Mapping[str, float]) -> float | None:
    """Energy of a start, measured, else by the site's watts; None where these are not known."""
    if usage.job_id in measured_j:
        return measured_j[usage.job_id] / _J_PER_KWH
    if usage.watts_per_core is None or (usage.num_gpus and usage.watts_per_gpu is None):
        return None
    return (usage.core_hours * usage.watts_per_core + usage.gpu_hours * (usage.watts_per_gpu or 0.0)) / 1000
