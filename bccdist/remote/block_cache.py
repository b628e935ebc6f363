"""Stretches of remote files on this machine's disk, for whoever asks for them again: bounded, and shared by processes.

Each stretch is a file of its own, as it came, with the SHA-256 of its bytes and of what they are a part of: what is
half written, damaged or of another content is never read, and is fetched again. What was not used for longest goes
first.

Keys are the address without user and signature, the file's length and its ETag; a file whose server gives no ETag, or
one that says only that contents mean the same, is not kept. Whoever reads has asked the server first, for the ETag, so
the cache gives nobody what the server would not give.
"""

import contextlib
import fcntl
import hashlib
import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from bccdist.addresses import Address
from bccdist.errors import ConfigurationError
from bccdist.log import LOG
from bccdist.remote.answers import Version
from bccdist.remote.stretches import Stretch

FOLDER_VARIABLE, GIB_VARIABLE = "BCCDIST_REMOTE_CACHE", "BCCDIST_REMOTE_CACHE_GIB"
DEFAULT_GIB = 50.0
_DIGEST_BYTES = 32
_KEPT_SHARE = 0.9
"""Of the bound, that is left after old stretches went, so that not each new one looks for the oldest."""
_NAME = re.compile(r"(\d+)-(\d+)")
_SIGNED = frozenset({"x-amz-signature", "x-goog-signature", "signature", "sig"})
_SIGNATURE = re.compile(
    r"x-(amz|goog)-.*|signature|expires|policy|key-pair-id|awsaccesskeyid|googleaccessid|"
    r"sig|s[vterp]|spr|srt|ss|sip|sk(oid|tid|[tesv])",
    re.IGNORECASE,
)
"""Names in the query of a signed link that change from one link to the next of the same file."""


class BlockCache:
    """A folder of stretches; any number of processes and threads of one machine may use it."""

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        """Make the folder, which only this user may read.

        Args:
            folder: on a disk of this machine; the cache is a folder in it.
            most_bytes: of all files in it together; held at any time.
        """
        # One of its own, as files in it are removed.
        self._folder = folder = folder / "bccdist-remote-blocks"
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._is_told = False
        self._writes = True
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self._do_without(error)

    def of_file(self, address: Address, version: Version) -> "KeptFile | None":
        """The stretches of one content of a file; None where nothing tells it from another one."""
        if not version.etag or version.etag.startswith("W/"):
            LOG.debug(f"{address}: it has no ETag that holds for each byte; nothing of it is kept in {self._folder}")
            return None
        name = f"{_named(address)}\n{version.size_bytes}\n{version.etag}"
        return KeptFile(self, self._folder / hashlib.sha256(name.encode()).hexdigest())

    def read(self, path: Path) -> bytes | None:
        """What a file of the cache holds; None where it is not whole, and then it is no more."""
        try:
            data = path.read_bytes()
            if data[:_DIGEST_BYTES] == _digest(path, data[_DIGEST_BYTES:]):
                os.utime(path)  # when it was used last
                return data[_DIGEST_BYTES:]
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            return None  # another process made room
        except OSError as error:
            self._do_without(error)
        return None

    def write(self, path: Path, data: bytes) -> None:
        """Keep some bytes; where that fails, all goes on without."""
        if not self._writes or _DIGEST_BYTES + len(data) > self._most_bytes * (1 - _KEPT_SHARE):
            return
        partial = path.with_name(f"{path.name}.partial")
        try:
            with self._alone():
                if path.exists():
                    return
                self._make_room(_DIGEST_BYTES + len(data))
                path.parent.mkdir(mode=0o700, exist_ok=True)
                try:
                    partial.write_bytes(_digest(path, data) + data)
                    partial.replace(path)
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise
        except OSError as error:
            self._do_without(error)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread or process writes meanwhile; the lock of a process that is killed is free."""
        with self._lock, (self._folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_room(self, num_bytes: int) -> None:
        """Note that so many bytes come, and remove what was not used for longest if they would be too many.

        What is noted is never less than what is there: it is noted before the bytes are written.
        """
        note = self._folder / "size"
        try:
            total = int(note.read_text()) + num_bytes
        except (FileNotFoundError, ValueError):
            total = self._most_bytes + 1
        if total > self._most_bytes:
            total = self._remove_oldest(int(self._most_bytes * _KEPT_SHARE) - num_bytes) + num_bytes
        note.write_text(str(total))

    def _remove_oldest(self, most_bytes: int) -> int:
        """Remove files until at most so many bytes are there; how many there are."""
        found = []
        for folder in [each for each in os.scandir(self._folder) if each.is_dir()]:
            for each in os.scandir(folder):
                with contextlib.suppress(FileNotFoundError):
                    if _NAME.fullmatch(each.name):
                        found.append((each.stat().st_mtime_ns, each.stat().st_size, Path(each.path)))
                    else:
                        Path(each.path).unlink()  # nobody else writes now: of a process that was killed
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= most_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # its last one
        return total

    def _do_without(self, error: OSError) -> None:
        """Write nothing any more, and say so once."""
        with contextlib.suppress(OSError):
            (self._folder / "size").unlink(missing_ok=True)
        self._writes = False
        if not self._is_told:
            self._is_told = True
            LOG.warning(
                f"{self._folder}: this process keeps nothing in the cache of remote files any more: {error}; all else "
                "goes on, and fetches what it needs"
            )


class KeptFile:
    """The stretches of one content of a remote file that are in the cache."""

    def __init__(self, blocks: BlockCache, folder: Path) -> None:
        self._blocks = blocks
        self._folder = folder

    def read(self, stretch: Stretch) -> Iterator[tuple[int, bytes]]:
        """Each kept stretch that has bytes of this one: where it begins, and its bytes."""
        try:
            names = [match for path in self._folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        except OSError:
            return
        for match in names:
            start, end = int(match[1]), int(match[2])
            if start < stretch[1] and stretch[0] < end:
                data = self._blocks.read(self._folder / match[0])
                if data is not None and len(data) == end - start:
                    yield start, data

    def write(self, start: int, data: bytes) -> None:
        """Keep the bytes from `start` on."""
        if data:
            self._blocks.write(self._folder / f"{start}-{start + len(data)}", data)


def configured_cache() -> BlockCache | None:
    """The cache that the environment names; None where it names none.

    Raises:
        ConfigurationError: its size is no number above 0.
    """
    folder = os.environ.get(FOLDER_VARIABLE, "")
    return _cache_in(folder, os.environ.get(GIB_VARIABLE) or str(DEFAULT_GIB)) if folder else None


@cache
def _cache_in(folder: str, gib: str) -> BlockCache:
    """One for the whole process, so that what it has to say is said once."""
    try:
        num_gib = float(gib)
    except ValueError:
        num_gib = math.nan
    if not 0 < num_gib < math.inf:
        raise ConfigurationError(f"{GIB_VARIABLE} is {gib!r}, expected how many GiB {folder} may hold, such as 50")
    return BlockCache(Path(folder), most_bytes=int(num_gib * (1 << 30)))


def _digest(path: Path, data: bytes) -> bytes:
    """Of the bytes and of what they are: those of another file or place in its stead are seen, too."""
    digest = hashlib.sha256(f"{path.parent.name}/{path.name}\n".encode())
    digest.update(data)
    return digest.digest()


def _named(address: Address) -> str:
    """The address without what is secret or expires; what else its query says may name another file."""
    query = parse_qsl(urlsplit(address.whole).query, keep_blank_values=True)
    if any(name.lower() in _SIGNED for name, _ in query):
        query = [(name, value) for name, value in query if not _SIGNATURE.fullmatch(name)]
    return "\n".join([str(address), *(f"{name}={value}" for name, value in query)])
