"""A level whose tiles are read out of a TIFF (SVS, generic TIFF, NDPI, Philips): each by its offset, decoded once.

OpenSlide decodes a tile again for every region that touches it once its cache is full, and has to decode a level in
full where a coarser one is wanted. Where the factor between levels is not whole, it also blurs: it is asked in
level-0 pixels, and interpolates where these lie off the level's own grid. Here a tile is decoded once as long as the
slide is read from top to bottom, by several threads where there are any; JPEG at half, a quarter or an eighth of its
size by the decoder itself; and a pixel is the level's own, wherever it lies.

A file is read like this only if OpenSlide takes the same tiles for the level by its own rules (`_find_page`), and if
a sample of them, the fullest and the oddest, equals what OpenSlide shows.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from bccdist.errors import SlideError
from bccdist.slides.geometry import Box
from bccdist.slides.level import WHITE, OpenSlideLevel, pixels_of
from bccdist.slides.tiff_pages import FOCAL_PLANE, SOURCE_LENS, TiffPages

if TYPE_CHECKING:
    from bccdist.slides.slide_file import SlideFile

_REDUCTIONS = (1, 2, 4, 8)
"""Factors by which a JPEG decoder can shrink a picture while it decodes."""
_NDPI_ROWS_PX = 256
"""Height of the tiles that strips of an NDPI are put together to."""
_NUM_FULLEST = 3
"""Tiles with the most bytes show tissue; so many of them are compared with OpenSlide."""
_PROBE_PX = 64
"""Edge of what is compared of a tile: OpenSlide takes longer to paint a whole one than to decode it."""
_PROBE_STRIDE_PX = 3
"""Of the pixels by which it is chosen."""
_LARGEST_PROBE_ERROR = 1.0
"""Mean absolute difference to OpenSlide, of 255, up to which a tile is trusted."""
_CODECS = frozenset(
    {
        tifffile.COMPRESSION.NONE,
        tifffile.COMPRESSION.LZW,
        tifffile.COMPRESSION.ADOBE_DEFLATE,
        tifffile.COMPRESSION.DEFLATE,
        tifffile.COMPRESSION.PACKBITS,
        tifffile.COMPRESSION.ZSTD,
        tifffile.COMPRESSION.APERIO_JP2000_RGB,
        tifffile.COMPRESSION.APERIO_JP2000_YCBC,
        tifffile.COMPRESSION.JPEG2000,
    }
)
"""Compressions other than JPEG that OpenSlide reads, too."""
Place = tuple[int, int]
"""Row and column of a tile."""


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """The tiles of one image of a TIFF, and how to decode them."""

    size_px: tuple[int, int]
    """Width and height of the image."""
    tile_px: tuple[int, int]
    """Width and height of a tile."""
    extents: NDArray[np.int64]
    """First byte and length of each tile's parts: [rows, cols, parts, 2]; a length of 0 for what is not there."""
    decode: Callable[[Sequence[bytes], int], NDArray[np.uint8]]
    """RGB of a tile from its parts as they lie in the file, so many times smaller: [h, w, 3], or [h, w, 4] where 0 in
    the last channel is a pixel that is not there; ValueError if damaged."""
    is_jpeg: bool
    """Whether it can be decoded at a smaller size."""


class TileLevel:
    """A level that is decoded from its tiles.

    Attributes:
        size_px: width and height of the level, after the reduction.
    """

    def __init__(
        self, slide_file: "SlideFile", grid: TileGrid, *, reduction: int, pool: Executor | None = None
    ) -> None:
        """Open the file a second time, beside OpenSlide.

        Args:
            slide_file: the TIFF.
            grid: the image's tiles.
            reduction: 1, 2, 4 or 8: how much smaller than its image the level is.
            pool: threads that decode; None decodes in the caller's.
        """
        self.size_px = (-(-grid.size_px[0] // reduction), -(-grid.size_px[1] // reduction))
        self._slide_file = slide_file
        self._grid = grid
        self._reduction = reduction
        self._map = map if pool is None else pool.map
        self._tile_px = (grid.tile_px[0] // reduction, grid.tile_px[1] // reduction)
        self._kept: dict[Place, NDArray[np.uint8]] = {}
        self._file = os.open(slide_file.path, os.O_RDONLY)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
        self._kept.clear()

    def read_into(self, image: NDArray[np.uint8], box_px: Box) -> NDArray[np.bool_] | None:
        """Write the pixels of a box that lies inside to `image`: uint8 RGB [box height, box width, 3].

        The lowest row of tiles is kept, so that the box below does not decode it again.

        Returns:
            None where the file holds every pixel, else those that it does not: bool [box height, box width].

        Raises:
            SlideError: a tile is damaged or cut off.
            RemoteError: a tile did not come.
        """
        width, height = self._tile_px
        # Slides are read from top to bottom, so tiles above this box are not wanted again.
        rows = range(box_px.y // height, -(-box_px.y_end // height))
        cols = range(box_px.x // width, -(-box_px.x_end // width))
        self._kept = {place: tile for place, tile in self._kept.items() if rows.start <= place[0] < rows.stop}
        places = [(row, col) for row in rows for col in cols]
        absent = [place for place in places if not self._is_there(place)]
        missing = [place for place in places if place not in self._kept and place not in absent]
        self.fetch(missing)
        fresh = dict(zip(missing, self._map(self._decode, missing), strict=True))
        # Decoding is what takes the time, so that alone is for the threads.
        lacking: list[tuple[tuple[slice, slice], NDArray[np.bool_] | bool]] = []
        for place in places:
            view, part = self._shared(box_px, place)
            if place in absent:
                lacking.append((view, True))
                continue
            tile = (fresh[place] if place in fresh else self._kept[place])[part]
            image[view] = tile[..., :3]
            if tile.shape[-1] > 3 and not tile[..., 3].all():
                lacking.append((view, tile[..., 3] == 0))
        self._kept |= {place: tile for place, tile in fresh.items() if place[0] == rows.stop - 1}
        if not lacking:
            return None
        is_absent = np.zeros(image.shape[:2], dtype=bool)
        for view, found in lacking:
            is_absent[view] = found
        image[is_absent] = WHITE
        return is_absent

    def boxes_there(self) -> Iterator[Box]:
        """The tiles that the file holds, as boxes of the level."""
        width, height = self._tile_px
        is_there = self._grid.extents[..., 1].any(axis=-1)
        for row, col in np.argwhere(is_there).tolist():
            yield Box(col * width, row * height, width, height)

    def fetch(self, places: Sequence[Place]) -> None:
        """Have some tiles there, by one round of requests, if the file is remote.

        Raises:
            RemoteError: they did not come.
        """
        if places and self._slide_file.is_in_part:
            self._slide_file.need([stretch for place in places for stretch in self._stretches(place)])

    def expect(self, boxes_px: Iterable[Box]) -> None:
        """Say which boxes will be read, in which order, so that a remote file's tiles are fetched ahead."""
        if self._slide_file.is_in_part:
            places = self.places_of(boxes_px)
            self._slide_file.expect([stretch for place in places for stretch in self._stretches(place)])

    def places_of(self, boxes_px: Iterable[Box]) -> list[Place]:
        """The tiles that some boxes touch, each once, in the order of the boxes."""
        width, height = self._tile_px
        num_rows, num_cols = self._grid.extents.shape[:2]
        places = {
            (row, col): None
            for box_px in boxes_px
            for row in range(max(0, box_px.y // height), min(num_rows, -(-box_px.y_end // height)))
            for col in range(max(0, box_px.x // width), min(num_cols, -(-box_px.x_end // width)))
        }
        return list(places)

    def odd_places(self) -> list[Place]:
        """The tiles to hold against OpenSlide: those with the most bytes, and one of each oddity."""
        offsets, sizes = self._grid.extents[..., 0, 0].ravel(), self._grid.extents[..., 1].sum(axis=-1).ravel()
        there = np.flatnonzero(sizes)
        if not there.size:
            return []
        fullest = there[np.argsort(sizes[there], kind="stable")[-_NUM_FULLEST:]]
        _, first, counts = np.unique(offsets[there], return_index=True, return_counts=True)
        odd = [
            there[np.argmin(sizes[there])],  # often a kind of tile of its own
            *there[first[counts > 1]][:1],  # one place in the file for several tiles
            *there[1:][np.diff(offsets[there]) < 0][:1],  # tiles that lie before their neighbour
        ]
        num_cols = self._grid.extents.shape[1]
        return sorted({divmod(int(number), num_cols) for number in (*fullest, *odd)})

    def probe(self, place: Place) -> tuple[Box, NDArray[np.uint8]]:
        """The square of a tile that shows most, and its pixels; no other tile is needed for it.

        Raises:
            SlideError: the tile is damaged or cut off.
        """
        width, height = self._tile_px
        tile = Box(place[1] * width, place[0] * height, width, height).intersection(Box(0, 0, *self.size_px))
        pixels = pixels_of(self, tile)
        edges = min(_PROBE_PX, tile.width), min(_PROBE_PX, tile.height)
        rows, cols = tile.height // edges[1], tile.width // edges[0]
        green = pixels[: rows * edges[1], : cols * edges[0], 1].reshape(rows, edges[1], cols, edges[0])
        some = green[:, ::_PROBE_STRIDE_PX, :, ::_PROBE_STRIDE_PX]
        # How far the green of each square reaches; of equal ones the first.
        row, col = divmod(int(np.argmax(some.max(axis=(1, 3)) - some.min(axis=(1, 3)))), cols)
        square = Box(col * edges[0], row * edges[1], edges[0], edges[1])
        return square._replace(x=tile.x + square.x, y=tile.y + square.y), pixels[square.slices()]

    def _stretches(self, place: Place) -> Iterator[tuple[int, int]]:
        """First byte and end of a tile's parts."""
        for offset, num_bytes in self._grid.extents[place].tolist():
            if num_bytes:
                yield offset, offset + num_bytes

    def _is_there(self, place: Place) -> bool:
        return bool(self._grid.extents[place][:, 1].any())

    def _shared(self, box_px: Box, place: Place) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where a tile lies in a box, and which part of the tile that is."""
        width, height = self._tile_px
        # Of numbers alone, as there are many tiles.
        rows, tile_rows = _overlap(box_px.y, box_px.y_end, place[0] * height, (place[0] + 1) * height)
        cols, tile_cols = _overlap(box_px.x, box_px.x_end, place[1] * width, (place[1] + 1) * width)
        return (rows, cols), (tile_rows, tile_cols)

    def _decode(self, place: Place) -> NDArray[np.uint8]:
        """One tile, reduced: uint8 RGB."""
        extents = [(offset, num_bytes) for offset, num_bytes in self._grid.extents[place].tolist() if num_bytes]
        # By position, since several threads read from one file.
        parts = [os.pread(self._file, num_bytes, offset) for offset, num_bytes in extents]
        if any(len(part) < num_bytes for part, (_, num_bytes) in zip(parts, extents, strict=True)):
            raise self._damage(place, "the file ends before it")
        try:
            tile = self._grid.decode(parts, self._reduction)
        except ValueError as error:
            raise self._damage(place, str(error)) from error
        # A tile may say another size than the directory; what it does not reach would be left unwritten.
        width, height = self._tile_px
        needed_px = (min(height, self.size_px[1] - place[0] * height), min(width, self.size_px[0] - place[1] * width))
        if tile.shape[0] < needed_px[0] or tile.shape[1] < needed_px[1] or tile.shape[1] > width:
            raise self._damage(place, f"it is {tile.shape[1]} x {tile.shape[0]} px, expected {width} x {height}")
        return tile

    def _damage(self, place: Place, reason: str) -> SlideError:
        (row, col), (width, height) = place, self._grid.size_px
        return SlideError(
            f"{self._slide_file}: cannot decode the tile in row {row}, column {col} of its {width} x {height} px "
            f"image: {reason}; the file is damaged or truncated: copy or scan it again"
        )


class NotByTileError(Exception):
    """Why a level is left to OpenSlide; its cause is OpenSlide's error, if there was one."""


def open_tile_level(
    file: "SlideFile",
    reference: OpenSlideLevel,
    *,
    largest_reduction: float,
    is_compared: bool = True,
    as_stored: bool = False,
    pool: Executor | None = None,
) -> tuple[TileLevel, int]:
    """A level of a TIFF, decoded from its tiles and reduced on the way.

    Args:
        file: the slide's.
        reference: the same level, as OpenSlide decodes it.
        largest_reduction: how much smaller than `reference` the level may be.
        is_compared: whether some tiles are held against `reference`; what is only looked at need not be.
        as_stored: also tiles in whose place OpenSlide shows something else; they are not compared.
        pool: threads that decode; None decodes in the caller's.

    Returns:
        The level, and how much smaller than `reference` it is: 1, 2, 4 or 8.

    Raises:
        NotByTileError: tiles cannot be read by themselves, or do not show what OpenSlide shows.
    """
    grid, own_reduction = find_grid(file.tiff, reference, as_stored=as_stored)
    level = TileLevel(file, grid, reduction=own_reduction, pool=pool)
    further = max(step for step in _REDUCTIONS if step == 1 or step <= largest_reduction + 1e-9)
    further = min(further, _REDUCTIONS[-1] // own_reduction) if grid.is_jpeg else 1
    try:
        # Compared before it is shrunk further, as OpenSlide has nothing to hold a shrunk level against.
        if is_compared and not as_stored:
            _compare(level, reference)
    except NotByTileError:
        level.close()
        raise
    if further > 1:
        level.close()
        level = TileLevel(file, grid, reduction=own_reduction * further, pool=pool)
    return level, further


def _compare(level: TileLevel, reference: OpenSlideLevel) -> None:
    """Refuse a level that shows something else than OpenSlide, which knows what scanners get wrong in colours."""
    num_compared, places = 0, level.odd_places()
    level.fetch(places)
    for place in places:
        try:
            box_px, own = level.probe(place)
        except SlideError:
            continue  # damage, at which OpenSlide may guess; it will be told where it is read
        try:
            shown = pixels_of(reference, box_px)
        except SlideError as error:
            raise NotByTileError(f"OpenSlide cannot read what it is compared with: {error}") from error
        num_compared += 1
        # What OpenSlide gives lies between pixels where the factor is not whole: the same is done to the level's own.
        moved = _shifted(own, reference.offset_px(box_px))
        inner = (slice(1, -1), slice(1, -1))
        difference = float(np.abs(moved[inner] - shown[inner]).mean()) if moved[inner].size else 0.0
        if difference > _LARGEST_PROBE_ERROR:
            raise NotByTileError(
                f"the tile in row {place[0]}, column {place[1]} differs from OpenSlide's picture by {difference:.3g} "
                "of 255"
            )
    if not num_compared:
        raise NotByTileError("none of its tiles could be compared with OpenSlide's picture")


def _shifted(image: NDArray[np.uint8], offset_px: tuple[float, float]) -> NDArray[np.float32]:
    """The image between its pixels, by less than one; the border is as it was: float32 [h, w, 3]."""
    shifted = image.astype(np.float32)
    for axis, offset in ((1, offset_px[0]), (0, offset_px[1])):
        other = np.roll(shifted, -1 if offset > 0 else 1, axis=axis)
        shifted = (1 - abs(offset)) * shifted + abs(offset) * other
    return shifted


def _overlap(start: int, end: int, other_start: int, other_end: int) -> tuple[slice, slice]:
    """What two stretches share, counted from the start of each."""
    first, last = max(start, other_start), min(end, other_end)
    return slice(first - start, last - start), slice(first - other_start, last - other_start)


def find_grid(tiff: TiffPages, reference: OpenSlideLevel, *, as_stored: bool) -> tuple[TileGrid, int]:
    """The tiles of the image that OpenSlide takes for a level, and how much larger than the level the image is.

    Raises:
        NotByTileError: there is no such image that could be read by its tiles.
    """
    try:
        page, reduction = _find_page(tiff, reference, as_stored=as_stored)
        _refuse_coding(page)
        grid = _ndpi_grid(page) if reference.vendor == "hamamatsu" else _tiff_grid(page)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        # Without the cause, which is for OpenSlide's errors alone: after those the file has to be opened again.
        raise NotByTileError(f"its directories cannot be read as a TIFF's: {error}") from None
    return grid, reduction


def _find_page(tiff: TiffPages, reference: OpenSlideLevel, *, as_stored: bool) -> tuple[tifffile.TiffPage, int]:
    """The one page that OpenSlide can have taken for the level, by the rules of its vendor, and its reduction."""
    if reference.vendor not in _IS_LEVEL:
        raise NotByTileError(f"files of {reference.vendor or 'this kind'} are put together by OpenSlide alone")
    if tiff.fault:
        raise NotByTileError("its directories cannot be parsed")
    levels = [page for number, page in enumerate(tiff.pages) if _IS_LEVEL[reference.vendor](number, page)]
    # Hamamatsu's decoder makes levels of its own, by shrinking; all others show what the file holds.
    reductions = _REDUCTIONS if reference.vendor == "hamamatsu" else (1,)
    for reduction in reductions:
        fits = [page for page in levels if _shrunk_px(page, reduction) == reference.size_px]
        if len(fits) > 1:
            raise NotByTileError(f"{len(fits)} of its images have the size of level {reference.level}")
        if fits:
            if reference.vendor == "aperio" and not as_stored:
                _refuse_filled(levels, fits[0])
            return fits[0], reduction
    raise NotByTileError(f"none of its images has the {reference.size_px} px of level {reference.level}")


def _refuse_filled(levels: Sequence[tifffile.TiffPage], wanted: tifffile.TiffPage) -> None:
    """Of Aperio's files OpenSlide fills missing tiles from the finer level, and what lies below them, too."""
    for page in levels:
        if page.imagewidth >= wanted.imagewidth and 0 in page.databytecounts:
            raise NotByTileError(
                f"tiles of its {page.imagewidth} x {page.imagelength} px image are missing, and OpenSlide fills them"
            )


def _shrunk_px(page: tifffile.TiffPage, reduction: int) -> tuple[int, int]:
    return page.imagewidth // reduction, page.imagelength // reduction


def _is_main_ndpi(_: int, page: tifffile.TiffPage) -> bool:
    """Whether it was taken through the objective, in the middle plane of focus."""
    return page.is_tiled and page.tags.valueof(SOURCE_LENS, 0) > 0 and not page.tags.valueof(FOCAL_PLANE, 0)


_IS_LEVEL: dict[str, Callable[[int, tifffile.TiffPage], bool]] = {
    "aperio": lambda _, page: page.is_tiled,
    "generic-tiff": lambda number, page: page.is_tiled and (number == 0 or page.is_reduced),
    "philips": lambda _, page: page.is_tiled,
    "hamamatsu": _is_main_ndpi,
}
"""Which pages OpenSlide takes for levels: number of the page, the page. Other vendors' tiles overlap or are moved."""
READ_BY_TILES = frozenset(_IS_LEVEL)
"""Vendors, by OpenSlide's names, whose levels are images of a TIFF, one each."""


def _refuse_coding(page: tifffile.TiffPage) -> None:
    """Refuse what is no RGB in tiles, with an alpha channel or without."""
    coding = f"{getattr(page.compression, 'name', page.compression)}, {page.dtype}, {page.samplesperpixel} samples"
    if page.compression not in {tifffile.COMPRESSION.JPEG, *_CODECS} or page.dtype != np.uint8:
        raise NotByTileError(f"its tiles are coded in a way that is left to OpenSlide: {coding}")
    is_plain = page.samplesperpixel == 3 and not _is_planar(page)
    is_rgb = page.samplesperpixel in (3, 4) and page.photometric == tifffile.PHOTOMETRIC.RGB
    # What four channels are in JPEG its decoders guess at.
    is_odd_jpeg = page.compression == tifffile.COMPRESSION.JPEG and page.samplesperpixel == 4
    if not (is_plain or is_rgb) or is_odd_jpeg or page.imagedepth != 1:
        raise NotByTileError(f"its tiles do not hold RGB: {coding}")
    if page.tags.valueof("Orientation", 1) != 1:
        raise NotByTileError("its rows are stored turned or mirrored")


def _is_planar(page: tifffile.TiffPage) -> bool:
    """Whether each channel has tiles of its own."""
    return bool(page.planarconfig == tifffile.PLANARCONFIG.SEPARATE)


def _tiff_grid(page: tifffile.TiffPage) -> TileGrid:
    tile_px = (page.tilewidth, page.tilelength)
    num_cols, num_rows = -(-page.imagewidth // tile_px[0]), -(-page.imagelength // tile_px[1])
    num_parts = page.samplesperpixel if _is_planar(page) else 1
    extents = np.array([page.dataoffsets, page.databytecounts], dtype=np.int64).T
    if len(extents) != num_parts * num_rows * num_cols:
        raise NotByTileError(f"it lists {len(extents)} tiles, expected {num_parts} x {num_rows} x {num_cols}")
    extents[extents[:, 0] == 0, 1] = 0  # nothing lies at the file's first byte but its header
    extents = extents.reshape(num_parts, num_rows, num_cols, 2).transpose(1, 2, 0, 3)
    extents[(extents[..., 1] == 0).any(axis=-1)] = 0  # a tile that lacks a channel shows nothing
    is_jpeg = page.compression == tifffile.COMPRESSION.JPEG
    return TileGrid(
        size_px=(page.imagewidth, page.imagelength),
        tile_px=tile_px,
        extents=extents,
        decode=_jpeg_decoder(page) if is_jpeg else _other_decoder(page),
        is_jpeg=is_jpeg,
    )


def _jpeg_decoder(page: tifffile.TiffPage) -> Callable[[Sequence[bytes], int], NDArray[np.uint8]]:
    # The file keeps the tables of all its tiles once, without their start and end markers.
    tables = b"" if page.jpegtables is None else page.jpegtables[2:-2]
    is_rgb = page.photometric == tifffile.PHOTOMETRIC.RGB
    header = b"\xff\xd8" + (_ADOBE_RGB if is_rgb else b"") + tables
    width_px: int = page.tilewidth
    if _is_planar(page):
        header = b"\xff\xd8" + tables
        return lambda parts, reduction: _joined(
            [_decode_jpeg(header + part[2:], width_px // reduction, "GRAY") for part in parts]
        )
    return lambda parts, reduction: _decode_jpeg(header + parts[0][2:], width_px // reduction)


def _other_decoder(page: tifffile.TiffPage) -> Callable[[Sequence[bytes], int], NDArray[np.uint8]]:
    def decode_part(part: bytes) -> NDArray[np.uint8]:
        try:
            tile = page.decode(part, 0, _fullsize=True)[0]
        # Each codec has errors of its own; whatever one says of a tile's bytes, they are damaged.
        except Exception as error:
            raise ValueError(str(error)) from error
        if tile is None:
            raise ValueError("it is empty")
        return np.asarray(tile[0], dtype=np.uint8)

    is_straight = page.samplesperpixel == 4 and page.extrasamples[:1] == (tifffile.EXTRASAMPLE.UNASSALPHA,)

    def decode(parts: Sequence[bytes], _: int) -> NDArray[np.uint8]:
        tile = _joined([decode_part(part) for part in parts])
        return tile if tile.shape[-1] == 3 or is_straight else _without_alpha(tile)

    return decode


def _joined(channels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """A tile of channels that are stored apart: [h, w, channels]; one that is whole stays as it is."""
    return channels[0] if len(channels) == 1 else np.concatenate(channels, axis=-1)


def _without_alpha(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A tile [h, w, 4] whose colours were multiplied with its alpha channel, with its own colours."""
    alpha = tile[..., 3:]
    if (alpha == 255).all():
        return tile
    colours = (255 * tile[..., :3].astype(np.int32) // np.maximum(alpha, 1)).clip(max=255).astype(np.uint8)
    return np.concatenate([colours, alpha], axis=-1)


def _decode_jpeg(content: bytes, width_px: int, colours: str = "RGB") -> NDArray[np.uint8]:
    # The smallest size that is at least this wide: just the reduction.
    return np.asarray(simplejpeg.decode_jpeg(content, colours, min_width=width_px, min_height=1), dtype=np.uint8)


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
        raise NotByTileError("its restart intervals do not tile the image")
    parts_per_tile = _NDPI_ROWS_PX // part_height
    # The last row of tiles may have fewer parts: those that are missing have no bytes, and are left out in `_decode`.
    num_rows = -(-num_part_rows // parts_per_tile)
    extents = np.zeros((num_rows * parts_per_tile, num_cols, 2), dtype=np.int64)
    places = np.array([page.dataoffsets, page.databytecounts], dtype=np.int64).T
    if not places[:, 1].all():
        raise NotByTileError("some of its restart intervals are empty")
    extents[:num_part_rows] = places.reshape(num_part_rows, num_cols, 2)
    header = page.jpegheader
    if header is None:
        raise NotByTileError("it has no JPEG header")
    return TileGrid(
        size_px=(page.imagewidth, page.imagelength),
        tile_px=(part_width, parts_per_tile * part_height),
        extents=extents.reshape(num_rows, parts_per_tile, num_cols, 2).swapaxes(1, 2),
        decode=lambda parts, reduction: _decode_jpeg(
            _join_intervals(header, parts, part_height), part_width // reduction
        ),
        is_jpeg=True,
    )


def _join_intervals(header: bytes, intervals: Sequence[bytes], height_px: int) -> bytes:
    """One JPEG of restart intervals below each other; their markers are numbered anew, from 0 to 7 and over again."""
    at = header.index(b"\xff\xc0") + 5  # marker, length, precision; then the height
    whole = header[:at] + (height_px * len(intervals)).to_bytes(2, "big") + header[at + 2 :]
    bodies = [interval[:-2] + bytes((0xFF, 0xD0 + number % 8)) for number, interval in enumerate(intervals)]
    bodies[-1] = intervals[-1][:-2] + b"\xff\xd9"
    return whole + b"".join(bodies)
