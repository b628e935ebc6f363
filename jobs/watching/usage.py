"""What a task used: one line in its log, from which larger studies are planned (jobs/plan.py)."""

import json
import os
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

Outcome = Literal["done", "failed", "stopped"]
PREFIX = "usage "
"""Of a line of a log that holds a usage."""
_QUEUED_AGAIN = -1
"""Exit code of submitit after it has queued a job again, at its time limit or a preemption."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one start of a task used; of a task with several ranks the first one says it."""

    stage: str
    """As its job is called."""
    job_id: str
    """Of Slurm, ARRAY_ELEMENT for an element; of a local job the number of its process."""
    host: str
    """Of the first rank."""
    seconds: float
    """From the stage's first import to its end."""
    cpu_s: float
    """Of the first rank and the processes that it has waited for."""
    peak_gib: float
    """The most memory at once of the first rank, or of one of its processes where that had more."""
    num_cpus: int
    """Cores that the whole job had."""
    num_gpus: int
    """GPUs that the whole job had."""
    num_ranks: int
    num_slides: int | None
    """That it was given, done before or not; None where it does not work slide by slide."""
    outcome: Outcome
    """stopped: by a signal, its work saved."""


@contextmanager
def measured(stage: str, *, num_slides: int | None = None) -> Iterator[None]:
    """Measure what runs within, and print its usage as the first rank's last line, however it ends."""
    start_s, start_cpu_s = time.monotonic(), _cpu_s()
    outcome: Outcome = "failed"
    try:
        yield
        outcome = "done"
    except (SystemExit, KeyboardInterrupt) as end:
        outcome = _outcome_of(end)
        raise
    finally:
        if os.environ.get("SLURM_PROCID", os.environ.get("SUBMITIT_LOCAL_GLOBALID", "0")) == "0":
            usage = _usage(stage, outcome, num_slides, start_s=start_s, start_cpu_s=start_cpu_s)
            print(usage_line(usage), flush=True)


def _outcome_of(end: SystemExit | KeyboardInterrupt) -> Outcome:
    """A signal ends a stage with 128 plus its number once its work is saved, or by submitit's handler with -1."""
    if isinstance(end, KeyboardInterrupt):
        return "stopped"
    if isinstance(end.code, int) and (end.code > 128 or end.code == _QUEUED_AGAIN):
        return "stopped"
    return "failed" if end.code else "done"


def _usage(stage: str, outcome: Outcome, num_slides: int | None, *, start_s: float, start_cpu_s: float) -> Usage:
    environment = os.environ
    num_ranks = int(environment.get("SLURM_NTASKS") or environment.get("SUBMITIT_LOCAL_NTASKS") or 1)
    cores = environment.get("SLURM_CPUS_PER_TASK") or environment.get("OMP_NUM_THREADS")
    return Usage(
        stage=stage,
        job_id=_job_id(),
        host=platform.node(),
        seconds=round(time.monotonic() - start_s, 3),
        cpu_s=round(_cpu_s() - start_cpu_s, 3),
        peak_gib=round(_peak_gib(), 3),
        num_cpus=num_ranks * int(cores or len(os.sched_getaffinity(0))),
        num_gpus=_num_gpus(),
        num_ranks=num_ranks,
        num_slides=num_slides,
        outcome=outcome,
    )


def _job_id() -> str:
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if array and element:
        return f"{array}_{element}"
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("SUBMITIT_LOCAL_JOB_ID") or str(os.getpid())


def _num_gpus() -> int:
    """Of all nodes; on Slurm a rank may see only its own."""
    on_node = os.environ.get("SLURM_GPUS_ON_NODE", "")
    if on_node.isdecimal():
        return int(on_node) * int(os.environ.get("SLURM_NNODES") or 1)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return 0 if visible in ("", "NoDevFiles") else len(visible.split(","))


def _cpu_s() -> float:
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _peak_gib() -> float:
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(use.ru_maxrss for use in uses) / 2**20


def usage_line(usage: Usage) -> str:
    """The line that stands in the log."""
    return PREFIX + json.dumps(asdict(usage), sort_keys=True)


def read_usages(logs: Path) -> list[Usage]:
    """What all tasks below a study's folder of logs used, one for each start that ended by itself.

    A start that was killed, or whose node was lost, has left no line. A line that cannot be read is said and left out.
    """
    usages = []
    for log in sorted(logs.rglob("*_log.out")):
        with log.open("rb") as file:
            lines = [line for line in file if line.startswith(PREFIX.encode())]
        for line in lines:
            usage = parse_usage(line.decode(errors="replace"))
            if usage is None:
                print(f"note: {log}: left out a line of usage that cannot be read: {line[:80]!r}")
            else:
                usages.append(usage)
    return usages


def parse_usage(line: str) -> Usage | None:
    """The usage in a line of a log; None where it is cut off, or of another version."""
    try:
        values = json.loads(line.removeprefix(PREFIX))
        return Usage(**{each.name: values[each.name] for each in fields(Usage)})
    except (ValueError, KeyError, TypeError):
        return None
