"""Cut the annotated slides of a manifest into shards: `python jobs/launch_shards.py --manifest slides.csv`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from bccdist.configuration import ShardConfig
from bccdist.study import claim_study
from jobs.command_line import FLAT, LauncherArguments, run_launcher
from jobs.slurm.submission import submitting
from jobs.stages import launch_shards


@dataclass(frozen=True, kw_only=True)
class ShardsArguments(LauncherArguments):
    """Cut the slides of Training and Validation I into WebDataset shards."""

    manifest: Path = tyro.MISSING
    """slides.csv; sections.csv and kinds.toml lie beside it."""
    config: Annotated[ShardConfig, FLAT] = field(default_factory=ShardConfig)


def main(arguments: ShardsArguments) -> None:
    """Submit the stage."""
    launch = arguments.launch
    manifest = claim_study(launch.study, arguments.manifest, dry_run=launch.dry_run)
    with submitting(launch) as submitter:
        launch_shards(submitter, manifest, arguments.config, after=[])


if __name__ == "__main__":
    run_launcher(ShardsArguments, main)
