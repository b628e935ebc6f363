"""A seal: the SHA-256 of a file inside the file itself, so that bytes and digest are written, moved and copied as one.

A format that has room for a text (a header, a comment, metadata) holds `BLANK_SEAL` while it is written. The digest of
the file as it then is takes the place of the zeros. Whoever reads puts the zeros back in thought and compares: one
changed byte anywhere, in the seal too, and the file is not used. A crash leaves the old file or the new one, never the
one with the digest of the other.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from bccdist.errors import BccdistError
from bccdist.files import write_bytes
from bccdist.log import LOG

_WORD = b"bccdist-sealed-sha256:"
_HALVES = (b"bccdist-seal", b"ed-sha256:")
"""A seal with a damaged byte keeps one of them, so that the file is not taken for one from before there were seals."""
_ZEROS = b"0" * 64
_SEAL = re.compile(_WORD + b"([0-9a-f]{64})")
BLANK_SEAL = (_WORD + _ZEROS).decode()
SEAL_KEY = "bccdist.seal"
"""The name under which formats with named texts hold the seal."""
_END_BYTES = 1 << 20
"""A seal stands within so many bytes of the file's begin or end."""
_BLOCK_BYTES = 1 << 20


class _Found(NamedTuple):
    """A seal in a file."""

    offset: int
    """First byte of its digits."""
    digits: bytes


def seal(path: Path) -> None:
    """Put the digest of a file into the blank seal that it holds; for a file that nobody reads yet.

    Raises:
        ValueError: it holds none.
    """
    with path.open("r+b") as file:
        found = _find(file)
        if found is None or found.digits != _ZEROS:
            raise ValueError(f"{path}: holds no blank seal")
        digest = _digest(file, found)
        file.seek(found.offset)
        file.write(digest)


def sealed(data: bytes) -> bytes:
    """The same bytes with their digest in the blank seal that they hold.

    Raises:
        ValueError: they hold none.
    """
    file = io.BytesIO(data)
    found = _find(file)
    if found is None or found.digits != _ZEROS:
        raise ValueError("there is no blank seal in these bytes")
    return data[: found.offset] + _digest(file, found) + data[found.offset + len(_ZEROS) :]


def check_seal(path: Path, file: BinaryIO, *, error: type[BccdistError], advice: str) -> bool:
    """Compare the bytes of an open file with the seal in it.

    Args:
        path: for messages.
        file: open for reading, at any place; left at its begin.
        error: what is raised.
        advice: what to do about a damaged file.

    Returns:
        Whether it has a seal; files that versions before seals wrote have none.

    Raises:
        BccdistError: of the kind `error`; the bytes are not those that were written.
    """
    found, fault = _find(file), None
    if found is not None and (digest := _digest(file, found)) != found.digits:
        fault = f"its SHA-256 is {_short(digest)}, expected {_short(found.digits)} as it was written"
    if found is None and any(half in data for _, data in _ends(file) for half in _HALVES):
        fault = "the SHA-256 of its bytes cannot be read in it"
    if fault is not None:
        raise error(f"{path}: damaged on the disk or on the way to it: {fault}; {advice}")
    file.seek(0)
    return found is not None


def name_of_content(path: Path) -> str:
    """Names what a file holds: its seal, as it stands there unchecked, or the SHA-256 of one that has none."""
    with path.open("rb") as file:
        if (found := _find(file)) is not None:
            return found.digits.decode()
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def say_unsealed(path: Path) -> None:
    """Say, once for each file, that nobody knows whether its bytes are those that were written."""
    LOG.warning(
        f"{path}: it holds no SHA-256 of its bytes, as files of older versions do not; whether they are those that "
        "were written is not known"
    )


def read_sealed(path: Path, *, error: type[BccdistError], advice: str) -> bytes:
    """The bytes of a file, compared with the seal in them; one without a seal is read all the same, and named aloud.

    Raises:
        BccdistError: of the kind `error`; the bytes are not those that were written.
        FileNotFoundError: there is no such file.
    """
    data = path.read_bytes()
    if not check_seal(path, io.BytesIO(data), error=error, advice=advice):
        say_unsealed(path)
    return data


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping atomically as `sealed_json`."""
    write_bytes(path, sealed_json(value))


def sealed_json(value: Mapping[str, Any]) -> bytes:
    """A mapping as indented JSON with sorted keys and, under `SEAL_KEY`, a seal."""
    text = json.dumps({**value, SEAL_KEY: BLANK_SEAL}, indent=2, sort_keys=True, allow_nan=False) + "\n"
    return sealed(text.encode())


def read_sealed_json(path: Path, *, error: type[BccdistError], advice: str) -> dict[str, Any]:
    """The mapping in a JSON file, without its seal.

    Raises:
        BccdistError: of the kind `error`; the file is damaged, or holds no JSON object.
        FileNotFoundError: there is no such file.
    """
    data = read_sealed(path, error=error, advice=advice)
    try:
        values = json.loads(data)
    except ValueError as fault:
        raise error(f"{path}: not valid JSON: {fault}; {advice}") from fault
    if not isinstance(values, dict):
        raise error(f"{path}: holds a {type(values).__name__}, expected an object; {advice}")
    values.pop(SEAL_KEY, None)
    return values


def _find(file: BinaryIO) -> _Found | None:
    """The file's own seal: the last one, as those of files that were packed into it stand before it."""
    for start, data in _ends(file):
        if matches := list(_SEAL.finditer(data)):
            return _Found(start + matches[-1].start(1), matches[-1][1])
    return None


def _ends(file: BinaryIO) -> list[tuple[int, bytes]]:
    """The file's end and begin, each with the place of its first byte; both may be the whole file."""
    size = file.seek(0, io.SEEK_END)
    ends = []
    for start in sorted({0, max(0, size - _END_BYTES)}, reverse=True):
        file.seek(start)
        ends.append((start, file.read(_END_BYTES)))
    return ends


def _digest(file: BinaryIO, found: _Found) -> bytes:
    """Hex digits of the SHA-256 of the file with zeros in the place of the seal's digits."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(min(_BLOCK_BYTES, found.offset - file.tell())):
        digest.update(block)
    digest.update(_ZEROS)
    file.seek(len(_ZEROS), io.SEEK_CUR)
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest().encode()


def _short(digest: bytes) -> str:
    return f"{digest[:12].decode()}..."
