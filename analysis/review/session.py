"""One reviewer at work on a worklist: the slides that are open, what was read of them, and the threads that read.

A few threads read all files: so a slow disk stops no other answer, and only so many tiles are in memory at once.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from analysis.outlines.chosen_regions import read_tissue
from analysis.review.answers import Answer, GivenAnswer
from analysis.review.journal import Journal
from analysis.review.tiles import TileReader
from analysis.review.worklist import Worklist, WorkSection
from analysis.study_evidence.without_paths import WithoutPaths
from bccdist.sections.chosen_output import SlideTissue
from bccdist.slides.geometry import Box

NUM_TILE_THREADS = 4
"""Two threads a core of a small machine: some wait for the disk while others decode."""
NUM_FILE_THREADS = 2
"""Threads for heatmaps, annotations and regions, which hold up neither tiles nor answers."""
_MOST_HEATMAPS, _MOST_FEATURES = 6, 64
"""Kept in memory: open heatmaps, and answers with annotations or regions."""
_MOST_TISSUES = 2
"""Of a slide of 100,000 px it takes 50 MB."""
_T = TypeVar("_T")


class Newest:
    """The newest few of some things that are slow to make; threads may share it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._things: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """The thing under a key, made now if it is not there."""
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
                return cast("_T", self._things[key])
        # Made without the lock: two threads may make the same, but none waits for another's slow slide.
        made = make()
        with self._lock:
            self._things[key] = made
            while len(self._things) > self._most:
                self._things.popitem(last=False)
        return made


class Session:
    """What the routes share. No other file is ever read than those of the worklist's slides."""

    def __init__(self, worklist: Worklist, journal: Journal) -> None:
        self.worklist = worklist
        self.journal = journal
        self.tiles = TileReader({slide_id: worklist.manifest.slide(slide_id) for slide_id in worklist.by_slide})
        self.without_paths = WithoutPaths(
            worklist.paths.root,
            worklist.manifest.slides,
            worklist.manifest.path.parent,
        )
        self.heatmaps = Newest(_MOST_HEATMAPS)
        self.features = Newest(_MOST_FEATURES)
        self._tissues = Newest(_MOST_TISSUES)
        self.tile_threads = ThreadPoolExecutor(NUM_TILE_THREADS, thread_name_prefix="tiles")
        self.file_threads = ThreadPoolExecutor(NUM_FILE_THREADS, thread_name_prefix="files")
        # Answers are kept one after another, in the order in which they came.
        self.journal_thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    def close(self) -> None:
        """End the threads and close the slides."""
        for threads in (self.tile_threads, self.file_threads, self.journal_thread):
            threads.shutdown(cancel_futures=True)
        self.tiles.slides.close()

    @property
    def latest(self) -> dict[str, GivenAnswer]:
        """This reviewer's answers that count, by section."""
        return self.journal.said.latest

    @property
    def seen(self) -> set[str]:
        """The sections whose predictions an answer has shown to this reviewer.

        Unsure shows nothing: else whoever wants to know would say so first, and answer then.
        """
        # Also where another answer came later, or this one was taken back: nobody forgets what was shown.
        return {answer.key for answer in self.journal.said.answers if answer.answer is not Answer.UNSURE}

    def tissue(self, slide_id: str, target_mpp: float) -> SlideTissue:
        """The tissue of a slide, as its verdicts count it, by the um/px of a heatmap."""
        record = self.worklist.manifest.slide(slide_id)
        return self._tissues.get((slide_id, target_mpp), lambda: read_tissue(record, target_mpp))

    def hidden_boxes(self, slide_id: str) -> list[Box]:
        """The boxes of `hidden_sections`, in level-0 px."""
        return [section.box_level0_px for section in self.hidden_sections(slide_id)]

    def hidden_sections(self, slide_id: str) -> list[WorkSection]:
        """The blind sections of a slide that this reviewer has not called Tumor or Normal yet."""
        seen = self.seen
        return [section for section in self.worklist.by_slide[slide_id] if not is_revealed(section, seen)]


def is_revealed(section: WorkSection, seen: Container[str]) -> bool:
    """Whether predictions of a section may be seen: it is not blind, or they were seen already."""
    return not section.is_blind or section.key in seen
