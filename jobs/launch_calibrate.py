"""What faster inference changes, measured on Validation I: `python jobs/launch_calibrate.py --setting resnet34_ds`."""

from dataclasses import dataclass, field
from typing import Annotated

from bccdist.configuration import Setting, SpeedupsConfig
from bccdist.stages.table import SPEEDUPS
from bccdist.study import manifest_of_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.stages import launch_entries


@dataclass(frozen=True, kw_only=True)
class SpeedupsArguments(LauncherArguments):
    """Measure every way of inference of the chosen epoch, so that `auto` may take the fastest sound one."""

    setting: Setting = "resnet34_ds"
    """unet, resnet34, resnet34_ds (deep supervision) or resnet34_linear (linear merge)."""
    config: Annotated[SpeedupsConfig, FLAT] = field(default_factory=SpeedupsConfig)


def main(arguments: SpeedupsArguments) -> None:
    """Submit the stage."""
    launch = arguments.launch
    launch_entries(launch, manifest_of_study(launch.study), {SPEEDUPS: arguments.config}, [arguments.setting])


if __name__ == "__main__":
    run_launcher(SpeedupsArguments, main)
