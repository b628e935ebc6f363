"""The tiles of a slide as the page asks for them: Deep Zoom, read as all slides are (bccdist/slides/slide.py).

Level `max_level` of a Deep Zoom pyramid is level 0 of the slide, and each level below has half its pixels; tiles are
254 px wide and overlap by one. Files are opened when a tile is asked for, and only so many stay open.
"""

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from analysis.review.colour import ColourProfile, read_profile
from bccdist.addresses import Location
from bccdist.errors import RemoteError, SlideError
from bccdist.slides.frames import qupath_origin
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SlideRecord
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP

TILE_PX = 254
OVERLAP_PX = 1
MOST_OPEN = 12
"""Slides that stay open, each for one level; OpenSlide may hold 32 MiB for each."""
MOST_SOURCE_PX = 1 << 24
"""Pixels that are read for one tile; coarser tiles, of a slide without a pyramid, are not offered."""
_JPEG_QUALITY = 85
_GREY = 190


class DeepZoom(NamedTuple):
    """The Deep Zoom pyramid over a slide of a size."""

    width: int
    height: int
    """Both in the slide's level-0 px."""

    @property
    def max_level(self) -> int:
        """The level whose pixels are the slide's."""
        return math.ceil(math.log2(max(self.width, self.height)))

    def downsample(self, level: int) -> int:
        """Level-0 pixels per pixel of a level."""
        return 1 << (self.max_level - level)

    def size_px(self, level: int) -> tuple[int, int]:
        """Width and height of a level."""
        step = self.downsample(level)
        return -(-self.width // step), -(-self.height // step)

    def tile_px(self, level: int, col: int, row: int) -> Box | None:
        """A tile in pixels of its level, with its overlap; None where the level has no such tile."""
        if not 0 <= level <= self.max_level or col < 0 or row < 0:
            return None
        width, height = self.size_px(level)
        x, x_end = _extent(col, width)
        y, y_end = _extent(row, height)
        return Box(x, y, x_end - x, y_end - y) if x < x_end and y < y_end else None


def _extent(number: int, length_px: int) -> tuple[int, int]:
    """First pixel of a tile along one side, and the one past its last; empty where it lies outside."""
    # Tiles lie edge to edge; the overlap is added to both sides, where there is more slide.
    start, end = number * TILE_PX, min((number + 1) * TILE_PX, length_px)
    if start >= end:
        return 0, 0
    return max(0, start - OVERLAP_PX), min(end + OVERLAP_PX, length_px)


@dataclass(frozen=True, kw_only=True)
class SlideFacts:
    """What the page has to know of a slide before its first tile."""

    width: int
    height: int
    """Both in level-0 px; 0 where the slide cannot be opened."""
    mpp: float
    """um per level-0 pixel; 0 where it cannot be opened."""
    min_level: int
    """The coarsest level of the Deep Zoom pyramid that is offered."""
    max_level: int
    origin_level0_px: tuple[int, int] = (0, 0)
    """The level-0 pixel that QuPath counts from: the corner of the scanned area, where the scanner names one."""
    error: str | None = None
    """Why the slide cannot be read."""
    profile: ColourProfile | None = None
    """The colour profile that the file carries."""
    profile_fault: str | None = None
    """Why the one that it carries is not applied."""


class OpenSlides:
    """The slides that are open, each for one level of its pyramid; a thread has one for itself while it reads.

    One that nobody uses stays open for the next tile, until more than `most_open` are.
    """

    def __init__(self, most_open: int = MOST_OPEN) -> None:
        self._most_open = most_open
        self._lock = threading.Lock()
        self._idle: list[tuple[_Key, Slide]] = []
        """The one not used for longest first."""
        self._num_used = 0

    @property
    def num_open(self) -> int:
        """How many are open: those in use, and those that wait."""
        return len(self._idle) + self._num_used

    @contextmanager
    def using(self, record: SlideRecord, mpp: float, *, step: int, tolerance: float) -> Iterator[Slide]:
        """A slide whose target frame is level 0 reduced by `step`; after an error it is closed.

        Args:
            record: the slide.
            mpp: um per level-0 pixel.
            step: level-0 pixels per pixel.
            tolerance: relative deviation up to which a level of the file is used as it is.

        Raises:
            SlideError: it cannot be opened.
        """
        key = (record.path, step)
        slide = self._taken(key)
        try:
            if slide is None:
                slide = Slide(record.path, target_mpp=mpp * step, tolerance=tolerance, mpp=mpp)
            yield slide
        except BaseException:
            # After a failed read OpenSlide refuses every other one of this handle.
            if slide is not None:
                slide.close()
            slide = None
            raise
        finally:
            self._give_back(key, slide)

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            for _, slide in self._idle:
                slide.close()
            self._idle.clear()

    def _taken(self, key: "_Key") -> Slide | None:
        """One that is open already, if there is one; room for it is made either way."""
        with self._lock:
            # Counted before it is open, so that two threads together do not open one too many.
            self._num_used += 1
            # From the end: what was used last is most likely still in the caches.
            for number in reversed(range(len(self._idle))):
                if self._idle[number][0] == key:
                    return self._idle.pop(number)[1]
            self._close_beyond(self._most_open)
            return None

    def _give_back(self, key: "_Key", slide: Slide | None) -> None:
        with self._lock:
            self._num_used -= 1
            if slide is not None:
                self._idle.append((key, slide))
            self._close_beyond(self._most_open)

    def _close_beyond(self, most_open: int) -> None:
        while self._idle and self.num_open > most_open:
            self._idle.pop(0)[1].close()


_Key = tuple[Location, int]
"""A file, and by how much its level 0 is reduced."""


class TileReader:
    """Tiles and facts of some slides; any number of threads may ask."""

    def __init__(self, records: Mapping[str, SlideRecord], *, most_open: int = MOST_OPEN) -> None:
        """Nothing is opened yet.

        Args:
            records: the slides by their ids; no other file is ever read.
            most_open: how many files stay open.
        """
        self._records = records
        self._facts: dict[str, SlideFacts] = {}
        self.slides = OpenSlides(most_open)

    def facts(self, slide_id: str) -> SlideFacts:
        """Size, scale and levels of a slide; of one that cannot be read the reason."""
        if slide_id not in self._facts:
            try:
                self._facts[slide_id] = _read_facts(self._records[slide_id])
            except SlideError as error:
                # Not kept: the disk may come back.
                reason = without_folders(error, self._records[slide_id])
                return SlideFacts(width=0, height=0, mpp=0.0, min_level=0, max_level=0, error=reason)
        return self._facts[slide_id]

    def tile(self, slide_id: str, level: int, col: int, row: int, *, in_profile: bool = True) -> bytes | None:
        """A tile as JPEG, in the colours of the slide's profile or as the file has them; None without such a tile.

        Raises:
            SlideError: it cannot be read.
        """
        facts, record = self.facts(slide_id), self._records[slide_id]
        if facts.error is not None:
            raise SlideError(facts.error)
        pyramid = DeepZoom(facts.width, facts.height)
        box_px = pyramid.tile_px(level, col, row)
        if box_px is None or level < facts.min_level:
            return None
        # A level of the file may be used as it is where no pixel of the slide moves by more than one.
        tolerance = 1 / max(pyramid.size_px(level))
        try:
            with self.slides.using(record, facts.mpp, step=pyramid.downsample(level), tolerance=tolerance) as slide:
                image = slide.read(box_px)
            return encode_jpeg(facts.profile.applied(image) if in_profile and facts.profile else image)
        except (OSError, RemoteError) as error:
            raise SlideError(without_folders(error, record)) from error


def without_folders(error: Exception, record: SlideRecord) -> str:
    """What an error says of a slide, with its file's name alone: a page has no need to know the folders."""
    return str(error).replace(str(record.path), record.path.name)


def _read_facts(record: SlideRecord) -> SlideFacts:
    # No tile is read here; the target is one that no slide is too coarse for.
    with Slide(record.path, target_mpp=TISSUE_MPP, mpp=record.mpp, by_tile=False) as slide:
        pyramid = DeepZoom(*slide.level0_size)
        profile = read_profile(record.path)
        return SlideFacts(
            width=pyramid.width,
            height=pyramid.height,
            mpp=slide.resolution.mpp_level0,
            min_level=coarsest_offered(pyramid, level_downsamples(slide.properties)),
            max_level=pyramid.max_level,
            origin_level0_px=qupath_origin(slide.properties),
            profile=profile if isinstance(profile, ColourProfile) else None,
            profile_fault=profile if isinstance(profile, str) else None,
        )


def level_downsamples(properties: Mapping[str, str]) -> tuple[float, ...]:
    """Level-0 pixels per pixel of each level of the file, by OpenSlide's properties."""
    num_levels = int(properties["openslide.level-count"])
    return tuple(float(properties[f"openslide.level[{level}].downsample"]) for level in range(num_levels))


def coarsest_offered(pyramid: DeepZoom, downsamples: tuple[float, ...]) -> int:
    """The coarsest level for a tile of which no more than `MOST_SOURCE_PX` have to be read."""
    for level in range(pyramid.max_level + 1):
        step, (width, height) = pyramid.downsample(level), pyramid.size_px(level)
        # What a reader would take: the coarsest level of the file that is not coarser than wanted.
        source = max((each for each in downsamples if each <= step), default=1.0)
        num_px = min(TILE_PX + 2 * OVERLAP_PX, width) * min(TILE_PX + 2 * OVERLAP_PX, height)
        if num_px * (step / source) ** 2 <= MOST_SOURCE_PX:
            return level
    return pyramid.max_level


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """An RGB image [h, w, 3] as JPEG."""
    content: bytes = simplejpeg.encode_jpeg(image, quality=_JPEG_QUALITY, colorspace="RGB", colorsubsampling="420")
    return content


@cache
def error_tile() -> bytes:
    """The tile that stands where one cannot be read: grey, with a word."""
    image = np.full((TILE_PX, TILE_PX, 3), _GREY, dtype=np.uint8)
    cv2.putText(image, "unreadable", (58, 132), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (70, 70, 70), 2, cv2.LINE_AA)
    return encode_jpeg(image)
