"""What a study took by now: seconds, bytes and files of its slides and stages, from its records and folders alone."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bccdist.configuration import SETTINGS, Setting, read_claimed
from bccdist.files import read_json
from bccdist.models.model_file import read_model
from bccdist.parts import Part
from bccdist.paths import RunPaths, StudyPaths
from bccdist.slides.manifest import Manifest
from bccdist.stages.stage import Stage
from bccdist.stages.table import METHOD, SPEEDUPS, TABLES, TEST_HEATMAPS, stages_of
from bccdist.stages.training_pace import RunState, read_plan, read_run
from bccdist.study import manifest_of_study
from bccdist.usage import SlideTime, Start, read_starts


@dataclass(frozen=True, kw_only=True)
class Space:
    """Room on the file system."""

    num_bytes: int = 0
    num_files: int = 0
    """Files and folders: inodes."""

    def __add__(self, other: "Space") -> "Space":
        return Space(num_bytes=self.num_bytes + other.num_bytes, num_files=self.num_files + other.num_files)

    def __sub__(self, other: "Space") -> "Space":
        return Space(num_bytes=self.num_bytes - other.num_bytes, num_files=self.num_files - other.num_files)


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A training run of the probe."""

    state: RunState
    config: Mapping[str, Any]
    draws: Mapping[str, int]
    """Draws in an epoch, by pool of Table 2."""
    growing: Space
    """Events, which grow with the steps."""
    weights: Space
    """Weights of the best epochs."""
    fixed: Space
    """All else of the run's folder."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A study, as far as it has come."""

    paths: StudyPaths
    manifest: Manifest
    starts: tuple[Start, ...]

    @cached_property
    def num_slides(self) -> dict[Part, int]:
        """The number of slides, by part."""
        return {part: len(self.manifest.slides_of([part])) for part in Part}

    @cached_property
    def part_of(self) -> dict[str, Part]:
        """The part of each slide."""
        return {slide.slide_id: slide.part for slide in self.manifest.slides}

    @property
    def is_cohort(self) -> bool:
        """Whether it is a model applied to slides, of which nothing is trained or selected."""
        return self.paths.model.exists()

    @cached_property
    def settings(self) -> list[Setting]:
        """Those that were trained or are being trained, or the one of a cohort's model.

        Raises:
            ModelError: a cohort's model is damaged.
        """
        if self.is_cohort:
            return [read_model(self.paths.model).description.network.setting]
        return [setting for setting in SETTINGS if self.paths.run(setting).config.exists()]

    @cached_property
    def stages(self) -> list[Stage]:
        """The stages of a study or cohort like this: the speed-ups are among them where they were measured."""
        if self.is_cohort:
            return stages_of(dict.fromkeys((TEST_HEATMAPS, TABLES)), self.settings)
        stages = stages_of(dict.fromkeys(METHOD), self.settings)
        return [stage for stage in stages if not stage.is_like(SPEEDUPS) or self.starts_of(stage)]

    def starts_of(self, stage: Stage) -> list[Start]:
        """The starts of a stage."""
        return [start for start in self.starts if start.is_of(stage.fields)]

    def starts_like(self, stage: Stage) -> list[Start]:
        """The starts that did the same for the same setting, on whatever slides."""
        return [start for start in self.starts if start.is_like(stage.fields)]

    def slide_times(self, stage: Stage) -> list[SlideTime]:
        """The newest time of each slide of a stage's parts."""
        newest = {slide.slide_id: slide for start in self.starts_like(stage) for slide in start.slides}
        return [slide for slide_id, slide in newest.items() if self.part_of.get(slide_id) in stage.parts]

    @cached_property
    def num_patches(self) -> dict[str, int]:
        """The number of patches of each slide; none before the shard set is finished."""
        path = self.paths.shards.manifest
        tars = read_json(path)["tars"] if path.exists() else []
        return {Path(tar["path"]).stem: tar["num_patches"] for tar in tars}

    def slide_spaces(self, stage: Stage) -> dict[str, Space]:
        """What each slide of a stage's parts has in the stage's folders."""
        found = _spaces_of_slides(stage.folders_of(stage, self.paths))
        return {slide_id: space for slide_id, space in found.items() if self.part_of.get(slide_id) in stage.parts}

    def space(self, stage: Stage) -> Space:
        """What a stage takes by now."""
        if stage.is_for_each_slide and stage.setting:
            # Its folders are those of its setting's other heatmaps, too.
            return sum_of(self.slide_spaces(stage).values())
        return sum_of(space_of(path) for path in stage.folders_of(stage, self.paths))

    def run(self, setting: Setting) -> TrainedRun | None:
        """The training of a setting; None before its first epoch is done."""
        run = self.paths.run(setting)
        state = read_run(run)
        plan = read_plan(run.events(0))
        if state is None or not state.epoch_times or plan is None:
            return None
        growing = space_of(run.events(0).parent) + space_of(run.tensorboard)
        weights = sum_of(space_of(path) for path in _weights(run))
        whole = space_of(run.root)
        return TrainedRun(
            state=state,
            config=read_claimed(run.config),
            draws=plan["draws"],
            growing=growing,
            weights=weights,
            fixed=whole - growing - weights,
        )

    @cached_property
    def logs(self) -> Space:
        """Logs and records of all stages."""
        return space_of(self.paths.logs) + space_of(self.paths.usage)

    @cached_property
    def other(self) -> Space:
        """What belongs to no stage."""
        return space_of(self.paths.root) - sum_of([self.logs, *map(self.space, self.stages)])


def read_probe(root: Path) -> Probe:
    """Read a study or a cohort.

    Raises:
        ConfigurationError: the folder is no study.
        ManifestError: its manifest has faults by now.
        EventLogError: its records are damaged.
    """
    paths = StudyPaths(root)
    return Probe(paths=paths, manifest=manifest_of_study(root), starts=tuple(read_starts(paths)))


def space_of(path: Path) -> Space:
    """The room of a file, or of a folder with all that is in it; none where there is neither."""
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
    """What files of a slide's name take, by slide; the name is what stands before the first dot."""
    spaces: defaultdict[str, Space] = defaultdict(Space)
    for path, _, names in (step for folder in folders for step in os.walk(folder)):
        for name in names:
            if ".partial-" not in name:
                size = _size_of(os.path.join(path, name))  # noqa: PTH118 - many
                spaces[name.partition(".")[0]] += Space(num_bytes=size, num_files=1)
    return dict(spaces)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _weights(run: RunPaths) -> list[Path]:
    example = run.weights(0)
    return [path for path in _children(example.parent) if path.suffix == example.suffix]


def sum_of(spaces: Iterable[Space]) -> Space:
    """All of some spaces."""
    total = Space()
    for space in spaces:
        total += space
    return total
