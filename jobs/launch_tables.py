"""Tables 3 to 5, section verdicts and overlay pictures of a study: `python jobs/launch_tables.py`."""

from bccdist.study import open_study
from jobs.command_line import LauncherArguments, run_launcher
from jobs.slurm.submission import submitting
from jobs.stages import launch_tables


def main(arguments: LauncherArguments) -> None:
    """Submit the stage."""
    manifest = open_study(arguments.launch.study)
    with submitting(arguments.launch) as submitter:
        launch_tables(submitter, manifest, after=[])


if __name__ == "__main__":
    run_launcher(LauncherArguments, main)
