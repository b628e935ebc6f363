"""Copy results to object storage: `python jobs/launch_copy_out.py --study S --to s3://bucket/prefix`."""

from collections.abc import Iterator
from dataclasses import dataclass

import tyro

from bccdist.configuration import CopyOutConfig, Results
from bccdist.errors import RemoteError
from bccdist.remote.target import Target, parse_target
from bccdist.slides.manifest import Manifest
from bccdist.stages.copy_out import list_results, outdated_among, refusal, refuse_target_inside
from bccdist.stages.table import COPY_OUT
from bccdist.study import manifest_of_study
from jobs.command_line import LauncherArguments, run_launcher
from jobs.slurm.submission import Launch
from jobs.stages import launch_entries


@dataclass(frozen=True, kw_only=True)
class CopyOutArguments(LauncherArguments):
    """Copy heatmaps, tables and report out of the study, each read back; launched again it goes on where it ended."""

    to: str = tyro.MISSING
    """Where to: s3://bucket/prefix, or whatever else fsspec can write to; file:///folder is one, too."""
    what: tuple[Results, ...] = CopyOutConfig.what
    """Any of heatmaps, tables, and report with its pictures."""
    even_out_of_date: bool = False
    """Copy what is out of date, too, which is refused else; the list at the target says so."""


def main(arguments: CopyOutArguments) -> None:
    """Submit the stage.

    Raises:
        ConfigurationError: there is nothing to copy, or the target is none or cannot be written to. Nothing was done.
    """
    launch = arguments.launch
    config = CopyOutConfig(to=arguments.to, what=arguments.what, even_out_of_date=arguments.even_out_of_date)
    refuse_target_inside(launch.paths, config)
    manifest = manifest_of_study(launch.study)
    launch_entries(launch, manifest, {COPY_OUT: config}, lacks=[*_lacks(launch, config, manifest)])


def _lacks(launch: Launch, config: CopyOutConfig, manifest: Manifest) -> Iterator[str]:
    if not list_results(launch.paths, config.what)[0]:
        yield f"{launch.study}: there is nothing to copy of {', '.join(config.what)} yet"
    if (outdated := outdated_among(launch.paths, manifest, config.what)) and not config.even_out_of_date:
        yield refusal(launch.paths, outdated)
        # The target is asked by writing to it, which makes its folder.
        return
    if launch.dry_run:
        return
    try:
        Target(parse_target(config.to)).check_writable()
    except RemoteError as error:
        yield str(error)


if __name__ == "__main__":
    run_launcher(CopyOutArguments, main)
