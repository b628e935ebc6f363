"""What takes much memory on a large slide is done by a process of its own, which ends then: the server stays small.

Finding the tissue of a slide of 100,000 px takes some 400 MiB for a few seconds, and whose it is as much again.
The tissue that was found (106 MB) is mapped from files: only what is looked at is in memory.
"""

import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

import numpy as np

from analysis.outlines.chosen_regions import TissueAt, read_tissue
from bccdist.errors import SlideError
from bccdist.sections.chosen_output import SlideTissue
from bccdist.slides.manifest import SlideRecord

LARGE_PX = 3_000_000
"""Pixels of a tissue mask from which on a slide is large; to begin a process takes 2 s, finding so much as long."""
_ARRAYS = ("tissue", "distances_um")
_T = TypeVar("_T")


def in_own_process(work: Callable[[], _T]) -> _T:
    """What a picklable function returns, run by a process that ends then.

    Raises:
        SlideError: the process was ended; or whatever `work` raises.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        try:
            return process.submit(work).result()
        except BrokenProcessPool as error:
            raise SlideError(
                "the process that reads this large slide was ended, perhaps for want of memory: make room, ask again"
            ) from error


class MappedTissue:
    """The tissue of a slide, whose arrays are files; they go with this."""

    def __init__(self, about: SlideTissue, folder: Path) -> None:
        """Map the arrays of a folder; `about` is the rest."""
        self.slide = _mapped(about, folder)
        self.folder = folder
        self._about = about
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def tissue_at(self) -> TissueAt:
        """The same for another process: what is pickled is where the files are."""
        return partial(_mapped_at, self._about, self.folder)


def find_mapped(record: SlideRecord, target_mpp: float) -> MappedTissue:
    """The tissue of a large slide.

    Raises:
        SlideError: the slide cannot be read, or the process that reads it was ended.
    """
    folder = Path(mkdtemp(prefix="bccdist-review-"))
    try:
        return MappedTissue(in_own_process(partial(_saved, record, target_mpp, folder)), folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _saved(record: SlideRecord, target_mpp: float, folder: Path) -> SlideTissue:
    """Find the tissue of a slide and put its arrays into a folder; returns the rest of it."""
    found = read_tissue(record, target_mpp)
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(found, name))
    return replace(found, **{name: getattr(found, name)[:0].copy() for name in _ARRAYS})


def _mapped(about: SlideTissue, folder: Path) -> SlideTissue:
    return replace(about, **{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS})


def _mapped_at(about: SlideTissue, folder: Path, _: float) -> SlideTissue:
    # The tissue depends on the slide alone, whatever the um/px of a heatmap.
    return _mapped(about, folder)
