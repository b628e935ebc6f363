"""What a large study will cost, from a small one: `python jobs/plan.py PROBE --slides 100000 --out plan.json`.

The probe is a study of a few slides, say 20, that went through its stages on the machines that are meant; what it took
is read from its records (STUDY/usage) and its folder. The model is kept simple:

shards, inference
    Slides times the mean time of a slide, and for each element of the array the start-up: the median of what the
    probe's elements took beyond their slides. Validation slides are predicted for all epochs that are kept, Test
    slides for one. A slide is read once; all else of its time, and its files, grow with the epochs.
training
    The time of a step, without the first epoch, times the steps of an epoch, times the epochs. The draws of an epoch
    grow with the Training slides, except those whose number is given; `max_steps` cuts the epoch. Validation grows
    with the slides of Validation I. Ranks and machines are those of the probe.
finish-shards, select, speedups, tables
    One job each. What of it is fixed cannot be told from one run, so all of it is taken as growing with the slides of
    its parts: an upper bound. The range goes down to what the probe took. Speed-ups are planned where the probe
    measured them.
space
    Bytes and inodes of the probe's folders, by stage: those of slides grow with the slides, events with the steps,
    logs with elements and slides. Weights are counted for the epochs that are kept.

Sections per slide, sizes of slides and pools are taken to be as in the probe. The range is that of the mean over
resampled slides of the probe (bootstrap, 90 %): it says how well the probe tells, not what its slides have in common
that others have not. Waiting in the queue, work that is done twice after a crash, and processes that were killed are
not in it.

A cohort is a probe, too: for the heatmaps and tables of more slides by its model.

With --check, a study is held against its plan: `python jobs/plan.py STUDY --check plan.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from bccdist.command import run_command
from bccdist.errors import ConfigurationError
from bccdist.files import read_json, write_json
from bccdist.parts import Part
from bccdist.study import refuse_address
from jobs.planning.check import check_lines
from jobs.planning.lines import plan_lines
from jobs.planning.prediction import Plan, Size, StagePlan, predict
from jobs.planning.probe import Probe, read_probe

SCHEMA_VERSION = "2"
"""Version of plan.json."""
FORMAT = "bccdist plan"
PAPER_PARTS = {Part.TRAINING: 85, Part.VALIDATION_1: 15, Part.VALIDATION_2: 229, Part.TEST: 321}
"""Slides of Table 1."""


@dataclass(frozen=True, kw_only=True)
class PlanArguments:
    """Predict what a large study will take, or hold a study against its plan."""

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of the probe, a study or a cohort; with --check, of the study that was planned."""
    slides: int | None = None
    """How many slides the study that is planned has."""
    parts: tuple[float, float, float, float] | None = None
    """Shares of Training, Validation I, Validation II and Test; by default as in the probe."""
    paper_parts: bool = False
    """The shares of the paper's Table 1: 85, 15, 229 and 321 of 650."""
    max_parallel: int = 32
    """Elements of an array that run at once."""
    epochs: int | None = None
    """Epochs of training; by default as in the probe."""
    keep_best: int | None = None
    """Epochs that are kept for the selection; by default as in the probe."""
    max_steps: int | None = None
    """Steps per epoch at most; by default as in the probe."""
    out: Path | None = None
    """Where to write the plan, as JSON."""
    check: Path | None = None
    """A plan that the study is held against."""


def main(arguments: PlanArguments) -> None:
    """Print the plan and write it, or print how it turned out."""
    refuse_address(arguments.study)
    if not arguments.study.is_dir():
        raise ConfigurationError(f"{arguments.study}: no such folder; give the folder of a study")
    probe = read_probe(arguments.study.resolve())
    if arguments.check is not None:
        _print(check_lines(probe, read_plan(arguments.check)))
        return
    size = size_of(arguments, probe)
    plan = predict(probe, size)
    _print(plan_lines(plan, size, probe))
    if arguments.out is not None:
        write_json(arguments.out, content_of(plan, size, probe))
        print(f"plan: {arguments.out}")


def _print(lines: Sequence[str]) -> None:
    print(*lines, sep="\n")


def size_of(arguments: PlanArguments, probe: Probe) -> Size:
    """The study that is asked for.

    Raises:
        ConfigurationError: a number or a share cannot be.
    """
    if arguments.slides is None:
        raise ConfigurationError("--slides: not given; how many slides does the study have that is planned?")
    for name in ("slides", "max_parallel", "epochs", "keep_best", "max_steps"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigurationError(f"--{name.replace('_', '-')} is {value}, expected at least 1")
    if probe.is_cohort and (given := _of_study_alone(arguments)):
        raise ConfigurationError(
            f"{', '.join(given)}: {probe.paths.root} is a cohort, of which all slides are judged and nothing is "
            "trained; leave it out, or give a study as the probe"
        )
    return Size(
        num_slides=_num_slides(arguments.slides, _shares(arguments, probe)),
        max_parallel=arguments.max_parallel,
        epochs=arguments.epochs,
        keep_best=arguments.keep_best,
        max_steps=arguments.max_steps,
    )


def _of_study_alone(arguments: PlanArguments) -> list[str]:
    """The flags that were given and say something of parts or training."""
    names = ("parts", "paper_parts", "epochs", "keep_best", "max_steps")
    return [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name)]


def _shares(arguments: PlanArguments, probe: Probe) -> dict[Part, float]:
    if arguments.paper_parts:
        if arguments.parts is not None:
            raise ConfigurationError("--parts and --paper-parts: give one of them")
        return {part: num / sum(PAPER_PARTS.values()) for part, num in PAPER_PARTS.items()}
    if arguments.parts is None:
        return {part: num / sum(probe.num_slides.values()) for part, num in probe.num_slides.items()}
    shares = dict(zip(Part, arguments.parts, strict=True))
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-3:
        raise ConfigurationError(f"--parts is {arguments.parts}, expected four shares from 0 to 1 with the sum 1")
    return shares


def _num_slides(total: int, shares: Mapping[Part, float]) -> dict[Part, int]:
    """Whole slides that add up: each share rounded down, and the rest to those that lost most."""
    exact = {part: total * share for part, share in shares.items()}
    counts = {part: int(value) for part, value in exact.items()}
    by_loss = sorted(Part, key=lambda part: counts[part] - exact[part])
    for part in by_loss[: total - sum(counts.values())]:
        counts[part] += 1
    return counts


def content_of(plan: Plan, size: Size, probe: Probe) -> dict[str, Any]:
    """The content of plan.json."""
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "probe": {
            "study": str(probe.paths.root),
            "phantom": probe.manifest.is_phantom,
            "num_slides": {part.value: num for part, num in probe.num_slides.items()},
        },
        "study": {**asdict(size), "num_slides": {part.value: num for part, num in size.num_slides.items()}},
        "stages": [_stage_content(stage) for stage in plan.stages],
        "wall_s": asdict(plan.wall_s),
        "unknown": plan.unknown,
    }


def _stage_content(plan: StagePlan) -> dict[str, Any]:
    figures = {name: asdict(getattr(plan, name)) for name in ("gpu_hours", "cpu_hours", "wall_s", "num_bytes")}
    plain = {name: getattr(plan, name) for name in ("name", "num_files", "num_elements", "num_measured", "note")}
    return {"stage": plan.stage.fields if plan.stage else None, **plain, **figures}


def read_plan(path: Path) -> dict[str, Any]:
    """The content of a plan.json.

    Raises:
        ConfigurationError: it is none, or of another version.
    """
    if not path.is_file():
        raise ConfigurationError(f"--check: {path} is not there; make it with --out")
    try:
        content = read_json(path)
    except ConfigurationError as error:
        raise ConfigurationError(f"--check: {error}") from error
    found = (content.get("format"), content.get("schema_version")) if isinstance(content, dict) else None
    if found != (FORMAT, SCHEMA_VERSION):
        raise ConfigurationError(
            f"--check: {path} is {found}, expected {(FORMAT, SCHEMA_VERSION)}; make the plan again with --out"
        )
    return dict(content)


if __name__ == "__main__":
    run_command(lambda: main(tyro.cli(PlanArguments)))
