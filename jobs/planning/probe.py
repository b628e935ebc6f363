"""What a study took by now: seconds, bytes and files of its slides and stages, from its logs and folders alone."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bccdist.configuration import SETTINGS, Setting
from bccdist.files import read_json
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.slides.manifest import Manifest
from bccdist.stages.epochs import inference_stage
from bccdist.study import open_study
from jobs.watching.training_pace import RunState, read_plan, read_run
from jobs.watching.usage import PREFIX, Usage, parse_usage

_START_OF_JOB = "submitit INFO"
_SLIDE_LINE = re.compile(r"slide \d+/\d+ (?P<slide_id>[^:\s]+): (?P<text>.*\bpatches\b.*)")
_SECONDS = re.compile(r", (\d+(?:\.\d+)?) s\b")
_READING = re.compile(r"\((\d+(?:\.\d+)?) s reading\)")
_EPOCHS = re.compile(r"patches x (\d+) epochs")


@dataclass(frozen=True, kw_only=True)
class Space:
    """Room on the file system."""

    num_bytes: int = 0
    num_files: int = 0
    """Files and folders: inodes."""

    def __add__(self, other: "Space") -> "Space":
        return Space(num_bytes=self.num_bytes + other.num_bytes, num_files=self.num_files + other.num_files)


@dataclass(frozen=True, kw_only=True)
class SlideTime:
    """What a slide took, as the log of its job says."""

    slide_id: str
    seconds: float
    """Of the element's time: where an element works on several slides at once, its share."""
    read_s: float
    """Of it on reading, which does not grow with the epochs; 0 where it is not told."""
    num_epochs: int


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of a task that ended by itself, and the slides that were done in it."""

    usage: Usage
    slides: tuple[SlideTime, ...]

    @property
    def startup_s(self) -> float:
        """What is not time of slides: imports, weights, the manifest."""
        return max(0.0, self.usage.seconds - sum(slide.seconds for slide in self.slides))


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A training run of the probe."""

    state: RunState
    config: Mapping[str, Any]
    draws: Mapping[str, int]
    """Of an epoch, by pool of Table 2."""
    growing: Space
    """Events, which grow with the steps."""
    weights: Space
    """Of the best epochs."""
    fixed: Space
    """All else."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A study, as far as it has come."""

    paths: StudyPaths
    manifest: Manifest
    starts: tuple[Start, ...]

    @cached_property
    def num_slides(self) -> dict[Part, int]:
        """By part."""
        return {part: len(self.manifest.slides_of([part])) for part in Part}

    @cached_property
    def part_of(self) -> dict[str, Part]:
        """By slide."""
        return {slide.slide_id: slide.part for slide in self.manifest.slides}

    @cached_property
    def settings(self) -> list[Setting]:
        """Those that were trained or are being trained."""
        return [setting for setting in SETTINGS if self.paths.run(setting).config.exists()]

    def starts_of(self, stage: str) -> list[Start]:
        """Those of a stage; of an inference those on any parts, if only its setting is given."""
        return [each for each in self.starts if each.usage.stage == stage or each.usage.stage.startswith(f"{stage}-")]

    def slide_times(self, stage: str, parts: Iterable[Part]) -> list[SlideTime]:
        """The newest time of each slide of some parts."""
        wanted = set(parts)
        newest = {slide.slide_id: slide for start in self.starts_of(stage) for slide in start.slides}
        return [slide for slide_id, slide in newest.items() if self.part_of.get(slide_id) in wanted]

    @cached_property
    def num_patches(self) -> dict[str, int]:
        """By slide; none before the set of shards is finished."""
        path = self.paths.shards.manifest
        tars = read_json(path)["tars"] if path.exists() else []
        return {Path(tar["path"]).stem: tar["num_patches"] for tar in tars}

    @cached_property
    def shard_spaces(self) -> dict[str, Space]:
        """By slide: its tar and its rows."""
        return _spaces_of_slides([self.paths.shards.tar("x").parent, self.paths.shards.rows("x").parent])

    def heatmap_spaces(self, setting: Setting) -> dict[str, Space]:
        """By slide: its heatmaps and ledger rows of all epochs."""
        folders = [self.paths.heatmap(setting, 0, "x").parent.parent, self.paths.ledger / setting]
        return _spaces_of_slides(epoch for folder in folders for epoch in _children(folder) if epoch.is_dir())

    def run(self, setting: Setting) -> TrainedRun | None:
        """The training of a setting; None before its first epoch is done."""
        run = self.paths.run(setting)
        state = read_run(run)
        plan = read_plan(run.events(0))
        if state is None or not state.epoch_times or plan is None:
            return None
        growing = space_of(run.events(0).parent) + space_of(run.tensorboard)
        weights = _sum(space_of(path) for path in _weights(run))
        whole = space_of(run.root)
        fixed = Space(
            num_bytes=whole.num_bytes - growing.num_bytes - weights.num_bytes,
            num_files=whole.num_files - growing.num_files - weights.num_files,
        )
        config = read_json(run.config)
        return TrainedRun(
            state=state, config=config, draws=plan["draws"], growing=growing, weights=weights, fixed=fixed
        )

    @cached_property
    def pictures(self) -> Space:
        """The overlays, one for each drawn slide and setting."""
        return space_of(self.paths.overlay("x", "x").parent.parent)

    @cached_property
    def stage_spaces(self) -> dict[str, Space]:
        """What each stage takes by now, and `logs` and `other`."""
        paths = self.paths
        spaces = {"shards": space_of(paths.shards.root)}
        for setting in self.settings:
            spaces[f"train-{setting}"] = space_of(paths.run(setting).root)
            for stage, parts in inference_stages(setting).items():
                found = self.heatmap_spaces(setting).items()
                spaces[stage] = _sum(space for slide_id, space in found if self.part_of.get(slide_id) in parts)
        spaces["tables"] = space_of(paths.tables) + space_of(paths.sections) + self.pictures
        spaces["logs"] = space_of(paths.logs)
        whole, known = space_of(paths.root), _sum(spaces.values())
        spaces["other"] = Space(
            num_bytes=whole.num_bytes - known.num_bytes, num_files=whole.num_files - known.num_files
        )
        return spaces


def inference_stages(setting: Setting) -> dict[str, tuple[Part, ...]]:
    """The two inferences of a setting in a whole study, and their parts."""
    validation, test = (Part.VALIDATION_1, Part.VALIDATION_2), (Part.TEST,)
    return {inference_stage(setting, validation, "best"): validation, inference_stage(setting, test, "chosen"): test}


def read_probe(root: Path) -> Probe:
    """Read a study.

    Raises:
        ConfigurationError: the folder is no study.
        ManifestError: its manifest has faults by now.
    """
    paths = StudyPaths(root)
    return Probe(paths=paths, manifest=open_study(root), starts=tuple(read_starts(paths.logs)))


def read_starts(logs: Path) -> list[Start]:
    """All starts with their slides; a start that was killed has no line of usage, and is none."""
    starts = []
    for log in sorted(logs.rglob("*_log.out")):
        slides: list[re.Match[str]] = []
        with log.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(_START_OF_JOB):
                    slides.clear()
                elif match := _SLIDE_LINE.match(line):
                    slides.append(match)
                elif line.startswith(PREFIX):
                    usage = parse_usage(line)
                    if usage is None:
                        print(f"note: {log}: left out a line of usage that cannot be read: {line[:80]!r}")
                    else:
                        starts.append(Start(usage=usage, slides=tuple(_slide_times(slides, usage))))
                    slides.clear()
    return starts


def _slide_times(lines: Iterable[re.Match[str]], usage: Usage) -> Iterable[SlideTime]:
    """Those that were done from their file on; neither failed, nor done before, nor from heatmaps that were there."""
    at_once = 1
    if usage.stage == "shards":
        at_once = max(1, min(usage.num_cpus, usage.num_slides or 1))
    for line in lines:
        seconds, reading, epochs = (pattern.search(line["text"]) for pattern in (_SECONDS, _READING, _EPOCHS))
        if seconds is not None and not line["text"].lower().startswith("failed"):
            yield SlideTime(
                slide_id=line["slide_id"],
                seconds=float(seconds[1]) / at_once,
                read_s=float(reading[1]) if reading else 0.0,
                num_epochs=int(epochs[1]) if epochs else 1,
            )


def space_of(path: Path) -> Space:
    """Of a file, or of a folder with all that is in it; nothing where there is none."""
    if not path.is_dir():
        return Space(num_bytes=path.stat().st_size, num_files=1) if path.exists() else Space()
    num_bytes, num_files = 0, 0
    for folder, _, names in os.walk(path):
        num_files += 1 + len(names)
        num_bytes += sum(map(_size_of, (os.path.join(folder, name) for name in names)))  # noqa: PTH118 - many
    return Space(num_bytes=num_bytes, num_files=num_files)


def _size_of(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:  # gone since it was listed
        return 0


def _spaces_of_slides(folders: Iterable[Path]) -> dict[str, Space]:
    """By slide; what a slide has in each folder is called as the slide is, up to the first dot."""
    spaces: defaultdict[str, Space] = defaultdict(Space)
    for folder in folders:
        for path in _children(folder):
            if ".partial-" not in path.name:
                spaces[path.name.partition(".")[0]] += space_of(path)
    return dict(spaces)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _weights(run: RunPaths) -> list[Path]:
    example = run.weights(0)
    return [path for path in _children(example.parent) if path.suffix == example.suffix]


def _sum(spaces: Iterable[Space]) -> Space:
    total = Space()
    for space in spaces:
        total += space
    return total
