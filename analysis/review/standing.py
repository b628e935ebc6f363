"""What of a reader's steps counts now, and which slides were opened to them: both follow the steps one by one.

A slide that holds blind sections stays closed to their reader until all of these are called Tumor or Normal: as the
sections of one slide are alike, what is said of a neighbour would tell of them (paper, section 3.2).
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from analysis.review.answers import Answer, GivenAnswer, Step, Withdrawal


class Standing:
    """The answers of one reader that count: after each step what `Said.latest` finds by reading all of them again."""

    def __init__(self) -> None:
        self.latest: dict[str, GivenAnswer] = {}
        """The answer that counts, by section."""
        self._given: dict[str, list[GivenAnswer]] = {}
        self._named: dict[str, Step] = {}
        self._num_taken_back: Counter[str] = Counter()
        """By how many withdrawals that stand a step is taken back, by its entry."""

    def take(self, step: Step) -> set[str]:
        """Take the next step; returns the sections whose answer it gives, takes back or brings back."""
        self._named[step.entry] = step
        if isinstance(step, GivenAnswer):
            self._given.setdefault(step.key, []).append(step)
        touched = set() if self._num_taken_back[step.entry] else self._changed(step, by=1)
        for key in touched:
            self._choose(key)
        return touched

    def _changed(self, step: Step, *, by: int) -> set[str]:
        """Have a step stand, or not any more, and with a withdrawal the other way round what it takes back."""
        if isinstance(step, GivenAnswer):
            return {step.key}
        touched: set[str] = set()
        for entry in step.withdrawn if isinstance(step, Withdrawal) else ():
            stood = not self._num_taken_back[entry]
            self._num_taken_back[entry] += by
            other = self._named.get(entry)
            if other is not None and stood != (not self._num_taken_back[entry]):
                touched |= self._changed(other, by=-by)
        return touched

    def _choose(self, key: str) -> None:
        standing = [each for each in self._given[key] if not self._num_taken_back[each.entry]]
        if standing:
            self.latest[key] = standing[-1]
        else:
            self.latest.pop(key, None)


class Opened:
    """The slides of which a reader may see what was predicted and annotated; one that was opened stays open."""

    def __init__(self, blind: Mapping[str, Iterable[str]]) -> None:
        """Begin with the slides without blind sections open.

        Args:
            blind: the keys of the reader's blind sections, by slide.
        """
        self.standing = Standing()
        self._closed: dict[str, frozenset[str]] = {}
        self._known: set[str] = set()
        self._blind: set[str] = set()
        self.add(blind)

    def add(self, blind: Mapping[str, Iterable[str]]) -> None:
        """Close slides of which blind sections came up only now; one that was known, and may be open, stays so."""
        new = {slide_id: frozenset(keys) for slide_id, keys in blind.items() if slide_id not in self._known}
        self._known |= new.keys()
        self._blind.update(*new.values())
        self._closed |= new
        self._open()

    def _open(self) -> None:
        # Nobody forgets what was shown: one that is open stays open where an answer is taken back.
        self._closed = {slide_id: keys for slide_id, keys in self._closed.items() if self.num_left(slide_id)}

    def take(self, step: Step) -> None:
        """Take the reader's next step."""
        if any(key in self._blind for key in self.standing.take(step)):
            self._open()

    @property
    def closed(self) -> frozenset[str]:
        """The slides of which nothing may be shown."""
        return frozenset(self._closed)

    def num_left(self, slide_id: str) -> int:
        """How many blind sections are to be called Tumor or Normal before a slide opens; 0 of one that is open.

        Unsure opens nothing: else whoever wants to know would say so first, and answer then.
        """
        latest = self.standing.latest
        return sum(
            key not in latest or latest[key].answer is Answer.UNSURE for key in self._closed.get(slide_id, frozenset())
        )
