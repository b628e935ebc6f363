"""Choose epoch and thresholds of every setting on Validation I and II: `python jobs/launch_select.py`."""

from dataclasses import dataclass, field
from typing import Annotated

from bccdist.configuration import SelectConfig
from bccdist.study import open_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.slurm.submission import submitting
from jobs.stages import launch_selection


@dataclass(frozen=True, kw_only=True)
class SelectArguments(LauncherArguments):
    """Choose (epoch, t_p, t_A) of every setting whose validation heatmaps are there."""

    config: Annotated[SelectConfig, FLAT] = field(default_factory=SelectConfig)


def main(arguments: SelectArguments) -> None:
    """Submit the stage."""
    open_study(arguments.launch.study)
    with submitting(arguments.launch) as submitter:
        launch_selection(submitter, arguments.config, after=[])


if __name__ == "__main__":
    run_launcher(SelectArguments, main)
