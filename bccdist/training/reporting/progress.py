"""The progress line of an epoch: how far, how fast, and when it and the run will end."""

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from bccdist.durations import as_duration, as_end, local_now

_EVERY_S = 10.0


class _Mark(NamedTuple):
    """The moment at which a step was done."""

    step: int
    time_s: float
    waited_s: float
    """Time waited for patches since the start."""


class Progress:
    """Says every ten seconds, and at the last step, how far an epoch is.

    The speed is that of the last ten seconds; the ends follow from the pace since the second step, because the first
    one also waits for readers and compilers to start.
    """

    def __init__(
        self,
        *,
        epoch: int,
        num_epochs: int,
        num_steps: int,
        global_batch: int,
        first_step: int,
        validation_s: float | None,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        local_time: Callable[[], datetime] = local_now,
    ) -> None:
        """Start the clock.

        Args:
            epoch: the epoch at hand; the first is 1.
            num_epochs: epochs of the run.
            num_steps: steps of each epoch.
            global_batch: patches of a step.
            first_step: steps of this epoch that were done before, so 0 unless it is resumed.
            validation_s: what the last validation took; None where there was none yet.
            say: gets the line.
            clock: a time in seconds that is never set back.
            local_time: the time of day.
        """
        self._epoch, self._num_epochs = epoch, num_epochs
        self._num_steps, self._global_batch = num_steps, global_batch
        self._validation_s = validation_s
        self._say, self._clock, self._local_time = say, clock, local_time
        start = _Mark(first_step, clock(), 0.0)
        self._said_s = start.time_s
        self._pace_from = start
        self._recent = deque([start])
        """The marks of the last ten seconds, and the one before."""

    def report(self, step: int, loss: float, waited_s: float) -> None:
        """Take note of a step that is done.

        Args:
            step: its number in the epoch; the first is 1.
            loss: the step's loss.
            waited_s: the part of the step's time that was spent waiting for patches.
        """
        mark = _Mark(step, self._clock(), self._recent[-1].waited_s + waited_s)
        step_s = (mark.time_s - self._pace_from.time_s) / (mark.step - self._pace_from.step)
        if len(self._recent) == 1:
            self._pace_from = mark
        self._recent.append(mark)
        while len(self._recent) > 2 and self._recent[1].time_s <= mark.time_s - _EVERY_S:
            self._recent.popleft()
        if mark.time_s - self._said_s >= _EVERY_S or step == self._num_steps:
            self._said_s = mark.time_s
            self._say(f"{self._speed(mark, loss)}, {self._ends(step, step_s)}")

    def _speed(self, now: _Mark, loss: float) -> str:
        before = self._recent[0]
        elapsed_s = now.time_s - before.time_s
        rate = (now.step - before.step) * self._global_batch / elapsed_s
        waited = (now.waited_s - before.waited_s) / elapsed_s
        return (
            f"epoch {self._epoch}/{self._num_epochs} step {now.step}/{self._num_steps}: loss {loss:.4f}, "
            f"{rate:.1f} patches/s, {100 * waited:.0f} % of the time waiting for patches"
        )

    def _ends(self, step: int, step_s: float) -> str:
        validation_s = self._validation_s or 0.0
        epoch_s = (self._num_steps - step) * step_s + validation_s
        run_s = epoch_s + (self._num_epochs - self._epoch) * (self._num_steps * step_s + validation_s)
        without = "" if self._validation_s is not None else ", validation not counted"
        return f"epoch ends in {self._in(epoch_s)}, run in {self._in(run_s)}{without}"

    def _in(self, seconds: float) -> str:
        return f"{as_duration(seconds)} ({as_end(seconds, self._local_time())})"
