"""Connections that cannot shut others out: whoever sends half a request, or nothing, gives way.

uvicorn waits for the head of a request for ever, and counts every connection. Here a head has a time in which it must
have come, and of too many on which no whole request has arrived the oldest is ended.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_WAITING = 256
"""Connections at a time on which no whole request is there: those of forty browsers, six each."""
MOST_CONNECTIONS = 2 * MOST_WAITING
"""With those at work; where there are more, others are told to come again (503)."""
LONGEST_HEAD_S = 10.0
"""So long may the head of a request take, from the first byte to the last; slow ones send a byte now and then."""


class Connection(H11Protocol):
    """A connection of uvicorn that ends where no whole request comes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take uvicorn's arguments."""
        super().__init__(*args, **kwargs)
        self.waiting_since = self.loop.time()
        self._head_timer: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether no whole request is there to be answered."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; the one that has waited longest gives its place where there is none left."""
        super().connection_made(transport)
        self._expect_head()
        waiting = [cast("Connection", each) for each in self.connections if cast("Connection", each).is_waiting]
        if len(waiting) > MOST_WAITING:
            min(waiting, key=lambda each: each.waiting_since).end()

    def data_received(self, data: bytes) -> None:
        """Take bytes; once a head is whole its time no longer runs."""
        super().data_received(data)
        has_head = self.cycle is not None and not self.cycle.response_complete
        if has_head and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        elif not has_head and self._head_timer is None:
            self._expect_head()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self.waiting_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def end(self) -> None:
        """End at once."""
        # Counted no more from now on: the loop tells of the end only later.
        self.connections.discard(self)
        self.transport.abort()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(LONGEST_HEAD_S, self.end)
