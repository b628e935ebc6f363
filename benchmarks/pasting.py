"""Larger slides of other slides' compressed tiles, byte for byte: the same pixels at another place, on wider glass.

What is pasted has to be a TIFF of whole JPEG tiles, such as phantom and EBHI-Seg slides, and lands on whole tiles.
Coarse levels, which the places or sizes do not meet, are coded anew from the pieces' own.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from bccdist.errors import ConfigurationError

_WHITE = 255
_CM_UM = 1e4


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A slide, and where its upper left corner comes to lie."""

    path: Path
    x_level0_px: int
    y_level0_px: int


@dataclass(frozen=True, kw_only=True)
class _Tiles:
    """The compressed tiles of one level of a piece."""

    top: int
    left: int
    num_cols: int
    num_rows: int
    offsets: Sequence[int]
    sizes: Sequence[int]
    path: Path

    def read(self, row: int, col: int) -> bytes | None:
        """The tile at this place of the pasted slide, if it is of this piece."""
        row, col = row - self.top, col - self.left
        if not (0 <= row < self.num_rows and 0 <= col < self.num_cols):
            return None
        index = row * self.num_cols + col
        with self.path.open("rb") as file:
            file.seek(self.offsets[index])
            return file.read(self.sizes[index])


def paste(target: Path, pieces: Sequence[Piece], *, margin_level0_px: int = 0, num_exact: int = 2) -> None:
    """Write a pyramid that shows the pieces on white glass, which ends this far behind the last of them.

    Args:
        target: file to write.
        pieces: what is shown.
        margin_level0_px: glass to the right and below.
        num_exact: levels, from the finest, that have to hold the pieces' own tiles.

    Raises:
        ConfigurationError: a piece is no TIFF of whole JPEG tiles at these levels, or the pieces' levels differ.
    """
    opened = [_levels(piece) for piece in pieces]
    whole = [(piece, levels[0][1]) for piece, levels in zip(pieces, opened, strict=True)]
    width = margin_level0_px + max(piece.x_level0_px + page.imagewidth for piece, page in whole)
    height = margin_level0_px + max(piece.y_level0_px + page.imagelength for piece, page in whole)
    num_levels = min(len(levels) for levels in opened)
    scales = {tuple(scale for scale, _ in levels[:num_levels]) for levels in opened}
    if len(scales) != 1:
        raise ConfigurationError(f"cannot paste slides whose levels differ: downsamples {sorted(scales)}")
    with tifffile.TiffWriter(target, bigtiff=True) as tiff:
        for number, scale in enumerate(scales.pop()):
            pages = [levels[number][1] for levels in opened]
            size = (-(-height // scale), -(-width // scale))
            placed = [_placed(piece, page, scale) for piece, page in zip(pieces, pages, strict=True)]
            tile_px = _tile_px(pages[0])
            fits = all(placed)
            if not fits and number < num_exact:
                raise ConfigurationError(f"{pieces[0].path}: cannot be pasted, its levels do not end with whole tiles")
            tiff.write(
                _tiles([each for each in placed if each], size, tile_px, _white_tile(pages[0]))
                if fits
                else _drawn(pieces, number, scale, size),
                shape=(*size, 3),
                dtype=np.uint8,
                tile=(tile_px, tile_px),
                # Of what is given: tiles that are coded already, or pixels.
                photometric="ycbcr" if fits else "rgb",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=int(number > 0),
                resolution=(_CM_UM / _mpp(pages[0]),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def _drawn(pieces: Sequence[Piece], level: int, scale: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A level from the pieces' pixels: RGB [h, w, 3]."""
    image = np.full((*size, 3), _WHITE, dtype=np.uint8)
    for piece in pieces:
        pixels = tifffile.imread(piece.path, key=level)
        there = image[piece.y_level0_px // scale :, piece.x_level0_px // scale :]
        there[: pixels.shape[0], : pixels.shape[1]] = pixels[: there.shape[0], : there.shape[1]]
    return image


def _tile_px(page: tifffile.TiffPage) -> int:
    """The edge of a square tile."""
    assert page.tile is not None
    return page.tile[0]


def _mpp(page: tifffile.TiffPage) -> float:
    """Um per pixel of a level, by its resolution per centimetre."""
    dots, length = page.tags["XResolution"].value
    return _CM_UM * float(length) / float(dots)


def _levels(piece: Piece) -> list[tuple[int, tifffile.TiffPage]]:
    with tifffile.TiffFile(piece.path) as tiff:
        pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
        for page in pages:
            fits = (
                page.tile is not None
                and page.tile[0] == page.tile[1]
                and page.compression == tifffile.COMPRESSION.JPEG
                and page.jpegtables is None
            )
            if not fits or page.photometric != tifffile.PHOTOMETRIC.YCBCR:
                raise ConfigurationError(f"{piece.path}: cannot be pasted, its levels are not all of whole JPEG tiles")
        return [(round(pages[0].imagewidth / page.imagewidth), page) for page in pages]


def _placed(piece: Piece, page: tifffile.TiffPage, scale: int) -> _Tiles | None:
    tile_px = _tile_px(page)
    step = tile_px * scale
    # Beyond its picture, a slide's last tile may hold anything.
    edges = (piece.x_level0_px / scale, piece.y_level0_px / scale, page.imagewidth, page.imagelength)
    if any(edge % tile_px for edge in edges):
        return None
    return _Tiles(
        top=piece.y_level0_px // step,
        left=piece.x_level0_px // step,
        num_cols=-(-page.imagewidth // tile_px),
        num_rows=-(-page.imagelength // tile_px),
        offsets=page.dataoffsets,
        sizes=page.databytecounts,
        path=piece.path,
    )


def _white_tile(page: tifffile.TiffPage) -> bytes:
    """A tile of glass, coded as the slide's own."""
    tile_px, buffer = _tile_px(page), io.BytesIO()
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(
            np.full((tile_px, tile_px, 3), _WHITE, dtype=np.uint8),
            tile=(tile_px, tile_px),
            photometric="rgb",
            subsampling=(2, 2),
            compression="jpeg",
            metadata=None,
        )
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as tiff:
        drawn = tiff.pages[0]
        assert isinstance(drawn, tifffile.TiffPage)
        return buffer.getvalue()[drawn.dataoffsets[0] :][: drawn.databytecounts[0]]


def _tiles(placed: Sequence[_Tiles], size: tuple[int, int], tile_px: int, white: bytes) -> Iterator[bytes]:
    num_rows, num_cols = (-(-side // tile_px) for side in size)
    for row in range(num_rows):
        for col in range(num_cols):
            found = (piece.read(row, col) for piece in placed)
            yield next((tile for tile in found if tile is not None), white)
