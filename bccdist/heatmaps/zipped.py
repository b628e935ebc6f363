"""Zipped OME-Zarr (OME-NGFF RFC-9): one file instead of a folder of them, for file systems that count files.

Every `zarr.json` comes first, the root's at the head, then the shards; nothing is compressed a second time. Names
are sorted and times fixed, so equal folders give equal files.

Damage is found without reading all of a file: the directory at its end is sealed (`bccdist.seals`), so that no entry
can be lost or renamed, which zarr would take for zeros; the directory holds a sum of each entry, by which those that
are read whole are checked; and ranges are chunks and their indices, which zarr wrote with sums of their own.
"""

import asyncio
import io
import json
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import IO, cast
from zipfile import ZIP_STORED, BadZipFile, ZipFile

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ZipStore

from bccdist.errors import HeatmapError
from bccdist.files import stored_entry
from bccdist.seals import BLANK_SEAL, SEAL_KEY, check_seal, say_unsealed, sealed

SUFFIX = ".ozx"
_METADATA_NAME = "zarr.json"
_COPY_BYTES = 1 << 20
_DIRECTORY_ENTRY = b"PK\x01\x02"
"""What an entry of the directory begins with."""
_LOCAL_HEADER_BYTES = 30
"""Bytes of an entry before its name; the last two numbers are the lengths of the name and of what follows it."""


def pack_folder(folder: Path, path: Path, *, ngff_version: str) -> None:
    """Write the OME-Zarr in `folder` to the new file `path`; one megabyte of it is held in memory.

    Args:
        folder: its files become the entries; empty folders are left out.
        path: where the file will be.
        ngff_version: of the metadata; it is named in the file's comment.

    Raises:
        FileExistsError: there is something at `path`.
    """
    # Metadata first: who reads over a network has all of it with the file's first bytes.
    names = sorted(
        (PurePosixPath(file.relative_to(folder).as_posix()) for file in folder.rglob("*") if file.is_file()),
        key=lambda name: (name.name != _METADATA_NAME, len(name.parts), name.parts),
    )
    about_file = {"version": ngff_version, "zipFile": {"centralDirectory": {"jsonFirst": True}}}
    with ZipFile(path, "x") as archive:
        archive.comment = json.dumps({"ome": about_file, SEAL_KEY: BLANK_SEAL}).encode()
        for name in names:
            # RFC-9 asks for Zip64 whatever the size.
            with (
                (folder / name).open("rb") as source,
                archive.open(stored_entry(str(name)), "w", force_zip64=True) as entry,
            ):
                shutil.copyfileobj(source, entry, _COPY_BYTES)
    _seal_directory(path)


def _seal_directory(path: Path) -> None:
    with path.open("r+b") as file:
        with ZipFile(file) as archive:
            start = archive.start_dir
        file.seek(start)
        directory = sealed(file.read())
        file.seek(start)
        file.write(directory)


def check_zipped(path: Path, *, advice: str) -> None:
    """Compare a file's directory with its seal; a file of before, which has none, is read whole to check its sums.

    Args:
        path: of the file.
        advice: what to do about a damaged one.

    Raises:
        HeatmapError: it is damaged.
        BadZipFile: it is no zip.
        FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file, ZipFile(file) as archive:
        file.seek(archive.start_dir)
        directory = io.BytesIO(file.read())
        if check_seal(path, directory, error=HeatmapError, advice=advice):
            return
        say_unsealed(path)
        # A damaged length can hide the entries behind it, and zarr takes what is not there for zeros.
        if directory.getvalue().count(_DIRECTORY_ENTRY) != len(archive.infolist()):
            raise BadZipFile("its directory has entries that cannot be read")
        if damaged := archive.testzip():
            raise BadZipFile(f"{damaged} has another CRC than was written")


class ZippedStore(ZipStore):
    """A store of zarr's for reading that goes straight to the range that is asked for.

    `zipfile` before Python 3.13 reads an entry from its start to reach a range in it: for every chunk, half a shard.
    Inheritance, because a zarr store has twenty methods and one of them is wanted otherwise.
    """

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes of an entry, or a range of them; None where there is no such entry.

        Raises:
            OSError: the file ends before the range does.
        """
        if byte_range is None or not self._is_stored(key):
            return await super().get(key, prototype, byte_range)
        return prototype.buffer.from_bytes(await asyncio.to_thread(self._read_range, key, byte_range))

    def _is_stored(self, key: str) -> bool:
        """Whether there is such an entry, and uncompressed, as one may not be that another program packed."""
        try:
            return self._zf.getinfo(key).compress_type == ZIP_STORED
        except KeyError:
            return False

    def _read_range(self, key: str, byte_range: ByteRequest) -> bytes:
        """`pread` keeps no position, so threads and forked processes do not disturb one another."""
        descriptor, entry = cast("IO[bytes]", self._zf.fp).fileno(), self._zf.getinfo(key)
        header = os.pread(descriptor, _LOCAL_HEADER_BYTES, entry.header_offset)
        # Not from the directory at the file's end: Zip64's field, which lies before the data, may be shorter there.
        name_bytes, extra_bytes = (int.from_bytes(header[start : start + 2], "little") for start in (26, 28))
        begin = entry.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
        start, end = _bounds(byte_range, entry.file_size)
        data = os.pread(descriptor, end - start, begin + start)
        if len(data) != end - start:
            raise OSError(
                f"{self.path}: {key} has {len(data)} of {end - start} bytes from {start}; the file is damaged"
            )
        return data


def _bounds(byte_range: ByteRequest, size_bytes: int) -> tuple[int, int]:
    """First byte and the one past the last, within an entry of `size_bytes`."""
    if isinstance(byte_range, RangeByteRequest):
        return min(byte_range.start, size_bytes), min(byte_range.end, size_bytes)
    if isinstance(byte_range, OffsetByteRequest):
        return min(byte_range.offset, size_bytes), size_bytes
    return max(0, size_bytes - byte_range.suffix), size_bytes
