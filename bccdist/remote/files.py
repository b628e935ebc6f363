"""What is asked of a file wherever it lies: whether it is there, how long it is, its bytes, its fingerprint."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bccdist.addresses import Location
from bccdist.errors import RemoteError
from bccdist.files import fingerprint_blocks, fingerprint_of_blocks, fingerprint_of_file, sha256_of_file
from bccdist.remote.lending import borrow_folder, borrowed, give_back_folder
from bccdist.remote.part_of_file import PartOfFile
from bccdist.remote.scratch import ScratchFolder

FOLDER_BESIDE = frozenset({".mrxs"})
"""Endings of slides whose data lie in a folder of the same name."""


def is_there(location: Location) -> bool:
    """Whether a file is there, and may be read."""
    if isinstance(location, Path):
        return location.exists()
    try:
        return size_bytes_of(location) > 0
    except RemoteError:
        return False


def size_bytes_of(location: Location) -> int:
    """How long a file is.

    Raises:
        OSError: a local file is not there.
        RemoteError: a remote one is not there, or does not answer.
    """
    if isinstance(location, Path):
        return location.stat().st_size
    with borrowed(location) as part:
        return part.size_bytes


def sha256_of(location: Location) -> str:
    """The SHA-256 of a file's bytes, as hex digits.

    Raises:
        OSError: a local file cannot be read.
        RemoteError: a remote one cannot be read.
    """
    if isinstance(location, Path):
        return sha256_of_file(location)
    return hashlib.sha256(read_bytes(location)).hexdigest()


def read_bytes(location: Location) -> bytes:
    """All bytes of a file, such as an annotation.

    Raises:
        OSError: a local file cannot be read.
        RemoteError: a remote one cannot be read.
    """
    if isinstance(location, Path):
        return location.read_bytes()
    # Not one that is held from before: who reads a table again wants what it says now.
    part = PartOfFile(location)
    try:
        return part.read(0, part.size_bytes)
    finally:
        part.close()


def fingerprint_of(location: Location) -> str:
    """The fingerprint of a file by its content: the same wherever it lies (`bccdist.files.fingerprint_of_file`).

    Raises:
        OSError: a local file cannot be read.
        RemoteError: a remote one cannot be read.
    """
    if isinstance(location, Path):
        return fingerprint_of_file(location)
    if location.suffix.lower() in FOLDER_BESIDE:
        copy = borrow_folder(location, only_below=Path(location.name).stem)
        try:
            return fingerprint_of_file(copy.path)
        finally:
            give_back_folder(copy)
    with borrowed(location) as part:
        part.need(fingerprint_blocks(part.size_bytes))
        return fingerprint_of_blocks(part.size_bytes, part.read)


@contextmanager
def local_copy(location: Location) -> Iterator[Path]:
    """A path of a small file: of a remote one that of a copy with the same name, while the context lasts.

    Raises:
        RemoteError: a remote one did not come.
    """
    if isinstance(location, Path):
        yield location
        return
    scratch = ScratchFolder()
    try:
        path = scratch.path / location.name
        path.write_bytes(read_bytes(location))
        yield path
    finally:
        scratch.close()
