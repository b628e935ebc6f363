"""Train one setting: `python jobs/launch_train.py --setting resnet34_ds --partition gpu`."""

from dataclasses import dataclass, field
from typing import Annotated

from bccdist.configuration import Setting, TrainConfig
from bccdist.study import open_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.slurm.submission import submitting
from jobs.stages import launch_training, with_encoder_weights


@dataclass(frozen=True, kw_only=True)
class TrainArguments(LauncherArguments):
    """Train one of the paper's four settings on a study's shards."""

    setting: Setting = "resnet34_ds"
    """unet, resnet34, resnet34_ds (deep supervision) or resnet34_linear (linear merge)."""
    preset: str | None = None
    """Where the flags of training start from: paper (to the letter, in plain float32) or quick (for trials)."""
    config: Annotated[TrainConfig, FLAT] = field(default_factory=TrainConfig)


def main(arguments: TrainArguments) -> None:
    """Submit the stage."""
    config = with_encoder_weights(arguments.config, [arguments.setting])
    open_study(arguments.launch.study)
    with submitting(arguments.launch) as submitter:
        launch_training(submitter, arguments.setting, config, after=[])


if __name__ == "__main__":
    run_launcher(TrainArguments, main, train_field="config")
