"""Tables, section verdicts, pictures and report of a study: `python jobs/launch_tables.py`."""

from bccdist.stages.table import TABLES
from bccdist.study import manifest_of_study
from jobs.command_line import LauncherArguments, run_launcher
from jobs.stages import launch_entries


def main(arguments: LauncherArguments) -> None:
    """Submit the stage."""
    launch = arguments.launch
    launch_entries(launch, manifest_of_study(launch.study), {TABLES: None})


if __name__ == "__main__":
    run_launcher(LauncherArguments, main)
