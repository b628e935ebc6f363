"""A zipped OME-Zarr holds its folder's files as RFC-9 asks for, and gives back any range of them."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import ZipStore

from bccdist.heatmaps.zipped import ZippedStore, pack_folder

_DATA = bytes(range(256)) * 20
_FILES = {
    "psi_4/zarr.json": b"{4}",
    "psi_0/0/zarr.json": b"{00}",
    "psi_0/0/c/10/0": _DATA,
    "psi_0/0/c/2/0": b"short",
    "aside": b"",
    "zarr.json": b"{}",
    "psi_0/zarr.json": b"{0}",
}


def _pack(root: Path, name: str, files: dict[str, bytes]) -> Path:
    """Write files in the order given, then pack them."""
    for key, data in files.items():
        file = root / name / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        os.utime(file, (time.time() - len(key), time.time() - len(name)))
    (root / name / "empty").mkdir()
    pack_folder(root / name, root / f"{name}.ozx", ngff_version="0.5")
    return root / f"{name}.ozx"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _pack(tmp_path_factory.mktemp("zipped"), "a", _FILES)


def test_metadata_comes_first_from_the_root_down(packed: Path) -> None:
    with ZipFile(packed) as archive:
        assert archive.namelist() == [
            *("zarr.json", "psi_0/zarr.json", "psi_4/zarr.json", "psi_0/0/zarr.json"),
            *("aside", "psi_0/0/c/10/0", "psi_0/0/c/2/0"),
        ]
        offsets = [entry.header_offset for entry in archive.infolist()]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0


def test_entries_are_the_files_uncompressed_and_the_comment_names_the_version(packed: Path) -> None:
    with ZipFile(packed) as archive:
        assert archive.testzip() is None
        assert {entry.filename: archive.read(entry) for entry in archive.infolist()} == _FILES
        assert {entry.compress_type for entry in archive.infolist()} == {ZIP_STORED}
        # Version 4.5 of the format is the one that has Zip64.
        assert {entry.extract_version for entry in archive.infolist()} == {45}
        assert json.loads(archive.comment)["ome"] == {
            "version": "0.5",
            "zipFile": {"centralDirectory": {"jsonFirst": True}},
        }


def test_equal_folders_give_equal_files(packed: Path, tmp_path: Path) -> None:
    again = _pack(tmp_path, "other-name", dict(reversed(_FILES.items())))
    assert again.read_bytes() == packed.read_bytes()


def test_what_is_there_is_not_overwritten(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        pack_folder(tmp_path, packed, ngff_version="0.5")


class _Range(NamedTuple):
    request: ByteRequest | None
    expected: bytes


_RANGES = (
    _Range(None, _DATA),
    _Range(RangeByteRequest(0, 7), _DATA[:7]),
    _Range(RangeByteRequest(1000, 3001), _DATA[1000:3001]),
    _Range(RangeByteRequest(5000, 9999), _DATA[5000:]),
    _Range(RangeByteRequest(7, 7), b""),
    _Range(OffsetByteRequest(5100), _DATA[5100:]),
    _Range(SuffixByteRequest(10), _DATA[-10:]),
    _Range(SuffixByteRequest(10**6), _DATA),
)


def _get(path: Path, key: str, request: ByteRequest | None, *, kind: type[ZipStore] = ZippedStore) -> bytes | None:
    async def get() -> Buffer | None:
        with await kind.open(path, mode="r") as store:
            return await store.get(key, default_buffer_prototype(), request)

    buffer = asyncio.run(get())
    return None if buffer is None else buffer.to_bytes()


@pytest.mark.parametrize("case", _RANGES)
def test_a_range_is_what_plain_zarr_reads(packed: Path, case: _Range) -> None:
    assert _get(packed, "psi_0/0/c/10/0", case.request) == case.expected
    assert _get(packed, "psi_0/0/c/10/0", case.request, kind=ZipStore) == case.expected


def test_a_range_is_read_without_what_lies_before_it(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ZipFile, "open", None)
    assert _get(packed, "psi_0/0/c/10/0", RangeByteRequest(5000, 5010)) == _DATA[5000:5010]


@pytest.mark.parametrize("request_", [None, SuffixByteRequest(4)])
def test_an_entry_that_is_not_there_is_none(packed: Path, request_: ByteRequest | None) -> None:
    assert _get(packed, "psi_0/0/c/3/0", request_) is None


def test_entries_that_another_program_compressed_are_read(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.ozx", "w", compression=ZIP_DEFLATED) as archive:
        archive.writestr("c", _DATA)
    assert _get(tmp_path / "a.ozx", "c", RangeByteRequest(1000, 3001)) == _DATA[1000:3001]


def test_a_range_that_the_file_does_not_hold_is_an_error(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: pread(file, min(size, 300), offset))
    with pytest.raises(OSError, match=r"psi_0/0/c/10/0 has 300 of 1000 bytes from 4000; the file is damaged"):
        _get(packed, "psi_0/0/c/10/0", RangeByteRequest(4000, 5000))
