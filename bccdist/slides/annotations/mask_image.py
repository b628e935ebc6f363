"""Mask images: one value per pixel, of any resolution, over the whole of level 0."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations.invented_values import refuse_invented
from bccdist.slides.annotations.mask_file import PNG_SIGNATURE, distinct, read_values
from bccdist.slides.annotations.names import refuse_unknown
from bccdist.slides.frames import scanned_area
from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide
from bccdist.slides.tiff_pages import TIFF_SIGNATURES

MASK_SUFFIXES = (".png", ".tif", ".tiff")
_LARGEST_ASPECT_DEVIATION = 0.01
"""Relative; of a large mask far less, as its sides may be off by one pixel alone."""
_BAND_PX = 1024


@dataclass(frozen=True, kw_only=True)
class MaskImage:
    """A mask at its own resolution, looked up in the target frame by the nearest centre."""

    values: NDArray[Any]
    """[h, w], whole numbers, in the file's dtype."""
    meanings: Mapping[int, Kind | None]
    """The kind that each value stands for, of the values that occur."""
    width_px: int
    height_px: int
    """Size of the slide in the target frame, which the mask covers."""

    def mark(self, masks: Mapping[Kind, NDArray[np.bool_]], box_px: Box) -> None:
        """Set what is of each kind in a box of the target frame that lies within the slide; masks are [h, w]."""
        values = self._values_in(box_px)
        for value, kind in self.meanings.items():
            if kind is not None:
                np.logical_or(masks[kind], values == value, out=masks[kind])

    def _values_in(self, box_px: Box) -> NDArray[Any]:
        in_rows, in_cols = box_px.slices()
        if self.values.shape == (self.height_px, self.width_px):
            return self.values[in_rows, in_cols]
        rows = _nearest(self.values.shape[0], length=self.height_px)[in_rows]
        cols = _nearest(self.values.shape[1], length=self.width_px)[in_cols]
        # Of a coarser mask each row is looked up once for all that show it.
        shown, at = np.unique(rows, return_inverse=True)
        return self.values[shown].take(cols, axis=1)[at]

    def marks(self, kind: Kind) -> bool:
        """Whether any pixel of the target frame is of a kind."""
        values = [value for value, meaning in self.meanings.items() if meaning is kind]
        height, width = self.values.shape
        if height <= self.height_px and width <= self.width_px:
            # Each of its pixels lies under the centre of one at least.
            return bool(values)
        bands = (
            self._values_in(Box(0, y, self.width_px, min(_BAND_PX, self.height_px - y)))
            for y in range(0, self.height_px, _BAND_PX)
        )
        return bool(values) and any(bool((band == value).any()) for band in bands for value in values)

    def annotated(self, size: tuple[int, int], kinds: Collection[Kind] = tuple(Kind)) -> NDArray[np.bool_]:
        """What is of some kinds, bool [h, w], as an image of a size (width, height) that covers as much."""
        values = [value for value, meaning in self.meanings.items() if meaning in kinds]
        rows, cols = (_nearest(n, length=to) for n, to in zip(self.values.shape, size[::-1], strict=True))
        return np.isin(self.values[rows].take(cols, axis=1), values)

    def is_at(self, kind: Kind, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points (x, y), [n, 2] in shares of the slide's width and height, are of a kind: bool [n]."""
        values = [value for value, meaning in self.meanings.items() if meaning is kind]
        size = np.array(self.values.shape[::-1])
        cols, rows = (points * size).astype(np.int64).clip(0, size - 1).T
        return np.isin(self.values[rows, cols], values)

    def share_of(self, kind: Kind) -> float:
        """The share of the slide that is of a kind."""
        values = [value for value, meaning in self.meanings.items() if meaning is kind]
        bands = (self.values[y : y + _BAND_PX] for y in range(0, len(self.values), _BAND_PX))
        return sum(np.count_nonzero(band == value) for band in bands for value in values) / self.values.size


def is_mask_image(head: bytes) -> bool:
    """Whether a file that begins so is a PNG or a TIFF."""
    return head.startswith((PNG_SIGNATURE, *TIFF_SIGNATURES))


def read_mask_image(path: Path, slide: Slide, meanings: Mapping[int, Kind | None]) -> MaskImage:
    """A PNG or TIFF whose values are kinds and which covers the whole slide.

    Raises:
        AnnotationError: it is not of one channel of whole numbers, is to be turned, was resized with interpolation,
            does not fit the slide, or holds values without a meaning.
    """
    values = read_values(path, meanings)
    _refuse_other_size(path, (values.shape[1], values.shape[0]), slide)
    found = distinct(values)
    pixel_um = slide.width_px * slide.resolution.mpp / values.shape[1]
    refuse_invented(path, values, found, meanings, pixel_um=pixel_um)
    refuse_unknown(path, found, meanings, table="mask_values")
    return MaskImage(
        values=values,
        meanings={value: meanings[value] for value in found},
        width_px=slide.width_px,
        height_px=slide.height_px,
    )


def _refuse_other_size(path: Path, size: tuple[int, int], slide: Slide) -> None:
    if fits(size, slide.level0_size):
        return
    area = scanned_area(slide.properties)
    is_of_area = area is not None and fits(size, (area.width, area.height))
    raise AnnotationError(
        f"{path}: {size[0]} x {size[1]} px does not fit the slide's {slide.level0_size[0]} x {slide.level0_size[1]} "
        f"level-0 px: a mask covers the whole slide"
        + (", and this one lies across it: turn it" * fits(size[::-1], slide.level0_size))
        + (f", and this one the scanned area {tuple(area or ())} alone, which QuPath shows: pad it" * is_of_area)
    )


def fits(size: tuple[int, int], whole: tuple[int, int]) -> bool:
    """Whether an image of a size (width, height) may be a reduction of one: by one factor, each side to a pixel."""
    (width, height), (whole_width, whole_height) = size, whole
    is_near = abs(width * whole_height / (height * whole_width) - 1) <= _LARGEST_ASPECT_DEVIATION
    return is_near and abs(width * whole_height - height * whole_width) <= whole_width + whole_height


def _nearest(num_values: int, *, length: int) -> NDArray[np.int32]:
    """Which value of a line lies under the centre of each of `length` pixels, as OpenCV resizes it.

    It is computed for the whole line, so that a pixel is the same in every box.
    """
    line = np.arange(num_values, dtype=np.int32)[None]
    nearest = cv2.resize(line, (length, 1), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(nearest[0], dtype=np.int32)
