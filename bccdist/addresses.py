"""Where a file lies: a path of this machine, or an address of a server or of object storage.

An address may hold a password or a signature. It is whole only for the library that reads it; whatever prints it,
a message, a table or a study's file, gets it without user, password and query.
"""

import os
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

from bccdist.errors import ConfigurationError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CHAIN = "::"
"""Between the addresses of fsspec's chains, such as a zip on a server."""
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>|]+")
_AUTHORITY = re.compile(r"[^\s@:/\\]*(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")
"""Host and port; of object storage the bucket."""
_LOST_SLASHES = re.compile(r"(https?|s3a?|gs|gcs|abfss?|az|ftp|sftp|hdfs):(?!//)", re.IGNORECASE)
_TAKEN_FOR_PATH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_HOST_FIRST = re.compile(r"(//[^/]|(?:[A-Za-z0-9-]+\.)+(?:org|com|net|edu|gov|io|eu|info|[a-z]{2})(?::[0-9]+)?/)")
"""How an address without its scheme begins."""
_USUAL = ("http", "https", "s3", "gs", "gcs", "abfs", "az", "ftp", "sftp", "hdfs", "webdav")


@dataclass(frozen=True, slots=True)
class Address:
    """The address of one file, as fsspec understands it."""

    whole: str = field(repr=False)
    """With whatever secret stands in it, for the library that opens it."""

    def __str__(self) -> str:
        """The address without user, password and query."""
        return _shown(self.whole)

    def __repr__(self) -> str:
        return f"Address({_shown(self.whole)!r})"

    @property
    def protocol(self) -> str:
        """What stands before its first `://`."""
        return self.whole.partition("://")[0].lower()

    @property
    def host(self) -> str:
        """The server, with its port; of object storage the bucket."""
        return str(self).partition("://")[2].partition("/")[0]

    @property
    def name(self) -> str:
        """The file's name."""
        return unquote(str(self).split(_CHAIN)[0].rstrip("/").rpartition("/")[2])

    @property
    def suffix(self) -> str:
        """The ending of its name, with the dot."""
        return Path(self.name).suffix

    def beside(self, text: str) -> "Address":
        """The file that `text` names, seen from the folder in which this one lies.

        The query stays behind: a signature is of one file.

        Raises:
            ValueError: `text` leads out of that folder.
        """
        names = os.path.normpath(text)
        if text.startswith("/") or names.split("/")[0] == "..":
            raise ValueError(
                f"{text!r} leads out of the folder of {self}; a table that is read from a server may name what lies "
                "beside it or below, or whole addresses"
            )
        first, *others = self.whole.split(_CHAIN)
        folder = re.split(r"[?#]", first)[0].rpartition("/")[0]
        return Address(_CHAIN.join([f"{folder}/{names}", *others]))


Location = Path | Address
"""Where a file lies."""


def on_this_machine(location: Location) -> Path:
    """The path of a file that has to lie on this machine.

    Raises:
        ValueError: it lies elsewhere.
    """
    if isinstance(location, Path):
        return location
    raise ValueError(f"{location} lies on a server, and a file of this machine is needed: copy it")


def resolved(location: Location) -> Location:
    """A path without links and dots; an address as it is."""
    return location.resolve() if isinstance(location, Path) else location


def is_address(text: str) -> bool:
    """Whether a text is an address and no path."""
    return _SCHEME.match(text) is not None


def local_path(text: str) -> Path:
    """The path of this machine that a word of a command line is.

    Raises:
        ConfigurationError: it is an address.
    """
    if is_address(text):
        raise ConfigurationError(
            f"{_shown(text)} is an address, and a path of this machine is expected in its place: no server is "
            "searched or written to. Slides on servers are named in a slides.csv, an address in each row; results "
            "go to stores by `python jobs/launch_copy_out.py --study FOLDER --to ADDRESS`"
        )
    return Path(text)


def parse_address(text: str) -> Address:
    """The address that a text is.

    Raises:
        ValueError: its protocol is not known, the package that speaks it is not installed, or its host cannot be told.
    """
    found = _SCHEME.match(text)
    if found is None:
        raise ValueError(f"{without_secrets(text)!r} is no address: it begins with no protocol, such as https://")
    for part in text.split(_CHAIN):
        _, is_there, rest = part.partition("://")
        authority = re.split(r"[/?#]", rest)[0].rpartition("@")[2]
        if is_there and not _AUTHORITY.fullmatch(authority):
            raise ValueError(
                "an address's host cannot be told from what stands before it: write the signs / : @ ? # of a password "
                "as %2F %3A %40 %3F %23, or keep it in ~/.netrc or in fsspec's configuration"
            )
        if is_there and not authority and part.partition("://")[0].lower() in ("http", "https", "s3", "gs"):
            raise ValueError(f"{_shown(text)!r} names no host after ://")
    _refuse_unknown(found[1].lower(), text)
    return Address(text)


def _refuse_unknown(protocol: str, text: str) -> None:
    import fsspec  # at once for those who name no address

    if protocol in ("file", "local"):
        raise ValueError(f"{_shown(text)!r} is a file of this machine; give its path")
    known = set(fsspec.available_protocols())
    if protocol not in known:
        close = get_close_matches(protocol, _USUAL, n=1)
        meant = f"; did you mean {close[0]}://?" if close else f"; such as {', '.join(_USUAL[:4])} are"
        raise ValueError(f"{_shown(text)!r}: the protocol {protocol!r} is not known{meant}")
    needs = {"s3": "s3fs", "s3a": "s3fs", "http": "aiohttp", "https": "aiohttp"}.get(protocol)
    if needs is not None:
        if find_spec(needs) is None:
            raise ValueError(f"{_shown(text)!r} needs the package {needs}; `pip install 'bccdist[remote]'` brings it")
        return
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise ValueError(f"{_shown(text)!r} needs a package that is not installed: {error}") from None


def doubt_on_path(text: str) -> str:
    """What to add where a path is not there and looks like an address that lost its beginning; else empty."""
    if _LOST_SLASHES.match(text):
        return "; an address has :// after its protocol"
    if _HOST_FIRST.match(text):
        return "; if it is an address, give its protocol, such as https:// or s3://"
    return ""


def protocol_lost_in(path: Path) -> str | None:
    """The protocol of an address that was taken for a path, which lost it a slash; None of a path."""
    found = _TAKEN_FOR_PATH.match(str(path))
    return found[1] if found else None


def without_secrets(text: str) -> str:
    """A text whose addresses are shown without user, password and query."""
    return _IN_TEXT.sub(lambda found: _shown(found[0]), text) if "://" in text else text


def _shown(whole: str) -> str:
    return _CHAIN.join(map(_shown_part, whole.split(_CHAIN)))


def _shown_part(whole: str) -> str:
    scheme, is_there, rest = whole.partition("://")
    if not is_there:
        return re.split(r"[?#]", whole)[0]
    # A password may hold any sign: what stands before the last @ of the host, or of all where that is none, goes.
    plain = re.split(r"[?#]", rest)[0]
    authority, slash, path = plain.partition("/")
    authority = authority.rpartition("@")[2]
    if not _AUTHORITY.fullmatch(authority):
        return f"{scheme}://..."
    return f"{scheme}://{authority}{slash}{path}"
