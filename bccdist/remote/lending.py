"""The remote files that this process has open: who asks for one again gets what was fetched of it before."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from bccdist.addresses import Address
from bccdist.errors import RemoteError
from bccdist.remote.folder_copy import FolderCopy
from bccdist.remote.part_of_file import PartOfFile

_NUM_KEPT = 2
"""Files that nobody uses and that stay, as the next step of a stage opens the same slide again."""


class _Library:
    """Each address is open once; what was given back last comes last."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._by_address: dict[Address, PartOfFile] = {}
        self._num_users: Counter[PartOfFile] = Counter()

    def borrow(self, address: Address) -> PartOfFile:
        with self._lock:
            part = self._by_address.get(address)
            if part is None:
                part = self._by_address[address] = PartOfFile(address)
            self._num_users[part] += 1
            return part

    def give_back(self, part: PartOfFile, *, is_good: bool) -> None:
        with self._lock:
            self._num_users[part] -= 1
            if self._by_address.get(part.address) is part:
                del self._by_address[part.address]
                if is_good:
                    self._by_address[part.address] = part
            self.forget_idle(num_kept=_NUM_KEPT)

    def forget_idle(self, *, num_kept: int) -> None:
        with self._lock:
            idle = [each for each in self._by_address.values() if not self._num_users[each]]
            for each in idle[: len(idle) - num_kept]:
                del self._by_address[each.address]
            kept = set(self._by_address.values())
            for each in [each for each, num in self._num_users.items() if not num and each not in kept]:
                del self._num_users[each]
                each.close()


_LIBRARY = _Library()


class _Folders:
    """Each slide in several files is copied once as long as anybody uses it; such copies are too large to keep."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._copies: dict[Address, FolderCopy] = {}
        self._num_users: Counter[FolderCopy] = Counter()

    def borrow(self, address: Address, only_below: str | None) -> FolderCopy:
        with self._lock:
            copy = self._copies.get(address)
            if copy is None:
                copy = self._copies[address] = FolderCopy(address, only_below=only_below)
            self._num_users[copy] += 1
            return copy

    def give_back(self, copy: FolderCopy) -> None:
        with self._lock:
            self._num_users[copy] -= 1
            if not self._num_users[copy]:
                del self._num_users[copy], self._copies[copy.address]
                copy.close()


_FOLDERS = _Folders()


def borrow_folder(address: Address, *, only_below: str | None = None) -> FolderCopy:
    """A copy of a slide in several files, to be given back.

    Raises:
        RemoteError: it cannot be made.
    """
    return _FOLDERS.borrow(address, only_below)


def give_back_folder(copy: FolderCopy) -> None:
    """End one use of a copy."""
    _FOLDERS.give_back(copy)


def borrow(address: Address) -> PartOfFile:
    """A remote file, open; to be given back.

    Raises:
        RemoteError: it cannot be opened.
    """
    return _LIBRARY.borrow(address)


def give_back(part: PartOfFile, *, is_good: bool = True) -> None:
    """End one use of a file; after an error it is opened anew the next time."""
    _LIBRARY.give_back(part, is_good=is_good)


def forget_all() -> None:
    """Let go of all files that nobody uses, as for a measurement."""
    _LIBRARY.forget_idle(num_kept=0)


@contextmanager
def borrowed(address: Address) -> Iterator[PartOfFile]:
    """A remote file for a while.

    Raises:
        RemoteError: it cannot be opened or read.
    """
    part = borrow(address)
    is_good = True
    try:
        yield part
    except RemoteError:
        is_good = False
        raise
    finally:
        give_back(part, is_good=is_good)
