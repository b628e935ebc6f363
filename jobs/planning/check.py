"""A study held against its plan: what was predicted, what it took, and what is not known yet."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bccdist.errors import ConfigurationError
from bccdist.stages.stage import Stage, StageProgress, find_stage
from bccdist.stages.table import TABLE
from jobs.planning.lines import as_number, as_size
from jobs.planning.prediction import LOGS
from jobs.planning.probe import Probe, Space
from jobs.text_columns import in_columns

_HOUR_S = 3600.0
_HEADINGS = ("stage", "", "predicted", "actual", "ratio", "")


@dataclass(frozen=True, kw_only=True)
class Actual:
    """What a stage took by now."""

    gpu_hours: float
    cpu_hours: float
    wall_s: float
    """All starts of the element that took longest, or an even share of all elements where that is more."""
    space: Space


def check_lines(probe: Probe, plan: Mapping[str, Any]) -> list[str]:
    """A table of predicted and actual figures, per stage, and what is to be known about them."""
    rows = [_HEADINGS, *_rows(probe, plan)]
    return [*_head(probe, plan), "", *in_columns(rows, numbers=True), "", *_notes(plan)]


def _head(probe: Probe, plan: Mapping[str, Any]) -> Iterator[str]:
    planned = sum(plan["study"]["num_slides"].values())
    there = sum(probe.num_slides.values())
    yield f"{probe.paths.root}: {there:,} slides, planned for {planned:,}"
    if plan["study"]["num_slides"] != {part.value: num for part, num in probe.num_slides.items()}:
        yield "NOTE: the study has other numbers of slides in its parts than the plan, so the ratios say little"


def _notes(plan: Mapping[str, Any]) -> Iterator[str]:
    yield "Ratio: actual to predicted. A start that was killed leaves no record, and is not in what is actual."
    yield from (f"not in the plan: {reason}" for reason in plan["unknown"])


def _rows(probe: Probe, plan: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for planned in plan["stages"]:
        name, max_parallel = planned["name"], plan["study"]["max_parallel"]
        if planned["stage"] is None:
            actual, state = _space_alone(probe.logs if name == LOGS else probe.other), ""
        else:
            stage = _stage_of(planned["stage"])
            actual = actual_of(probe, stage, max_parallel=max_parallel)
            state = _state(stage.progress(probe.paths, probe.manifest), has_usage=actual.wall_s > 0)
        for figure, texts in _figures(planned, actual, is_known=not state):
            yield (name, figure, *texts, state)
            name, state = "", ""


def _stage_of(fields: Mapping[str, Any]) -> Stage:
    stage = find_stage(fields, TABLE)
    if stage is None:
        raise ConfigurationError(f"--check: the plan has a stage that this version does not know: {dict(fields)}")
    return stage


def _space_alone(space: Space) -> Actual:
    return Actual(gpu_hours=0, cpu_hours=0, wall_s=0, space=space)


def _state(progress: StageProgress, *, has_usage: bool) -> str:
    """Why a stage's actual figures are not final; empty if they are."""
    if not progress.is_whole:
        total = "?" if progress.num_total is None else f"{progress.num_total:,}"
        return f"not known yet: {progress.num_done:,} of {total} done"
    return "" if has_usage else "done, but without a record of what it used"


def _figures(
    planned: Mapping[str, Any], actual: Actual, *, is_known: bool
) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Name, predicted, actual and ratio of every figure that is not nothing."""
    pairs: list[tuple[str, float, float, Callable[[float], str]]] = [
        ("GPU hours", planned["gpu_hours"]["estimate"], actual.gpu_hours, as_number),
        ("core hours", planned["cpu_hours"]["estimate"], actual.cpu_hours, as_number),
        ("wall hours", planned["wall_s"]["estimate"] / _HOUR_S, actual.wall_s / _HOUR_S, as_number),
        ("size", planned["num_bytes"]["estimate"], actual.space.num_bytes, as_size),
        ("files", planned["num_files"], actual.space.num_files, lambda value: f"{value:,.0f}"),
    ]
    for name, predicted, found, as_text in pairs:
        if predicted or found:
            ratio = f"{found / predicted:.2f}" if predicted and is_known else "-"
            yield name, (as_text(predicted), as_text(found), ratio)


def actual_of(probe: Probe, stage: Stage, *, max_parallel: int) -> Actual:
    """What records and folders say of a stage; all of its starts count, also those that failed or went on."""
    usages = [start.usage for start in probe.starts_of(stage)]
    by_element: dict[str, float] = {}
    for usage in usages:
        by_element[usage.job_id] = by_element.get(usage.job_id, 0.0) + usage.seconds
    total_s = sum(by_element.values())
    return Actual(
        gpu_hours=sum(usage.seconds * usage.num_gpus for usage in usages) / _HOUR_S,
        cpu_hours=sum(usage.seconds * usage.num_cpus for usage in usages) / _HOUR_S,
        wall_s=max(max(by_element.values(), default=0.0), total_s / max_parallel),
        space=probe.space(stage),
    )
