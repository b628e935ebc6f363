"""Tables 3 to 5, section verdicts and overlay pictures of a study: `python jobs/launch_tables.py`."""

from jobs.command_line import LauncherArguments, run_launcher
from jobs.stages import launch_tables


def main(arguments: LauncherArguments) -> None:
    """Submit the stage."""
    launch_tables(arguments.launch, after=[])


if __name__ == "__main__":
    run_launcher(LauncherArguments, main)
