"""Choose epoch and thresholds of every setting on Validation I and II: `python jobs/launch_select.py`."""

from dataclasses import dataclass, field
from typing import Annotated

from bccdist.configuration import SelectConfig
from bccdist.stages.table import SELECTION
from bccdist.study import manifest_of_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.stages import launch_entries


@dataclass(frozen=True, kw_only=True)
class SelectArguments(LauncherArguments):
    """Choose (epoch, t_p, t_A) of every setting whose validation heatmaps are there."""

    config: Annotated[SelectConfig, FLAT] = field(default_factory=SelectConfig)


def main(arguments: SelectArguments) -> None:
    """Submit the stage."""
    launch = arguments.launch
    launch_entries(launch, manifest_of_study(launch.study), {SELECTION: arguments.config})


if __name__ == "__main__":
    run_launcher(SelectArguments, main)
