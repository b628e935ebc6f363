"""A pyramid level as pixels that can be read, and sampled at any step: where the target frame comes from."""

import math
from pathlib import Path
from typing import Protocol

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from bccdist.errors import SlideError
from bccdist.slides.geometry import Box

WHITE = 255
LARGEST_NDPI_BYTES = 1 << 32
"""OpenSlide 4 guesses at the 64-bit offsets of larger ones, and often cannot open or read them."""
_MOST_SOURCE_PX = 1 << 25
"""Pixels of a level that are held at once when a large area is sampled."""


class Level(Protocol):
    """Pixels at one resolution: a level of the file, or one that its decoder makes of a finer level."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""

    def read_into(self, image: NDArray[np.uint8], box_px: Box) -> None:
        """Write the pixels of a box that lies inside to `image`: uint8 RGB [box height, box width, 3].

        Raises:
            SlideError: the scanner's data cannot be decoded.
        """


class OpenSlideLevel:
    """A level as OpenSlide decodes it; works for every format."""

    def __init__(self, handle: openslide.OpenSlide, level: int, path: Path) -> None:
        """Take over an open file.

        Args:
            handle: stays the caller's to close.
            level: of the file.
            path: for messages.
        """
        self.size_px: tuple[int, int] = handle.level_dimensions[level]
        self._handle = handle
        self._level = level
        self._downsample: float = handle.level_downsamples[level]
        self._path = path

    def read_into(self, image: NDArray[np.uint8], box_px: Box) -> None:
        """Write the pixels of a box that lies inside to `image`; what was not scanned is white.

        Raises:
            SlideError: the scanner's data cannot be decoded.
        """
        location_level0_px = (round(box_px.x * self._downsample), round(box_px.y * self._downsample))
        try:
            region = self._handle.read_region(location_level0_px, self._level, (box_px.width, box_px.height))
        except openslide.OpenSlideError as error:
            raise SlideError(
                f"{self._path}: cannot decode level {self._level} at level-0 px {location_level0_px}: {error}; "
                + (advice_on_size(self._path) or "the file is damaged or truncated: copy or scan it again")
            ) from error
        rgba = np.asarray(region)
        image[:] = rgba[..., :3]
        image[rgba[..., 3] == 0] = WHITE


def advice_on_size(path: Path) -> str:
    """What to do about an NDPI that OpenSlide cannot read because of its size; empty for any other file."""
    size_bytes = path.stat().st_size
    if path.suffix.lower() != ".ndpi" or size_bytes <= LARGEST_NDPI_BYTES:
        return ""
    return (
        f"it is an NDPI of {size_bytes / 2**30:.1f} GiB, and OpenSlide does not read all NDPI files above 4 GiB: "
        "export the area with tissue from the viewer as a smaller NDPI, or convert it to a pyramidal TIFF"
    )


def sample_into(image: NDArray[np.uint8], level: Level, box_px: Box, *, step: tuple[float, float]) -> None:
    """Write a box of a frame whose pixels are `step` pixels of the level wide and high, with the same origin.

    Where a pixel lies does not depend on the box that it is read with. Steps above 1 average (a Hamming window two
    steps wide, by Pillow); with steps of 1 the pixels come as they are.

    Args:
        image: uint8 RGB [box height, box width, 3].
        level: what is read.
        box_px: in the frame; may reach outside the level, where all is white.
        step: pixels of the level per pixel of the frame, along x and y, at least 1.

    Raises:
        SlideError: the scanner's data cannot be decoded.
    """
    if max(step) == 1:
        _read_padded_into(image, level, box_px)
        return
    rows_at_once = max(1, int(_MOST_SOURCE_PX / (box_px.width * step[0] * step[1])))
    for top in range(0, box_px.height, rows_at_once):
        rows = min(rows_at_once, box_px.height - top)
        image[top : top + rows] = _resampled(level, box_px._replace(y=box_px.y + top, height=rows), step=step)


def _read_padded_into(image: NDArray[np.uint8], level: Level, box_px: Box) -> None:
    """Write a box of the level, white outside of it."""
    inside = box_px.intersection(Box(0, 0, *level.size_px))
    if inside != box_px:
        image[:] = WHITE
    if inside.area:
        view = inside._replace(x=inside.x - box_px.x, y=inside.y - box_px.y).slices()
        level.read_into(image[view], inside)


def _resampled(level: Level, box_px: Box, *, step: tuple[float, float]) -> NDArray[np.uint8]:
    left, right = box_px.x * step[0], box_px.x_end * step[0]
    top, bottom = box_px.y * step[1], box_px.y_end * step[1]
    x, x_end = _window(left, right, step=step[0], length_px=level.size_px[0])
    y, y_end = _window(top, bottom, step=step[1], length_px=level.size_px[1])
    pixels = np.empty((y_end - y, x_end - x, 3), dtype=np.uint8)
    _read_padded_into(pixels, level, Box(x, y, x_end - x, y_end - y))
    source = (left - x, top - y, min(right, x_end) - x, min(bottom, y_end) - y)
    size = (box_px.width, box_px.height)
    resized = Image.fromarray(pixels).resize(size, Image.Resampling.HAMMING, box=source)
    return np.asarray(resized, dtype=np.uint8)


def _window(start: float, end: float, *, step: float, length_px: int) -> tuple[int, int]:
    """The pixels that an average over [start, end) looks at.

    The margin ends where the level ends, so that no white mixes in from there, unless the frame itself goes on.
    """
    margin_px = math.ceil(step)
    least_end = math.ceil(end - 1e-6)  # what lies beyond by rounding alone is no pixel
    return max(0, math.floor(start) - margin_px), max(min(least_end + margin_px, length_px), least_end)
