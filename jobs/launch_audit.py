"""Audit the annotations: `python jobs/launch_audit.py --study S --setting resnet34_linear --folds 3`."""

from dataclasses import dataclass, field, replace
from typing import Annotated

from bccdist.configuration import Setting, StageConfig, TrainConfig
from bccdist.errors import ConfigurationError, ShardError
from bccdist.shard_set.folds import claim_folds, deal_folds, difference_to
from bccdist.shard_set.index import read_set
from bccdist.stages.stage import Stage
from bccdist.stages.table import AUDIT, AUDIT_TRAINING
from bccdist.study import manifest_of_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.stages import launch_entries


@dataclass(frozen=True, kw_only=True)
class AuditArguments(LauncherArguments):
    """Find training annotations that contradict networks which never saw their patient.

    One training for each fold of Training's patients, without their slides; then each slide is compared with what the
    network of its own fold says of it. `python jobs/review.py STUDY --reviewer NAME --audit SETTING` shows it.
    """

    setting: Setting = "resnet34_linear"
    """unet, resnet34, resnet34_ds (deep supervision) or resnet34_linear (linear merge)."""
    folds: int = 3
    """Number of folds, at most as many as Training has patients."""
    preset: str | None = None
    """Where the flags of training start from: paper (to the letter, in plain float32) or quick (for trials)."""
    config: Annotated[TrainConfig, FLAT] = field(default_factory=TrainConfig)

    @property
    def entries(self) -> dict[Stage, StageConfig | None]:
        """The stages in their order: the fold's trainings, then the comparison."""
        trainings = {replace(AUDIT_TRAINING, fold=fold): self.config for fold in range(1, self.folds + 1)}
        return {**trainings, AUDIT: None}


def main(arguments: AuditArguments) -> None:
    """Submit the stages.

    Raises:
        ConfigurationError: the shard set is not finished, Training has too few patients, or an audit that is there was
            begun with other folds. Nothing was done.
    """
    launch = arguments.launch
    manifest = manifest_of_study(launch.study)
    path = launch.paths.audit(arguments.setting).folds
    try:
        folds = deal_folds(read_set(launch.paths.shards.root), manifest, arguments.folds)
    except ShardError as error:
        raise ConfigurationError(f"an audit needs the study's patches: {error}") from error

    difference = difference_to(path, folds)
    launch_entries(
        launch,
        manifest,
        arguments.entries,
        [arguments.setting],
        lacks=[difference] if difference else [],
        begin=lambda: claim_folds(path, folds),
    )


if __name__ == "__main__":
    run_launcher(AuditArguments, main, train_field="config")
