"""One launch of a study at a time: a lock file that says who holds it, and that outlives no process for long."""

import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bccdist.errors import ConfigurationError
from bccdist.files import digest_of, write_json

_PATIENCE_S = 5.0
"""For another process that is between making the file and filling it, or taking a stale one over."""
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class _Holder:
    """Who holds a lock."""

    host: str
    pid: int
    process_start: int | None
    """In the system's clock ticks after its start; None where it does not say. Numbers of processes come again."""
    since: str
    command: list[str]
    token: str
    """Of this lock and no other."""


class _Process(NamedTuple):
    """What the system says of a process that is there."""

    is_ended: bool
    """Only its parent has not asked for its exit code yet."""
    start: int


@contextmanager
def launch_lock(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; one that was left by a process of this machine that has ended is taken over.

    Raises:
        ConfigurationError: another launch holds it, or may hold it; the message names it.
    """
    holder = _this_process()
    _acquire(path, holder)
    try:
        yield
    finally:
        _release(path, holder)


def is_held(path: Path) -> bool:
    """Whether a launch holds the lock, for all that this machine knows."""
    try:
        there = _read(path)
    except ValueError:
        return True
    return there is not None and not _has_ended(there)


def _this_process() -> _Holder:
    process = _process(os.getpid())
    return _Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        process_start=process.start if process else None,
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        command=sys.argv,
        token=uuid.uuid4().hex,
    )


def _acquire(path: Path, holder: _Holder) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline_s = time.monotonic() + _PATIENCE_S
    while not _create(path, json.dumps(asdict(holder), indent=2) + "\n"):
        there = _read_whole(path, deadline_s)
        if there is None:
            continue
        if not _has_ended(there):
            raise ConfigurationError(_refusal(path, there))
        if _take_over(path, there, holder):
            print(
                f"the launch of {there.since} (pid {there.pid} on {there.host}) ended without giving back "
                f"{path.name}; this launch takes it over"
            )
            return
        if time.monotonic() > deadline_s:
            raise ConfigurationError(
                f"{path}: left by a launch that has ended, and another one has begun to take it over and not come to "
                f"an end within {_PATIENCE_S:.0f} s; if no launch is at work, remove {path} and {_claim(path, there)}"
            )
        time.sleep(_POLL_S)


def _create(path: Path, text: str) -> bool:
    """Make a file, or find that it is there already; one of several processes makes it."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return True


def _read(path: Path) -> _Holder | None:
    """Who holds the lock; None where there is none.

    Raises:
        ValueError: the file does not say, or not yet.
    """
    try:
        return _Holder(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except TypeError as error:
        raise ValueError(str(error)) from error


def _read_whole(path: Path, deadline_s: float) -> _Holder | None:
    while True:
        try:
            return _read(path)
        except ValueError as error:
            if time.monotonic() > deadline_s:
                raise ConfigurationError(
                    f"{path}: does not say which launch made it ({error}); if no launch of this study is at work, "
                    "remove the file"
                ) from error
            time.sleep(_POLL_S)


def _has_ended(there: _Holder) -> bool:
    """Whether the process is surely gone; of other machines nothing is known."""
    if there.host != socket.gethostname():
        return False
    try:
        os.kill(there.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # another user's; the system may hide all else of it
    process = _process(there.pid)
    if process is None:
        return False
    return process.is_ended or there.process_start not in (None, process.start)


def _process(pid: int) -> _Process | None:
    """None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field, the name, is in brackets and may hold blanks and brackets.
    fields = text.rpartition(")")[2].split()
    return _Process(is_ended=fields[0] in "ZX", start=int(fields[19]))


def _refusal(path: Path, there: _Holder) -> str:
    who = f"pid {there.pid} on {there.host}, since {there.since}: {' '.join(there.command)}"
    if there.host == socket.gethostname():
        return f"another launch of this study is at work ({who}); wait for it, or stop it, and launch again"
    return (
        f"another launch of this study is at work, or was broken off on another machine ({who}); look there whether "
        f"process {there.pid} still runs, for instance with `ssh {there.host} ps -p {there.pid}`, and if it does not, "
        f"remove {path}"
    )


def _take_over(path: Path, stale: _Holder, holder: _Holder) -> bool:
    """Put this process in the place of one that has ended; False where another process is about to, or has.

    Only who made the claim on this very lock may replace it, and looks again before: so of two that found it
    stale, the second cannot replace the lock that the first holds by then.
    """
    claim = _claim(path, stale)
    if not _create(claim, ""):
        return False
    try:
        if _read(path) != stale:
            return False
        write_json(path, asdict(holder))
        return True
    except ValueError:
        return False
    finally:
        claim.unlink(missing_ok=True)


def _claim(path: Path, stale: _Holder) -> Path:
    return path.with_name(f"{path.name}.claim-{digest_of(stale.token)}")


def _release(path: Path, holder: _Holder) -> None:
    """Remove the lock, unless somebody put another one in its place by hand."""
    try:
        there = _read(path)
    except ValueError:
        there = None
    if there == holder:
        path.unlink(missing_ok=True)
    else:
        print(f"{path} was removed or replaced while this launch was at work; look whether another one has run")
