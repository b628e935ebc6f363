"""How the pixels and the mask of a patch are stored (chosen by the figures in benchmarks/RESULTS.md).

Half-overlapping patches share their pixels: every cell of 256 px lies in four of them. Its JPEG is computed once all
the same. Each row of a cell's blocks ends with a restart marker, between which a JPEG can be cut and put together
again, so a patch's JPEG is joined from those of its four cells: byte for byte what encoding the patch would give.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, PATCH_PX, ShardConfig

_IMAGE_EXTENSIONS = {"jpeg": "jpg", "png": "png"}
_SAMPLING = {
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}
_BLOCK_WIDTH_PX = {"444": 8, "422": 16, "420": 16}
"""Width of what a JPEG codes at a time, with the colour that belongs to it."""
_RESTART_MARKER = re.compile(rb"\xff[\xd0-\xd7]")
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
Intervals = list[bytes]
"""The coded rows of blocks of a cell, from top to bottom."""


def member_extensions(image_coding: str) -> Mapping[str, str]:
    """The extension of each member of a sample, by the name that its columns of the index begin with.

    Args:
        image_coding: of the set, as in its configuration.
    """
    return {"image": _IMAGE_EXTENSIONS[image_coding], "mask": "mask.png", "json": "json"}


def encode_image(image: NDArray[np.uint8], config: ShardConfig) -> bytes:
    """Pixels as JPEG or PNG.

    Args:
        image: uint8 RGB [h, w, 3].
        config: says which coding and quality.
    """
    extension = f".{_IMAGE_EXTENSIONS[config.image_coding]}"
    options = _jpeg_options(config) if config.image_coding == "jpeg" else []
    _, encoded = cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return encoded.tobytes()


def _jpeg_options(config: ShardConfig) -> list[int]:
    # A restart marker after each row of a cell's blocks: there the JPEGs of cells can be cut, and joined to a patch's.
    blocks_per_row = CELL_PX // _BLOCK_WIDTH_PX[config.jpeg_chroma]
    return [
        cv2.IMWRITE_JPEG_QUALITY,
        config.jpeg_quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        _SAMPLING[config.jpeg_chroma],
        cv2.IMWRITE_JPEG_RST_INTERVAL,
        blocks_per_row,
    ]


def encode_cell(pixels: NDArray[np.uint8], config: ShardConfig) -> Intervals:
    """The JPEG of a cell, uint8 RGB [256, 256, 3], cut at its restart markers."""
    _, scan = _split_at_scan(encode_image(pixels, config))
    return _RESTART_MARKER.split(scan)


def join_cells(cells: Sequence[Sequence[Intervals]], config: ShardConfig) -> bytes:
    """The JPEG of a patch from two rows of two cells: the bytes that `encode_image` makes of their pixels."""
    intervals = [part for left, right in cells for part in _by_turns(left, right)]
    return _patch_header(config) + b"".join(_by_turns(intervals, _markers(len(intervals))))


def _by_turns(first: Sequence[bytes], other: Sequence[bytes]) -> list[bytes]:
    """Two lists of one length as one that takes from each in turn."""
    both = [b""] * (2 * len(first))
    both[::2], both[1::2] = first, other
    return both


@cache
def _patch_header(config: ShardConfig) -> bytes:
    """What stands before the coded pixels of every patch."""
    header, _ = _split_at_scan(encode_image(np.zeros((PATCH_PX, PATCH_PX, 3), dtype=np.uint8), config))
    return header


@cache
def _markers(num: int) -> tuple[bytes, ...]:
    """What ends each interval: restart markers, numbered from 0 to 7 and over again, and the end of the image."""
    return (*(bytes((0xFF, 0xD0 + number % 8)) for number in range(num - 1)), _END_OF_IMAGE)


def _split_at_scan(jpeg: bytes) -> tuple[bytes, bytes]:
    """Header and coded pixels of a JPEG, without the marker at its end."""
    marker = jpeg.index(_START_OF_SCAN)
    start = marker + 2 + int.from_bytes(jpeg[marker + 2 : marker + 4], "big")
    return jpeg[:start], jpeg[start : -len(_END_OF_IMAGE)]


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """A bool mask [h, w] as a PNG of one bit a pixel."""
    # Masks are large plain areas, which run lengths alone make small, in a fraction of the time.
    options = [
        cv2.IMWRITE_PNG_BILEVEL,
        1,
        cv2.IMWRITE_PNG_COMPRESSION,
        1,
        cv2.IMWRITE_PNG_STRATEGY,
        cv2.IMWRITE_PNG_STRATEGY_RLE,
    ]
    _, encoded = cv2.imencode(".png", mask.view(np.uint8) * 255, options)
    return encoded.tobytes()


@cache
def encode_empty_mask() -> bytes:
    """The mask of a patch without Tumornest, as most are."""
    return encode_mask(np.zeros((PATCH_PX, PATCH_PX), dtype=bool))
