"""Connections that cannot shut others out: whoever sends half a request, or nothing, or does not read, gives way.

uvicorn waits for the head of a request for ever, and for whoever does not take their answer, and counts every
connection. Here a head has a time in which it must have come, and an answer a pace at which it must be taken. Where
too many wait for the other side, those give way that have sent no whole request for longest, and those that have taken
nothing of an answer for a while; never one that has just come, or whose request a busy server has not read yet.
"""

import asyncio
import fcntl
import select
import struct
import termios
from itertools import islice
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_WAITING = 320
"""Connections at a time on which it is the other side's turn: those of fifty browsers, six each, and more."""
MOST_CONNECTIONS = 2 * MOST_WAITING
"""With those at work; where there are more, others are told to come again (503)."""
LONGEST_HEAD_S = 10.0
"""So long may the head of a request take, from the first byte to the last; slow ones send a byte now and then."""
LONGEST_UNTAKEN_S = 20.0
LONGEST_UNTAKEN_IN_A_CROWD_S = 2.0
"""Where more than `MOST_WAITING` wait; not less, because a busy client, too, reads late."""
LEAST_TAKEN_BYTES = 4096
"""So much of an answer must be taken in that time; a slow tunnel takes a hundred times as much."""


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
    def _socket(self) -> int:
        return int(self.transport.get_extra_info("socket").fileno())

    @property
    def num_untaken(self) -> int:
        """Bytes of answers that the other side has not taken; of these the system itself holds up to megabytes."""
        (num_sent,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        return self.transport.get_write_buffer_size() + int(num_sent)

    @property
    def is_without_request(self) -> bool:
        """Whether all is taken, and no whole request is there to be answered."""
        is_no_request = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        return is_no_request and not self.num_untaken

    @property
    def is_unread(self) -> bool:
        """Whether something has come that a busy loop has not read yet."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def _num_too_many(self) -> int:
        every = (cast("Connection", each) for each in self.connections)
        return sum(each.is_without_request or each.num_untaken > 0 for each in every) - MOST_WAITING

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; those that have waited longest give their places where there is none left."""
        super().connection_made(transport)
        self._expect_head()
        if (num_too_many := self._num_too_many) > 0:
            others = (cast("Connection", each) for each in self.connections if each is not self)
            by_age = sorted((each for each in others if each.is_without_request), key=lambda each: each.waiting_since)
            for each in islice((each for each in by_age if not each.is_unread), num_too_many):
                each.end()

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
        if self.num_untaken:
            self._look_later(self.num_untaken, self._num_resumed, self.loop.time() + LONGEST_UNTAKEN_S)

    def _look_later(self, num_bytes: int, num_resumed: int, until_s: float) -> None:
        self._answer_timer = self.loop.call_later(
            LONGEST_UNTAKEN_IN_A_CROWD_S, self._end_if_untaken, num_bytes, num_resumed, until_s
        )

    def _end_if_untaken(self, num_bytes: int, num_resumed: int, until_s: float) -> None:
        num_taken = num_bytes - self.num_untaken
        # Where writing was resumed, more than that was taken, and more came since.
        if num_taken >= min(LEAST_TAKEN_BYTES, num_bytes) or self._num_resumed > num_resumed:
            self._expect_taken()
        elif self._num_too_many > 0 or self.loop.time() >= until_s:
            self.end()
        else:
            self._look_later(num_bytes, num_resumed, until_s)
