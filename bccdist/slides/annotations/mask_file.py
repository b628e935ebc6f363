"""The values of a mask image as they were meant: palettes, few bits, transparency, a turned picture, resizing.

An image program shows a picture; a mask is numbers. Where both readings of a file are possible and differ, the table
[mask_values] decides, and where it does not the file is refused.
"""

import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations.names import refuse_unknown

Meanings = Mapping[int, Kind | None]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATION, _UPRIGHT = 274, 1
_WHITE, _BITS_SHOWN = 255, 8
_PNG_GREY, _PNG_PALETTE = 0, 3
_AS_GREY = "save it as a grey image of 8 or 16 bit with one value for each kind"
_LOSSLESS = frozenset(
    {"NONE", "CCITTRLE", "CCITT_T4", "CCITT_T6", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA", "ZSTD"}
)
"""Of TIFF's compressions, by tifffile's names."""


def read_values(path: Path, meanings: Meanings) -> NDArray[Any]:
    """The numbers of a mask image that has one channel, or shows as if it had: [h, w].

    Raises:
        AnnotationError: there is no such channel, or more than one reading.
    """
    _refuse_turned(path)
    _refuse_lossy_or_several(path)
    try:
        shown = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise AnnotationError(f"{path}: OpenCV refuses it: {error.err}; save it at a lower resolution") from error
    if shown is None or shown.dtype.kind not in "ui":
        raise _no_mask(path, shown)
    stored = _stored_values(path)
    if stored is None:
        return _one_channel(path, shown)
    grey = _grey_of(shown)
    return stored if grey is None else _as_meant(path, stored, grey, meanings)


def distinct(values: NDArray[Any]) -> list[int]:
    """The values that occur; of the usual masks, by their histogram, as sorting takes much longer."""
    if values.dtype != np.uint8:
        return [int(value) for value in np.unique(values)]
    return [int(value) for value in np.flatnonzero(cv2.calcHist([values], [0], None, [256], [0, 256]))]


def _no_mask(path: Path, image: NDArray[Any] | None, why: str = "") -> AnnotationError:
    got = "no image" if image is None else f"shape {image.shape} of {image.dtype}"
    return AnnotationError(
        f"{path}: expected a single-channel mask image, got {got}{why}; its values are whole numbers: {_AS_GREY}"
    )


def _refuse_turned(path: Path) -> None:
    orientation = _orientation_of(path)
    if orientation != _UPRIGHT:
        raise AnnotationError(
            f"{path}: its Orientation is {orientation}, expected {_UPRIGHT}: viewers turn or mirror it, and others do "
            "not; save it as it is shown, without that entry"
        )


def _refuse_lossy_or_several(path: Path) -> None:
    """Refuse a TIFF that JPEG or its like has changed, and one with several images, of which the first alone is read.

    Smaller images beside the first are its pyramid.
    """
    if _head(path).startswith(PNG_SIGNATURE):
        return
    try:
        with tifffile.TiffFile(path) as tiff:
            first, *others = [page.aspage() for page in tiff.pages]
    # What is no TIFF, or a broken one, OpenCV refuses.
    except (ValueError, TypeError, IndexError, struct.error, OSError):
        return
    compression = getattr(first.compression, "name", str(first.compression))
    if compression not in _LOSSLESS:
        raise AnnotationError(
            f"{path}: its compression is {compression}, which may change the values of a mask; {_AS_GREY}, as "
            "PNG, or as TIFF with LZW or Deflate"
        )
    if any(max(page.shape[:2]) >= max(first.shape[:2]) for page in others):
        raise AnnotationError(
            f"{path}: it holds {1 + len(others)} images, expected one, or one with smaller copies of it; name one "
            "file for each in slides.csv, with ';' between them"
        )


def _orientation_of(path: Path) -> int:
    """By the tag of a TIFF, or of the EXIF block of a PNG, which is a small TIFF."""
    try:
        source: Path | io.BytesIO = path
        if _head(path).startswith(PNG_SIGNATURE):
            block = next((data for name, data in _chunks(path) if name == b"eXIf"), None)
            if block is None:
                return _UPRIGHT
            source = io.BytesIO(block)
        with tifffile.TiffFile(source) as tiff:
            tag = tiff.pages.first.tags.get(_ORIENTATION)
            return _UPRIGHT if tag is None else int(tag.value)
    # What says nothing readable turns nothing: OpenCV has read the image.
    except (ValueError, TypeError, IndexError, struct.error, OSError):
        return _UPRIGHT


def _head(path: Path) -> bytes:
    """The first bytes of a file, as far as a PNG says in them what its numbers are."""
    with path.open("rb") as file:
        return file.read(26)


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The names and contents of the chunks of a PNG; of pixels only the names."""
    with path.open("rb") as file:
        file.seek(len(PNG_SIGNATURE))
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            data = b"" if name == b"IDAT" else file.read(length)
            yield name, data
            file.seek(length - len(data) + 4, io.SEEK_CUR)


def _stored_values(path: Path) -> NDArray[Any] | None:
    """The numbers in the file where OpenCV shows others: of a palette, or of fewer than 8 bit; else None."""
    head = _head(path)
    if head.startswith(PNG_SIGNATURE):
        bits, colour_type = head[24], head[25]
        if colour_type == _PNG_PALETTE:
            return _by_pillow(path)
        if bits < _BITS_SHOWN and colour_type == _PNG_GREY:
            grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            return None if grey is None else np.asarray(grey // (_WHITE // (2**bits - 1)), dtype=np.uint8)
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            is_inverse = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            is_other = page.photometric == tifffile.PHOTOMETRIC.PALETTE or page.bitspersample < _BITS_SHOWN
            values = page.asarray() if is_other and page.ndim == 2 and not is_inverse else None
    except (ValueError, TypeError, IndexError):
        return None
    if is_inverse:
        raise AnnotationError(f"{path}: its 0 is white (MinIsWhite); {_AS_GREY}, with 0 as black")
    return None if values is None else values.astype(np.uint8)


def _by_pillow(path: Path) -> NDArray[Any]:
    """The places in its palette that a PNG names."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return np.asarray(image, dtype=np.uint8)
    except (Image.DecompressionBombError, OSError) as error:
        raise AnnotationError(f"{path}: its palette cannot be read: {error}; {_AS_GREY}") from error


def _grey_of(shown: NDArray[Any]) -> NDArray[Any] | None:
    """What an image shows as one channel; None where it has colours."""
    if shown.ndim == 2:
        return shown
    colours = shown[..., :3]
    if not (colours == colours[..., :1]).all():
        return None
    return np.ascontiguousarray(shown[..., 0])


def _one_channel(path: Path, shown: NDArray[Any]) -> NDArray[Any]:
    grey = _grey_of(shown)
    if grey is None:
        raise _no_mask(path, shown, " with colours")
    if shown.shape[2:] == (4,) and not (shown[..., 3] == np.iinfo(shown.dtype).max).all():
        raise _no_mask(path, shown, ", partly transparent, so that what is shown is another thing than its values")
    return grey


def _as_meant(path: Path, stored: NDArray[Any], shown: NDArray[Any], meanings: Meanings) -> NDArray[Any]:
    """Of two readings the one that [mask_values] knows alone; either where both mean the same."""
    readings = {"stored": stored, "shown": shown}
    found = {name: distinct(each) for name, each in readings.items()}
    known = [name for name, each in found.items() if set(each) <= set(meanings)]
    if not known:
        refuse_unknown(path, found["stored"], meanings, table="mask_values")
    if len(known) == 1:
        return readings[known[0]]
    pairs = np.unique(np.stack([stored.ravel(), shown.ravel()], axis=1), axis=0)
    if any(meanings[int(one)] is not meanings[int(other)] for one, other in pairs):
        raise AnnotationError(
            f"{path}: it stores the values {found['stored']}, which are shown as {found['shown']}, and [mask_values] "
            f"of kinds.toml knows both with other meanings; {_AS_GREY}"
        )
    return stored
