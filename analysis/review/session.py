"""One reviewer at work on a worklist: the slides that are open, what was read of them, and the threads that read.

A few threads read all files: so a slow disk stops no other answer, and only so many tiles are in memory at once.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, cast

import pandas as pd

from analysis.outlines.chosen_regions import read_tissue
from analysis.review.answers import GivenAnswer
from analysis.review.apart import LARGE_PX, MappedTissue, find_mapped, in_own_process
from analysis.review.journal import Journal
from analysis.review.predicted import packed_regions
from analysis.review.readers import Conflicts
from analysis.review.standing import Opened
from analysis.review.tiles import TileReader
from analysis.review.worklist import Worklist
from analysis.study_evidence.without_paths import WithoutPaths
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_heatmap import open_chosen
from bccdist.sections.chosen_output import SlideTissue
from bccdist.slides.tissue import TISSUE_MPP

NUM_TILE_THREADS = 4
"""Two threads a core of a small machine: some wait for the disk while others decode."""
NUM_FILE_THREADS = 2
"""Threads for heatmaps, annotations and regions, which hold up neither tiles nor answers."""
_MOST_HEATMAPS, _MOST_FEATURES = 6, 64
"""Kept in memory: open heatmaps, and answers with annotations or regions."""
_MOST_TISSUES = 2
"""Of a slide of 100,000 px it takes 106 MB, of which that is in memory which is looked at."""
_T = TypeVar("_T")


class Newest:
    """The newest few of some things that are slow to make; threads may share it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._things: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def clear(self) -> None:
        """Let all go."""
        with self._lock:
            self._things.clear()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """The thing under a key, made now if it is not there."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        # None waits for another's slow slide, but for the same one: it is made once, and so is the memory for it.
        with making:
            with self._lock:
                if key in self._things:
                    self._things.move_to_end(key)
                    return cast("_T", self._things[key])
            try:
                made = make()
                with self._lock:
                    self._things[key] = made
                    while len(self._things) > self._most:
                        self._things.popitem(last=False)
            finally:
                with self._lock:
                    self._making.pop(key, None)
            return made


class Session:
    """What the routes share. No other file is ever read than those of the worklist's slides."""

    def __init__(self, worklist: Worklist, journal: Journal, conflicts: Conflicts | None = None) -> None:
        """Begin with nothing open.

        Args:
            worklist: what is reviewed.
            journal: the reviewer's.
            conflicts: where the reviewer decides between others: says what there is to decide by now.
        """
        self.worklist = worklist
        self.journal = journal
        self._conflicts = conflicts
        # Of a slide on which readers differ only later, too; whoever asks for another than the worklist's is refused.
        slides = {section.slide_id for section in (*worklist.sections, *worklist.all_sections)}
        self.tiles = TileReader({slide_id: worklist.manifest.slide(slide_id) for slide_id in slides})
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
        self._opened = Opened(blind_of(worklist, journal.said.reviewer))
        self._num_followed = self._num_changes = 0
        self._following = threading.Lock()

    def close(self) -> None:
        """End the threads and close the slides."""
        for threads in (self.tile_threads, self.file_threads, self.journal_thread):
            threads.shutdown(cancel_futures=True)
        self.tiles.slides.close()
        # Their files go now: a process that a signal ends runs nothing at its exit.
        self._tissues.clear()

    def refresh(self) -> None:
        """Have the worklist as it is now, where others change it: new conflicts to decide, and settled ones gone."""
        if self._conflicts is not None and self._conflicts.is_changed():
            self.worklist = self._conflicts.worklist
            with self._following:
                self._opened.add(blind_of(self.worklist, self.journal.said.reviewer))
            self._num_changes += 1

    @property
    def list_version(self) -> str:
        """Another one where the list of sections or its order is."""
        by_score = self.worklist.plan.order == "distance"
        return f"{self._num_changes} {len(self.opened.closed) if by_score else ''}".strip()

    @property
    def opened(self) -> Opened:
        """What this reader's steps come to by now."""
        with self._following:
            steps = self.journal.said.steps
            while self._num_followed < len(steps):
                self._opened.take(steps[self._num_followed])
                self._num_followed += 1
        return self._opened

    @property
    def latest(self) -> dict[str, GivenAnswer]:
        """This reviewer's answers that count, by section."""
        return self.opened.standing.latest

    def tissue(self, slide_id: str, target_mpp: float) -> SlideTissue:
        """The tissue of a slide, as its verdicts count it, by the um/px of a heatmap."""
        record = self.worklist.manifest.slide(slide_id)
        if self._is_large(slide_id):
            return self._mapped(slide_id, target_mpp).slide
        return self._tissues.get((slide_id, target_mpp), lambda: read_tissue(record, target_mpp))

    def packed_regions(self, choice: Choice, verdicts: pd.DataFrame, about: Mapping[str, Any]) -> bytes:
        """The regions that the verdicts on a slide rest on, beside what is said of them, for the page.

        Raises:
            SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
            HeatmapError: the heatmap cannot be read, or is not the one that the ledger was made of.
        """
        slide_id, paths = str(verdicts["slide_id"].iloc[0]), self.worklist.paths
        if not self._is_large(slide_id):
            return packed_regions(paths, choice, verdicts, about, partial(self.tissue, slide_id))
        mpp = open_chosen(paths, choice, slide_id).attributes.mpp
        tissue_at = self._mapped(slide_id, mpp).tissue_at
        return in_own_process(partial(packed_regions, paths, choice, verdicts, about, tissue_at))

    def _is_large(self, slide_id: str) -> bool:
        """Whether what is found on a slide takes much memory."""
        facts = self.tiles.facts(slide_id)
        return facts.width * facts.height * (facts.mpp / TISSUE_MPP) ** 2 >= LARGE_PX

    def _mapped(self, slide_id: str, target_mpp: float) -> MappedTissue:
        record = self.worklist.manifest.slide(slide_id)
        return self._tissues.get(slide_id, lambda: find_mapped(record, target_mpp))


def blind_of(worklist: Worklist, reviewer: str) -> dict[str, set[str]]:
    """The blind sections that a reviewer is to answer, by slide: those of the worklist, and those dealt to them."""
    plan = worklist.plan
    # Whoever decides between others here may be a reader of other sections of the same slide.
    dealt = [
        each
        for each in worklist.all_sections
        if reviewer in plan.readers and plan.reads(reviewer, each.slide_id, each.section_id)
    ]
    found: dict[str, set[str]] = {}
    for section in (*worklist.sections, *dealt):
        if section.is_blind:
            found.setdefault(section.slide_id, set()).add(section.key)
    return found
