"""Folders for copies on this machine: gone when they are closed, or when the next one is made after a kill."""

import atexit
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "bccdist-remote-folder-"


class ScratchFolder:
    """A folder below that for temporary files; it goes when it is closed, or when the process ends by itself.

    That of a killed process goes when the next one is made on the machine: nobody holds its lock any more.

    Attributes:
        path: of the folder.
    """

    def __init__(self) -> None:
        _sweep()
        self._outer = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self._outer / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = self._outer / "files"
        self.path.mkdir()
        atexit.register(self.close)

    def close(self) -> None:
        """Remove the folder."""
        atexit.unregister(self.close)
        if self._lock >= 0:
            shutil.rmtree(self._outer, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / "lock", os.O_RDWR)
        except OSError:
            continue  # another user's, or just being made
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use
        finally:
            os.close(lock)
