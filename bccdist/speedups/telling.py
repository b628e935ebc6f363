"""What the measuring job says while it is at work: what it will do, how far it is, and how long the rest takes."""

from collections.abc import Mapping, Sequence
from time import perf_counter

from bccdist.durations import as_duration
from bccdist.log import LOG

_EVERY_S = 60.0


class PassTold:
    """Tells of one pass over a slide, a line a minute: called with the share that is done, 0 to 1."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = self._told = perf_counter()

    def __call__(self, share: float) -> None:
        """Say so where the last line is a minute old."""
        now = perf_counter()
        if share > 0 and now - self._told >= _EVERY_S:
            self._told = now
            left_s = (now - self._started) * (1 - share) / share
            LOG.info(f"{self._what}: {share:.0%} done, about {as_duration(left_s)} left of it")


def text_of_fields(fields_px: Mapping[str, Mapping[str, int]]) -> str:
    """How far each output sees, in words: the half-widths that hold 99.9 % of it."""
    return ", ".join(f"{psi} {widths['99.9']} px" for psi, widths in fields_px.items())


def text_of_paces(network_s: Mapping[str, float]) -> str:
    """What each way took, the slowest first."""
    slowest_first = sorted(network_s.items(), key=lambda each: -each[1])
    return ", ".join(f"{way} {as_duration(seconds)}" for way, seconds in slowest_first)


def text_of_rest(seconds: Sequence[float], num_left: int) -> str:
    """How long so many further slides take, by those that are done; empty where none is left."""
    if not num_left:
        return ""
    left_s = num_left * sum(seconds) / len(seconds)
    return f"; about {as_duration(left_s)} for the {num_left} left"
