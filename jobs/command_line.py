"""Command lines from dataclasses: flags to configuration, one clear message for what is wrong."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from bccdist.errors import BccdistError
from jobs.cluster import ClusterConfig, read_site
from jobs.stages import Launch

FLAT = tyro.conf.arg(name="")
"""Marks a nested configuration whose flags carry no prefix."""
Arguments = TypeVar("Arguments", bound="LauncherArguments")


@dataclass(frozen=True, kw_only=True)
class LauncherArguments:
    """The flags that all launchers share."""

    study: Path = Path("studies/default")
    """Folder of the study: the outputs of all its stages."""
    cluster: Annotated[ClusterConfig, FLAT] = field(default_factory=ClusterConfig)

    @property
    def launch(self) -> Launch:
        """What the stages need of it; absolute, because jobs run in other folders."""
        return Launch(study=self.study.resolve(), cluster=self.cluster)


def run_launcher(kind: type[Arguments], main: Callable[[Arguments], object]) -> None:
    """Parse the command line into `kind` and call `main`; an error that the user can act on is one message.

    A site file, named with --site, gives the defaults of the cluster's flags.
    """
    try:
        site = _site_on_command_line(sys.argv[1:])
        default = kind(cluster=read_site(site) if site else ClusterConfig())
        main(tyro.cli(kind, default=default))
    except BccdistError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; what is done stays done, and the same command goes on from there")


def _site_on_command_line(words: list[str]) -> str | None:
    for position, word in enumerate(words):
        if word == "--site" and position + 1 < len(words):
            return words[position + 1]
        if word.startswith("--site="):
            return word.removeprefix("--site=")
    return None
