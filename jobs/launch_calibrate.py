"""What faster inference changes, measured on Validation I: `python jobs/launch_calibrate.py --setting resnet34_ds`."""

from dataclasses import dataclass, field
from typing import Annotated

from bccdist.configuration import Setting, SpeedupsConfig
from bccdist.study import open_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.slurm.submission import submitting
from jobs.stages import launch_calibration


@dataclass(frozen=True, kw_only=True)
class CalibrateArguments(LauncherArguments):
    """Measure every way of inference of the chosen epoch, so that `auto` may take the fastest sound one."""

    setting: Setting = "resnet34_ds"
    """unet, resnet34, resnet34_ds (deep supervision) or resnet34_linear (linear merge)."""
    config: Annotated[SpeedupsConfig, FLAT] = field(default_factory=SpeedupsConfig)


def main(arguments: CalibrateArguments) -> None:
    """Submit the stage."""
    manifest = open_study(arguments.launch.study)
    with submitting(arguments.launch) as submitter:
        launch_calibration(submitter, manifest, arguments.setting, arguments.config, after=[])


if __name__ == "__main__":
    run_launcher(CalibrateArguments, main)
