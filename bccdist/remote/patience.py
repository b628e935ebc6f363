"""How long a server is asked again: networks, name servers and stores fail for a while, and come back."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bccdist.errors import RemoteError
from bccdist.log import LOG

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long and how often a request is made again, and how long one answer may take."""

    total_s: float = 180.0
    """From the first failure of a request on; a name server that is gone for a minute costs no slide."""
    first_pause_s: float = 0.5
    longest_pause_s: float = 20.0
    """Each pause is twice the one before, up to this."""
    connect_s: float = 10.0
    stall_s: float = 30.0
    """Without a byte, after which an answer counts as broken off."""


PATIENCE = Patience()


class PassingFault(Exception):  # noqa: N818 - no error yet: it is tried again
    """A request failed in a way that may pass."""


def patiently(
    ask: Callable[[], Result], what: str, patience: Patience, tell: Callable[[str], None] = LOG.warning
) -> Result:
    """What `ask` returns, asked again with growing pauses as long as it raises `PassingFault`.

    Args:
        ask: asks once.
        what: is asked for.
        patience: how long.
        tell: told of the first failure.

    Raises:
        RemoteError: it still does when the time is over.
    """
    end_s: float | None = None
    pause_s = patience.first_pause_s
    while True:
        try:
            return ask()
        except PassingFault as fault:
            now_s = time.monotonic()
            if end_s is None:
                end_s = now_s + patience.total_s
                tell(f"{what}: {fault}; it is asked again for up to {patience.total_s:g} s")
            if now_s + pause_s > end_s:
                raise RemoteError(
                    f"{what}: {fault}, asked again and again for {patience.total_s:g} s; launch again once the server "
                    "and the way to it are well"
                ) from None
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, patience.longest_pause_s)
