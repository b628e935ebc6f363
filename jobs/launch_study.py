"""All stages in order, for any list of settings: `python jobs/launch_study.py --manifest slides.csv`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from bccdist.configuration import (
    SETTINGS,
    InferConfig,
    SelectConfig,
    Setting,
    ShardConfig,
    SpeedupsConfig,
    TrainConfig,
)
from bccdist.errors import StageFailedError
from bccdist.parts import Part
from bccdist.stages.epochs import Epochs
from bccdist.study import claim_study
from jobs.command_line import LauncherArguments, run_launcher
from jobs.slurm.submission import Submitted, submitting
from jobs.stages import (
    Jobs,
    launch_calibration,
    launch_inference,
    launch_selection,
    launch_shards,
    launch_tables,
    launch_training,
    with_encoder_weights,
)


@dataclass(frozen=True, kw_only=True)
class StudyArguments(LauncherArguments):
    """Shards, training, validation heatmaps, selection, Test heatmaps, tables.

    Where the Test heatmaps are to be made in a way that needs a calibration, this comes after the selection, and the
    validation heatmaps are made in the paper's way, in float32.
    """

    manifest: Path = tyro.MISSING
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


def launch_study(arguments: StudyArguments) -> None:
    """Submit all stages; each waits for the ones before it.

    Slides whose heatmap fails do not keep the others from their tables.

    Raises:
        StageFailedError: something failed locally; where it was single heatmaps, after everything else is done.
    """
    launch = arguments.launch
    before_calibration = arguments.infer.without_speedups
    train = with_encoder_weights(arguments.train, arguments.settings)
    manifest = claim_study(launch.study, arguments.manifest, dry_run=launch.dry_run)
    failed: list[StageFailedError] = []
    with submitting(launch) as submitter:

        def infer(
            setting: Setting, parts: Sequence[Part], epochs: Epochs, config: InferConfig, after: Jobs
        ) -> list[Submitted]:
            try:
                return launch_inference(submitter, manifest, setting, parts, epochs, config, after=after)
            except StageFailedError as error:
                failed.append(error)
                return []

        cut = launch_shards(submitter, manifest, arguments.shards, after=[])
        validated: list[Submitted] = []
        for setting in arguments.settings:
            trained = launch_training(submitter, setting, train, after=cut)
            validated += infer(setting, (Part.VALIDATION_1, Part.VALIDATION_2), "best", before_calibration, trained)
        selected = launch_selection(submitter, arguments.select, after=validated)
        tested: list[Submitted] = []
        for setting in arguments.settings:
            ready = selected
            if arguments.infer.needs_speedups:
                ready = launch_calibration(submitter, manifest, setting, arguments.calibrate, after=selected)
            tested += infer(setting, (Part.TEST,), "chosen", arguments.infer, ready)
        launch_tables(submitter, manifest, after=tested)
    if failed:
        raise StageFailedError("\n".join(map(str, failed)))


if __name__ == "__main__":
    run_launcher(StudyArguments, launch_study, train_field="train")
