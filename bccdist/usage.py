"""What tasks and their slides took: records of a study, from which larger studies are planned (jobs/plan.py).

One file of JSON lines for each job, or element of an array, in the study's folder `usage`. A start is noted when a
task begins, then each slide as it is done, and at the end what the whole start used. A start that was killed has no
end, and what was done in it is left out.
"""

import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from bccdist.durations import as_duration
from bccdist.errors import EventLogError
from bccdist.events import append_event, read_events
from bccdist.files import is_read_only
from bccdist.log import LOG
from bccdist.paths import StudyPaths
from bccdist.ranks import Ranks, launched_as

Fields = Mapping[str, Any]
"""The values that name a stage, as JSON: kind, setting, parts and epochs."""
Outcome = Literal["done", "failed", "stopped"]
_START, _SLIDE, _END = "start", "slide", "end"
_QUEUED_AGAIN = -1
"""Exit code of submitit after it has queued a job again, at its time limit or a preemption."""


@dataclass(frozen=True, kw_only=True)
class SlideTime:
    """What a slide took that was done from its file on: neither found done, nor failed."""

    slide_id: str
    seconds: float
    read_s: float = 0.0
    """Time of it that went into reading, which does not grow with the epochs; 0 where it is not told."""
    num_epochs: int = 1
    num_at_once: int = 1
    """Slides that the task works on at the same time."""

    @property
    def share_s(self) -> float:
        """The slide's share of the task's time."""
        return self.seconds / self.num_at_once


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one start of a task used; of a task with several ranks the first one says it."""

    stage: Fields
    """Which stage, by the values that name it."""
    job_id: str
    """Job of Slurm, ARRAY_ELEMENT for an element; of a local job the number of its process."""
    host: str
    """Machine of the first rank."""
    seconds: float
    """Time from the stage's first import to its end."""
    cpu_s: float
    """Processor time of the first rank and the processes that it has waited for."""
    peak_gib: float
    """The most memory at once of the first rank, or of one of its processes where that had more."""
    num_cpus: int
    """Cores that the whole job had."""
    num_gpus: int
    """GPUs that the whole job had."""
    num_ranks: int
    num_slides: int | None
    """Slides that it was given, done before or not; None where it does not work slide by slide."""
    outcome: Outcome
    """How it ended; stopped: by a signal, its work saved."""
    watts_per_core: float | None = None
    """Power of a core and of a GPU, as the site's file named it at the launch; records of older versions lack it."""
    watts_per_gpu: float | None = None

    @property
    def core_hours(self) -> float:
        """Cores that the job had, times hours."""
        return self.num_cpus * self.seconds / 3600

    @property
    def gpu_hours(self) -> float:
        """GPUs that the job had, times hours."""
        return self.num_gpus * self.seconds / 3600


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of a task that ended by itself, and the slides that were done in it."""

    usage: Usage
    slides: tuple[SlideTime, ...]

    @property
    def startup_s(self) -> float:
        """What is not time of slides: imports, weights, the manifest."""
        return max(0.0, self.usage.seconds - sum(slide.share_s for slide in self.slides))

    def is_of(self, stage: Fields) -> bool:
        """Whether it worked for a stage, or for some of its parts alone, as where these were launched one by one."""
        mine, its = dict(self.usage.stage), dict(stage)
        is_part = set(mine.pop("parts")) <= set(its.pop("parts"))
        return is_part and mine == its

    def is_like(self, stage: Fields) -> bool:
        """Whether it did the same for the same setting, on whatever slides."""
        return all(self.usage.stage[name] == stage[name] for name in ("kind", "setting"))


@dataclass(frozen=True, kw_only=True)
class Unended:
    """A start that has no end: it is at work, or was killed."""

    stage: Fields | None
    """None in records of older versions."""
    job_id: str


@dataclass(frozen=True, kw_only=True)
class Records:
    """All that the tasks of a study noted."""

    starts: tuple[Start, ...]
    """Those that ended by themselves, in the order in which they did."""
    unended: tuple[Unended, ...]


@dataclass(frozen=True, kw_only=True)
class Watts:
    """Power that a site's file names; None where it does not."""

    per_core: float | None = None
    per_gpu: float | None = None


def note_slide(paths: StudyPaths, slide: SlideTime) -> None:
    """Write down what a slide took."""
    _append(paths, _SLIDE, asdict(slide))


@contextmanager
def measured(
    stage: Fields, study_root: Path, *, num_slides: int | None = None, watts: Watts | None = None
) -> Iterator[None]:
    """Measure what runs within, and write its usage down, however it ends; of several ranks the first one does."""
    paths, start_s, start_cpu_s = StudyPaths(study_root), time.monotonic(), _cpu_s()
    is_first = _ranks().is_first
    if is_first:
        # A job that is queued again goes on in its file: what stands there of a start that was killed ends here.
        _append(paths, _START, {"stage": stage})
    outcome: Outcome = "failed"
    try:
        yield
        outcome = "done"
    except (SystemExit, KeyboardInterrupt) as end:
        outcome = _outcome_of(end)
        raise
    finally:
        if is_first:
            usage = _usage(stage, outcome, num_slides, watts or Watts(), start_s=start_s, start_cpu_s=start_cpu_s)
            _append(paths, _END, asdict(usage))
            LOG.info(f"{outcome} after {as_duration(usage.seconds)}, with up to {usage.peak_gib:.1f} GiB")


def _append(paths: StudyPaths, event: str, values: Mapping[str, Any]) -> None:
    """Append to this job's file; a full disk costs the record and not the work, and in a read-only study is none."""
    if is_read_only(paths.root):
        return
    path = paths.usage / f"{_job_id()}.jsonl"
    try:
        append_event(path, event, **values)
    except OSError as error:
        LOG.error(f"{path}: not written, so plans will lack it: {error}")


def read_starts(paths: StudyPaths) -> list[Start]:
    """All starts that ended by themselves, in the order in which they did.

    Raises:
        EventLogError: a file is damaged where no process can have been killed, or is of another version.
    """
    return list(read_records(paths).starts)


def read_records(paths: StudyPaths) -> Records:
    """All that the tasks of a study noted.

    Raises:
        EventLogError: a file is damaged where no process can have been killed, or is of another version.
    """
    starts: list[tuple[float, Start]] = []
    unended: list[Unended] = []
    for path in sorted(paths.usage.glob("*.jsonl")):
        try:
            for ended_s, start in _starts_in(read_events(path), job_id=path.stem):
                if isinstance(start, Unended):
                    unended.append(start)
                else:
                    starts.append((ended_s, start))
        except (KeyError, TypeError) as error:
            raise EventLogError(
                f"{path}: not written by this version ({type(error).__name__}: {error}); take the study through its "
                "stages with this one, or move the file away"
            ) from error
    in_order = sorted(starts, key=lambda each: each[0])
    return Records(starts=tuple(start for _, start in in_order), unended=tuple(unended))


def _starts_in(events: list[dict[str, Any]], *, job_id: str) -> Iterator[tuple[float, Start | Unended]]:
    """The starts in a job's file, each with the time of its end, or of its beginning where it has none."""
    slides: list[SlideTime] = []
    begun: tuple[float, Unended] | None = None
    for event in events:
        if event["event"] == _START:
            if begun is not None:
                yield begun
            slides, begun = [], (event["time_s"], Unended(stage=event.get("stage"), job_id=job_id))
        elif event["event"] == _SLIDE:
            slides.append(SlideTime(**{each.name: event[each.name] for each in fields(SlideTime)}))
        elif event["event"] == _END:
            # Later fields have defaults, and older records lack them.
            known = (each for each in fields(Usage) if each.default is MISSING or each.name in event)
            usage = Usage(**{each.name: event[each.name] for each in known})
            yield event["time_s"], Start(usage=usage, slides=tuple(slides))
            begun = None
    if begun is not None:
        yield begun


def _outcome_of(end: SystemExit | KeyboardInterrupt) -> Outcome:
    """A signal ends a stage with 128 plus its number once its work is saved, or by submitit's handler with -1."""
    if isinstance(end, KeyboardInterrupt):
        return "stopped"
    if isinstance(end.code, int) and (end.code > 128 or end.code == _QUEUED_AGAIN):
        return "stopped"
    return "failed" if end.code else "done"


def _usage(
    stage: Fields, outcome: Outcome, num_slides: int | None, watts: Watts, *, start_s: float, start_cpu_s: float
) -> Usage:
    num_ranks = _ranks().world_size
    cores = os.environ.get("OMP_NUM_THREADS", "")  # as the task has set it
    return Usage(
        stage=stage,
        job_id=_job_id(),
        host=platform.node(),
        seconds=round(time.monotonic() - start_s, 3),
        cpu_s=round(_cpu_s() - start_cpu_s, 3),
        peak_gib=round(_peak_gib(), 3),
        num_cpus=num_ranks * (int(cores) if cores.isdecimal() else len(os.sched_getaffinity(0))),
        num_gpus=_num_gpus(),
        num_ranks=num_ranks,
        num_slides=num_slides,
        outcome=outcome,
        watts_per_core=watts.per_core,
        watts_per_gpu=watts.per_gpu,
    )


def _ranks() -> Ranks:
    """What a launcher started this process as: a local job within a job of Slurm has variables of both."""
    return launched_as(os.environ) or Ranks()


def _job_id() -> str:
    return _ranks().job_id or str(os.getpid())


def _num_gpus() -> int:
    """GPUs of all nodes; on Slurm a rank may see only its own."""
    on_node = os.environ.get("SLURM_GPUS_ON_NODE", "")
    if _ranks().cluster == "slurm" and on_node.isdecimal():
        return int(on_node) * int(os.environ.get("SLURM_NNODES") or 1)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return 0 if visible in ("", "NoDevFiles") else len(visible.split(","))


def _cpu_s() -> float:
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _peak_gib() -> float:
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(use.ru_maxrss for use in uses) / 2**20
