"""Who may ask the server, and what every answer carries: in front of all routes.

The page shows patients' slides. So it answers to one token, to names of this machine alone (a foreign page that makes
its own name point here is refused), and takes nothing from forms of other pages. The token opens the front door alone,
and leaves the address there: a cookie takes its place. Both are new at every start, and whenever they are revoked.
"""

import ipaddress
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import SplitResult, parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY_BYTES = 16 << 20
_JSON = "application/json"
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_CACHING = {"/api": "private, no-store", "/tiles": "private, max-age=3600", "/": "private, no-cache"}
"""How long an answer may be kept, by the start of its path; the first that fits counts. A route may say otherwise."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask."""

    port: int
    """The server's port; it names the cookie, because cookies do not know ports."""
    names: frozenset[str]
    """What the server is called, in lower case."""
    any_address: bool = False
    """Whether addresses in numbers are names of the server, too: where it listens on all of them."""
    proxied: SplitResult | None = None
    """The address at which a proxy shows the page, which ends with /; None without one."""

    @property
    def cookie(self) -> str:
        """The name of the cookie that takes the token's place."""
        return f"review_{self.port}"

    def is_name(self, host: str) -> bool:
        """Whether a Host header, with or without a port, names the server."""
        name = urlsplit(f"//{host}").hostname or ""
        return name in self.names or (self.any_address and _is_address(name))

    def within(self, path: str) -> str:
        """A path as the routes know it: some proxies take their own part of it off, and others leave it there."""
        prefix = "/" if self.proxied is None else self.proxied.path
        return path[len(prefix) - 1 :] if path.startswith(prefix) else path


def _is_address(name: str) -> bool:
    # Not a name that somebody else can make point here.
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Keys:
    """What opens the page: the token of the address, and the cookie that a browser gets for it."""

    def __init__(self) -> None:
        """Make both."""
        self.revoke()

    def revoke(self) -> None:
        """Make new ones, so that the old ones open nothing."""
        self.token, self.cookie = secrets.token_urlsafe(24), secrets.token_urlsafe(24)


def _is_same(given: str, right: str) -> bool:
    # How long this takes does not tell how much of it is right.
    return secrets.compare_digest(given.encode(), right.encode())


class Gate:
    """Refuses what does not belong here, and adds headers to what does."""

    def __init__(
        self, app: ASGIApp, access: Access, keys: Keys | None = None, when_revoked: Callable[[], None] = lambda: None
    ) -> None:
        """Stand before `app`; without keys everybody comes in, and `when_revoked` is called once they are new ones."""
        self._app = app
        self._access = access
        self._keys = keys
        self._when_revoked = when_revoked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Headers are bytes of no known encoding; latin-1 reads any.
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        scope = {**scope, "path": self._access.within(scope["path"])}
        send = _with_headers(send, scope["path"])
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
        elif scope["path"] == "/favicon.ico":
            # Browsers ask for it by themselves, also beside a page that was refused; there is none.
            await _answer(send, 204, "")
        elif self._brings_token(scope):
            # The token leaves the address at once, so that no history or screenshot shows it.
            await _answer(send, 303, "", {"location": "./", "set-cookie": self._cookie})
        elif not self._has_cookie(headers):
            await _answer(send, 403, "this page needs its token: open the address that the server printed last")
        elif self._keys is not None and (scope["method"], scope["path"]) == ("POST", "/revoke"):
            self._keys.revoke()
            self._when_revoked()
            # Whoever revokes stays. It is asked for beside the page, and not below /api: the cookie goes there alone.
            await _answer(send, 204, "", {"set-cookie": self._cookie})
        else:
            await self._app(scope, receive, send)

    @property
    def _cookie(self) -> str:
        # Without a path it is sent to where the page lies and below: a proxy shows other things on the same machine.
        # Lax: it is sent where a link of another page leads here, and with nothing that another page asks for itself.
        is_secure = self._access.proxied is not None and self._access.proxied.scheme == "https"
        value = self._keys.cookie if self._keys is not None else ""
        return f"{self._access.cookie}={value}; HttpOnly; SameSite=Lax{'; Secure' if is_secure else ''}"

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason where a request is refused whoever asks."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._access.is_name(host):
            return 403, f"Host is {host!r}, which is no name of this server"
        if origin is not None and not self._access.is_name(urlsplit(origin).netloc):
            return 403, f"Origin is {origin!r}: another page may not ask"
        if scope["method"] == "POST":
            return _refused_body(headers)
        return None

    def _brings_token(self, scope: Scope) -> bool:
        """Whether it is the first call, with the token in the address."""
        if self._keys is None or scope["path"] != "/" or scope["method"] != "GET":
            return False
        given: Iterable[str] = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return any(_is_same(each, self._keys.token) for each in given)

    def _has_cookie(self, headers: Mapping[str, str]) -> bool:
        if self._keys is None:
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._access.cookie)
        except CookieError:
            return False
        return cookie is not None and _is_same(cookie.value, self._keys.cookie)


def _refused_body(headers: Mapping[str, str]) -> tuple[int, str] | None:
    kind, length = headers.get("content-type", ""), headers.get("content-length", "")
    if kind.split(";")[0].strip().lower() != _JSON:
        return 415, f"content-type is {kind!r}, expected {_JSON}"
    if not length.isdecimal():
        return 411, "content-length is missing"
    if int(length) > LARGEST_BODY_BYTES:
        return 413, f"it has {length} bytes, expected at most {LARGEST_BODY_BYTES}"
    return None


def _with_headers(send: Send, path: str) -> Send:
    """Add the headers that every answer carries."""
    caching = next(value for start, value in _CACHING.items() if path.startswith(start) or start == "/")

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name for name, _ in message["headers"]}
            added = {**_HEADERS, "cache-control": caching}
            message["headers"] = [
                *message["headers"],
                *((name.encode(), value.encode()) for name, value in added.items() if name.encode() not in there),
            ]
        await send(message)

    return sending


async def _answer(send: Send, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
    body = json.dumps({"error": error}).encode() if error else b""
    named = {"content-type": _JSON, "content-length": str(len(body)), **(headers or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
