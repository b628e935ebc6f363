"""A folder of object storage, or of another store that can be written to, into which files are copied whole.

What arrives under its final name is whole: stores of objects put them at once, on all others a file gets its name by a
move. Whether it arrived is not taken from the store's word: the bytes are read back.
"""

import errno
import hashlib
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from bccdist.addresses import Address, is_address, parse_address, without_secrets
from bccdist.errors import ConfigurationError, RemoteError
from bccdist.remote.patience import PATIENCE, PassingFault, Patience, patiently

Result = TypeVar("Result")
_PUTS_AT_ONCE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})
"""Protocols whose stores show an object when all of it is there, and not before."""
_READ_ONLY = frozenset({"http", "https"})
_PARTIAL = ".bccdist-partial"
_NOT_PASSING = ("Credential", "ParamValidation", "Profile", "NotImplemented")
"""In names of errors."""
_CHECK_PATIENCE = Patience(total_s=5.0)
"""Of a launcher, which somebody waits for."""


def parse_target(text: str) -> Address:
    """The address of a folder that files are to be copied to.

    Raises:
        ConfigurationError: it is no such address, or a secret stands in it.
    """
    if not is_address(text):
        raise ConfigurationError(
            "--to is no address: expected an address with its scheme, such as s3://bucket/prefix, or file:///folder"
        )
    address = Address(text.rstrip("/"))
    shown = str(address)
    if address.whole != shown or re.search(r"[?#]", address.whole):
        raise ConfigurationError(
            f"--to {shown}: it has a user, a password or a query, and would stand with it in the study's journal; "
            "give it without, and let fsspec find credentials in the environment or its own configuration"
        )
    if address.protocol in _READ_ONLY:
        raise ConfigurationError(
            f"--to {shown}: nothing can be written by HTTP; s3://, gs://, sftp:// and file:// can"
        )
    if address.protocol in ("file", "local"):
        if not _local_path(address).is_absolute():
            raise ConfigurationError(f"--to {shown}: expected an absolute path, as in file:///archive/study")
        return address
    try:
        parse_address(text)
    except ValueError as error:
        raise ConfigurationError(f"--to: {error}") from None
    return address


def local_folder(address: Address) -> Path | None:
    """The folder of this machine that a target is; None where it lies elsewhere."""
    return _local_path(address) if address.protocol in ("file", "local") else None


def _local_path(address: Address) -> Path:
    return Path(unquote(address.whole.partition("://")[2]))


class Target:
    """A folder that files are copied into; any number of threads may do so."""

    def __init__(self, address: Address, *, patience: Patience = PATIENCE) -> None:
        """Raises RemoteError where the library does not take the address."""
        import fsspec

        self.address = address
        self._patience = patience
        folder = local_folder(address)
        try:
            # Listings are those of now: another process may have written since.
            if folder is not None:
                self._fs, self._root = fsspec.filesystem("file", auto_mkdir=True), str(folder)
            else:
                self._fs, self._root = fsspec.core.url_to_fs(address.whole, use_listings_cache=False)
        # Whatever a library does not like of an address or of its configuration.
        except Exception as error:  # noqa: BLE001
            raise RemoteError(f"{address}: it cannot be opened: {_told(error)}") from None

    def check_writable(self) -> None:
        """Write a file of no bytes and remove it.

        Raises:
            RemoteError: there is no such bucket, or no right to write to it.
        """
        path = self._path(f".{uuid.uuid4().hex}{_PARTIAL}")

        def write() -> None:
            self._make_folder(path)
            self._fs.pipe_file(path, b"")

        self._try(write, _CHECK_PATIENCE)
        self._try(lambda: self._fs.rm_file(path), _CHECK_PATIENCE)

    def digest(self, name: str) -> str | None:
        """The SHA-256 of the bytes under a name, read back; None where there are none."""

        def read() -> str | None:
            try:
                with self._fs.open(self._path(name), "rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return None

        return self._try(read)

    def put_file(self, source: Path, name: str) -> None:
        """Copy a file of this machine: the whole of it appears, or nothing."""
        self._whole(name, lambda path: self._fs.put_file(str(source), path))

    def put_bytes(self, data: bytes, name: str) -> None:
        """Write some bytes: all of them appear, or nothing."""
        self._whole(name, lambda path: self._fs.pipe_file(path, data))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

        def remove() -> None:
            if self._fs.exists(self._path(name)):
                self._fs.rm_file(self._path(name))

        self._try(remove)

    def remove_partial(self) -> None:
        """Remove what a copying that was killed left half written."""

        def remove() -> None:
            if self._fs.exists(self._root):
                for path in self._fs.find(self._root):
                    if str(path).endswith(_PARTIAL):
                        self._fs.rm_file(path)

        if not self._puts_at_once:
            self._try(remove)

    @property
    def _puts_at_once(self) -> bool:
        return self.address.protocol in _PUTS_AT_ONCE

    def _whole(self, name: str, write: Callable[[str], object]) -> None:
        final = self._path(name)

        def once() -> None:
            if self._puts_at_once:
                write(final)
                return
            partial = f"{final}.{uuid.uuid4().hex[:12]}{_PARTIAL}"
            self._make_folder(final)
            write(partial)
            self._fs.mv(partial, final)

        self._try(once)

    def _make_folder(self, path: str) -> None:
        # Object storage has none, and would be asked for a bucket of that name.
        if not self._puts_at_once:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _try(self, do: Callable[[], Result], patience: Patience | None = None) -> Result:
        def once() -> Result:
            try:
                return do()
            except FileNotFoundError as error:
                raise RemoteError(
                    f"{self.address}: there is no such bucket or folder: {_told(error)}; make it, or name another"
                ) from None
            except PermissionError as error:
                raise RemoteError(f"{self.address}: {_told(error)}; {_NO_RIGHT}") from None
            # Each store's library has errors of its own; those of credentials and of this machine do not pass.
            except Exception as error:  # noqa: BLE001
                if any(word in type(error).__name__ for word in _NOT_PASSING):
                    raise RemoteError(f"{self.address}: {_told(error)}; {_NO_RIGHT}") from None
                if local_folder(self.address) is not None or getattr(error, "errno", 0) in (
                    errno.ENOSPC,
                    errno.EDQUOT,
                ):
                    raise RemoteError(f"{self.address}: it cannot be written: {_told(error)}") from None
                raise PassingFault(_told(error)) from None

        return patiently(once, str(self.address), patience or self._patience)


_NO_RIGHT = (
    "the store gives no right to write or read there: credentials are missing or have expired, which fsspec takes "
    "from the environment or its own configuration"
)


def _told(error: BaseException) -> str:
    """What a library says of a fault, in one line, without what may be secret."""
    text: Any = without_secrets(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
