"""Tars as WebDataset knows them: byte for byte what `webdataset.TarWriter` writes, without importing torch for it.

Headers are the standard library's. Its `TarFile.addfile` is not used: it copies every content twice, and does not say
where a member begins.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shards.patches import CodedPatch

TAR_OWNER = "bccdist"
TAR_MODE = 0o444
_LONGEST_PLAIN_NAME = 100
Row = dict[str, Any]
"""The columns of one patch."""


class Member(NamedTuple):
    """The place of one member's content in its tar."""

    offset: int
    num_bytes: int


def write_tar(path: Path, samples: Iterable[CodedPatch], extensions: Mapping[str, str]) -> tuple[list[Row], str]:
    """Write samples to a tar; equal samples give equal bytes, as no time and no user enters.

    Args:
        path: of the tar.
        samples: in their order.
        extensions: of each member, by the name that its columns begin with.

    Returns:
        The rows of the samples, with the offsets of their members, and the tar's SHA-256.
    """
    rows: list[Row] = []
    digest = hashlib.sha256()
    with path.open("wb") as file:

        def write(data: bytes) -> None:
            file.write(data)
            digest.update(data)

        for sample in samples:
            # By extension, as WebDataset writes them, whatever their order here.
            offsets = {}
            for extension in sorted(sample.members):
                content = sample.members[extension]
                write(_header(f"{sample.key}.{extension}", len(content)))
                offsets[extension] = file.tell()
                write(content)
                write(bytes(-len(content) % tarfile.BLOCKSIZE))
            places = {f"{name}_offset": offsets[extension] for name, extension in extensions.items()}
            rows.append({**sample.row, **places})
        # Two empty blocks end a tar, and readers expect whole records.
        end = 2 * tarfile.BLOCKSIZE
        write(bytes(end + -(file.tell() + end) % tarfile.RECORDSIZE))
    return rows, digest.hexdigest()


def _header(name: str, num_bytes: int) -> bytes:
    """What stands before the content of a member."""
    member = tarfile.TarInfo(name)
    member.size = num_bytes
    member.mtime = 0
    member.mode = TAR_MODE
    member.uname = member.gname = TAR_OWNER
    # Of short names both formats make the same bytes, and ustar takes half the time.
    return member.tobuf(tarfile.USTAR_FORMAT if len(name) <= _LONGEST_PLAIN_NAME else tarfile.PAX_FORMAT)


def members_of(path: Path) -> dict[str, Member]:
    """The members of a tar by name.

    Raises:
        tarfile.TarError: the file is no tar, or is cut off.
    """
    with tarfile.open(path, "r:") as tar:
        return {member.name: Member(member.offset_data, member.size) for member in tar}
