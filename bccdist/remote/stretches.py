"""Stretches of bytes of a file: which are there, which are missing, and which are asked for together."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

Stretch = tuple[int, int]
"""First byte, and the one after the last."""


class Stretches:
    """A set of bytes as sorted stretches that do not touch."""

    def __init__(self, stretches: Iterable[Stretch] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in stretches:
            self.add(start, end)

    def __iter__(self) -> Iterator[Stretch]:
        return zip(self._starts, self._ends, strict=True)

    @property
    def num_bytes(self) -> int:
        """How many bytes are in the set."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        """Put the bytes of one stretch in."""
        if start >= end:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]

    def missing(self, start: int, end: int) -> Iterator[Stretch]:
        """What of a stretch is not in the set, from its beginning on."""
        number = bisect_right(self._ends, start)
        while start < end:
            if number == len(self._starts) or self._starts[number] >= end:
                yield start, end
                return
            if self._starts[number] > start:
                yield start, self._starts[number]
            start, number = self._ends[number], number + 1

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any byte of a stretch is in the set."""
        number = bisect_right(self._ends, start)
        return start < end and number < len(self._starts) and self._starts[number] < end


def merged(stretches: Sequence[Stretch], *, gap: int) -> list[Stretch]:
    """Stretches in order, those in one that lie no more than `gap` bytes apart."""
    together: list[list[int]] = []
    for start, end in sorted(stretches):
        if together and start - together[-1][1] <= gap:
            together[-1][1] = max(together[-1][1], end)
        else:
            together.append([start, end])
    return [(start, end) for start, end in together]


def cut(stretches: Iterable[Stretch], *, most: int) -> Iterator[Stretch]:
    """The same bytes in stretches of at most `most`, all of one about as long."""
    for start, end in stretches:
        num = max(1, -(-(end - start) // most))
        for part in range(num):
            yield start + (end - start) * part // num, start + (end - start) * (part + 1) // num
