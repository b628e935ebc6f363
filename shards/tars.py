"""Tars as WebDataset knows them: byte for byte what `webdataset.TarWriter` writes, without importing torch for it.

Headers are the standard library's, with name, size and checksum filled in. Its `TarFile.addfile` is not used: it
copies every content twice, and does not say where a member begins.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from shards.patches import CodedPatch

TAR_OWNER = "bccdist"
TAR_MODE = 0o444
_LONGEST_PLAIN_NAME = 100
_MOST_PLAIN_BYTES = 8**11 - 1
_SIZE_FIELD, _CHECKSUM_FIELD = slice(124, 136), slice(148, 156)
_CHECKSUM_BLANK = b" " * 8
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
    if len(name) > _LONGEST_PLAIN_NAME or not name.isascii() or num_bytes > _MOST_PLAIN_BYTES:
        return _member(name, num_bytes).tobuf(tarfile.PAX_FORMAT)
    # Of short names both formats make the same bytes, which differ in three fields. To have the library make all of
    # them takes ten times as long, 3 % of the time of building patches.
    header = bytearray(_plain_header())
    header[: len(name)] = name.encode()
    header[_SIZE_FIELD] = b"%011o\0" % num_bytes
    header[_CHECKSUM_FIELD] = _CHECKSUM_BLANK
    header[_CHECKSUM_FIELD] = b"%06o\0 " % sum(header)
    return bytes(header)


@cache
def _plain_header() -> bytes:
    return _member("", 0).tobuf(tarfile.USTAR_FORMAT)


def _member(name: str, num_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = num_bytes
    member.mtime = 0
    member.mode = TAR_MODE
    member.uname = member.gname = TAR_OWNER
    return member


def members_of(path: Path) -> dict[str, Member]:
    """The members of a tar by name.

    Raises:
        tarfile.TarError: the file is no tar, or is cut off.
    """
    with tarfile.open(path, "r:") as tar:
        return {member.name: Member(member.offset_data, member.size) for member in tar}
