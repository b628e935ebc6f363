"""One process at a time changes a study's labels: of two at once, the second would drop what the first wrote."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from bccdist.errors import ConfigurationError
from bccdist.paths import StudyPaths

_PATIENCE_S = 60.0
"""How long one waits for another, which takes seconds even in a large study."""
_MODE = 0o666
"""Permissions of the lock file, which stays: whoever else works on this study must be able to lock it, too."""


@contextmanager
def changing_labels(paths: StudyPaths) -> Iterator[None]:
    """Hold the lock of a study's labels.csv; the system lets go of it when its holder ends, however that ends.

    Raises:
        ConfigurationError: another process holds it, and does not end.
    """
    lock = FileLock(paths.labels_lock, timeout=_PATIENCE_S, mode=_MODE)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"{paths.labels}: another process has been changing the labels for {_PATIENCE_S:g} s, so nothing was "
            "changed: run this again once it has ended"
        ) from error
    try:
        yield
    finally:
        lock.release()
