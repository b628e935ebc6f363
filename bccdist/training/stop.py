"""A request to stop, noted when its signal comes and obeyed at the next edge of a step, or of one of validation.

Slurm announces the end of a job's time, or a preemption, with USR2 or TERM; a person presses Ctrl-C (INT), or closes
the terminal (HUP). Whoever waited for the signal before gets it once the state is saved.
"""

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR2)
"""In the order of what they weigh where ranks were told different ones."""
_EXIT_BY_SIGNAL = 128
"""Added to the signal's number, as shells do."""


class StopRequest:
    """While it is entered, signals are noted and do nothing else; the first one counts.

    A second Ctrl-C interrupts at once, as if nobody were here. What is ignored, as HUP under nohup, stays so.
    """

    def __init__(self) -> None:
        self._noted: int | None = None
        self._is_interrupted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Python runs handlers in the main thread only; elsewhere nobody can be asked to stop.
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._is_interrupted:
                raise KeyboardInterrupt
            self._is_interrupted = True
        if self._noted is None:
            self._noted = number

    @property
    def as_counts(self) -> dict[str, float]:
        """For each of `SIGNALS`, by name, 1 if it came; the sum over all ranks says what any of them was told."""
        return {number.name: float(self._noted == number) for number in SIGNALS}


def asked_to_stop(counts: Mapping[str, float]) -> signal.Signals | None:
    """The signal that the ranks agree to obey, from the sums of their `as_counts`: the last of `SIGNALS`."""
    came = [number for number in SIGNALS if counts.get(number.name, 0) > 0]
    return came[-1] if came else None


def leave(number: signal.Signals, *, is_first: bool, wait_for_the_first: Callable[[], None]) -> None:
    """End this process, after its state was saved and the old handlers are back.

    The first rank hands the signal on: a handler ends the process in its own way, none ends it at once, and one that
    returns is followed by an exit. The other ranks stay until the first has gone, because a rank that exits can take
    it with it before it has written down what it used.
    """
    if is_first:
        signal.raise_signal(number)
    else:
        wait_for_the_first()
    sys.exit(_EXIT_BY_SIGNAL + number)
