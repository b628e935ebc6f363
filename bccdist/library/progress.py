"""How far a prediction is: a line that is written over, in a terminal or a notebook, or a function of the user's."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from bccdist.durations import as_duration

_LEAST_S = 0.2
"""Seconds between two texts of a line: more often nobody reads them."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the prediction of one slide is."""

    slide_id: str
    share: float = 0.0
    """Of the slide's tissue that is done, 0 to 1."""
    elapsed_s: float = 0.0
    """Seconds since the slide was begun."""
    result: str = ""
    """What was found, once the slide is done; empty before."""
    number: int = 1
    """Which of the slides that were asked for it is, from 1."""
    num_slides: int = 1

    def __str__(self) -> str:
        """A line about it."""
        name = f"{self.number}/{self.num_slides} {self.slide_id}" if self.num_slides > 1 else self.slide_id
        if self.result:
            return f"{name}: {self.result}, {as_duration(self.elapsed_s)}"
        left_s = self.elapsed_s * (1 - self.share) / self.share if self.share else 0.0
        left = f", about {as_duration(left_s)} left" if self.share else ""
        return f"{name}: {self.share:4.0%}, {as_duration(self.elapsed_s)}{left}"


Told = Callable[[Progress], None]
"""What is called with each progress."""


class ProgressLine:
    """Writes progress to standard error: in place where a person looks on, and a line for each slide that is done."""

    def __init__(self) -> None:
        self._num_shown = 0
        self._shown_at_s = 0.0

    def __call__(self, progress: Progress) -> None:
        """Write it, unless something was written just now."""
        if progress.result:
            self._write(f"{progress}\n")
        elif _is_looked_at() and monotonic() - self._shown_at_s >= _LEAST_S:
            self._write(str(progress))

    def clear(self) -> None:
        """Take away what is not a finished line, where a slide came to no end."""
        if self._num_shown:
            self._write("")

    def _write(self, text: str) -> None:
        blank = f"\r{'':{self._num_shown}}\r" if self._num_shown else ""
        sys.stderr.write(blank + text)
        sys.stderr.flush()
        self._num_shown = 0 if text.endswith("\n") else len(text)
        self._shown_at_s = monotonic()


def _is_looked_at() -> bool:
    """Whether standard error shows a line that is written over: a terminal does, and so do notebooks."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
