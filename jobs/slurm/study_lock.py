"""One launch of a study at a time: the system's lock on a file, and beside it a note that says who holds it.

The lock is the system's (flock) and not the mere existence of a file: the kernel lets go of it when its holder ends,
however that ends, so nobody has to judge by a number whether a process is still there. NFS carries it to its server,
so it holds between login nodes, too. Where a file system has no flock, filelock falls back to a file that exists.
Where each machine keeps flock to itself (NFS with local_lock, Lustre with localflock), the lock is free for us while
a launch of another machine is at work. Its note is there then, and so we refuse.
"""

import getpass
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from bccdist.addresses import without_secrets
from bccdist.errors import ConfigurationError
from bccdist.files import read_json, write_json
from bccdist.log import LOG
from jobs.slurm import journal

_PATIENCE_S = 1.0
"""How long a launch waits for the lock: `status.py` takes it for a moment to see whether it is free."""
_MODE = 0o666
"""Permissions of the lock file, which stays: whoever else works on this study must be able to lock it, too."""


def user_name() -> str:
    """Who we are; the number where the machine knows no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@dataclass(frozen=True, kw_only=True)
class _Holder:
    """Who holds a lock: by default this process, from now on."""

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    user: str = field(default_factory=user_name)
    command: list[str] = field(default_factory=lambda: list(map(without_secrets, sys.argv)))
    since: str = field(default_factory=journal.now)

    def __str__(self) -> str:
        return f"pid {self.pid} of {self.user} on {self.host}, since {self.since}: {' '.join(self.command)}"

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()


@contextmanager
def launch_lock(path: Path) -> Iterator[None]:
    """Hold the lock at `path`.

    Raises:
        ConfigurationError: another launch holds it, or may hold it; the message names it.
        OSError: the disk is full or may not be written to; `run_command` says what to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=_PATIENCE_S, mode=_MODE)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(_refusal(path, _holder(path))) from error
    try:
        before = _holder(path)
        if before is not None and not before.is_here:
            raise ConfigurationError(_refusal(path, before))
        if before is not None:
            LOG.warning(f"an earlier launch was killed before its end ({before}); what it submitted is in the journal")
        write_json(_note(path), asdict(_Holder()))
        try:
            yield
        finally:
            _note(path).unlink(missing_ok=True)
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a launch holds the lock, or may hold it, for all that this machine knows."""
    return holder_of(path)[0] != "nobody"


def holder_of(path: Path) -> tuple[Literal["nobody", "at work", "unknown"], str]:
    """Whether a launch is at work, and, where this machine cannot tell, a sentence about it."""
    try:
        holder = _holder(path)
    except ConfigurationError as error:
        return "unknown", f"whether a launch is at work is not known: {error}"
    if holder is None:
        return "nobody", ""
    elsewhere = f"a launch is at work, or was broken off, on another machine: {holder}"
    try:
        with FileLock(path, timeout=0, mode=_MODE):
            # The lock is free, so the holder of this machine was killed. Another machine's may keep its own locks.
            is_here = False
    except Timeout:
        return "at work", ""
    except OSError:  # not ours to lock, as in a study of somebody else
        is_here = Path(f"/proc/{holder.pid}").exists()
    if not holder.is_here:
        return "unknown", elsewhere
    return ("at work" if is_here else "nobody"), ""


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _holder(path: Path) -> _Holder | None:
    """Who left the note beside the lock; None where there is none."""
    note = _note(path)
    try:
        return _Holder(**read_json(note)) if note.exists() else None
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{note} is damaged ({error}); remove it if no launch is at work") from error


def _refusal(path: Path, there: _Holder | None) -> str:
    if there is None:
        return f"another launch of this study has just begun or just ended (it holds {path}); launch again"
    if there.is_here:
        return f"another launch of this study is at work ({there}); wait for it, or stop it, and launch again"
    return (
        f"another launch of this study is at work, or was broken off on another machine ({there}); look there whether "
        f"process {there.pid} still runs, for instance with `ssh {there.host} ps -p {there.pid}`, and if it does not, "
        f"remove {path} and {_note(path)}"
    )
