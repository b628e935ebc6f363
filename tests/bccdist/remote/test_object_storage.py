"""Objects of S3 are read as files are: by ranges, of one version, and what is missing is one line."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import bucket
from range_server import QUICK
from remote_slides import all_read

from bccdist.addresses import parse_address
from bccdist.errors import RemoteError
from bccdist.remote.files import fingerprint_of
from bccdist.remote.part_of_file import PartOfFile


@pytest.fixture(scope="module")
def store(slide_path: Path) -> Iterator[str]:
    """The address of a bucket with the slide."""
    import fsspec

    with bucket("slides") as address:
        fsspec.filesystem("s3").put_file(str(slide_path), "slides/set/slide.svs")
        yield f"{address}/set"


def test_an_object_is_read_by_ranges_as_the_local_file_is(store: str, slide_path: Path) -> None:
    address = parse_address(f"{store}/slide.svs")
    assert all_read(address) == all_read(slide_path)
    assert fingerprint_of(address) == fingerprint_of(slide_path)
    part = PartOfFile(address, patience=QUICK)
    part.need([(1 << 20, (1 << 20) + 1000)])
    assert part.tally.num_requests == 2
    assert part.tally.num_bytes == (1 << 16) + 1000
    part.close()


@pytest.mark.parametrize("name", ["s3://no-such-bucket/a.svs", "s3://slides/set/no-such.svs"])
def test_what_is_not_in_the_store_is_one_line(store: str, name: str) -> None:
    with pytest.raises(RemoteError, match="it is not there") as caught:
        PartOfFile(parse_address(name), patience=QUICK)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)
    assert "Hidden1" not in str(caught.value)


def test_an_object_that_is_replaced_is_never_mixed(store: str, tmp_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("s3")
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(os.urandom(1 << 18))
    files.put_file(str(tmp_path / "one"), "slides/set/changing.bin")
    part = PartOfFile(parse_address(f"{store}/changing.bin"), patience=QUICK)
    files.put_file(str(tmp_path / "other"), "slides/set/changing.bin")
    with pytest.raises(RemoteError, match="another one than when it was opened: its ETag"):
        part.read(1 << 17, (1 << 17) + 10)
    part.close()


def test_any_other_file_system_of_fsspec_is_read_too(slide_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    files.pipe_file("/slides/slide.svs", slide_path.read_bytes())
    address = parse_address("memory://slides/slide.svs")
    assert all_read(address) == all_read(slide_path)
    part = PartOfFile(address, patience=QUICK)
    files.pipe_file("/slides/slide.svs", slide_path.read_bytes() + b"more")
    with pytest.raises(RemoteError, match="another one"):
        part.read(1 << 20, (1 << 20) + 10)
    part.close()
    with pytest.raises(RemoteError, match="it is not there"):
        PartOfFile(parse_address("memory://slides/none.svs"), patience=QUICK)
