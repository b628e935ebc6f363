"""A file on a server as a file of this machine that holds those bytes of it that were asked for.

It is as long as the whole, and what was not asked for is a hole in it. OpenSlide, tifffile and whoever else wants a
path read it as they read any file, once `need` has brought the bytes that they are about to read. The file has no name
in any folder, so that nothing of it stays behind, however its process ends.
"""

import errno
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from bccdist.addresses import Address
from bccdist.errors import RemoteError
from bccdist.log import LOG, NOTE
from bccdist.remote.answers import Answer, NoRangesError, Version, asking
from bccdist.remote.block_cache import KeptFile, configured_cache
from bccdist.remote.patience import PATIENCE, Patience, patiently
from bccdist.remote.stretches import Stretch, Stretches, cut, merged

FIRST_BYTES = 1 << 16
"""Asked for when a file is opened: most headers are in them."""
_NUM_AT_ONCE = 16
"""Requests on the way at a time: what is compared of a level when a slide is opened is one round of them."""
_MOST_AT_ONCE_BYTES = 1 << 22
"""Of one request: so much more is held in memory for each that is on its way."""
_GAP_BYTES = 1 << 14
"""Bytes that are fetched along rather than asked around: as long on their way as a request takes at 1 MB/s."""
_MOST_AHEAD_BYTES = 1 << 25
"""Asked for before they are needed."""
_LEAST_FREE_BYTES = 1 << 28
"""Room that stays free where whole files are copied."""


@dataclass(kw_only=True)
class Tally:
    """What was asked for, and what came."""

    num_requests: int = 0
    num_bytes: int = 0
    waited_s: float = 0.0
    """In which `need` had to wait."""


class PartOfFile:
    """What was fetched of a remote file; any number of threads may ask.

    Attributes:
        address: where the whole lies.
        version: which content was opened; no other is ever mixed with it.
        size_bytes: of the whole.
        tally: counts on.
    """

    def __init__(self, address: Address, *, patience: Patience = PATIENCE) -> None:
        """Ask for the first bytes.

        Raises:
            RemoteError: it is not there, may not be read, or does not answer.
        """
        self.address = address
        self.tally = Tally()
        self._patience = patience
        self._asking = asking(address, patience)
        self._lock = threading.Lock()
        self._there = Stretches()
        self._coming: dict[Stretch, Future[None]] = {}
        self._later: deque[Stretch] = deque()
        self._told_s = -float("inf")
        self._kept: KeptFile | None = None
        try:
            first = patiently(lambda: self._asking.ask(0, FIRST_BYTES), str(address), patience)
        except NoRangesError:
            first = None
        self._file = _nameless_file()
        self._pool = ThreadPoolExecutor(max_workers=_NUM_AT_ONCE, thread_name_prefix="remote")
        try:
            if first is None:
                self.version = Version(size_bytes=0)
                self._copy_without_ranges()
            else:
                self.version = first.version
                self._check_size()
                if (blocks := configured_cache()) is not None:
                    self._kept = blocks.of_file(address, self.version)
                os.ftruncate(self._file, self.size_bytes)
                self._count(len(first.data))
                self._keep(0, first.data)
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """By which this process opens what is there of the file."""
        return Path(f"/proc/self/fd/{self._file}")

    @property
    def size_bytes(self) -> int:
        """Of the whole file."""
        return self.version.size_bytes

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""
        with self._lock:
            return self._there.num_bytes >= self.size_bytes

    def close(self) -> None:
        """Let go of what was fetched."""
        with self._lock:
            self._later.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)
        os.close(self._file)

    def read(self, start: int, end: int) -> bytes:
        """Bytes of the file, fetched where they are not there; those up to the file's end where it ends before."""
        end = min(end, self.size_bytes)
        if start >= end:
            return b""
        self.need([(start, end)])
        return os.pread(self._file, end - start, start)

    def need(self, stretches: Sequence[Stretch]) -> None:
        """Wait until some bytes are there; what lies beyond the file's end is left out.

        Raises:
            RemoteError: they did not come, or the file is another one by now.
        """
        with self._lock:
            awaited = self._ask_for(stretches)
        if awaited:
            started_s = time.perf_counter()
            wait(awaited)
            self.tally.waited_s += time.perf_counter() - started_s
            for each in awaited:
                each.result()
        self._ask_ahead()

    def expect(self, stretches: Iterable[Stretch]) -> None:
        """Ask for bytes that will be needed, in this order, as far as they may be held before they are."""
        with self._lock:
            self._later = deque(stretches)
        self._ask_ahead()

    def need_all(self, reason: str) -> None:
        """Copy the whole file, and say so.

        Raises:
            RemoteError: there is no room for it, or it did not come.
        """
        with self._lock:
            lacking = self.size_bytes - self._there.num_bytes
        if not lacking:
            return
        refuse_lack_of_room(self.address, lacking)
        LOG.warning(
            f"{self.address}: all of it is copied to {tempfile.gettempdir()} first, {_in_mb(lacking)}, because "
            f"{reason}"
        )
        # Piece by piece, so that not all of them wait in memory's queue at once.
        for stretch in cut([(0, self.size_bytes)], most=_MOST_AT_ONCE_BYTES * _NUM_AT_ONCE):
            self.need([stretch])

    def _ask_for(self, stretches: Sequence[Stretch]) -> list[Future[None]]:
        """Ask for what is neither there nor on its way; the requests to wait for."""
        wanted = merged([(start, min(end, self.size_bytes)) for start, end in stretches], gap=0)
        missing = [part for start, end in wanted for part in self._there.missing(start, end)]
        if not missing:
            return []
        coming = Stretches(self._coming)
        fresh = [part for start, end in missing for part in coming.missing(start, end)]
        for stretch in cut(merged(fresh, gap=_GAP_BYTES), most=_MOST_AT_ONCE_BYTES):
            self._coming[stretch] = self._pool.submit(self._fetch, stretch)
        needed = Stretches(missing)
        return [future for stretch, future in self._coming.items() if needed.overlaps(*stretch)]

    def _ask_ahead(self) -> None:
        with self._lock:
            while self._later and sum(end - start for start, end in self._coming) < _MOST_AHEAD_BYTES:
                # Some at a time, so that neighbours are one request.
                some: list[Stretch] = []
                while self._later and sum(end - start for start, end in some) < _MOST_AT_ONCE_BYTES:
                    some.append(self._later.popleft())
                self._ask_for(some)

    def _fetch(self, stretch: Stretch) -> None:
        try:
            for start, data in self._kept.read(stretch) if self._kept else ():
                self._keep(start, data)
            with self._lock:
                lacking = list(self._there.missing(*stretch))
            for start, end in merged(lacking, gap=_GAP_BYTES):
                self._fetch_from_server(start, end)
        finally:
            with self._lock:
                self._coming.pop(stretch, None)
        self._ask_ahead()

    def _fetch_from_server(self, start: int, end: int) -> None:
        try:
            answer = patiently(lambda: self._ask(start, end), str(self.address), self._patience, self._tell)
        except NoRangesError:
            raise RemoteError(f"{self.address}: the server gave ranges before, and gives none now") from None
        self._keep(start, answer.data)
        if self._kept:
            self._kept.write(start, answer.data)

    def _ask(self, start: int, end: int) -> Answer:
        self._count(0)
        answer = self._asking.ask(start, end)
        with self._lock:
            self.tally.num_bytes += len(answer.data)
        if change := self.version.change_to(answer.version):
            raise RemoteError(
                f"{self.address}: the file is another one than when it was opened: {change}; nothing of it is used: "
                "launch again, when nobody writes to it"
            )
        return answer

    def _tell(self, text: str) -> None:
        """Say once that the server fails: all requests that are on their way fail with it."""
        now_s = time.monotonic()
        with self._lock:
            is_new, self._told_s = now_s > self._told_s + self._patience.total_s, now_s
        if is_new:
            LOG.warning(text)

    def _count(self, num_bytes: int) -> None:
        with self._lock:
            self.tally.num_requests += 1
            self.tally.num_bytes += num_bytes

    def _keep(self, start: int, data: bytes) -> None:
        _write(self._file, data, start, self.address)
        with self._lock:
            self._there.add(start, start + len(data))

    def _check_size(self) -> None:
        if self.size_bytes == 0:
            raise RemoteError(f"{self.address}: it is empty")

    def _copy_without_ranges(self) -> None:
        """All of it by one request, from the beginning again where it breaks off."""
        LOG.warning(
            f"{self.address}: the server gives whole files only, no ranges, so that all of it is copied to "
            f"{tempfile.gettempdir()} first",
            extra=NOTE,
        )
        size_bytes = patiently(self._copy, str(self.address), self._patience)
        self.version = Version(size_bytes=size_bytes)
        self._check_size()
        self._there.add(0, size_bytes)

    def _copy(self) -> int:
        os.ftruncate(self._file, 0)
        self._count(0)
        at = 0
        for piece in self._asking.whole():
            refuse_lack_of_room(self.address, len(piece))
            _write(self._file, piece, at, self.address)
            at += len(piece)
            self.tally.num_bytes += len(piece)
        return at


def _nameless_file() -> int:
    """A file in the folder for temporary files that no folder names: it is gone when nobody has it open."""
    number, name = tempfile.mkstemp(prefix="bccdist-remote-")
    Path(name).unlink()
    return number


def _write(file: int, data: bytes, at: int, address: Address) -> None:
    view = memoryview(data)
    try:
        while view:
            num = os.pwrite(file, view, at)
            view, at = view[num:], at + num
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RemoteError(
            f"{address}: what is fetched of it finds no room in {tempfile.gettempdir()}; let TMPDIR name a folder on "
            "this machine with more"
        ) from None


def refuse_lack_of_room(address: Address, num_bytes: int) -> None:
    """Refuse to copy what would not leave enough free.

    Raises:
        RemoteError: it is so.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < num_bytes + _LEAST_FREE_BYTES:
        raise RemoteError(
            f"{address}: all of it has to be copied, {_in_mb(num_bytes)}, and {folder} has {_in_mb(free)} free, of "
            f"which {_in_mb(_LEAST_FREE_BYTES)} have to stay; let TMPDIR name a folder on this machine with more"
        )


def _in_mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"
