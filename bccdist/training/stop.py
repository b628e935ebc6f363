"""A request to stop, noted when its signal comes and obeyed at the next step's edge.

Slurm announces the end of a job's time, or a preemption, with USR2 or TERM. Whoever waited for the signal before
(submitit, which queues the job again) gets it once the state is saved.
"""

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
_EXIT_BY_SIGNAL = 128
"""Added to the signal's number, as shells do."""


class StopRequest:
    """While it is entered, signals are noted and do nothing else; nested signals keep the first."""

    def __init__(self) -> None:
        self._noted: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Python runs handlers in the main thread only; elsewhere nobody can be asked to stop.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._noted is None:
            self._noted = number

    @property
    def as_counts(self) -> dict[str, float]:
        """For each of `SIGNALS`, by name, 1 if it came; the sum over all ranks says what any of them was told."""
        return {number.name: float(self._noted == number) for number in SIGNALS}


def asked_to_stop(counts: Mapping[str, float]) -> signal.Signals | None:
    """The signal that the ranks agree to obey, from the sums of their `as_counts`; USR2 before TERM."""
    came = [number for number in SIGNALS if counts[number.name] > 0]
    return came[-1] if came else None


def leave(number: signal.Signals, *, is_first: bool, wait_for_the_first: Callable[[], None]) -> None:
    """End this process, after its state was saved and the old handlers are back.

    The first rank hands the signal on: a handler of submitit's queues the job again and ends the process, none ends
    it at once, and one that returns is followed by an exit. The other ranks stay until the first has gone, because
    a rank that exits can take it with it before the job is queued.
    """
    if is_first:
        signal.raise_signal(number)
    else:
        wait_for_the_first()
    sys.exit(_EXIT_BY_SIGNAL + number)
