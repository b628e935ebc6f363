"""Command lines from dataclasses: flags to configuration, one clear message for what is wrong."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from bccdist.addresses import without_secrets
from bccdist.command import run_command
from bccdist.files import as_given
from bccdist.presets import preset_named
from bccdist.study import refuse_address
from bccdist.surroundings import require_folder
from jobs.slurm.sites import ClusterConfig, read_site
from jobs.slurm.submission import Launch

FLAT = tyro.conf.arg(name="")
"""Marks a nested configuration whose flags carry no prefix."""
Arguments = TypeVar("Arguments", bound="LauncherArguments")


@dataclass(frozen=True, kw_only=True)
class LauncherArguments:
    """The flags that all launchers share."""

    study: Path = Path("studies/default")
    """Folder of the study: the outputs of all its stages."""
    dry_run: bool = False
    """Print what sbatch would get, and do nothing."""
    only_missing: bool = False
    """Submit only what is not done yet."""
    cluster: Annotated[ClusterConfig, FLAT] = field(default_factory=ClusterConfig)
    command: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """The words of the command line."""

    @property
    def launch(self) -> Launch:
        """What the stages need of it; absolute, because jobs run in other folders.

        Raises:
            ConfigurationError: the study is an address.
        """
        refuse_address(self.study)
        return Launch(
            study=as_given(self.study),
            cluster=self.cluster,
            dry_run=self.dry_run,
            only_missing=self.only_missing,
            command=self.command,
        )


@dataclass(frozen=True, kw_only=True)
class _WithoutTraining(ClusterConfig):
    """What the help of a launcher that trains nothing shows; it takes all flags, so that one line serves them all."""

    nodes: Annotated[int, tyro.conf.Suppress] = ClusterConfig.nodes
    min_nodes: Annotated[int | None, tyro.conf.Suppress] = ClusterConfig.min_nodes
    ranks_per_node: Annotated[int | None, tyro.conf.Suppress] = ClusterConfig.ranks_per_node


def run_launcher(
    kind: type[Arguments], main: Callable[[Arguments], object], *, train_field: str | None = None
) -> None:
    """Parse the command line into `kind` and call `main`.

    A site file, named with --site, gives the defaults of the cluster's flags; a preset, named with --preset, those of
    training, where `train_field` says which field of `kind` holds them; None is a launcher that trains nothing.
    """
    run_command(lambda: main(_arguments(kind, train_field)))


def _arguments(kind: type[Arguments], train_field: str | None) -> Arguments:
    require_folder()
    words = sys.argv[1:]
    site, preset = _value_on_command_line(words, "--site"), _value_on_command_line(words, "--preset")
    cluster = read_site(site) if site else ClusterConfig()
    if train_field is None and {"-h", "--help"} & {*words}:
        cluster = _WithoutTraining(**{each.name: getattr(cluster, each.name) for each in fields(cluster)})
    defaults: dict[str, Any] = {"cluster": cluster}
    if train_field is not None and preset is not None:
        defaults[train_field] = preset_named(preset)
    command = (str(as_given(Path(sys.argv[0]))), *map(without_secrets, words))
    return replace(tyro.cli(kind, default=kind(**defaults)), command=command)


def _value_on_command_line(words: list[str], flag: str) -> str | None:
    for position, word in enumerate(words):
        if word == flag and position + 1 < len(words):
            return words[position + 1]
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return None
