"""Records of what a task used, as it leaves them."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from bccdist.events import append_event
from bccdist.paths import StudyPaths
from bccdist.stages.table import SHARDS
from bccdist.usage import SlideTime, Usage

USAGE = Usage(
    stage=SHARDS.fields,
    job_id="17_4",
    host="node-3",
    seconds=61.5,
    cpu_s=44.0,
    peak_gib=2.25,
    num_cpus=1,
    num_gpus=0,
    num_ranks=1,
    num_slides=None,
    outcome="done",
)


def write_start(
    paths: StudyPaths, usage: Usage = USAGE, slides: Iterable[SlideTime] = (), *, is_ended: bool = True
) -> Path:
    """One start of a task with the slides that it worked on; returns the file of its job."""
    path = paths.usage / f"{usage.job_id}.jsonl"
    append_event(path, "start")
    for slide in slides:
        append_event(path, "slide", **asdict(slide))
    if is_ended:
        append_event(path, "end", **asdict(usage))
    return path
