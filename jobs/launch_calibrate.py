"""What faster inference changes, on Validation I and II: `python jobs/launch_calibrate.py --setting resnet34_ds`."""

from dataclasses import dataclass, field
from typing import Annotated

from bccdist.configuration import Setting, SpeedupsConfig
from bccdist.stages.table import SPEEDUPS
from bccdist.study import manifest_of_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.stages import launch_entries


@dataclass(frozen=True, kw_only=True)
class SpeedupsArguments(LauncherArguments):
    """Measure every way of inference of the chosen epoch on Validation I and II.

    Then auto may take the fastest that changes no verdict, and verdicts may be certified. All ways are timed on
    --max-slides slides of Validation I, which takes most of the time; the fastest of each kind then goes over all
    other slides of both parts. Exact heatmaps of Validation that are there are not computed again. The log says what
    comes, what each way took and how long the rest will take.
    """

    setting: Setting = "resnet34_ds"
    """unet, resnet34, resnet34_ds (deep supervision) or resnet34_linear (linear merge)."""
    config: Annotated[SpeedupsConfig, FLAT] = field(default_factory=SpeedupsConfig)


def main(arguments: SpeedupsArguments) -> None:
    """Submit the stage."""
    launch = arguments.launch
    launch_entries(launch, manifest_of_study(launch.study), {SPEEDUPS: arguments.config}, [arguments.setting])


if __name__ == "__main__":
    run_launcher(SpeedupsArguments, main)
