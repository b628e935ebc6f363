"""What a shell, a container or a profile may set and results must not depend on: settled once in each process."""

import errno
import io
import os
import pwd
import sys
import tempfile
from pathlib import Path

from bccdist.errors import ConfigurationError

_DISK = {
    errno.ENOTDIR: "a part of this path is a file; give a folder, or one that is not there yet",
    errno.EACCES: "your user must be allowed to read it or, where it is written, to write to it and its folder",
    errno.ENOSPC: "make room, and the same command goes on from there",
    errno.EDQUOT: "make room, and the same command goes on from there",
    errno.EROFS: "nothing can be written there: give a copy of the study on a disk that can be written",
    errno.EMFILE: "this process may not open as many files at once: raise the limit, as by `ulimit -n 4096`",
    errno.ENFILE: "the system has too many files open: try again later, or on another machine",
}
"""What to do about a disk or a system that takes or gives nothing, by the error's number."""


def settle() -> None:
    """Leave nothing to the surroundings that decides nothing for this product; called by every command and job.

    Processes that this one starts have the same. Where the locale is not UTF-8, the command starts again in Python's
    UTF-8 mode: a study's paths and texts are UTF-8 wherever it is read.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1"})  # noqa: S606 - the same words
    for stream in (sys.stdout, sys.stderr):
        # PYTHONIOENCODING may name an encoding that lacks a letter of a message.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Pictures look alike whatever matplotlibrc a user, a site or the working folder has, and are drawn into files.
    os.environ.update(MATPLOTLIBRC=os.devnull, MPLBACKEND="agg")
    _name_the_user()


def _name_the_user() -> None:
    """Python's library, and torch, ask for a name and a home, which a container's user may not have."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("USER", str(os.getuid()))
        os.environ.setdefault("HOME", str(Path(tempfile.gettempdir()) / f"home-{os.getuid()}"))


def require_folder() -> None:
    """Refuse to begin in a working folder that was removed.

    Raises:
        ConfigurationError: it was; relative paths have no meaning then.
    """
    if not _has_folder():
        raise ConfigurationError(
            "the folder that this was started in is not there any more; change to one that is, and start it again"
        )


def _has_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - asks the system, as Path.cwd() does
    except FileNotFoundError:
        return False
    return True


def advice_on(error: OSError) -> str | None:
    """What a user can do about an error of the system; None where it is a fault of the program."""
    if error.errno == errno.ENOENT and not _has_folder():
        return "the folder that this was started in is not there any more; change to one that is, and start it again"
    return _DISK.get(error.errno or 0)
