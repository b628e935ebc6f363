"""Cut the annotated slides of a manifest into shards: `python jobs/launch_shards.py --manifest slides.csv`."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from bccdist.configuration import ShardConfig
from bccdist.stages.requirements import lacks_of_files
from bccdist.stages.table import FINISH_SHARDS, SHARDS
from bccdist.study import claim_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.given_manifest import FetchedForStudy, GivenManifest
from jobs.stages import launch_entries


@dataclass(frozen=True, kw_only=True)
class ShardsArguments(LauncherArguments):
    """Cut the slides of Training and Validation I into WebDataset shards."""

    manifest: GivenManifest = tyro.MISSING
    """slides.csv; sections.csv and kinds.toml lie beside it."""
    config: Annotated[ShardConfig, FLAT] = field(default_factory=ShardConfig)


def main(arguments: ShardsArguments) -> None:
    """Submit the stage."""
    launch = arguments.launch
    with FetchedForStudy(launch.study, arguments.manifest, dry_run=launch.dry_run) as fetched:
        manifest = claim_study(launch.study, fetched.path, dry_run=True)
        entries = {SHARDS: arguments.config, FINISH_SHARDS: arguments.config}
        lacks = lacks_of_files(manifest, launch.paths, entries)
        launch_entries(launch, manifest, entries, lacks=lacks, begin=fetched.keep)


if __name__ == "__main__":
    run_launcher(ShardsArguments, main)
