"""Train one setting: `python jobs/launch_train.py --setting resnet34_ds --partition gpu`."""

from dataclasses import dataclass, field
from typing import Annotated

from bccdist.configuration import Setting, TrainConfig
from bccdist.stages.table import TRAINING
from bccdist.study import manifest_of_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.stages import launch_entries


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
    launch = arguments.launch
    launch_entries(launch, manifest_of_study(launch.study), {TRAINING: arguments.config}, [arguments.setting])


if __name__ == "__main__":
    run_launcher(TrainArguments, main, train_field="config")
