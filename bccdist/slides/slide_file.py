"""The file of a slide, wherever it lies, as OpenSlide and tifffile open it.

A local file is itself. Of a remote TIFF the header, the directories and what they point to are fetched when it is
opened, and then the tiles that are about to be read, by this project or by OpenSlide: both find them in a file of this
machine that has holes elsewhere. What else OpenSlide reads, nobody here could foresee, so such files are copied whole.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import openslide
import tifffile

from bccdist.addresses import Address, Location
from bccdist.errors import RemoteError, SlideError
from bccdist.remote.files import FOLDER_BESIDE
from bccdist.remote.folder_copy import FolderCopy
from bccdist.remote.lending import borrow, borrow_folder, give_back, give_back_folder
from bccdist.remote.part_of_file import PartOfFile
from bccdist.remote.stretches import Stretch
from bccdist.slides.geometry import Box
from bccdist.slides.tiff_pages import TIFF_SIGNATURES, TiffPages, read_tiff_pages
from bccdist.slides.tile_level import READ_BY_TILES, NotByTileError, TileGrid, find_grid

if TYPE_CHECKING:
    from bccdist.slides.level import OpenSlideLevel

_BLOCKS = 1 << 10
_LEAST_BLOCK_BYTES, _MOST_BLOCK_BYTES = 1 << 13, 1 << 16
"""What is read of directories is fetched in blocks, as they lie near each other: each is such a part of the file, as a
directory is as long as its level has tiles."""
_JPEG_HEADER_BYTES = 1 << 14
"""OpenSlide reads the header of an NDPI's images up to their first restart interval."""
_LARGEST_HASHED_BYTES = 5 << 20
"""OpenSlide makes its own fingerprint from the level with the fewest pixels, if that has no more bytes."""
_TILES_AND_STRIPS = ((324, 273), (325, 279))
"""Tags of a TIFF: offsets of tiles or of strips, and how many bytes they have."""
_MARKER_BYTES = 2
"""Of a restart marker, by which OpenSlide makes sure that an interval begins where the directory says."""
_AROUND_PX = 2
"""OpenSlide interpolates where a place lies between the pixels of a level."""
_SEVERAL_FILES = frozenset({".vms", ".vmu"})
"""Endings of slides whose files lie beside each other; DICOM is told by its bytes."""


class SlideFile:
    """A slide's file, open for this process.

    Attributes:
        location: where it lies, for messages; the address is shown without what is secret.
        path: by which OpenSlide and tifffile open it.
    """

    def __init__(self, location: Location) -> None:
        """Open it, which reads nothing of a local file.

        Raises:
            SlideError: it is not there, or is a folder.
            RemoteError: a remote one cannot be had.
        """
        self.location = location
        self._part: PartOfFile | None = None
        self._copy: FolderCopy | None = None
        self._tiff: TiffPages | None = None
        self._grids: dict[int, tuple[TileGrid, int] | None] = {}
        if isinstance(location, Path):
            if not location.exists():
                raise SlideError(f"{location}: the slide is not there")
            if location.is_dir():
                raise SlideError(
                    f"{location}: it is a folder, expected a file; of a DICOM slide name one of its .dcm files"
                )
            self.path = location
            return
        try:
            self.path = self._fetch(location)
        except BaseException:
            self.close(is_good=False)
            raise

    def __str__(self) -> str:
        return str(self.location)

    def close(self, *, is_good: bool = True) -> None:
        """Give back what this process holds of a remote file; after an error it is opened anew the next time."""
        part, self._part = self._part, None
        if part is not None:
            give_back(part, is_good=is_good)
        if self._copy is not None:
            give_back_folder(self._copy)
            self._copy = None

    @property
    def size_bytes(self) -> int:
        """Of the file itself."""
        return self.path.stat().st_size

    @property
    def is_in_part(self) -> bool:
        """Whether bytes have to be fetched before they are read."""
        return self._part is not None and not self._part.is_whole

    @property
    def tiff(self) -> TiffPages:
        """Its images, if it is a TIFF."""
        if self._tiff is None:
            self._tiff = read_tiff_pages(self.reading())
        return self._tiff

    def opened(self) -> openslide.OpenSlide:
        """The file, opened by OpenSlide; to be closed.

        Raises:
            SlideError: it cannot be opened.
        """
        from bccdist.slides.level import advice_on_size

        try:
            return openslide.OpenSlide(self.path)
        except openslide.OpenSlideError as error:
            advice = advice_on_size(self) or "convert it or leave it out"
            raise SlideError(f"{self}: OpenSlide cannot open it: {error}; {advice}") from error

    def reading(self) -> BinaryIO | Path:
        """What tifffile reads it by, with its name: bytes that are not there are fetched, and a path has to be one."""
        return self.path if self._part is None else _fetching(self._part)

    def need(self, stretches: Sequence[Stretch]) -> None:
        """Have some bytes there, as first byte and end, before they are read.

        Raises:
            RemoteError: they did not come.
        """
        if self._part is not None:
            self._part.need(stretches)

    def expect(self, stretches: Iterable[Stretch]) -> None:
        """Say which bytes will be needed, in which order."""
        if self._part is not None:
            self._part.expect(stretches)

    def need_all(self, reason: str) -> None:
        """Have the whole file there; copying it is said aloud.

        Raises:
            RemoteError: it did not come, or there is no room for it.
        """
        if self._part is not None:
            self._part.need_all(reason)

    def need_box(self, level: "OpenSlideLevel", box_px: Box) -> None:
        """Have there what OpenSlide reads for a box of a level.

        Raises:
            RemoteError: it did not come.
        """
        if not self.is_in_part:
            return
        if level.level not in self._grids:
            try:
                self._grids[level.level] = find_grid(self.tiff, level, as_stored=False)
            except NotByTileError as reason:
                self.need_all(f"OpenSlide alone reads its level {level.level}: {reason}")
                self._grids[level.level] = None
        found = self._grids[level.level]
        if found is not None:
            grid, reduction = found
            around_px = 0 if level.is_whole_factor else _AROUND_PX * reduction
            self.need(stretches_of(grid, box_px.scaled(reduction).grown(around_px)))

    def _fetch(self, address: Address) -> Path:
        """What has to be there before OpenSlide opens a remote file."""
        suffix = address.suffix.lower()
        if suffix in FOLDER_BESIDE:
            self._copy = borrow_folder(address, only_below=Path(address.name).stem)
            return self._copy.path
        if suffix in _SEVERAL_FILES:
            self._copy = borrow_folder(address)
            return self._copy.path
        part = self._part = borrow(address)
        start = part.read(0, 132)
        if start[128:] == b"DICM":
            give_back(part)
            self._part = None
            self._copy = borrow_folder(address)
            return self._copy.path
        if start[:4] in TIFF_SIGNATURES:
            self._fetch_directories(part)
        else:
            part.need_all(f"a file of the kind {suffix or 'without an ending'} is read by OpenSlide alone")
        return part.path

    def _fetch_directories(self, part: PartOfFile) -> None:
        """All that a TIFF's directories say and OpenSlide may look at when it opens the file."""
        if part.is_whole:
            return
        self._tiff = read_tiff_pages(_fetching(part))
        if self._tiff.fault:
            part.need_all(f"its directories cannot be parsed: {self._tiff.fault}")
            return
        part.need([stretch for page in self._tiff.pages for stretch in _values_of(page)])
        vendor = openslide.OpenSlide.detect_format(part.path)
        if vendor not in READ_BY_TILES:
            part.need_all(f"files of {vendor or 'this kind'} are put together by OpenSlide alone")
        elif vendor == "hamamatsu":
            part.need(
                [(start, start + _JPEG_HEADER_BYTES) for page in self._tiff.pages for start, _ in _data_of(page)]
            )
        part.need(_hashed_by_openslide(self._tiff.pages))


def _values_of(page: tifffile.TiffPage) -> Iterator[Stretch]:
    """Where a directory and the values lie that it points to."""
    yield page.offset, page.offset + (1 << 13)
    for tag in page.tags:
        yield tag.valueoffset, tag.valueoffset + tag.valuebytecount


def _hashed_by_openslide(pages: Sequence[tifffile.TiffPage]) -> list[Stretch]:
    tiled = [page for page in pages if page.is_tiled] or list(pages)
    for page in sorted(tiled, key=lambda page: page.imagewidth * page.imagelength)[:1]:
        stretches = _data_of(page)
        if sum(end - start for start, end in stretches) <= _LARGEST_HASHED_BYTES:
            return stretches
    return []


def _data_of(page: tifffile.TiffPage) -> list[Stretch]:
    """Where the tiles or strips of an image lie, as the directory says; of an NDPI its whole JPEG."""
    offsets, counts = (
        next((page.tags[code].value for code in codes if code in page.tags), ()) for codes in _TILES_AND_STRIPS
    )
    # One strip is a number, and no tuple.
    pairs = zip(np.atleast_1d(offsets).tolist(), np.atleast_1d(counts).tolist(), strict=False)
    return [(int(start), int(start) + int(num)) for start, num in pairs if start and num]


def stretches_of(grid: TileGrid, box_px: Box) -> list[Stretch]:
    """Where the tiles lie in the file that show a box of an image, in its pixels, with the markers around them."""
    inside = box_px.intersection(Box(0, 0, *grid.size_px))
    width, height = grid.tile_px
    rows = slice(inside.y // height, -(-inside.y_end // height))
    cols = slice(inside.x // width, -(-inside.x_end // width))
    extents = grid.extents[rows, cols].reshape(-1, 2)
    extents = extents[extents[:, 1] > 0]
    # Only tiles of several parts may be restart intervals of one JPEG.
    around = _MARKER_BYTES if grid.extents.shape[2] > 1 else 0
    starts = np.maximum(extents[:, 0] - around, 0)
    return list(zip(starts.tolist(), (extents.sum(axis=1) + around).tolist(), strict=True))


class _RemoteBytes(io.RawIOBase):
    """A remote file for who reads it by place and length."""

    def __init__(self, part: PartOfFile) -> None:
        self._part = part
        self._at = 0
        self.name = part.address.name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._part.size_bytes}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start, end = self._at, min(self._at + len(view), self._part.size_bytes)
        if start >= end:
            return 0
        # Whole blocks: the next directory lies near.
        block = min(max(_LEAST_BLOCK_BYTES, self._part.size_bytes // _BLOCKS), _MOST_BLOCK_BYTES)
        first, last = start // block * block, -(-end // block) * block
        self._part.need([(first, last)])
        data = self._part.read(start, end)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def _fetching(part: PartOfFile) -> BinaryIO:
    return _RemoteBytes(part)  # type: ignore[return-value]


@contextmanager
def open_slide_file(location: Location) -> Iterator[SlideFile]:
    """A slide's file for a while.

    Raises:
        SlideError: it is not there, or a remote one cannot be had.
    """
    try:
        file = SlideFile(location)
    except RemoteError as error:
        raise SlideError(str(error)) from None
    is_good = True
    try:
        yield file
    except RemoteError:
        is_good = False
        raise
    finally:
        file.close(is_good=is_good)


@contextmanager
def open_file(location: Location) -> Iterator[openslide.OpenSlide]:
    """A slide's file, opened by OpenSlide for what it says of itself; pixels are read by a `Slide`.

    Raises:
        SlideError: it is not there, or cannot be opened.
    """
    with open_slide_file(location) as file, file.opened() as handle:
        yield handle
