"""The manifest that a command is given: a path, or an address from which it is fetched."""

from pathlib import Path
from typing import Annotated

import tyro

from bccdist.addresses import Address, Location, is_address, parse_address
from bccdist.parts import Part
from bccdist.remote.scratch import ScratchFolder
from bccdist.slides.fetched_manifest import fetched_manifest

FETCHED = "fetched"
"""Folder of a study for the manifest that was fetched for it."""


def _location(words: list[str]) -> Location:
    return parse_address(words[0]) if is_address(words[0]) else Path(words[0])


GivenManifest = Annotated[
    Location,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH|ADDRESS",
        instance_from_str=_location,
        is_instance=lambda given: isinstance(given, Path | Address),
        str_from_instance=lambda given: [str(given)],
    ),
]
"""Of slides.csv."""


def manifest_for(study_root: Path, given: Location, *, dry_run: bool) -> Path:
    """The manifest of a study; a fetched one lies in the study's folder, and is fetched anew at each launch.

    In a dry run, which writes nothing there, it is that of this command alone.

    Raises:
        ManifestError: a fetched one has faults.
        RemoteError: it did not come.
    """
    return for_this_run(given) if dry_run else fetched_manifest(given, study_root / FETCHED)


def for_this_run(given: Location, *, all_in: Part | None = None) -> Path:
    """The path of a manifest for one command; a fetched one goes when the command ends.

    Args:
        given: of slides.csv.
        all_in: the part of all its slides, whatever its rows say; None is what they say.

    Raises:
        ManifestError: a fetched one has faults.
        RemoteError: it did not come.
    """
    return given if isinstance(given, Path) else fetched_manifest(given, ScratchFolder().path, all_in=all_in)
