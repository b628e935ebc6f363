"""Files that are whole or absent: atomic writes, digests, JSON."""

import csv
import hashlib
import io
import json
import os
import stat
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipInfo

from bccdist.errors import ConfigurationError


def as_given(path: Path) -> Path:
    """The absolute path, through the links by which the user names it.

    A home may be a link to where the file system lies on this machine; other machines know the link, and may not know
    what it leads to here. A `..` leads to where the file system takes it, by a name through links where there is one.
    """
    if not path.is_absolute():
        path = _working_folder() / path
    if ".." not in path.parts:
        return path
    last = len(path.parts) - path.parts[::-1].index("..")
    return _without_dots(Path(*path.parts[:last])).joinpath(*path.parts[last:])


def as_called() -> Path:
    """This Python by the user's name for it: the interpreter itself follows the links of the working folder."""
    known = Path(sys.executable)
    # A name without a folder was looked up by the shell.
    given = as_given(Path(sys.orig_argv[0]) if os.sep in sys.orig_argv[0] else known)
    is_it = given.name == known.name and _are_one(given.parent, known.parent)
    return given if is_it else known


def _without_dots(folder: Path) -> Path:
    plain, there = Path(os.path.normpath(folder)), folder.resolve()
    return plain if _are_one(plain, there) else there


def _are_one(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _working_folder() -> Path:
    """As the shell came into it, where it says so truly."""
    shells = Path(os.environ.get("PWD", ""))
    is_it = shells.is_absolute() and ".." not in shells.parts and _are_one(shells, Path())
    return shells if is_it else Path.cwd()


def is_read_only(folder: Path) -> bool:
    """Whether a folder is there and this user cannot write to it, as on a disk that is mounted read-only."""
    return folder.is_dir() and not os.access(folder, os.W_OK)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A unique temporary path beside `path`; moved to `path` on success, removed on error.

    The folder of `path` is made if it is missing. Two writers of one path cannot mix: the last one wins whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{uuid.uuid4().hex}")
    try:
        yield partial
        _flush_to_disk(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as partial:
        partial.write_bytes(data)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV below a line with the names of the columns; what a row does not say stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON with sorted keys."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in the JSON file `path`.

    Raises:
        ConfigurationError: the file holds no JSON.
    """
    return parse_json(path.read_bytes(), path)


def parse_json(data: bytes, path: Path) -> Any:
    """The value in the bytes of the JSON file `path`.

    Raises:
        ConfigurationError: they are no JSON.
    """
    try:
        return json.loads(data)
    except ValueError as error:
        raise ConfigurationError(
            f"{path}: damaged, not valid JSON: {error}; put it back from where it is whole, or remove it"
        ) from error


_UNIX = 3


def stored_entry(name: str) -> ZipInfo:
    """An uncompressed entry of a zip, the same on every machine and day: ZipInfo sets the year 1980 itself."""
    entry = ZipInfo(name)
    entry.create_system = _UNIX
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of the file's bytes, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Twelve hex digits that name a JSON value; equal values have equal digests, whatever their key order."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


_FINGERPRINT_BLOCK_BYTES = 1 << 16
_FINGERPRINT_BLOCKS = 8


def fingerprint_of_file(path: Path) -> str:
    """Twelve hex digits from a file's size and eight blocks spread over it.

    It tells slides apart in milliseconds where a full hash of gigabytes takes minutes. It is an identity for
    "is this the file that was read before", not a proof against tampering.

    A folder counts with all files below it, an MRXS slide with its folder of data. Of other formats of several
    files, such as DICOM, only the named file counts: their folder may hold other slides too.
    """
    folder = path.with_suffix("") if path.suffix.lower() == ".mrxs" else path
    if not folder.is_dir():
        return _fingerprint_of_plain_file(path)
    members = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    if path.is_file():
        members["."] = path
    return digest_of({name: _fingerprint_of_plain_file(file) for name, file in members.items()})


def _fingerprint_of_plain_file(path: Path) -> str:
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        return fingerprint_of_blocks(size_bytes, lambda start, end: os.pread(file.fileno(), end - start, start))


def fingerprint_blocks(size_bytes: int) -> list[tuple[int, int]]:
    """First byte and end of the blocks that a fingerprint is made of."""
    last_offset = max(0, size_bytes - _FINGERPRINT_BLOCK_BYTES)
    starts = (last_offset * block // (_FINGERPRINT_BLOCKS - 1) for block in range(_FINGERPRINT_BLOCKS))
    return [(start, min(start + _FINGERPRINT_BLOCK_BYTES, size_bytes)) for start in starts]


def fingerprint_of_blocks(size_bytes: int, read: Callable[[int, int], bytes]) -> str:
    """The fingerprint of a file of so many bytes, wherever it lies; `read` gives its bytes from a start to an end."""
    digest = hashlib.sha256(str(size_bytes).encode())
    for start, end in fingerprint_blocks(size_bytes):
        digest.update(read(start, end))
    return digest.hexdigest()[:12]
