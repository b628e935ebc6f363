"""The manifest that a command is given: a path, or an address from which it is fetched."""

from pathlib import Path
from typing import Annotated, Self

import tyro

from bccdist.addresses import Address, Location, is_address, parse_address
from bccdist.files import write_bytes
from bccdist.parts import Part
from bccdist.paths import StudyPaths
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


class FetchedForStudy:
    """The manifest of a launch; of one that is refused nothing stays of what was fetched for it."""

    def __init__(self, study_root: Path, given: Location, *, dry_run: bool) -> None:
        """Fetch it, where it lies on a server, into the study's folder; in a dry run for this command alone.

        Raises:
            ManifestError: a fetched one has faults.
            RemoteError: it did not come.
        """
        self._study, self._folder = StudyPaths(study_root).study, study_root / FETCHED
        self._is_fetched, self._has_begun = not dry_run and isinstance(given, Address), False
        self._before = {path: path.read_bytes() for path in self._folder.glob("*") if path.is_file()}
        self._new = [each for each in (self._folder, *self._folder.parents) if not each.exists()]
        try:
            self.path = for_this_run(given) if dry_run else fetched_manifest(given, self._folder)
        except BaseException:
            self._give_back()
            raise

    def keep(self) -> None:
        """It is the study's from now on, as the launch begins."""
        self._has_begun = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A launch that began and came to nothing forgets its study.
        if kind is not None and not (self._has_begun and self._study.exists()):
            self._give_back()

    def _give_back(self) -> None:
        """Have the folder as it was: another manifest there would be the study's without a launch."""
        if not self._is_fetched:
            return
        for path in self._folder.glob("*"):
            if path not in self._before:
                path.unlink()
        for path, content in self._before.items():
            write_bytes(path, content)
        for folder in self._new:
            # The study's folder may hold more by now, such as the lock of launches.
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


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
