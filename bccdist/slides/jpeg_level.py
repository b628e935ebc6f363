"""A level whose tiles are JPEG in a TIFF (SVS, generic TIFF, NDPI): each tile is read by its offset and decoded once.

OpenSlide decodes a tile again for every region that touches it once its cache is full, and has to decode a level in
full where a coarser one is wanted. Here a tile is decoded once as long as the slide is read from top to bottom, by
several threads where there are any, and at half, a quarter or an eighth of its size by the JPEG decoder itself.
A file is only read like this if a sample of its pixels equals what OpenSlide gives.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from bccdist.errors import SlideError
from bccdist.slides.geometry import Box
from bccdist.slides.level import WHITE, Level

_REDUCTIONS = (1, 2, 4, 8)
"""Factors by which a JPEG decoder can shrink a picture while it decodes."""
_NDPI_ROWS_PX = 256
"""Height of the tiles that strips of an NDPI are put together to."""
_PROBE_PX = 128
_LARGEST_PROBE_ERROR = 1.0
"""Mean absolute difference to OpenSlide, of 255, up to which a file is trusted."""
Place = tuple[int, int]
"""Row and column of a tile."""


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """The tiles of one image of a TIFF, and how to make a JPEG of each."""

    size_px: tuple[int, int]
    """Width and height of the image."""
    tile_px: tuple[int, int]
    """Width and height of a tile."""
    extents: NDArray[np.int64]
    """First byte and length of each tile's parts: [rows, cols, parts, 2]."""
    jpeg_of: Callable[[Sequence[bytes]], bytes]
    """A whole JPEG from the parts of a tile as they lie in the file."""


class JpegLevel:
    """A level that is decoded from JPEG tiles.

    Attributes:
        size_px: width and height of the level, after the reduction.
    """

    def __init__(self, path: Path, grid: TileGrid, *, reduction: int, pool: Executor | None = None) -> None:
        """Open the file a second time, beside OpenSlide.

        Args:
            path: the TIFF.
            grid: the image's tiles.
            reduction: 1, 2, 4 or 8: how much smaller than its image the level is.
            pool: threads that decode; None decodes in the caller's.
        """
        self.size_px = (-(-grid.size_px[0] // reduction), -(-grid.size_px[1] // reduction))
        self._path = path
        self._grid = grid
        self._map = map if pool is None else pool.map
        self._tile_px = (grid.tile_px[0] // reduction, grid.tile_px[1] // reduction)
        self._kept: dict[Place, NDArray[np.uint8]] = {}
        self._file = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
        self._kept.clear()

    def read_into(self, image: NDArray[np.uint8], box_px: Box) -> None:
        """Write the pixels of a box that lies inside to `image`: uint8 RGB [box height, box width, 3].

        The lowest row of tiles is kept, so that the box below does not decode it again.

        Raises:
            SlideError: a tile is damaged or cut off.
        """
        width, height = self._tile_px
        # Slides are read from top to bottom, so tiles above this box are not wanted again.
        rows = range(box_px.y // height, -(-box_px.y_end // height))
        cols = range(box_px.x // width, -(-box_px.x_end // width))
        self._kept = {place: tile for place, tile in self._kept.items() if rows.start <= place[0] < rows.stop}
        places = [(row, col) for row in rows for col in cols]
        missing = [place for place in places if place not in self._kept]
        fresh = dict(zip(missing, self._map(self._decode, missing), strict=True))
        # Decoding is what takes the time, so that alone is for the threads.
        for place in places:
            self._paste(image, box_px, place, fresh[place] if place in fresh else self._kept[place])
        self._kept |= {place: tile for place, tile in fresh.items() if place[0] == rows.stop - 1}

    def probe_box(self, fraction: float) -> Box:
        """The upper left part of the tile that lies at a fraction of the diagonal; no other tile is needed for it."""
        starts = [int(edge * fraction) // tile * tile for edge, tile in zip(self.size_px, self._tile_px, strict=True)]
        edges = [min(_PROBE_PX, tile) for tile in self._tile_px]
        return Box(starts[0], starts[1], edges[0], edges[1]).intersection(Box(0, 0, *self.size_px))

    def _paste(self, image: NDArray[np.uint8], box_px: Box, place: Place, tile: NDArray[np.uint8]) -> None:
        width, height = self._tile_px
        tile_box = Box(place[1] * width, place[0] * height, tile.shape[1], tile.shape[0])
        shared = tile_box.intersection(box_px)
        source = shared._replace(x=shared.x - tile_box.x, y=shared.y - tile_box.y)
        image[shared._replace(x=shared.x - box_px.x, y=shared.y - box_px.y).slices()] = tile[source.slices()]

    def _decode(self, place: Place) -> NDArray[np.uint8]:
        """One tile, reduced: uint8 RGB."""
        extents = [(offset, num_bytes) for offset, num_bytes in self._grid.extents[place].tolist() if num_bytes]
        if not extents:  # the scanner has left it out
            return np.full((self._tile_px[1], self._tile_px[0], 3), WHITE, dtype=np.uint8)
        # By position, since several threads read from one file.
        parts = [os.pread(self._file, num_bytes, offset) for offset, num_bytes in extents]
        if any(len(part) < num_bytes for part, (_, num_bytes) in zip(parts, extents, strict=True)):
            raise self._damage(place, "the file ends before it")
        try:
            # The smallest size that is at least this wide: just the reduction.
            tile = simplejpeg.decode_jpeg(self._grid.jpeg_of(parts), "RGB", min_width=self._tile_px[0], min_height=1)
        except ValueError as error:
            raise self._damage(place, str(error)) from error
        return np.asarray(tile, dtype=np.uint8)

    def _damage(self, place: Place, reason: str) -> SlideError:
        (row, col), (width, height) = place, self._grid.size_px
        return SlideError(
            f"{self._path}: cannot decode the tile in row {row}, column {col} of its {width} x {height} px image: "
            f"{reason}; the file is damaged or truncated: copy or scan it again"
        )


def open_jpeg_level(
    path: Path, reference: Level, *, largest_reduction: float, pool: Executor | None = None
) -> tuple[JpegLevel, int] | None:
    """The level of a TIFF that has the size of `reference`, decoded from its JPEG tiles and reduced on the way.

    Args:
        path: the slide's file.
        reference: the same level, as OpenSlide decodes it.
        largest_reduction: how much smaller than `reference` the level may be.
        pool: threads that decode; None decodes in the caller's.

    Returns:
        The level, and how much smaller than `reference` it is: 1, 2, 4 or 8. None where the file has no such tiles,
        or where they do not show what OpenSlide shows.
    """
    found = _find_grid(path, reference.size_px)
    if found is None:
        return None
    grid, own_reduction = found
    level = JpegLevel(path, grid, reduction=own_reduction, pool=pool)
    # Colour spaces and offsets are what scanners get wrong; nothing but a look at the pixels tells.
    if not _shows_the_same(level, reference):
        level.close()
        return None
    further = max(step for step in _REDUCTIONS if step == 1 or step <= largest_reduction + 1e-9)
    further = min(further, _REDUCTIONS[-1] // own_reduction)
    # Compared before it is shrunk further, as OpenSlide has nothing to hold a shrunk level against.
    if further > 1:
        level.close()
        level = JpegLevel(path, grid, reduction=own_reduction * further, pool=pool)
    return level, further


def _shows_the_same(level: JpegLevel, reference: Level) -> bool:
    """Whether three tiles on the diagonal begin as OpenSlide shows them; also False if either cannot decode."""
    # Glass is the same in most colour spaces; one of three places inside the slide is likely to show tissue.
    for fraction in (0.25, 0.5, 0.75):
        box_px = level.probe_box(fraction)
        images = np.empty((2, box_px.height, box_px.width, 3), dtype=np.uint8)
        try:
            for image, source in zip(images, (level, reference), strict=True):
                source.read_into(image, box_px)
        except SlideError:
            return False
        if np.abs(images[0].astype(np.int16) - images[1]).mean() > _LARGEST_PROBE_ERROR:
            return False
    return True


def _find_grid(path: Path, size_px: tuple[int, int]) -> tuple[TileGrid, int] | None:
    """The tiles of the image that gives a level of `size_px`, and how much larger than the level the image is."""
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
            sized = [(step, page) for page in pages if (step := _reduction_of(page, size_px)) is not None]
            if sized:
                # The smallest image that will do: a larger one means more bytes to read.
                reduction, page = min(sized, key=lambda found: found[0])
                return _ndpi_grid(page) if tiff.is_ndpi else _tiff_grid(page), reduction
    except (tifffile.TiffFileError, KeyError, ValueError, IndexError):
        pass  # not a TIFF, or one that only OpenSlide knows how to read
    return None


def _reduction_of(page: tifffile.TiffPage, size_px: tuple[int, int]) -> int | None:
    """1, 2, 4 or 8 if the image of a page, divided by it, has `size_px`, and its tiles are JPEG; else None."""
    is_jpeg = page.is_tiled and page.compression == tifffile.COMPRESSION.JPEG and page.dtype == np.uint8
    if not is_jpeg or page.samplesperpixel != 3 or page.imagedepth != 1:
        return None
    reductions = _REDUCTIONS if page.parent.is_ndpi else (1,)
    image_px = (page.imagewidth, page.imagelength)
    return next((step for step in reductions if tuple(edge // step for edge in image_px) == size_px), None)


def _tiff_grid(page: tifffile.TiffPage) -> TileGrid:
    tile_px = (page.tilewidth, page.tilelength)
    num_cols, num_rows = -(-page.imagewidth // tile_px[0]), -(-page.imagelength // tile_px[1])
    extents = np.array([page.dataoffsets, page.databytecounts], dtype=np.int64).T
    # The file keeps the tables of all its tiles once, without their start and end markers.
    tables = b"" if page.jpegtables is None else page.jpegtables[2:-2]
    is_rgb = page.photometric == tifffile.PHOTOMETRIC.RGB
    header = b"\xff\xd8" + (_ADOBE_RGB if is_rgb else b"") + tables
    return TileGrid(
        size_px=(page.imagewidth, page.imagelength),
        tile_px=tile_px,
        extents=extents[: num_rows * num_cols].reshape(num_rows, num_cols, 1, 2),
        jpeg_of=lambda parts: header + parts[0][2:],
    )


_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""A marker that says: three channels, not transformed; without it a decoder takes them for YCbCr."""


def _ndpi_grid(page: tifffile.TiffPage) -> TileGrid:
    """An image of an NDPI: one JPEG, too large for decoders, with restart markers after every few blocks.

    What lies between two markers is decodable by itself: tifffile calls it a tile. Those that lie above each other are
    put together here, as each alone is only 8 or 16 px high.
    """
    part_width, part_height = page.tilewidth, page.tilelength
    num_cols, num_part_rows = page.imagewidth // part_width, page.imagelength // part_height
    if num_cols * part_width != page.imagewidth or num_part_rows * part_height != page.imagelength:
        raise ValueError("its restart intervals do not tile the image")
    parts_per_tile = _NDPI_ROWS_PX // part_height
    # The last row of tiles may have fewer parts: those that are missing have no bytes, and are left out in `_decode`.
    num_rows = -(-num_part_rows // parts_per_tile)
    extents = np.zeros((num_rows * parts_per_tile, num_cols, 2), dtype=np.int64)
    places = np.array([page.dataoffsets, page.databytecounts], dtype=np.int64).T
    extents[:num_part_rows] = places.reshape(num_part_rows, num_cols, 2)
    header = page.jpegheader
    if header is None:
        raise ValueError("it has no JPEG header")
    return TileGrid(
        size_px=(page.imagewidth, page.imagelength),
        tile_px=(part_width, parts_per_tile * part_height),
        extents=extents.reshape(num_rows, parts_per_tile, num_cols, 2).swapaxes(1, 2),
        jpeg_of=lambda parts: _join_intervals(header, parts, part_height),
    )


def _join_intervals(header: bytes, intervals: Sequence[bytes], height_px: int) -> bytes:
    """One JPEG of restart intervals below each other; their markers are numbered anew, from 0 to 7 and over again."""
    at = header.index(b"\xff\xc0") + 5  # marker, length, precision; then the height
    whole = header[:at] + (height_px * len(intervals)).to_bytes(2, "big") + header[at + 2 :]
    bodies = [interval[:-2] + bytes((0xFF, 0xD0 + number % 8)) for number, interval in enumerate(intervals)]
    bodies[-1] = intervals[-1][:-2] + b"\xff\xd9"
    return whole + b"".join(bodies)
