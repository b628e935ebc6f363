"""Connections that cannot shut others out: whoever sends half a request, or nothing, or does not read, gives way.

uvicorn waits for the head of a request for ever, and for whoever does not take their answer, and counts every
connection. Here a head has a time in which it must have come, an answer a pace at which it must be taken, and of too
many that wait for the other side the oldest is ended.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_WAITING = 320
"""Connections at a time on which it is the other side's turn: those of fifty browsers, six each, and more."""
MOST_CONNECTIONS = 2 * MOST_WAITING
"""With those at work; where there are more, others are told to come again (503)."""
LONGEST_HEAD_S = 10.0
"""So long may the head of a request take, from the first byte to the last; slow ones send a byte now and then."""
LONGEST_UNTAKEN_S = 20.0
LEAST_TAKEN_BYTES = 4096
"""So much of an answer must be taken in each `LONGEST_UNTAKEN_S`; a slow tunnel takes a hundred times as much."""


class Connection(H11Protocol):
    """A connection of uvicorn that ends where no whole request comes, or an answer is not taken."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take uvicorn's arguments."""
        super().__init__(*args, **kwargs)
        self.waiting_since = self.loop.time()
        self._head_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._num_resumed = 0

    @property
    def is_waiting(self) -> bool:
        """Whether no whole request is there to be answered, or what was answered is not taken."""
        is_no_request = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        return is_no_request or bool(self.transport.get_write_buffer_size())

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

    def pause_writing(self) -> None:
        """See that what is too much to be sent at once is taken."""
        super().pause_writing()
        self._expect_taken()

    def resume_writing(self) -> None:
        """Go on: much of it was taken."""
        self._num_resumed += 1
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self.waiting_since = self.loop.time()
        super().on_response_complete()
        self._expect_taken()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        for timer in (self._head_timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def end(self) -> None:
        """End at once."""
        # Counted no more from now on: the loop tells of the end only later.
        self.connections.discard(self)
        self.transport.abort()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(LONGEST_HEAD_S, self.end)

    def _expect_taken(self) -> None:
        """See that more of an answer is taken, as long as some of it is left."""
        # Counted anew with each answer: what is in the buffer by then is of more than one.
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
        num_bytes = self.transport.get_write_buffer_size()
        if num_bytes:
            self._answer_timer = self.loop.call_later(
                LONGEST_UNTAKEN_S, self._end_if_untaken, num_bytes, self._num_resumed
            )

    def _end_if_untaken(self, num_bytes: int, num_resumed: int) -> None:
        num_taken = num_bytes - self.transport.get_write_buffer_size()
        # Where writing was resumed, more than that was taken, and more came since.
        is_taken = num_taken >= min(LEAST_TAKEN_BYTES, num_bytes) or self._num_resumed > num_resumed
        if is_taken:
            self._expect_taken()
        else:
            self.end()
