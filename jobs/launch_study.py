"""All stages in order, for any list of settings: `python jobs/launch_study.py --manifest slides.csv`."""

from dataclasses import dataclass, field

import tyro

from bccdist.configuration import (
    SETTINGS,
    InferConfig,
    SelectConfig,
    Setting,
    ShardConfig,
    SpeedupsConfig,
    StageConfig,
    TrainConfig,
)
from bccdist.sections.labels import read_corrections, sections_of_today
from bccdist.stages.requirements import lacks_of_files, lacks_of_manifest, reading_annotations
from bccdist.stages.stage import Stage
from bccdist.stages.table import (
    FINISH_SHARDS,
    SELECTION,
    SHARDS,
    SPEEDUPS,
    TABLES,
    TEST_HEATMAPS,
    TRAINING,
    VALIDATION_HEATMAPS,
    stages_of,
)
from bccdist.study import claim_study
from jobs.command_line import LauncherArguments, run_launcher
from jobs.given_manifest import FetchedForStudy, GivenManifest
from jobs.stages import launch_entries


@dataclass(frozen=True, kw_only=True)
class StudyArguments(LauncherArguments):
    """Shards, training, validation heatmaps, selection, Test heatmaps, tables.

    Where the Test heatmaps are to be made in a way that needs the speed-up record, this is measured after the
    selection, and the validation heatmaps are made in the paper's way, in float32.
    """

    manifest: GivenManifest = tyro.MISSING
    """slides.csv; sections.csv and kinds.toml lie beside it."""
    settings: tuple[Setting, ...] = SETTINGS
    """Any of the paper's four."""
    preset: str | None = None
    """Where the flags of training start from: paper (to the letter, in plain float32) or quick (for trials)."""
    shards: ShardConfig = field(default_factory=ShardConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    infer: InferConfig = field(default_factory=InferConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    calibrate: SpeedupsConfig = field(default_factory=SpeedupsConfig)

    @property
    def entries(self) -> dict[Stage, StageConfig | None]:
        """The stages of the study in their order, each with its configuration."""
        return {
            SHARDS: self.shards,
            FINISH_SHARDS: self.shards,
            TRAINING: self.train,
            VALIDATION_HEATMAPS: self.infer.without_speedups,
            SELECTION: self.select,
            **({SPEEDUPS: self.calibrate} if self.infer.needs_speedups else {}),
            TEST_HEATMAPS: self.infer,
            TABLES: None,
        }


def launch_study(arguments: StudyArguments) -> None:
    """Submit all stages; each waits for the ones before it.

    Slides whose heatmap fails do not keep the others from their tables.

    Raises:
        ConfigurationError: something that a stage needs is lacking; it names all of it, and nothing was done.
        StageFailedError: something failed locally; where it was single heatmaps, after everything else is done.
    """
    launch = arguments.launch
    with FetchedForStudy(launch.study, arguments.manifest, dry_run=launch.dry_run) as fetched:
        manifest = claim_study(launch.study, fetched.path, dry_run=True)
        labels = sections_of_today(manifest, read_corrections(launch.paths))
        tumor_in = reading_annotations(manifest, arguments.shards, launch.paths)
        lacks = lacks_of_manifest(manifest, tumor_in, labels=labels)
        lacks += lacks_of_files(manifest, launch.paths, stages_of(arguments.entries, arguments.settings))
        launch_entries(launch, manifest, arguments.entries, arguments.settings, lacks=lacks, begin=fetched.keep)


if __name__ == "__main__":
    run_launcher(StudyArguments, launch_study, train_field="train")
