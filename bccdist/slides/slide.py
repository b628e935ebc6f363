"""A slide on the um/px scale: opened with OpenSlide, read in the target frame (paper, section 2.1).

Policy: the level whose mpp lies within a tolerance of the target is used as it is, and its mpp becomes the
working mpp. Where there is none, the coarsest finer level is resampled to the target. A slide that is
coarser than the target is refused, and so is one whose mpp is missing or absurd: the manifest can set it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from bccdist.errors import SlideError
from bccdist.slides.geometry import Box, runs

WHITE = 255
PLAUSIBLE_MPP = (0.05, 5.0)
"""Light microscopes scan within these um/px; anything else is a fault of the file."""
_LARGEST_ASPECT = 1.05


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Where the target frame of one slide comes from."""

    mpp_level0: float
    level: int
    """The pyramid level that is read."""
    downsample: float
    """Level-0 pixels per target pixel."""
    resize: float
    """Pixels of the read level per target pixel: 1 where the level is used as it is."""

    @property
    def mpp(self) -> float:
        """Um per target pixel."""
        return self.mpp_level0 * self.downsample


def choose_resolution(
    mpp_level0: float, downsamples: tuple[float, ...], *, target_mpp: float, tolerance: float
) -> Resolution:
    """The level to read, and by how much to resample it.

    Args:
        mpp_level0: um per level-0 pixel.
        downsamples: level-0 pixels per pixel, for each level.
        target_mpp: um per pixel that the network sees.
        tolerance: relative deviation up to which a level is used as it is.

    Raises:
        SlideError: the slide is coarser than the target.
    """
    deviations = [abs(mpp_level0 * downsample / target_mpp - 1) for downsample in downsamples]
    level = int(np.argmin(deviations))
    if deviations[level] <= tolerance:
        return Resolution(mpp_level0=mpp_level0, level=level, downsample=downsamples[level], resize=1.0)
    if mpp_level0 > target_mpp:
        raise SlideError(
            f"its finest level has {mpp_level0:.4g} um/px, coarser than the target of {target_mpp:.4g} um/px; "
            "detail that was not scanned cannot be made: scan it finer or leave it out"
        )
    finer = [index for index, downsample in enumerate(downsamples) if mpp_level0 * downsample < target_mpp]
    level = max(finer, key=lambda index: downsamples[index])
    downsample = target_mpp / mpp_level0
    return Resolution(
        mpp_level0=mpp_level0, level=level, downsample=downsample, resize=downsample / downsamples[level]
    )


class Slide:
    """An open slide. Open it in the process that reads, and only there.

    Attributes:
        resolution: how the target frame lies on the file.
        width_px, height_px: size in the target frame.
    """

    def __init__(self, path: Path, *, target_mpp: float, tolerance: float = 0.1, mpp: float | None = None) -> None:
        """Open `path`.

        Args:
            path: a file; of a slide in several files (DICOM, MRXS) the one that OpenSlide opens.
            target_mpp: um per pixel of the target frame.
            tolerance: relative deviation up to which a level is used without resampling.
            mpp: um per level-0 pixel; overrides what the file says.

        Raises:
            SlideError: the file cannot be opened, or has no usable scale.
        """
        self.path = path
        self._handle = _open(path)
        try:
            self.resolution = choose_resolution(
                _level0_mpp(self._handle, mpp),
                tuple(self._handle.level_downsamples),
                target_mpp=target_mpp,
                tolerance=tolerance,
            )
        except SlideError as error:
            self._handle.close()
            raise SlideError(f"{path}: {error}") from None
        self.level0_size = self._handle.dimensions
        self.width_px = max(1, round(self.level0_size[0] / self.resolution.downsample))
        self.height_px = max(1, round(self.level0_size[1] / self.resolution.downsample))

    def __enter__(self) -> Self:
        """The slide itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._handle.close()

    def reopen(self) -> None:
        """Open the file anew: after a failed read OpenSlide refuses every other one."""
        self._handle.close()
        self._handle = _open(self.path)

    def read(self, box_px: Box) -> NDArray[np.uint8]:
        """The pixels of a box of the target frame.

        Args:
            box_px: may reach outside the slide; what lies there is white.

        Returns:
            uint8 RGB [box height, box width, 3].

        Raises:
            SlideError: the scanner's data cannot be decoded.
        """
        image = np.full((box_px.height, box_px.width, 3), WHITE, dtype=np.uint8)
        inside = box_px.intersection(Box(0, 0, self.width_px, self.height_px))
        if inside.area:
            rows, cols = inside._replace(x=inside.x - box_px.x, y=inside.y - box_px.y).slices()
            image[rows, cols] = self._read_inside(inside)
        return image

    def _read_inside(self, box_px: Box) -> NDArray[np.uint8]:
        resolution = self.resolution
        location = (round(box_px.x * resolution.downsample), round(box_px.y * resolution.downsample))
        size = (round(box_px.width * resolution.resize), round(box_px.height * resolution.resize))
        image = self._read_level(location, resolution.level, size)
        if size == (box_px.width, box_px.height):
            return image
        resized = cv2.resize(image, (box_px.width, box_px.height), interpolation=cv2.INTER_AREA)
        return np.asarray(resized, dtype=np.uint8)

    def _read_level(self, location_level0_px: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        try:
            region = np.asarray(self._handle.read_region(location_level0_px, level, size))
        except openslide.OpenSlideError as error:
            raise SlideError(
                f"{self.path}: cannot decode level {level} at level-0 px {location_level0_px}: {error}; "
                "the file is damaged or truncated: copy or scan it again"
            ) from error
        image = region[..., :3].copy()
        image[region[..., 3] == 0] = WHITE
        return image

    def read_cell_rows(self, needed: NDArray[np.bool_], *, cell_px: int) -> Iterator[NDArray[np.uint8]]:
        """The slide in rows of cells, each source pixel read once.

        Args:
            needed: bool [rows, cols]: the cells to read; the others come out white.
            cell_px: edge of a cell in the target frame.

        Yields:
            uint8 RGB [cell_px, cols * cell_px, 3] for each row of cells.
        """
        for row, flags in enumerate(needed):
            yield self.read_cell_row(row, flags, cell_px=cell_px)

    def read_cell_row(self, row: int, needed: NDArray[np.bool_], *, cell_px: int) -> NDArray[np.uint8]:
        """One row of cells: uint8 RGB [cell_px, cols * cell_px, 3]; cells that are not `needed` [cols] are white."""
        band = np.full((cell_px, needed.size * cell_px, 3), WHITE, dtype=np.uint8)
        for start, end in runs(needed):
            box_px = Box(start * cell_px, row * cell_px, (end - start) * cell_px, cell_px)
            band[:, start * cell_px : end * cell_px] = self.read(box_px)
        return band

    def thumbnail(self, mpp: float) -> NDArray[np.uint8]:
        """The whole slide at about `mpp` um/px: uint8 RGB [h, w, 3].

        It is read from the coarsest level that is not coarser than `mpp`.
        """
        factor = max(1.0, mpp / self.resolution.mpp_level0)
        level = self._handle.get_best_level_for_downsample(factor * 1.01)
        image = self._read_level((0, 0), level, self._handle.level_dimensions[level])
        size = (max(1, round(self.level0_size[0] / factor)), max(1, round(self.level0_size[1] / factor)))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _open(path: Path) -> openslide.OpenSlide:
    if not path.exists():
        raise SlideError(f"{path}: the slide is not there")
    if path.is_dir():
        raise SlideError(f"{path}: it is a folder, expected a file; of a DICOM slide name one of its .dcm files")
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise SlideError(f"{path}: OpenSlide cannot open it: {error}; convert it or leave it out") from error


def _level0_mpp(handle: openslide.OpenSlide, override: float | None) -> float:
    """Um per level-0 pixel, from the manifest if it says, else from the file."""
    if override is not None:
        if not _is_plausible(override):
            raise SlideError(
                f"slides.csv says {override:.6g} um/px, expected {_plausible_range()}; correct its column mpp"
            )
        return override
    texts = [handle.properties.get(name) for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)]
    if texts[0] is None or texts[1] is None:
        raise SlideError("the file does not say its um/px; set the column mpp in slides.csv")
    mpp_x, mpp_y = _number(texts[0]), _number(texts[1])
    if not (_is_plausible(mpp_x) and _is_plausible(mpp_y)):
        raise SlideError(
            f"the file says {texts[0]} x {texts[1]} um/px, expected {_plausible_range()}; "
            "set the column mpp in slides.csv to the scanner's true value"
        )
    if not 1 / _LARGEST_ASPECT <= mpp_x / mpp_y <= _LARGEST_ASPECT:
        raise SlideError(
            f"its pixels are not square: {mpp_x:.6g} x {mpp_y:.6g} um/px; set the column mpp in slides.csv"
        )
    return (mpp_x + mpp_y) / 2


def _number(text: str) -> float:
    """The number that `text` says; nan, which is not plausible, where it says none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _is_plausible(mpp: float) -> bool:
    low, high = PLAUSIBLE_MPP
    return low <= mpp <= high


def _plausible_range() -> str:
    low, high = PLAUSIBLE_MPP
    return f"{low} to {high}"
