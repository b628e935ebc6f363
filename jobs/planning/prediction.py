"""What a large study will take, from a probe that went through its stages; jobs/plan.py says how it is reckoned."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bccdist.errors import ConfigurationError
from bccdist.parts import Part
from bccdist.stages.stage import Stage
from bccdist.usage import SlideTime, Usage
from jobs.planning.probe import Probe, Space, TrainedRun, sum_of

FEW = 20
"""Figures from fewer slides than this are called so."""
LOGS, OTHER = "logs", "other"
"""Rows of a plan that are no stage."""
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
    # Always the same draws, so that a plan that is made again is the same plan.
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
    """Epochs of a training; None takes the probe's."""
    keep_best: int | None = None
    """Epochs whose weights a training keeps; None takes the probe's."""
    max_steps: int | None = None
    """Steps of an epoch at most; None takes the probe's."""


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What a stage will take."""

    stage: Stage | None
    """None for files that belong to none."""
    name: str
    num_bytes: Figure
    num_files: float
    seconds: Figure = NOTHING
    """Time of all its elements together."""
    usage: Usage | None = None
    """What a start of the probe had of the machine, as each of its elements will."""
    num_elements: int = 1
    """Jobs that it is dealt out to."""
    num_measured: int | None = None
    """Slides of the probe that the time comes from; None where it does not come from single slides."""
    note: str = ""

    @property
    def gpu_hours(self) -> Figure:
        """GPUs that it holds, times hours, busy or not."""
        return self.seconds * ((self.usage.num_gpus if self.usage else 0) / _HOUR_S)

    @property
    def cpu_hours(self) -> Figure:
        """Cores that it holds, times hours, busy or not."""
        return self.seconds * ((self.usage.num_cpus if self.usage else 0) / _HOUR_S)

    @property
    def wall_s(self) -> Figure:
        """Time from its begin to its end, without waiting in the queue."""
        return self.seconds / max(1, self.num_elements)

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
    """Time from the first stage to the last, with the settings at the same time."""


def predict(probe: Probe, size: Size) -> Plan:
    """The plan of a study of this size, with the settings of the probe.

    Raises:
        ConfigurationError: the probe has no records at all.
    """
    if not probe.starts:
        raise ConfigurationError(
            f"{probe.paths.usage}: no record of a start, so nothing was measured; take the probe through its stages "
            "with this version of the launchers"
        )
    unknown: list[str] = []
    stages: list[StagePlan] = []
    for stage in probe.stages:
        plan = _plan_stage(probe, size, stage)
        if isinstance(plan, str):
            unknown.append(f"{stage.name}: {plan}")
        else:
            stages.append(plan)
    return Plan(stages=[*stages, *_rest(probe, size, stages)], unknown=unknown, wall_s=_critical_path(stages))


def _plan_stage(probe: Probe, size: Size, stage: Stage) -> StagePlan | str:
    """The plan of one stage, or why there is none."""
    if stage.is_for_each_slide:
        return _plan_slides(probe, size, stage)
    return _plan_training(probe, size, stage) if stage.needs == "ranks" else _plan_single(probe, size, stage)


def _num_epochs(probe: Probe, size: Size, stage: Stage, measured: int) -> int:
    """Epochs of a slide's heatmaps: of the best ones as in the probe, unless the study trains or keeps others."""
    if stage.epochs != "best":
        return 1
    run = probe.run(stage.its_setting)
    if run is None or (size.epochs is None and size.keep_best is None):
        return measured
    return min(size.epochs or run.config["epochs"], size.keep_best or run.config["keep_best"])


def _seconds_for(slide: SlideTime, num_epochs: int) -> float:
    """A slide is read once; all else is done for each epoch."""
    read_s = min(slide.read_s, slide.share_s)
    return read_s + (slide.share_s - read_s) * num_epochs / slide.num_epochs


def _plan_slides(probe: Probe, size: Size, stage: Stage) -> StagePlan | str:
    """The plan of an array: linear in the slides, and a start-up for each element."""
    starts, slides = probe.starts_like(stage), probe.slide_times(stage)
    if not starts or not slides:
        return "no slide of the probe has a record of its time, in a start that ended by itself"
    num = _count(size, stage.parts)
    num_elements = min(size.max_parallel, num)
    measured = max(slide.num_epochs for slide in slides)
    wanted = _num_epochs(probe, size, stage, measured)
    # The median, since an element that waited for a cold file system or compiled first says little of the others.
    startup_s = float(np.median([start.startup_s for start in starts]))
    element_s = mean_of([_seconds_for(slide, wanted) for slide in slides]) * num + exactly(startup_s * num_elements)
    # What is kept of a slide grows with its epochs, and what belongs to none, such as an index, with all slides.
    spaces = list(probe.slide_spaces(stage).values())
    factor = num * (wanted / measured if stage.epochs == "best" else 1)
    rest = probe.space(stage) - sum_of(spaces)
    return StagePlan(
        stage=stage,
        name=stage.name,
        usage=starts[-1].usage,
        seconds=element_s,
        num_bytes=mean_of([space.num_bytes for space in spaces]) * factor
        + exactly(rest.num_bytes * _ratio(probe, size, stage.parts)),
        num_files=mean_of([space.num_files for space in spaces]).estimate * factor + rest.num_files,
        num_elements=num_elements,
        num_measured=len(slides),
        note=f"{wanted} epoch{'s' if wanted > 1 else ''} a slide" if stage.epochs else "",
    )


def _plan_single(probe: Probe, size: Size, stage: Stage) -> StagePlan | str:
    """One job: between what it took, if all of it was fixed, and growing with the slides, which is the estimate."""
    done = [start.usage for start in probe.starts_of(stage) if start.usage.outcome == "done"]
    if not done:
        return "no start of it was done"
    usage, ratio = done[-1], _ratio(probe, size, stage.parts)
    seconds = Figure(
        estimate=usage.seconds * max(1.0, ratio),
        low=usage.seconds * min(1.0, ratio),
        high=usage.seconds * max(1.0, ratio),
    )
    whole = probe.space(stage)
    num_of_slides = sum_of(probe.slide_spaces(stage).values()).num_files
    return StagePlan(
        stage=stage,
        name=stage.name,
        usage=usage,
        seconds=seconds,
        num_bytes=exactly(whole.num_bytes * ratio),
        num_files=whole.num_files + num_of_slides * (ratio - 1),
        note="one run: its fixed part is not known, so all of it grows",
    )


def _plan_training(probe: Probe, size: Size, stage: Stage) -> StagePlan | str:
    run = probe.run(stage.its_setting)
    starts = [start.usage for start in probe.starts_of(stage)]
    if run is None or not starts:
        return "no epoch of it was done, in a start that ended by itself"
    num_epochs = size.epochs or run.config["epochs"]
    num_steps, step_s = _num_steps(probe, size, run), _step_s(run)
    last = run.state.epoch_times[-1]
    validation_s = last.validation_s * _ratio(probe, size, [Part.VALIDATION_1])
    epochs_s = sum(times.train_s + times.validation_s for times in run.state.epoch_times)
    startup_s = max(0.0, sum(usage.seconds for usage in starts) - epochs_s) / len(starts)
    seconds = num_steps * (step_s * num_epochs) + exactly(num_epochs * validation_s + startup_s)
    space = _run_space(run, size, num_steps.estimate * num_epochs)
    return StagePlan(
        stage=stage,
        name=stage.name,
        usage=starts[-1],
        seconds=seconds,
        num_bytes=exactly(space.num_bytes),
        num_files=space.num_files,
        num_measured=len(_training_patches(probe)),
        note=f"{num_epochs} epochs of {num_steps.estimate:,.0f} steps, {starts[-1].num_ranks} rank(s)",
    )


def _step_s(run: TrainedRun) -> float:
    """Without the first epoch, if there are others: it also warms up."""
    times = run.state.epoch_times[1:] or run.state.epoch_times
    return sum(each.train_s for each in times) / sum(each.num_steps for each in times)


def _training_patches(probe: Probe) -> list[int]:
    """The number of patches of each Training slide."""
    return [num for slide_id, num in probe.num_patches.items() if probe.part_of.get(slide_id) is Part.TRAINING]


def _num_steps(probe: Probe, size: Size, run: TrainedRun) -> Figure:
    """The steps of an epoch: the draws of a pool grow with the Training slides, unless their number is given."""
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


def _rest(probe: Probe, size: Size, stages: Sequence[StagePlan]) -> Iterable[StagePlan]:
    """Files that belong to no stage."""
    logs, other = probe.logs, probe.other
    per_start = _scaled_space(logs, 1 / len(probe.starts))
    num_starts = sum(plan.num_elements for plan in stages)
    # A log has a fixed head for each start and a line for each slide; which part is which is not told apart.
    lines = logs.num_bytes * _ratio(probe, size, list(Part))
    num_bytes = max(lines, per_start.num_bytes * num_starts)
    note = "at most: as if all of a log grew"
    num_files = per_start.num_files * num_starts
    yield StagePlan(stage=None, name=LOGS, num_bytes=exactly(num_bytes), num_files=num_files, note=note)
    yield StagePlan(stage=None, name=OTHER, num_bytes=exactly(other.num_bytes), num_files=other.num_files)


def _critical_path(stages: Sequence[StagePlan]) -> Figure:
    """All trainings at the same time; the arrays of the inferences one after the other, as each fills its room."""
    walls: dict[bool, list[Figure]] = {True: [], False: []}
    for plan in stages:
        walls[plan.stage is not None and plan.stage.needs == "ranks"].append(plan.wall_s)
    longest = max(walls[True], key=lambda figure: figure.estimate, default=NOTHING)
    return sum(walls[False], longest)


def _count(size: Size, parts: Iterable[Part]) -> int:
    return sum(size.num_slides[part] for part in parts)


def _ratio(probe: Probe, size: Size, parts: Sequence[Part]) -> float:
    """How many times as many slides the study has."""
    return _count(size, parts) / max(1, sum(probe.num_slides[part] for part in parts))


def _scaled_space(space: Space, factor: float) -> Space:
    return Space(num_bytes=round(space.num_bytes * factor), num_files=max(1, round(space.num_files * factor)))
