"""A whole study of 650 tiny phantom slides on a Slurm cluster: `python benchmarks/slurm_scale.py FOLDER --site mini`.

With the mini cluster: `make slurm-up`, then `eval "$(slurm/mini-cluster.sh env)"`. A probe of a few slides goes first,
the study is planned from it, goes through, and is held against the plan. PHANTOM slides: nothing about tumors.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bccdist.paths import StudyPaths
from bccdist.phantom import PhantomConfig, make_phantom
from bccdist.usage import read_starts
from jobs.slurm import journal, queue

PARTS = {"num_train": 85, "num_val1": 15, "num_val2": 229, "num_test": 321}
"""Table 1."""
PROBE = {"num_train": 4, "num_val1": 2, "num_val2": 6, "num_test": 8}
SETTING = "resnet34_ds"
TRAIN = "--train.width 4 --train.epochs 2 --train.max-steps 20 --train.global-batch 2 --train.micro-batch 1"
STUDY = f"--settings {SETTING} {TRAIN} --train.keep-best 1 --train.num-workers 0 --ranks-per-node 2"
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class ScaleArguments:
    """Where, and how large."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of slides and studies; what is there already is used."""
    site: str = "mini"
    """Site of the cluster."""
    num_submissions: int = 3
    """Arrays of 321 elements that are submitted, held, and cancelled, to time it."""


def measure(arguments: ScaleArguments) -> None:
    """Run everything and print what was found."""
    folder, site = arguments.folder.resolve(), arguments.site
    probe = _study(folder / "probe", PROBE, site)
    study = StudyPaths(folder / "full" / "study")
    plan = folder / "plan.json"
    total = sum(PARTS.values())
    _run("jobs/plan.py", probe.root, "--slides", total, "--paper-parts", "--max-parallel", 2, "--out", plan)
    _study(folder / "full", PARTS, site)
    _run("jobs/plan.py", study.root, "--check", plan)
    print(f"files per slide, all stages, one setting: {_files_per_slide(study, total):.2f}")
    _print_overhead(study)
    _time_submissions(study, site, arguments.num_submissions)


def _study(folder: Path, parts: dict[str, int], site: str) -> StudyPaths:
    """Draw slides and take them through all stages."""
    size = {"slide_width_level0_px": 1536, "slide_height_level0_px": 1280}
    config = PhantomConfig(**parts, sections_per_slide=(1, 1), **size)
    manifest = make_phantom(folder / "slides", config, report=lambda _: None)
    study = StudyPaths(folder / "study")
    start_s = time.monotonic()
    _run("jobs/launch_study.py", "--manifest", manifest, "--study", study.root, "--site", site, *STUDY.split())
    print(f"{sum(parts.values())} slides: all stages submitted in {time.monotonic() - start_s:.1f} s", flush=True)
    ids = {entry.job_id for entry in journal.read(study.journal)}
    while any(job.job_id in ids for job in queue.queued_jobs().jobs):
        time.sleep(5)
    print(f"{sum(parts.values())} slides: went through in {time.monotonic() - start_s:.0f} s", flush=True)
    _run("jobs/status.py", study.root)
    return study


def _run(script: str, *words: object) -> None:
    done = subprocess.run([sys.executable, str(REPOSITORY / script), *map(str, words)], check=False)
    if done.returncode:
        sys.exit(f"{script} ended with {done.returncode}")


def _files_per_slide(study: StudyPaths, num_slides: int) -> float:
    return sum(path.is_file() for path in study.root.rglob("*")) / num_slides


def _print_overhead(study: StudyPaths) -> None:
    """Time of an element by the accounting, less the time of its stage by its own clock."""
    entries = {entry.job_id: entry for entry in journal.read(study.journal)}
    told = queue.ended_jobs(list(entries))
    ended = told.jobs if told else ()
    elapsed_s = {job.job_id if job.element is None else f"{job.job_id}_{job.element}": job.elapsed_s for job in ended}
    overheads = [
        elapsed_s[start.usage.job_id] - start.usage.seconds
        for start in read_starts(study)
        if start.usage.job_id in elapsed_s
    ]
    print(
        f"overhead of an element, Slurm's elapsed time (whole seconds) less its stage's: median "
        f"{statistics.median(overheads):.1f} s, most {max(overheads):.1f} s, of {len(overheads)}"
    )


def _time_submissions(study: StudyPaths, site: str, num: int) -> None:
    """An array of 321 elements, a slide each, that is never let go."""
    words = ["--study", str(study.root), "--setting", SETTING, "--parts", "test", "--epochs", "best"]
    words += ["--site", site, "--slides-per-element", "1", "--sbatch", "hold"]
    seconds = []
    for _ in range(num):
        start_s = time.monotonic()
        _run("jobs/launch_infer.py", *words)
        seconds.append(time.monotonic() - start_s)
        _cancel(journal.read(study.journal)[-1].job_id)
    print(
        f"submitting 321 elements: {json.dumps([round(each, 2) for each in seconds])} s, the launcher's start included"
    )


def _cancel(job_id: str) -> None:
    queue.cancel([job_id])
    ids: Sequence[str] = [job_id]
    while any(job.job_id in ids for job in queue.queued_jobs().jobs):
        time.sleep(0.5)


if __name__ == "__main__":
    measure(tyro.cli(ScaleArguments))
