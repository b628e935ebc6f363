"""A study held against its plan: what was predicted, what it took, and what is not known yet."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bccdist.configuration import Setting
from bccdist.parts import Part
from jobs.planning.lines import as_number, as_size
from jobs.planning.probe import Probe, Space, inference_stages
from jobs.watching.stage_progress import (
    StageProgress,
    finish_progress,
    inference_progress,
    is_whole,
    selection_progress,
    shards_progress,
    tables_progress,
    training_progress,
)
from jobs.watching.text_columns import in_columns

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
    yield "Ratio: actual to predicted. A start that was killed leaves no line of usage, and is not in what is actual."
    yield from (f"not in the plan: {reason}" for reason in plan["unknown"])


def _rows(probe: Probe, plan: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    known = _progress_by_stage(probe)
    for planned in plan["stages"]:
        stage = planned["stage"]
        if stage not in known and stage not in {"logs", "other"}:
            yield (stage, "", "", "", "", "not known yet: not begun")
            continue
        progress = known[stage]() if stage in known else None
        actual = actual_of(probe, stage, max_parallel=plan["study"]["max_parallel"])
        state = _state(progress, has_usage=actual.wall_s > 0)
        for name, texts in _figures(planned, actual, is_known=not state):
            yield (stage, name, *texts, state)
            stage, state = "", ""


def _state(progress: StageProgress | None, *, has_usage: bool) -> str:
    """Why a stage's actual figures are not final; empty if they are."""
    if progress is None:
        return ""
    if not is_whole(progress):
        total = "?" if progress.num_total is None else f"{progress.num_total:,}"
        return f"not known yet: {progress.num_done:,} of {total} done"
    return "" if has_usage else "done, but without a line of usage in the logs"


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


def actual_of(probe: Probe, stage: str, *, max_parallel: int) -> Actual:
    """What the logs and folders say of a stage; all of its starts count, also those that failed or went on."""
    usages = [start.usage for start in probe.starts if _is_of(start.usage.stage, stage)]
    by_element: dict[str, float] = {}
    for usage in usages:
        by_element[usage.job_id] = by_element.get(usage.job_id, 0.0) + usage.seconds
    total_s = sum(by_element.values())
    return Actual(
        gpu_hours=sum(usage.seconds * usage.num_gpus for usage in usages) / _HOUR_S,
        cpu_hours=sum(usage.seconds * usage.num_cpus for usage in usages) / _HOUR_S,
        wall_s=max(max(by_element.values(), default=0.0), total_s / max_parallel),
        space=probe.stage_spaces.get(stage, Space()),
    )


def _is_of(launched: str, stage: str) -> bool:
    """Whether what was launched belongs to a stage; the parts of an inference may have been launched one by one."""
    if launched == stage:
        return True
    kind, *words = launched.split("-")
    _, *expected = stage.split("-")
    return kind == "infer" and stage.startswith("infer-") and words[0] == expected[0] and set(words) < set(expected)


def _progress_by_stage(probe: Probe) -> dict[str, Callable[[], StageProgress]]:
    """How to find out how far each stage is that the study can have."""
    paths, manifest = probe.paths, probe.manifest
    known: dict[str, Callable[[], StageProgress]] = {
        "shards": lambda: shards_progress(paths, manifest),
        "finish-shards": lambda: finish_progress(paths),
        "select": lambda: selection_progress(paths),
        "tables": lambda: tables_progress(paths),
    }
    for setting in probe.settings:
        known |= _progress_of_setting(probe, setting)
    return known


def _progress_of_setting(probe: Probe, setting: Setting) -> dict[str, Callable[[], StageProgress]]:
    paths, manifest = probe.paths, probe.manifest
    validation, test = inference_stages(setting).items()
    return {
        f"train-{setting}": lambda: training_progress(paths, setting),
        validation[0]: lambda: inference_progress(paths, manifest, setting, validation[1], "best"),
        test[0]: lambda: inference_progress(paths, manifest, setting, [Part.TEST], "chosen"),
    }
