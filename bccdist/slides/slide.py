"""A slide on the um/px scale: opened with OpenSlide, read in the target frame (paper, section 2.1).

Policy: the level whose mpp lies within a tolerance of the target is used as it is, and its mpp becomes the
working mpp. Where there is none, the coarsest finer level is resampled to the target. A slide that is
coarser than the target is refused, and so is one whose mpp is missing or absurd: the manifest can set it.
"""

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import openslide
from numpy.typing import NDArray

from bccdist.errors import SlideError
from bccdist.slides.geometry import Box, runs
from bccdist.slides.jpeg_level import JpegLevel, open_jpeg_level
from bccdist.slides.level import WHITE, Level, OpenSlideLevel, advice_on_size, sample_into
from bccdist.slides.pyramid import refuse_oblong, usable_downsamples

PLAUSIBLE_MPP = (0.05, 5.0)
"""Light microscopes scan within these um/px; anything else is a fault of the file."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Which level the target frame of one slide is made from, and by how much it is resampled."""

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
        downsamples: level-0 pixels per pixel, for each level; infinite for one that is not to be used.
        target_mpp: um per pixel that the network sees.
        tolerance: relative deviation up to which a level is used as it is.

    Raises:
        SlideError: the slide is coarser than the target.
    """
    # First a level as it is: resampling costs time and detail.
    deviations = [abs(mpp_level0 * downsample / target_mpp - 1) for downsample in downsamples]
    level = int(np.argmin(deviations))
    if deviations[level] <= tolerance:
        return Resolution(mpp_level0=mpp_level0, level=level, downsample=downsamples[level], resize=1.0)
    if mpp_level0 > target_mpp:
        raise SlideError(
            f"its finest level has {mpp_level0:.4g} um/px, coarser than the target of {target_mpp:.4g} um/px; "
            "detail that was not scanned cannot be made: scan it finer or leave it out"
        )
    # Else from the finer side, as detail can be averaged away but not made.
    finer = [index for index, downsample in enumerate(downsamples) if mpp_level0 * downsample < target_mpp]
    level = max(finer, key=lambda index: downsamples[index])
    downsample = target_mpp / mpp_level0
    return Resolution(
        mpp_level0=mpp_level0, level=level, downsample=downsample, resize=downsample / downsamples[level]
    )


class Slide:
    """An open slide. Open it in the process that reads, and only there; one thread may read at a time.

    Attributes:
        resolution: how the target frame lies on the file.
        level0_size: width and height in level-0 px.
        width_px, height_px: size in the target frame.
        is_decoded_by_tile: whether the file's JPEG tiles are read directly instead of through OpenSlide.
    """

    def __init__(
        self,
        path: Path,
        *,
        target_mpp: float,
        tolerance: float = 0.1,
        mpp: float | None = None,
        pool: Executor | None = None,
        by_tile: bool = True,
    ) -> None:
        """Open `path`.

        Args:
            path: a file; of a slide in several files (DICOM, MRXS) the one that OpenSlide opens.
            target_mpp: um per pixel of the target frame.
            tolerance: relative deviation up to which a level is used without resampling.
            mpp: um per level-0 pixel; overrides what the file says.
            pool: threads that decode; None decodes in the caller's.
            by_tile: read JPEG tiles directly where the file allows it; False leaves all to OpenSlide.

        Raises:
            SlideError: the file cannot be opened, has no usable scale, or does not hold one upright picture.
        """
        self.path = path
        self._pool = pool
        self._by_tile = by_tile
        self._handle = _open(path)
        try:
            refuse_oblong(self._handle.properties)
            mpp_level0 = _level0_mpp(self._handle, mpp)
            self._downsamples = usable_downsamples(path, self._handle)
            self.resolution = choose_resolution(
                mpp_level0, self._downsamples, target_mpp=target_mpp, tolerance=tolerance
            )
        except SlideError as error:
            # No `with` has begun yet, so nobody else closes the file.
            self._handle.close()
            raise SlideError(f"{path}: {error}") from None
        self.level0_size = self._handle.dimensions
        self.width_px = max(1, round(self.level0_size[0] / self.resolution.downsample))
        self.height_px = max(1, round(self.level0_size[1] / self.resolution.downsample))
        self._source, self._step = self._open_level(self.resolution.level, step=self.resolution.resize)
        self.is_decoded_by_tile = isinstance(self._source, JpegLevel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        _close(self._source)
        self._handle.close()

    @property
    def properties(self) -> Mapping[str, str]:
        """What the file says of itself, by OpenSlide's names."""
        return self._handle.properties

    @property
    def num_levels(self) -> int:
        """Levels of the file's pyramid."""
        return int(self._handle.level_count)

    @property
    def unused_levels(self) -> tuple[int, ...]:
        """Levels that are left alone, as their size does not say where they lie on level 0, or another has it, too."""
        return tuple(level for level, downsample in enumerate(self._downsamples) if math.isinf(downsample))

    def reopen(self) -> None:
        """Open the file anew: after a failed read OpenSlide refuses every other one."""
        self.close()
        self._handle = _open(self.path)
        self._source, self._step = self._open_level(self.resolution.level, step=self.resolution.resize)

    def _open_level(self, level: int, *, step: float) -> tuple[Level, float]:
        """A level of the file, or what a decoder makes of it, and how many of its pixels make one of the frame."""
        plain = OpenSlideLevel(self._handle, level, self.path)
        direct = open_jpeg_level(self.path, plain, largest_reduction=step, pool=self._pool) if self._by_tile else None
        if direct is None:
            return plain, step
        # Rounded, as 1.84 / 2 * 2 is not a whole number of pixels otherwise.
        return direct[0], round(step / direct[1], 9)

    def read(self, box_px: Box) -> NDArray[np.uint8]:
        """The pixels of a box of the target frame.

        Args:
            box_px: may reach outside the slide; what lies there is white.

        Returns:
            uint8 RGB [box height, box width, 3].

        Raises:
            SlideError: the scanner's data cannot be decoded.
        """
        # Not zeros: `read_into` writes every pixel.
        image = np.empty((box_px.height, box_px.width, 3), dtype=np.uint8)
        self.read_into(image, box_px)
        return image

    def read_into(self, image: NDArray[np.uint8], box_px: Box) -> None:
        """Write the pixels of a box of the target frame to `image`, as `read` gives them."""
        inside = box_px.intersection(Box(0, 0, self.width_px, self.height_px))
        if inside != box_px:
            image[:] = WHITE
        if inside.area:
            view = inside._replace(x=inside.x - box_px.x, y=inside.y - box_px.y).slices()
            sample_into(image[view], self._source, inside, step=(self._step, self._step))

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
        band = np.empty((cell_px, needed.size * cell_px, 3), dtype=np.uint8)
        # Cells side by side are read in one go, so that a tile across their border is decoded once.
        for start, end in runs(needed):
            cols = slice(start * cell_px, end * cell_px)
            self.read_into(band[:, cols], Box(cols.start, row * cell_px, cols.stop - cols.start, cell_px))
        for start, end in runs(~needed):
            band[:, start * cell_px : end * cell_px] = WHITE
        return band

    def overview_px(self, mpp: float) -> int:
        """How many pixels `thumbnail` reads for a picture at about `mpp` um/px."""
        width, height = self._handle.level_dimensions[self.overview_level(mpp)]
        return int(width * height)

    def overview_level(self, mpp: float) -> int:
        """The level that `thumbnail` reads: the coarsest one not coarser than `mpp`, but for rounded downsamples."""
        factor = max(1.0, mpp / self.resolution.mpp_level0)
        fine_enough = [level for level, each in enumerate(self._downsamples) if each <= factor * 1.01]
        return max(fine_enough, key=lambda level: self._downsamples[level])

    def read_level(self, level: int, box_level0_px: Box) -> NDArray[np.uint8]:
        """What a level of the file shows of a box in level-0 px, through OpenSlide: uint8 RGB in the level's pixels.

        Raises:
            SlideError: the scanner's data cannot be decoded; `reopen` before anything else is read.
        """
        source = OpenSlideLevel(self._handle, level, self.path)
        box_px = box_level0_px.scaled(1 / self._downsamples[level]).intersection(Box(0, 0, *source.size_px))
        image = np.empty((box_px.height, box_px.width, 3), dtype=np.uint8)
        source.read_into(image, box_px)
        return image

    def thumbnail(self, mpp: float) -> NDArray[np.uint8]:
        """The whole slide at about `mpp` um/px: uint8 RGB [h, w, 3].

        It is read in bands from the coarsest level that is not coarser than `mpp`, so that a large slide without a
        pyramid fits into memory, too.
        """
        factor = max(1.0, mpp / self.resolution.mpp_level0)
        level = self.overview_level(mpp)
        source, _ = self._open_level(level, step=factor / self._downsamples[level])
        width, height = (max(1, round(edge / factor)) for edge in self.level0_size)
        try:
            image = np.empty((height, width, 3), dtype=np.uint8)
            step = (source.size_px[0] / width, source.size_px[1] / height)
            sample_into(image, source, Box(0, 0, width, height), step=step)
            return image
        finally:
            _close(source)


def _close(level: Level) -> None:
    if isinstance(level, JpegLevel):
        level.close()


def _open(path: Path) -> openslide.OpenSlide:
    if not path.exists():
        raise SlideError(f"{path}: the slide is not there")
    if path.is_dir():
        raise SlideError(f"{path}: it is a folder, expected a file; of a DICOM slide name one of its .dcm files")
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        advice = advice_on_size(path) or "convert it or leave it out"
        raise SlideError(f"{path}: OpenSlide cannot open it: {error}; {advice}") from error


def read_scale(path: Path, mpp: float | None = None) -> tuple[float, Mapping[str, str]]:
    """Um per level-0 pixel of a slide, and what its file says of itself, at the cost of opening it.

    Args:
        path: the slide's file.
        mpp: what the manifest says, if it does; it counts.

    Raises:
        SlideError: the file cannot be opened, or has no usable scale.
    """
    with _open(path) as handle:
        try:
            return _level0_mpp(handle, mpp), dict(handle.properties)
        except SlideError as error:
            raise SlideError(f"{path}: {error}") from None


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
