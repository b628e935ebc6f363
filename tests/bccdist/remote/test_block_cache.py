"""What is kept of remote files is what came, bounded, and never in the way: what is in doubt is fetched again."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from range_server import RangeServer

from bccdist.addresses import Address, parse_address
from bccdist.errors import ConfigurationError
from bccdist.remote import block_cache
from bccdist.remote.answers import Version
from bccdist.remote.block_cache import FOLDER_VARIABLE, GIB_VARIABLE, BlockCache, KeptFile
from bccdist.remote.part_of_file import FIRST_BYTES, PartOfFile

ADDRESS = Address("https://slides.example.org/a.svs")
VERSION = Version(size_bytes=1 << 30, etag='"one"')
MIB = 1 << 20


def file_of(blocks: BlockCache, address: Address = ADDRESS, version: Version = VERSION) -> KeptFile:
    kept = blocks.of_file(address, version)
    assert kept is not None
    return kept


def kept_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("bccdist-remote-blocks/*/*") if path.is_file())


def num_bytes_in(folder: Path) -> int:
    total = 0
    for path in kept_files(folder):
        with suppress(FileNotFoundError):  # another process made room
            total += path.stat().st_size
    return total


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache that the environment names."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(GIB_VARIABLE, "1")
    return tmp_path / "cache"


def bytes_of(server: RangeServer, *stretches: tuple[int, int]) -> int:
    """Reads stretches of the slide anew, compares them with its file, and says how many bytes the server gave."""
    server.reset()
    part = PartOfFile(parse_address(f"{server.url}/slide.svs"))
    data = (server.folder / "slide.svs").read_bytes()
    for start, end in stretches:
        assert part.read(start, end) == data[start:end]
    part.close()
    return server.num_bytes


def test_what_was_fetched_is_not_fetched_again_and_only_what_lacks_is(server: RangeServer, folder: Path) -> None:
    assert bytes_of(server, (MIB, MIB + 5000)) == FIRST_BYTES + 5000
    assert bytes_of(server, (MIB, MIB + 5000)) == FIRST_BYTES
    assert bytes_of(server, (MIB - 100, MIB + 5200)) == FIRST_BYTES + 5300
    assert bytes_of(server, (MIB + 1000, MIB + 5200)) == FIRST_BYTES
    assert kept_files(folder)


def test_nothing_is_kept_unless_it_is_asked_for(server: RangeServer, tmp_path: Path) -> None:
    assert bytes_of(server, (MIB, MIB + 5000)) == bytes_of(server, (MIB, MIB + 5000))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "etag", ['"another"', 'W/"weak"', ""], ids=["another content", "not for each byte", "no ETag at all"]
)
def test_another_content_is_fetched_and_never_mixed(server: RangeServer, folder: Path, etag: str) -> None:
    bytes_of(server, (MIB, MIB + 5000))
    server.etags["/slide.svs"] = etag
    assert bytes_of(server, (MIB, MIB + 5000)) == FIRST_BYTES + 5000
    assert len(kept_files(folder)) == (2 if etag == '"another"' else 1)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 7)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def take_for_another_place(path: Path) -> None:
    start, end = map(int, path.name.split("-"))
    path.rename(path.with_name(f"{start - 16}-{end - 16}"))


@pytest.mark.parametrize("damage", [flip_a_byte, cut, empty, take_for_another_place])
def test_a_damaged_stretch_is_fetched_again(server: RangeServer, folder: Path, damage: Callable[[Path], None]) -> None:
    bytes_of(server, (MIB, MIB + 5000))
    damage(kept_files(folder)[0])
    assert bytes_of(server, (MIB, MIB + 5000)) == FIRST_BYTES + 5000
    assert bytes_of(server, (MIB, MIB + 5000)) == FIRST_BYTES


def test_the_bound_holds_and_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    kept = file_of(BlockCache(tmp_path, most_bytes=100_000))
    for number in range(40):
        kept.write(number * 5000, bytes([number]) * 5000)
        assert num_bytes_in(tmp_path) <= 100_000
        assert list(kept.read((0, 1))) == [(0, bytes(5000))]  # used again and again, so it stays
        time.sleep(0.002)
    there = {number for number in range(40) if list(kept.read((number * 5000, number * 5000 + 1)))}
    assert 0 in there
    assert max(there) == 39
    assert sorted(there)[1:] == list(range(min(there - {0}), 40))


def test_a_stretch_larger_than_a_tenth_of_the_cache_drives_nothing_out(tmp_path: Path) -> None:
    kept = file_of(BlockCache(tmp_path, most_bytes=10_000))
    kept.write(0, b"a" * 500)
    kept.write(1000, b"b" * 9000)
    assert [data[:1] for _, data in kept.read((0, 10_000))] == [b"a"]


def test_a_smaller_bound_holds_from_the_next_stretch_on(tmp_path: Path) -> None:
    large = file_of(BlockCache(tmp_path, most_bytes=1_000_000))
    for number in range(20):
        large.write(number * 5000, bytes(5000))
    file_of(BlockCache(tmp_path, most_bytes=60_000)).write(200_000, bytes(5000))
    assert num_bytes_in(tmp_path) <= 60_000


WRITER = """
import sys, hashlib
from pathlib import Path
from bccdist.addresses import Address
from bccdist.remote.answers import Version
from bccdist.remote.block_cache import BlockCache
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
kept = BlockCache(folder, most_bytes=3_000_000).of_file(
    Address("https://slides.example.org/a.svs"), Version(size_bytes=1 << 30, etag='"one"'))
number = seed
while True:
    number = (number * 1103515245 + 12345) % 64
    data = bytes([number]) * 100_000
    for start, found in kept.read((number * 100_000, number * 100_000 + 1)):
        assert found == bytes([start // 100_000]) * 100_000, "mixed"
    kept.write(number * 100_000, data)
    print(number, flush=True)
"""


def test_processes_share_it_and_a_kill_in_the_middle_leaves_nothing_half_written(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, str(seed)], stdout=subprocess.PIPE)
        for seed in (1, 2, 3)
    ]
    try:
        for writer in writers:
            assert writer.stdout
            for _ in range(30):
                assert writer.stdout.readline().strip().isdigit()
        writers[0].send_signal(signal.SIGKILL)
        for _ in range(30):  # the lock of the killed one is free
            assert writers[1].stdout
            assert writers[1].stdout.readline().strip().isdigit()
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert num_bytes_in(tmp_path) <= 3_000_000
    kept = file_of(BlockCache(tmp_path, most_bytes=3_000_000))
    found = list(kept.read((0, 1 << 30)))
    assert found
    assert all(data == bytes([start // 100_000]) * 100_000 for start, data in found)
    for number in range(64):
        kept.write(number * 100_000, bytes([number]) * 100_000)
        assert num_bytes_in(tmp_path) <= 3_000_000


def test_a_process_waits_as_long_as_another_one_writes(tmp_path: Path) -> None:
    kept = file_of(BlockCache(tmp_path, most_bytes=100_000))
    kept.write(0, bytes(500))
    with (tmp_path / "bccdist-remote-blocks" / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        writer = threading.Thread(target=kept.write, args=(1000, bytes(500)), daemon=True)
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        assert [start for start, _ in kept.read((0, 2000))] == [0], "who reads does not wait"
    writer.join(10)
    assert [start for start, _ in kept.read((1000, 2000))] == [1000]


HALF_WRITER = """
import sys, time
from pathlib import Path
from bccdist.addresses import Address
from bccdist.remote.answers import Version
from bccdist.remote.block_cache import BlockCache
kept = BlockCache(Path(sys.argv[1]), most_bytes=1_000_000).of_file(
    Address("https://slides.example.org/a.svs"), Version(size_bytes=1 << 30, etag='"one"'))
kept.write(0, bytes(5000))
def write_half(path, data):
    with path.open("wb") as file:
        file.write(data[:len(data) // 2])
    print("half", flush=True)
    time.sleep(60)
Path.write_bytes = write_half
kept.write(10_000, bytes(5000))
"""


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_half_written_and_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HALF_WRITER, tmp_path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"half\n"
        writer.send_signal(signal.SIGKILL)
    kept = file_of(BlockCache(tmp_path, most_bytes=1_000_000))
    assert [start for start, _ in kept.read((0, 20_000))] == [0]
    again = threading.Thread(target=kept.write, args=(10_000, bytes(5000)), daemon=True)
    again.start()
    again.join(10)
    assert sorted(kept.read((0, 20_000))) == [(0, bytes(5000)), (10_000, bytes(5000))]


def test_what_a_killed_process_left_half_written_goes_with_the_next_clearing(tmp_path: Path) -> None:
    kept = file_of(BlockCache(tmp_path, most_bytes=100_000))
    kept.write(0, bytes(5000))
    partial = kept_files(tmp_path)[0].with_name("5000-10000.partial")
    partial.write_bytes(b"half")
    assert [start for start, _ in kept.read((0, 20_000))] == [0]
    (tmp_path / "bccdist-remote-blocks" / "size").unlink()
    kept.write(10_000, bytes(5000))
    assert not partial.exists()


def test_files_of_others_beside_the_cache_are_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "results" / "0-100"
    mine.parent.mkdir()
    mine.write_bytes(bytes(5000))
    kept = file_of(BlockCache(tmp_path, most_bytes=20_000))
    for number in range(40):
        kept.write(number * 1000, bytes(1000))
    assert mine.exists()


def test_a_full_disk_is_told_once_and_all_goes_on(
    server: RangeServer, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    block_cache._cache_in.cache_clear()
    with caplog.at_level(logging.WARNING):
        for place in (MIB, 2 * MIB, 3 * MIB):
            assert bytes_of(server, (place, place + 5000)) == FIRST_BYTES + 5000
    assert len([each for each in caplog.messages if "No space left" in each and str(folder) in each]) == 1
    assert not kept_files(folder)


def test_a_folder_that_cannot_be_made_is_told_once_and_all_goes_on(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert bytes_of(server, (MIB, MIB + 5000)) == FIRST_BYTES + 5000
    assert len([each for each in caplog.messages if "cache of remote files" in each]) == 1


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf"])
def test_a_bound_that_is_none_is_one_line(
    server: RangeServer, folder: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GIB_VARIABLE, text)
    with pytest.raises(ConfigurationError, match=f"{GIB_VARIABLE} is '{text}', expected how many GiB"):
        PartOfFile(parse_address(f"{server.url}/slide.svs"))


SAME = {
    "another signature": ("?X-Amz-Signature=1&X-Amz-Date=2", "?X-Amz-Signature=3&X-Amz-Date=4"),
    "an Azure link": ("?sv=1&se=2&sp=r&sig=a", "?sv=1&se=3&sp=r&sig=b"),
}
OTHERS = {
    "another name in the query": ("?file=a", "?file=b"),
    "another name beside a signature": ("?file=a&sig=1", "?file=b&sig=1"),
    "short names without a signature": ("?st=1", "?st=2"),
}


@pytest.mark.parametrize(
    ("pair", "is_same"),
    [*((pair, True) for pair in SAME.values()), *((pair, False) for pair in OTHERS.values())],
    ids=[*SAME, *OTHERS],
)
def test_an_expiring_link_finds_what_another_one_brought_and_no_other_file(
    tmp_path: Path, pair: tuple[str, str], is_same: bool
) -> None:
    blocks = BlockCache(tmp_path, most_bytes=1_000_000)
    first, second = (file_of(blocks, Address(f"{ADDRESS.whole}{query}")) for query in pair)
    first.write(0, b"abc")
    assert bool(list(second.read((0, 1)))) is is_same


def test_no_secret_of_an_address_stands_in_the_cache(tmp_path: Path) -> None:
    address = Address("https://reader:Hidden1@slides.example.org/a.svs?sig=Hidden2")
    file_of(BlockCache(tmp_path, most_bytes=1_000_000), address).write(0, np.arange(100, dtype=np.uint8).tobytes())
    names = [str(path) for path in tmp_path.rglob("*")]
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(names) > 3
    assert not any("Hidden" in name for name in names)
    assert not any(b"Hidden" in text for text in texts)
    assert (tmp_path / "bccdist-remote-blocks").stat().st_mode & 0o077 == 0
