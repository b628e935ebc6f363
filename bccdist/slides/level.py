"""A pyramid level as pixels that can be read, and sampled at any step: where the target frame comes from."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from bccdist.errors import SlideError
from bccdist.slides.geometry import Box

if TYPE_CHECKING:
    from bccdist.slides.slide_file import SlideFile

WHITE = 255
LARGEST_NDPI_BYTES = 1 << 32
"""OpenSlide 4 guesses at the 64-bit offsets of larger ones, and often cannot open or read them."""
_LARGEST_OFFSET_PX = 1 / 512
"""Up to this part of a pixel OpenSlide takes a place for one on the grid, and does not interpolate."""
_MOST_SOURCE_PX = 1 << 25
"""Pixels of a level that are held at once when a large area is sampled."""


class Level(Protocol):
    """Pixels at one resolution: a level of the file, or one that its decoder makes of a finer level."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""

    def read_into(self, image: NDArray[np.uint8], box_px: Box) -> NDArray[np.bool_] | None:
        """Write the pixels of a box that lies inside to `image`: uint8 RGB [box height, box width, 3].

        Returns:
            None where the file holds every pixel, else those that it does not, which come out white:
            bool [box height, box width].

        Raises:
            SlideError: the scanner's data cannot be decoded.
        """


class OpenSlideLevel:
    """A level as OpenSlide decodes it; works for every format."""

    def __init__(self, handle_of: Callable[[], openslide.OpenSlide], level: int, file: "SlideFile") -> None:
        """Read from a file that is open.

        Args:
            handle_of: gives the open file, which may be another one after an error; it is the caller's to close.
            level: of the file.
            file: the same file, which fetches what is read if it is remote.
        """
        handle = handle_of()
        self.size_px: tuple[int, int] = handle.level_dimensions[level]
        self.level = level
        self.vendor: str = handle.properties.get(openslide.PROPERTY_NAME_VENDOR, "")
        self._handle_of = handle_of
        self._downsample: float = handle.level_downsamples[level]
        self._file = file

    def offset_px(self, box_px: Box) -> tuple[float, float]:
        """How far to the right and below the corner of a box OpenSlide begins to read, in pixels of the level.

        It is asked in whole level-0 px. Where these lie between two pixels of the level, it gives a mean of both.
        """
        x_level0_px, y_level0_px = self._location_level0_px(box_px)
        return x_level0_px / self._downsample - box_px.x, y_level0_px / self._downsample - box_px.y

    @property
    def is_on_grid(self) -> bool:
        """Whether OpenSlide gives the level's own pixels wherever it is asked, and not a mean of neighbours."""
        # The error of a factor adds up from the left and from the top.
        farthest_px = max(self.size_px) * abs(round(self._downsample) / self._downsample - 1)
        return farthest_px < _LARGEST_OFFSET_PX

    @property
    def is_whole_factor(self) -> bool:
        """Whether each pixel begins at a level-0 pixel, so that OpenSlide never interpolates."""
        return self._downsample.is_integer()

    def _location_level0_px(self, box_px: Box) -> tuple[int, int]:
        return round(box_px.x * self._downsample), round(box_px.y * self._downsample)

    def read_into(self, image: NDArray[np.uint8], box_px: Box) -> NDArray[np.bool_] | None:
        """Write the pixels of a box that lies inside to `image`; what the file does not hold is white.

        Returns:
            None where the file holds every pixel, else those that it does not: bool [box height, box width].

        Raises:
            SlideError: the scanner's data cannot be decoded.
            RemoteError: they did not come.
        """
        self._file.need_box(self, box_px)
        location_level0_px = self._location_level0_px(box_px)
        try:
            region = self._handle_of().read_region(location_level0_px, self.level, (box_px.width, box_px.height))
        except openslide.OpenSlideError as error:
            raise SlideError(
                f"{self._file}: cannot decode level {self.level} at level-0 px {location_level0_px}: {error}; "
                + (advice_on_size(self._file) or "the file is damaged or truncated: copy or scan it again")
            ) from error
        rgba = np.asarray(region)
        image[:] = rgba[..., :3]
        is_absent = rgba[..., 3] == 0
        if not is_absent.any():
            return None
        image[is_absent] = WHITE
        return np.asarray(is_absent, dtype=bool)


def pixels_of(level: Level, box_px: Box) -> NDArray[np.uint8]:
    """The pixels of a box of a level: uint8 RGB [box height, box width, 3]."""
    image = np.empty((box_px.height, box_px.width, 3), dtype=np.uint8)
    level.read_into(image, box_px)
    return image


def advice_on_size(file: "SlideFile") -> str:
    """What to do about an NDPI that OpenSlide cannot read because of its size; empty for any other file."""
    size_bytes = file.size_bytes
    if file.location.suffix.lower() != ".ndpi" or size_bytes <= LARGEST_NDPI_BYTES:
        return ""
    return (
        f"it is an NDPI of {size_bytes / 2**30:.1f} GiB, and OpenSlide does not read all NDPI files above 4 GiB: "
        "export the area with tissue from the viewer as a smaller NDPI, or convert it to a pyramidal TIFF"
    )


def sample_into(
    image: NDArray[np.uint8], level: Level, box_px: Box, *, step: tuple[float, float]
) -> NDArray[np.bool_] | None:
    """Write a box of a frame whose pixels are `step` pixels of the level wide and high, with the same origin.

    Where a pixel lies does not depend on the box that it is read with. Steps above 1 average (a Hamming window two
    steps wide, by Pillow); with steps of 1 the pixels come as they are.

    Args:
        image: uint8 RGB [box height, box width, 3].
        level: what is read.
        box_px: in the frame; may reach outside the level, where all is white.
        step: pixels of the level per pixel of the frame, along x and y, at least 1.

    Returns:
        None where the file holds every pixel of the level that is needed, else those of the box in whose middle it
        holds none: bool [box height, box width]. What lies outside the level is none of them.

    Raises:
        SlideError: the scanner's data cannot be decoded.
    """
    if max(step) == 1:
        return _read_padded_into(image, level, box_px)
    is_absent = np.zeros(image.shape[:2], dtype=bool)
    rows_at_once = max(1, int(_MOST_SOURCE_PX / (box_px.width * step[0] * step[1])))
    for top in range(0, box_px.height, rows_at_once):
        rows = slice(top, min(top + rows_at_once, box_px.height))
        part_px = box_px._replace(y=box_px.y + top, height=rows.stop - top)
        image[rows], is_absent[rows] = _resampled(level, part_px, step=step)
    return is_absent if is_absent.any() else None


def _read_padded_into(image: NDArray[np.uint8], level: Level, box_px: Box) -> NDArray[np.bool_] | None:
    """Write a box of the level, white outside of it; what the level should hold and does not, as `read_into`."""
    inside = box_px.intersection(Box(0, 0, *level.size_px))
    if inside != box_px:
        image[:] = WHITE
    if not inside.area:
        return None
    view = inside._replace(x=inside.x - box_px.x, y=inside.y - box_px.y).slices()
    found = level.read_into(image[view], inside)
    if found is None or inside == box_px:
        return found
    is_absent = np.zeros(image.shape[:2], dtype=bool)
    is_absent[view] = found
    return is_absent


def _resampled(
    level: Level, box_px: Box, *, step: tuple[float, float]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | bool]:
    """The pixels of a box of the frame, and those that are absent; False where none is."""
    left, right = box_px.x * step[0], box_px.x_end * step[0]
    top, bottom = box_px.y * step[1], box_px.y_end * step[1]
    x, x_end = _window(left, right, step=step[0], length_px=level.size_px[0])
    y, y_end = _window(top, bottom, step=step[1], length_px=level.size_px[1])
    pixels = np.empty((y_end - y, x_end - x, 3), dtype=np.uint8)
    is_absent = _read_padded_into(pixels, level, Box(x, y, x_end - x, y_end - y))
    source = (left - x, top - y, min(right, x_end) - x, min(bottom, y_end) - y)
    size = (box_px.width, box_px.height)
    resized = Image.fromarray(pixels).resize(size, Image.Resampling.HAMMING, box=source)
    if is_absent is None:
        return np.asarray(resized, dtype=np.uint8), False
    rows = ((np.arange(box_px.height) + 0.5) * step[1] + top - y).astype(int).clip(max=len(pixels) - 1)
    cols = ((np.arange(box_px.width) + 0.5) * step[0] + left - x).astype(int).clip(max=pixels.shape[1] - 1)
    return np.asarray(resized, dtype=np.uint8), is_absent[np.ix_(rows, cols)]


def _window(start: float, end: float, *, step: float, length_px: int) -> tuple[int, int]:
    """The pixels that an average over [start, end) looks at.

    The margin ends where the level ends, so that no white mixes in from there, unless the frame itself goes on.
    """
    margin_px = math.ceil(step)
    least_end = math.ceil(end - 1e-6)  # what lies beyond by rounding alone is no pixel
    return max(0, math.floor(start) - margin_px), max(min(least_end + margin_px, length_px), least_end)
