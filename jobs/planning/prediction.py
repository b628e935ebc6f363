"""What a large study will take, from a probe that went through its stages; jobs/plan.py says how it is reckoned."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bccdist.configuration import Setting
from bccdist.errors import ConfigurationError
from bccdist.parts import Part
from jobs.planning.probe import Probe, SlideTime, Space, Start, TrainedRun, inference_stages

FEW = 20
"""Figures from fewer slides than this are called so."""
_NUM_RESAMPLES = 1000
_RANGE_PERCENT = (5.0, 95.0)
_HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """An estimate with the range in which 90 % of the resampled ones lie; the same three where none is known."""

    estimate: float
    low: float
    high: float

    def __add__(self, other: "Figure") -> "Figure":
        return Figure(estimate=self.estimate + other.estimate, low=self.low + other.low, high=self.high + other.high)

    def __mul__(self, factor: float) -> "Figure":
        return Figure(estimate=self.estimate * factor, low=self.low * factor, high=self.high * factor)

    def __truediv__(self, divisor: float) -> "Figure":
        return self * (1 / divisor)


def exactly(value: float) -> Figure:
    """A figure without a range."""
    return Figure(estimate=value, low=value, high=value)


NOTHING = exactly(0.0)


def mean_of(values: Sequence[float]) -> Figure:
    """The mean of slides drawn at random, with its 90 % range by the bootstrap over these slides."""
    if not values:
        return NOTHING
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(0).integers(len(array), size=(_NUM_RESAMPLES, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), _RANGE_PERCENT)
    return Figure(estimate=float(array.mean()), low=float(low), high=float(high))


@dataclass(frozen=True, kw_only=True)
class Size:
    """The study that is planned."""

    num_slides: Mapping[Part, int]
    max_parallel: int
    """Elements of an array that run at once."""
    epochs: int | None = None
    """Of training; None as in the probe. So are the next two."""
    keep_best: int | None = None
    max_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What a stage will take."""

    stage: str
    gpu_hours: Figure
    cpu_hours: Figure
    """Cores that it holds, times hours, busy or not."""
    wall_s: Figure
    """Without waiting in the queue."""
    num_bytes: Figure
    num_files: float
    num_elements: int = 1
    """Of an array."""
    num_measured: int | None
    """Slides of the probe that the time comes from; None where it does not come from single slides."""
    note: str = ""

    @property
    def is_from_few(self) -> bool:
        """Whether the slides are too few to rely on."""
        return self.num_measured is not None and self.num_measured < FEW


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study will take."""

    stages: list[StagePlan]
    unknown: list[str]
    """What the probe cannot tell, and why."""
    wall_s: Figure
    """From the first stage to the last, the settings at the same time."""


def predict(probe: Probe, size: Size) -> Plan:
    """The plan of a study of this size, with the settings of the probe.

    Raises:
        ConfigurationError: the probe's logs hold no usage at all.
    """
    if not probe.starts:
        raise ConfigurationError(
            f"{probe.paths.logs}: no log has a line of usage, so nothing was measured; take the probe through its "
            "stages with this version of the launchers"
        )
    unknown: list[str] = []
    stages: dict[str, StagePlan] = {}
    for stage, plan in _plans(probe, size):
        if isinstance(plan, str):
            unknown.append(f"{stage}: {plan}")
        else:
            stages[stage] = plan
    everything = [*stages.values(), *_rest(probe, size, stages)]
    return Plan(stages=everything, unknown=unknown, wall_s=_critical_path(stages, probe.settings))


def _plans(probe: Probe, size: Size) -> Iterable[tuple[str, StagePlan | str]]:
    """Each stage with its plan, or why there is none."""
    yield "shards", _plan_shards(probe, size)
    yield "finish-shards", _plan_single(probe, size, "finish-shards", [Part.TRAINING, Part.VALIDATION_1])
    for setting in probe.settings:
        yield f"train-{setting}", _plan_training(probe, size, setting)
        for stage, parts in inference_stages(setting).items():
            yield stage, _plan_inference(probe, size, setting, stage, parts)
    yield "select", _plan_single(probe, size, "select", [Part.VALIDATION_1, Part.VALIDATION_2])
    drawn = [Part.VALIDATION_1, Part.VALIDATION_2, Part.TEST]
    tables = _plan_single(probe, size, "tables", drawn)
    if not isinstance(tables, str):
        ratio, whole = _ratio(probe, size, drawn), probe.stage_spaces["tables"]
        num_more = probe.pictures.num_files * (ratio - 1)
        tables = replace(tables, num_bytes=exactly(whole.num_bytes * ratio), num_files=whole.num_files + num_more)
    yield "tables", tables


def _plan_shards(probe: Probe, size: Size) -> StagePlan | str:
    parts = (Part.TRAINING, Part.VALIDATION_1)
    times = [slide.seconds for slide in probe.slide_times("shards", parts)]
    spaces = [space for slide_id, space in probe.shard_spaces.items() if probe.part_of.get(slide_id) in parts]
    plan = _plan_slides("shards", probe.starts_of("shards"), times, spaces, _count(size, parts), size)
    if isinstance(plan, str):
        return plan
    index_bytes = probe.stage_spaces["shards"].num_bytes - sum(space.num_bytes for space in spaces)
    index_files = probe.stage_spaces["shards"].num_files - sum(space.num_files for space in spaces)
    num_bytes = plan.num_bytes + exactly(index_bytes * _ratio(probe, size, parts))
    return replace(plan, num_bytes=num_bytes, num_files=plan.num_files + index_files)


def _plan_inference(probe: Probe, size: Size, setting: Setting, stage: str, parts: Sequence[Part]) -> StagePlan | str:
    starts = probe.starts_of(f"infer-{setting}")
    slides = probe.slide_times(f"infer-{setting}", parts)
    measured = max((slide.num_epochs for slide in slides), default=1)
    is_test = Part.TEST in parts
    wanted = 1 if is_test else _num_kept(probe, size, setting, measured)
    times = [_seconds_for(slide, wanted) for slide in slides]
    found = probe.heatmap_spaces(setting).items()
    spaces = [space for slide_id, space in found if probe.part_of.get(slide_id) in parts]
    plan = _plan_slides(stage, starts, times, spaces, _count(size, parts), size)
    if isinstance(plan, str):
        return plan
    # What is kept of a slide grows with the epochs.
    factor = 1.0 if is_test else wanted / measured
    note = f"{wanted} epoch{'s' if wanted > 1 else ''} a slide"
    return replace(plan, num_bytes=plan.num_bytes * factor, num_files=plan.num_files * factor, note=note)


def _num_kept(probe: Probe, size: Size, setting: Setting, measured: int) -> int:
    """Epochs of a validation slide: as in the probe, unless the study trains or keeps another number of them."""
    run = probe.run(setting)
    if run is None or (size.epochs is None and size.keep_best is None):
        return measured
    return min(size.epochs or run.config["epochs"], size.keep_best or run.config["keep_best"])


def _seconds_for(slide: SlideTime, num_epochs: int) -> float:
    """A slide is read once; all else is done for each epoch."""
    read_s = min(slide.read_s, slide.seconds)
    return read_s + (slide.seconds - read_s) * num_epochs / slide.num_epochs


def _plan_slides(
    stage: str, starts: Sequence[Start], times: Sequence[float], spaces: Sequence[Space], num: int, size: Size
) -> StagePlan | str:
    """Linear in the slides, and a start-up for each element of the array."""
    if not starts or not times:
        return "no slide of the probe has a time in the logs, done with a line of usage at the end"
    num_elements = min(size.max_parallel, num)
    startup_s = float(np.median([start.startup_s for start in starts]))
    element_s = mean_of(times) * num + exactly(startup_s * num_elements)
    usage = starts[-1].usage
    return StagePlan(
        stage=stage,
        gpu_hours=element_s * (usage.num_gpus / _HOUR_S),
        cpu_hours=element_s * (usage.num_cpus / _HOUR_S),
        wall_s=element_s / max(1, num_elements),
        num_bytes=mean_of([space.num_bytes for space in spaces]) * num,
        num_files=mean_of([space.num_files for space in spaces]).estimate * num,
        num_elements=num_elements,
        num_measured=len(times),
    )


def _plan_single(probe: Probe, size: Size, stage: str, parts: Sequence[Part]) -> StagePlan | str:
    """One job: between what it took, if all of it was fixed, and growing with the slides, which is the estimate."""
    done = [start.usage for start in probe.starts_of(stage) if start.usage.outcome == "done"]
    if not done:
        return "no start of it was done with a line of usage"
    usage = done[-1]
    ratio = _ratio(probe, size, parts)
    seconds = Figure(
        estimate=usage.seconds * max(1.0, ratio),
        low=usage.seconds * min(1.0, ratio),
        high=usage.seconds * max(1.0, ratio),
    )
    return StagePlan(
        stage=stage,
        gpu_hours=seconds * (usage.num_gpus / _HOUR_S),
        cpu_hours=seconds * (usage.num_cpus / _HOUR_S),
        wall_s=seconds,
        num_bytes=NOTHING,
        num_files=0,
        num_measured=None,
        note="one run: its fixed part is not known, so all of it grows",
    )


def _plan_training(probe: Probe, size: Size, setting: Setting) -> StagePlan | str:
    run = probe.run(setting)
    starts = [start.usage for start in probe.starts_of(f"train-{setting}")]
    if run is None or not starts:
        return "no epoch of it was done with a line of usage at the end"
    num_epochs = size.epochs or run.config["epochs"]
    num_steps, step_s = _num_steps(probe, size, run), _step_s(run)
    last = run.state.epoch_times[-1]
    validation_s = last.validation_s * _ratio(probe, size, [Part.VALIDATION_1])
    epochs_s = sum(times.train_s + times.validation_s for times in run.state.epoch_times)
    startup_s = max(0.0, sum(usage.seconds for usage in starts) - epochs_s) / len(starts)
    seconds = num_steps * (step_s * num_epochs) + exactly(num_epochs * validation_s + startup_s)
    usage = starts[-1]
    space = _run_space(run, size, num_steps.estimate * num_epochs)
    return StagePlan(
        stage=f"train-{setting}",
        gpu_hours=seconds * (usage.num_gpus / _HOUR_S),
        cpu_hours=seconds * (usage.num_cpus / _HOUR_S),
        wall_s=seconds,
        num_bytes=exactly(space.num_bytes),
        num_files=space.num_files,
        num_measured=len(_training_patches(probe)),
        note=f"{num_epochs} epochs of {num_steps.estimate:,.0f} steps, {usage.num_ranks} rank(s)",
    )


def _step_s(run: TrainedRun) -> float:
    """Without the first epoch, if there are others: it also warms up."""
    times = run.state.epoch_times[1:] or run.state.epoch_times
    return sum(each.train_s for each in times) / sum(each.num_steps for each in times)


def _training_patches(probe: Probe) -> list[int]:
    """Of each Training slide."""
    return [num for slide_id, num in probe.num_patches.items() if probe.part_of.get(slide_id) is Part.TRAINING]


def _num_steps(probe: Probe, size: Size, run: TrainedRun) -> Figure:
    """Of an epoch: the draws of a pool grow with the Training slides, unless their number is given."""
    given = run.config["balance"]["draws"]
    fixed = sum(num for pool, num in run.draws.items() if given[pool] is not None)
    growing = sum(run.draws.values()) - fixed
    patches = mean_of(_training_patches(probe))
    spread = patches / patches.estimate if patches.estimate else exactly(1.0)
    draws = spread * (growing * _ratio(probe, size, [Part.TRAINING])) + exactly(fixed)
    most = size.max_steps or run.config["max_steps"] or float("inf")
    steps = [min(most, value // run.config["global_batch"]) for value in (draws.estimate, draws.low, draws.high)]
    return Figure(estimate=steps[0], low=steps[1], high=steps[2])


def _run_space(run: TrainedRun, size: Size, num_steps: float) -> Space:
    done = sum(times.num_steps for times in run.state.epoch_times)
    num_kept = min(size.epochs or run.config["epochs"], size.keep_best or run.config["keep_best"])
    one = _scaled_space(run.weights, 1 / max(1, run.weights.num_files))
    events = Space(num_bytes=round(run.growing.num_bytes * num_steps / done), num_files=run.growing.num_files)
    return run.fixed + events + _scaled_space(one, num_kept)


def _rest(probe: Probe, size: Size, stages: Mapping[str, StagePlan]) -> Iterable[StagePlan]:
    """Files that belong to no stage."""
    logs, other = probe.stage_spaces["logs"], probe.stage_spaces["other"]
    per_start = _scaled_space(logs, 1 / len(probe.starts))
    num_starts = sum(plan.num_elements for plan in stages.values())
    lines = logs.num_bytes * _ratio(probe, size, list(Part))
    num_bytes = max(lines, per_start.num_bytes * num_starts)
    yield _space_alone("logs", num_bytes, per_start.num_files * num_starts, note="at most: as if all of a log grew")
    yield _space_alone("other", other.num_bytes, other.num_files)


def _space_alone(name: str, num_bytes: float, num_files: float, *, note: str = "") -> StagePlan:
    return StagePlan(
        stage=name,
        gpu_hours=NOTHING,
        cpu_hours=NOTHING,
        wall_s=NOTHING,
        num_bytes=exactly(num_bytes),
        num_files=num_files,
        num_measured=None,
        note=note,
    )


def _critical_path(stages: Mapping[str, StagePlan], settings: Sequence[Setting]) -> Figure:
    """All trainings at the same time; the arrays of the inferences one after the other, as each fills its room."""

    def wall(stage: str) -> Figure:
        return stages[stage].wall_s if stage in stages else NOTHING

    trained = [wall(f"train-{setting}") for setting in settings]
    total = max(trained, key=lambda figure: figure.estimate, default=NOTHING)
    for stage in ("shards", "finish-shards", "select", "tables"):
        total += wall(stage)
    for setting in settings:
        for stage in inference_stages(setting):
            total += wall(stage)
    return total


def _count(size: Size, parts: Iterable[Part]) -> int:
    return sum(size.num_slides[part] for part in parts)


def _ratio(probe: Probe, size: Size, parts: Sequence[Part]) -> float:
    """How many times as many slides the study has."""
    return _count(size, parts) / max(1, sum(probe.num_slides[part] for part in parts))


def _scaled_space(space: Space, factor: float) -> Space:
    return Space(num_bytes=round(space.num_bytes * factor), num_files=max(1, round(space.num_files * factor)))
