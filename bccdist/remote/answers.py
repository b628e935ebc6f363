"""Ranges of bytes of one file on a server or on object storage, each held against the version that was opened.

HTTP and S3 are asked through fsspec's own session and client, so that credentials, proxies and endpoints are those of
its configuration, but the answers are looked at here: fsspec does not tell a whole file from the range that was asked
for, nor one version of a file from the next.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit, urlunsplit

from bccdist.addresses import Address, without_secrets
from bccdist.errors import RemoteError, RemoteFileMissingError
from bccdist.remote.patience import PATIENCE, PassingFault, Patience

_MOST_REDIRECTS = 5
_PASSING = frozenset({408, 421, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524})
"""Status codes of servers that are busy or restarting."""
_TIMES = ("mtime", "LastModified", "last_modified", "updated")
_ETAGS = ("ETag", "etag", "md5Hash", "checksum")
"""What stores call the time of a file's last change, and the digest of its content."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_NO_RIGHT = (
    "the server gives no right to read it: a link may have expired, or credentials are missing, which fsspec takes "
    "from ~/.netrc, the environment or its own configuration"
)


@dataclass(frozen=True, kw_only=True)
class Version:
    """What tells one content of a file from the next."""

    size_bytes: int
    etag: str = ""
    modified: str = ""

    def change_to(self, other: "Version") -> str:
        """What speaks for another content; empty where nothing does."""
        if self.size_bytes != other.size_bytes:
            return f"it has {other.size_bytes} bytes, and had {self.size_bytes}"
        # An answer may leave one out; where both say it, it has to be the same.
        if self.etag and other.etag and self.etag != other.etag:
            return f"its ETag is {other.etag}, and was {self.etag}"
        if self.modified and other.modified and self.modified != other.modified:
            return f"it was modified at {other.modified}, and had been at {self.modified}"
        return ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came for a range: all of it."""

    data: bytes
    version: Version


_NOT_PASSING = ("Credential", "ParamValidation", "Profile", "NotImplemented")
"""In names of errors."""


class NoRangesError(Exception):
    """The server sends the whole file, whatever range it is asked for."""


class Asking(Protocol):
    """One file that can be asked for ranges; several threads may ask."""

    def ask(self, start: int, end: int) -> Answer:
        """The bytes from `start` up to `end`, or to the file's end.

        Raises:
            PassingFault: it may come when asked again.
            NoRangesError: only the whole file can be had.
            RemoteError: it cannot be had.
        """

    def whole(self) -> Iterator[bytes]:
        """All bytes from the first one on, where ranges are not to be had."""


def asking(address: Address, patience: Patience = PATIENCE) -> Asking:
    """What asks for the ranges of a file.

    Raises:
        RemoteError: the library does not take the address.
    """
    import fsspec

    options: dict[str, Any] = {}
    if address.protocol in ("http", "https"):
        # Proxies of the environment and passwords of ~/.netrc, unless fsspec's configuration says what else.
        configured = fsspec.config.conf.get(address.protocol, {})
        if "client_kwargs" not in configured:
            options["client_kwargs"] = {"trust_env": True}
    try:
        fs, path = fsspec.core.url_to_fs(address.whole, **options)
    # Whatever a library does not like of an address or of its configuration.
    except Exception as error:  # noqa: BLE001
        raise RemoteError(f"{address}: it cannot be opened: {without_secrets(str(error))}") from None
    if address.protocol in ("http", "https"):
        return _Http(address, fs, patience)
    if address.protocol in ("s3", "s3a"):
        return _S3(address, fs, path, patience)
    return _OtherStore(address, fs, path)


class _Http:
    """A file of an HTTP server."""

    def __init__(self, address: Address, fs: Any, patience: Patience) -> None:
        self._address = address
        self._fs = fs
        self._patience = patience

    def ask(self, start: int, end: int) -> Answer:
        answer: Answer = _in_loop(self._fs, self._ask(start, end))
        return answer

    async def _ask(self, start: int, end: int) -> Answer:
        import aiohttp

        try:
            response = await self._get({"Range": f"bytes={start}-{end - 1}"})
            try:
                version, length = self._checked(response, start, end)
                data = bytearray()
                # One byte more than expected, to see one that is too long.
                while len(data) <= length and (more := await response.content.read(length + 1 - len(data))):
                    data += more
            finally:
                # What was not read to its end cannot be used for the next request.
                response.release() if response.content.at_eof() else response.close()
        except RemoteError:
            raise
        except TimeoutError:
            raise PassingFault(f"no byte came for {self._patience.stall_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PassingFault(_told(error)) from None
        if len(data) != length:
            raise PassingFault(f"{len(data)} bytes came from byte {start} on, expected {length}")
        return Answer(data=bytes(data), version=version)

    async def _get(self, headers: Mapping[str, str]) -> Any:
        """The answer, past redirects of the same host."""
        import aiohttp

        session = await self._fs.set_session()
        kwargs = dict(self._fs.kwargs)
        given = {**kwargs.pop("headers", {}), **headers, "Accept-Encoding": "identity"}
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._patience.connect_s, sock_read=self._patience.stall_s
        )
        url = self._fs.encode_url(self._address.whole)
        for _ in range(_MOST_REDIRECTS + 1):
            response = await session.get(url, headers=given, timeout=timeout, **{**kwargs, "allow_redirects": False})
            if response.status not in (301, 302, 303, 307, 308):
                return response
            before, there = urlsplit(str(url)), urlsplit(urljoin(str(url), response.headers.get("Location", "")))
            response.release()
            if there.hostname != before.hostname or (before.scheme == "https" and there.scheme != "https"):
                raise RemoteError(
                    f"{self._address}: the server leads on to another host, {there.scheme}://{there.hostname}, which "
                    "was not named; give the address there, if you trust it"
                )
            # A redirect does not repeat the user and password of the first address.
            user, at, _ = before.netloc.rpartition("@")
            url = self._fs.encode_url(urlunsplit(there._replace(netloc=user + at + there.netloc.rpartition("@")[2])))
        raise RemoteError(f"{self._address}: the server leads on more than {_MOST_REDIRECTS} times")

    def _checked(self, response: Any, start: int, end: int) -> tuple[Version, int]:
        """The version that an answer is of, and how many bytes it has to have."""
        _refuse_status(response.status, self._address, start)
        if response.status == 200:
            raise NoRangesError
        said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status != 206 or said is None:
            raise RemoteError(
                f"{self._address}: the server answered {response.status} with Content-Range "
                f"{response.headers.get('Content-Range')!r}, expected 206 and the range that it was asked for"
            )
        if said[3] == "*":
            raise RemoteError(f"{self._address}: the server does not say how many bytes the file has")
        version = Version(
            size_bytes=int(said[3]),
            etag=response.headers.get("ETag", ""),
            modified=response.headers.get("Last-Modified", ""),
        )
        last = min(end, version.size_bytes) - 1
        if int(said[1]) != start or not start <= int(said[2]) <= last:
            raise PassingFault(f"bytes {said[1]} to {said[2]} came, expected {start} to {last}")
        if int(said[2]) < last:
            raise PassingFault(f"bytes {start} to {said[2]} came alone, expected them up to {last}")
        return version, last + 1 - start

    def whole(self) -> Iterator[bytes]:
        """All bytes in pieces, by one request."""
        response = _in_loop(self._fs, self._open_whole())
        try:
            said = response.headers.get("Content-Length")
            num_bytes = 0
            while piece := _in_loop(self._fs, self._piece(response)):
                num_bytes += len(piece)
                yield piece
            if said is not None and num_bytes != int(said):
                raise PassingFault(f"{num_bytes} bytes came, expected {said}")
        finally:
            self._fs.loop.call_soon_threadsafe(response.close)

    async def _open_whole(self) -> Any:
        import aiohttp

        try:
            response = await self._get({})
        except RemoteError:
            raise
        except TimeoutError:
            raise PassingFault(f"no byte came for {self._patience.stall_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PassingFault(_told(error)) from None
        try:
            _refuse_status(response.status, self._address, 0)
        except BaseException:
            response.close()
            raise
        return response

    async def _piece(self, response: Any) -> bytes:
        import aiohttp

        try:
            piece: bytes = await response.content.read(1 << 20)
        except TimeoutError:
            raise PassingFault(f"no byte came for {self._patience.stall_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PassingFault(_told(error)) from None
        return piece


def _refuse_status(status: int, address: Address, start: int) -> None:
    if status in (200, 206):
        return
    if status in _PASSING:
        raise PassingFault(f"the server answered {status}")
    if status in (404, 410):
        raise RemoteFileMissingError(f"{address}: it is not there: the server answered {status}")
    if status in (401, 403, 407):
        raise RemoteError(f"{address}: the server answered {status}; {_NO_RIGHT}")
    if status == 416:
        raise RemoteError(
            f"{address}: the server answered 416, as the file ends before byte {start}: it is empty, or another one "
            "by now"
        )
    raise RemoteError(f"{address}: the server answered {status}, expected 206, a part of the file")


class _S3:
    """An object of S3 or what speaks as S3 does."""

    def __init__(self, address: Address, fs: Any, path: str, patience: Patience) -> None:
        self._address = address
        self._fs = fs
        self._patience = patience
        self._bucket, self._key, self._version_id = fs.split_path(path)

    def ask(self, start: int, end: int) -> Answer:
        answer: Answer = _in_loop(self._fs, self._ask(start, end))
        return answer

    async def _ask(self, start: int, end: int) -> Answer:
        more = {"VersionId": self._version_id} if self._version_id else {}
        with _told_errors(self._address):
            response = await self._fs._call_s3(  # noqa: SLF001 - its public name is for threads without a loop
                "get_object", Bucket=self._bucket, Key=self._key, Range=f"bytes={start}-{end - 1}", **more
            )
            said = _CONTENT_RANGE.fullmatch(response.get("ContentRange", ""))
            if said is None or said[3] == "*":
                response["Body"].close()
                raise NoRangesError
            async with response["Body"] as body:
                data = await asyncio.wait_for(body.read(), self._patience.stall_s * 2)
        version = Version(
            size_bytes=int(said[3]), etag=response.get("ETag", ""), modified=str(response.get("LastModified", ""))
        )
        expected = min(end, version.size_bytes) - start
        if int(said[1]) != start or len(data) != expected:
            raise PassingFault(f"{len(data)} bytes came from byte {said[1]} on, expected {expected} from {start} on")
        return Answer(data=data, version=version)

    def whole(self) -> Iterator[bytes]:
        raise RemoteError(f"{self._address}: the store gives no ranges of bytes; copy the slide, and name the copy")


class _OtherStore:
    """A file of any other of fsspec's file systems."""

    def __init__(self, address: Address, fs: Any, path: str) -> None:
        self._address = address
        self._fs = fs
        self._path = path

    def ask(self, start: int, end: int) -> Answer:
        with _told_errors(self._address):
            # Before and after: what changes meanwhile is told by the second one.
            before, data, after = self._version(), self._fs.cat_file(self._path, start=start, end=end), self._version()
        if change := before.change_to(after):
            raise RemoteError(f"{self._address}: {change}, while it was read")
        expected = min(end, after.size_bytes) - start
        if len(data) != expected:
            raise PassingFault(f"{len(data)} bytes came from byte {start} on, expected {expected}")
        return Answer(data=bytes(data), version=after)

    def _version(self) -> Version:
        self._fs.invalidate_cache()
        info = self._fs.info(self._path)
        if info.get("type") == "directory":
            raise RemoteError(f"{self._address}: it is a folder, expected a file")
        if info.get("size") is None:
            raise RemoteError(f"{self._address}: its store does not say how many bytes it has")
        modified, etag = (next((str(info[key]) for key in keys if info.get(key)), "") for keys in (_TIMES, _ETAGS))
        return Version(size_bytes=int(info["size"]), etag=etag, modified=modified)

    def whole(self) -> Iterator[bytes]:
        raise RemoteError(f"{self._address}: its store gives no ranges of bytes; copy the slide, and name the copy")


@contextmanager
def _told_errors(address: Address) -> Iterator[None]:
    """The errors of a store, told apart into those that pass and those that do not."""
    try:
        yield
    except (PassingFault, NoRangesError, RemoteError):
        raise
    except FileNotFoundError as error:
        raise RemoteFileMissingError(f"{address}: it is not there: {_told(error)}") from None
    except IsADirectoryError:
        raise RemoteError(f"{address}: it is a folder, expected a file") from None
    except PermissionError as error:
        raise RemoteError(f"{address}: {_told(error)}; {_NO_RIGHT}") from None
    # Each store's library has errors of its own; those of credentials and requests do not pass.
    except Exception as error:  # noqa: BLE001
        told = _told(error)
        if any(word in type(error).__name__ for word in _NOT_PASSING):
            raise RemoteError(f"{address}: {told}; {_NO_RIGHT}") from None
        if "416" in told or "InvalidRange" in told or "range" in told.lower():
            raise RemoteError(f"{address}: {told}: the file is empty, or another one by now") from None
        raise PassingFault(told) from None


def _told(error: BaseException) -> str:
    """What a library says of a fault, in one line, without what may be secret."""
    text = without_secrets(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _in_loop(fs: Any, coroutine: Any) -> Any:
    """The result of a coroutine, which runs in fsspec's thread of events."""
    return asyncio.run_coroutine_threadsafe(coroutine, fs.loop).result()
