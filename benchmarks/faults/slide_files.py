"""Slide files as scanners and exporters write them, and changes to their tags and tiles."""

import io
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

MPP = 0.46
"""Of level 0, in um."""
TILE_PX = 256
FACTORS = (1, 2, 4)
Picture = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One image of a TIFF."""

    picture: Picture
    mpp: tuple[float, float] | None = None
    """Along x and y."""
    compression: str = "jpeg"
    is_tiled: bool = True
    is_reduced: bool = False
    is_planar: bool = False
    description: str | None = None
    extra_tags: Sequence[tuple[int, str, int, Any, bool]] = ()


def levels_of(picture: Picture, factors: Sequence[int] = FACTORS) -> list[Picture]:
    """The picture averaged down by whole factors."""
    return [
        picture if factor == 1 else _resized(picture, (picture.shape[1] // factor, picture.shape[0] // factor))
        for factor in factors
    ]


def _resized(picture: Picture, size: tuple[int, int]) -> Picture:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def pages_of(levels: Sequence[Picture], *, mpp: float = MPP, compression: str = "jpeg") -> list[Page]:
    """A pyramid's pages; the um/px of each follow from its width."""
    width = levels[0].shape[1]
    return [
        Page(
            picture=level,
            mpp=(mpp * width / level.shape[1],) * 2,
            compression=compression,
            is_reduced=number > 0,
        )
        for number, level in enumerate(levels)
    ]


def write_pyramid(path: Path, picture: Picture, *, mpp: float = MPP, compression: str = "jpeg") -> Path:
    """A generic tiled TIFF of a picture."""
    return write_tiff(path, pages_of(levels_of(picture), mpp=mpp, compression=compression))


def write_tiff(path: Path, pages: Sequence[Page]) -> Path:
    """A TIFF of these pages, in their order."""
    with tifffile.TiffWriter(path) as tiff:
        for page in pages:
            _write_page(tiff, page)
    return path


def _write_page(tiff: tifffile.TiffWriter, page: Page) -> None:
    is_colour_jpeg = page.compression == "jpeg" and not page.is_planar
    tiff.write(
        page.picture.transpose(2, 0, 1) if page.is_planar else page.picture,
        tile=(TILE_PX, TILE_PX) if page.is_tiled else None,
        rowsperstrip=None if page.is_tiled else 64,
        photometric="rgb",
        planarconfig="separate" if page.is_planar else "contig",
        compression=page.compression,
        compressionargs={"level": 90} if page.compression == "jpeg" else None,
        subsampling=(2, 2) if is_colour_jpeg else None,
        extrasamples=["unassalpha"] if page.picture.shape[-1] == 4 else None,
        subfiletype=int(page.is_reduced),
        resolution=page.mpp and (1e4 / page.mpp[0], 1e4 / page.mpp[1]),
        resolutionunit=page.mpp and "CENTIMETER",
        description=page.description,
        extratags=page.extra_tags,
        metadata=None,
        maxworkers=1,
    )


def write_svs(path: Path, levels: Sequence[Picture], *, mpp: float = MPP, thumbnail: Page | None = None) -> Path:
    """An SVS as Aperio writes it: level 0, a thumbnail in strips, then the other levels."""
    text = f"Aperio Image Library v12.0.15\r\n{levels[0].shape[1]}x{levels[0].shape[0]} (256x256) JPEG/RGB Q=90"
    facts = f"|AppMag = 20|MPP = {mpp}"
    first, *others = pages_of(levels, mpp=mpp)
    thumb = Page(picture=_resized(levels[0], (512, 256)), is_tiled=False, compression="deflate")
    pages = [replace(first, description=text + facts, mpp=None), replace(thumbnail or thumb, description=text)]
    return write_tiff(path, pages + [replace(page, description=text, mpp=None, is_reduced=False) for page in others])


@contextmanager
def opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """A TIFF whose tags can be overwritten."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        yield tiff


def _page(tiff: tifffile.TiffFile, number: int) -> tifffile.TiffPage:
    page = tiff.pages[number]
    assert isinstance(page, tifffile.TiffPage)
    return page


def set_tag(path: Path, page: int, tag: int | str, value: Any) -> None:
    """Overwrite a tag of one page."""
    with opened(path) as tiff:
        _page(tiff, page).tags[tag].overwrite(value)


def set_tiles(path: Path, page: int, tiles: Sequence[tuple[int, int, int]]) -> None:
    """Give some tiles of a page another first byte and length: (tile, offset, length)."""
    with opened(path) as tiff:
        tags = _page(tiff, page).tags
        offsets, lengths = list(tags["TileOffsets"].value), list(tags["TileByteCounts"].value)
        for tile, offset, length in tiles:
            offsets[tile], lengths[tile] = offset, length
        tags["TileByteCounts"].overwrite(lengths)
        tags["TileOffsets"].overwrite(offsets)


def tiles_across(path: Path, page: int) -> int:
    """How many tiles of a page lie side by side."""
    with tifffile.TiffFile(path) as tiff:
        return -(-int(_page(tiff, page).imagewidth) // TILE_PX)


def tile_place(path: Path, page: int, tile: int) -> tuple[int, int]:
    """First byte and length of a tile."""
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[page]
        return int(found.dataoffsets[tile]), int(found.databytecounts[tile])


_NDPI_FLAG, _SOURCE_LENS, _FOCAL_PLANE_NM, _RESTARTS = 65420, 65421, 65424, 65426


def write_ndpi(path: Path, images: Sequence[tuple[Picture, float, int]]) -> Path:
    """An NDPI of whole JPEGs with restart markers: (picture, magnification, plane of focus in nm) in their order.

    Magnification 20 stands for `MPP`; a picture's sides are multiples of 16. Offsets have 64 bits where TIFF has 32.
    """
    content = bytearray(b"II*\0" + bytes(8))
    link = 4
    for picture, lens, plane_nm in images:
        coded = _jpeg_with_restarts(picture)
        strip = len(content)
        content += coded + bytes(-len(coded) % 8)
        per_cm = (round(1e7 / (MPP * 20 / lens)), 1000)
        tags: list[tuple[int, int, bytes]] = [
            (256, 4, struct.pack("<I", picture.shape[1])),
            (257, 4, struct.pack("<I", picture.shape[0])),
            (258, 3, struct.pack("<3H", 8, 8, 8)),
            (259, 3, struct.pack("<H", 7)),
            (262, 3, struct.pack("<H", 6)),
            (271, 2, b"Hamamatsu\0"),
            (272, 2, b"NanoZoomer\0"),
            (273, 4, struct.pack("<I", strip)),
            (277, 3, struct.pack("<H", 3)),
            (278, 4, struct.pack("<I", picture.shape[0])),
            (279, 4, struct.pack("<I", len(coded))),
            (282, 5, struct.pack("<2I", *per_cm)),
            (283, 5, struct.pack("<2I", *per_cm)),
            (296, 3, struct.pack("<H", 3)),
            (_NDPI_FLAG, 4, struct.pack("<I", 1)),
            (_SOURCE_LENS, 11, struct.pack("<f", lens)),
            (_FOCAL_PLANE_NM, 9, struct.pack("<i", plane_nm)),
            (_RESTARTS, 4, b"".join(struct.pack("<I", place) for place in _restarts(coded))),
        ]
        link = _add_directory(content, tags, link)
    path.write_bytes(content)
    return path


_TYPE_BYTES = {2: 1, 3: 2, 4: 4, 5: 8, 9: 4, 11: 4}


def _add_directory(content: bytearray, tags: Sequence[tuple[int, int, bytes]], link: int) -> int:
    """Append a directory and name it at `link`; returns the place of its own link to the next one."""
    entries = b""
    for tag, kind, value in tags:
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack("<I", len(content))
            content += value + bytes(-len(value) % 8)
        entries += struct.pack("<HHI", tag, kind, len(value) // _TYPE_BYTES[kind]) + place
    content[link : link + 8] = struct.pack("<Q", len(content))
    content += struct.pack("<H", len(tags)) + entries
    own_link = len(content)
    # The link, then what each value and offset has above its 32 bits.
    content += bytes(8 + 4 * len(tags))
    return own_link


def _jpeg_with_restarts(picture: Picture) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=90, subsampling="4:2:2", restart_marker_blocks=16)
    return content.getvalue()


def _restarts(jpeg: bytes) -> list[int]:
    """Where the parts begin that restart markers separate."""
    header = jpeg.index(b"\xff\xda")
    first = header + 2 + int.from_bytes(jpeg[header + 2 : header + 4], "big")
    return [first, *(found.end() for found in re.finditer(rb"\xff[\xd0-\xd7]", jpeg) if found.start() > first)]


def write_scn(path: Path, picture: Picture, *, offset_px: tuple[int, int], canvas_px: tuple[int, int]) -> Path:
    """A Leica SCN whose scan lies in a larger canvas, with `openslide.bounds` at (x, y) of level 0."""
    levels = levels_of(picture)
    nm = round(1000 * MPP)
    dimensions = "".join(
        f'<dimension sizeX="{level.shape[1]}" sizeY="{level.shape[0]}" r="{number}" ifd="{number + 1}"/>'
        for number, level in enumerate(levels)
    )
    macro = _resized(picture, (512, 384))
    canvas = f'sizeX="{canvas_px[0] * nm}" sizeY="{canvas_px[1] * nm}"'
    settings = "<numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>"

    def image(name: str, objective: int, size: tuple[int, int], content: str, view: str) -> str:
        return (
            f'<image name="{name}"><creationDate>2026-01-01T00:00:00Z</creationDate><device model="x" version="1"/>'
            f'<pixels sizeX="{size[0]}" sizeY="{size[1]}">{content}</pixels><view {view}/><scanSettings>'
            f"<objectiveSettings><objective>{objective}</objective></objectiveSettings><illuminationSettings>"
            f"{settings}</illuminationSettings></scanSettings></image>"
        )

    size = (picture.shape[1], picture.shape[0])
    of_macro = image(
        "macro",
        1,
        (512, 384),
        '<dimension sizeX="512" sizeY="384" r="0" ifd="0"/>',
        canvas + ' offsetX="0" offsetY="0"',
    )
    view = f'sizeX="{size[0] * nm}" sizeY="{size[1] * nm}" offsetX="{offset_px[0] * nm}" offsetY="{offset_px[1] * nm}"'
    text = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="x" {canvas}><barcode></barcode>{of_macro}{image("main", 20, size, dimensions, view)}'
        "</collection></scn>"
    )
    pages = [Page(picture=macro, description=text), *(replace(page, is_reduced=False) for page in pages_of(levels))]
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for page in pages:
            _write_page(tiff, page)
    return path
