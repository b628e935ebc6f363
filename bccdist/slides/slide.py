"""A slide on the um/px scale: opened with OpenSlide, read in the target frame (paper, section 2.1).

Policy: the level whose mpp lies within a tolerance of the target is used as it is, and its mpp becomes the
working mpp. Where there is none, the coarsest finer level is resampled to the target. A slide that is
coarser than the target is refused, and so is one whose mpp is missing or absurd: the manifest can set it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import openslide
from numpy.typing import NDArray

from bccdist.addresses import Location
from bccdist.errors import RemoteError, SlideError
from bccdist.slides.geometry import Box, runs
from bccdist.slides.level import WHITE, Level, OpenSlideLevel, pixels_of, sample_into
from bccdist.slides.pyramid import refuse_oblong, usable_downsamples
from bccdist.slides.slide_file import SlideFile, open_file
from bccdist.slides.stain import Glass, find_glass, smoothed
from bccdist.slides.tile_level import NotByTileError, TileLevel, open_tile_level

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


class PixelsThere(NamedTuple):
    """Pixels of a slide, and whether the file holds them."""

    pixels: NDArray[np.uint8]
    """RGB, white where it was not asked for or is not in the file: [h, w, 3]."""
    is_absent: NDArray[np.bool_] | None
    """What was asked for and is not in the file: bool [h, w]; None where all is there."""


class Slide:
    """An open slide. Open it in the process that reads, and only there; one thread may read at a time.

    Attributes:
        resolution: how the target frame lies on the file.
        level0_size: width and height in level-0 px.
        width_px, height_px: size in the target frame.
        why_not_by_tile: why the file is read through OpenSlide; empty where its tiles are read directly.
    """

    def __init__(
        self,
        path: Location,
        *,
        target_mpp: float,
        tolerance: float = 0.1,
        mpp: float | None = None,
        pool: Executor | None = None,
        by_tile: bool = True,
    ) -> None:
        """Open `path`.

        Args:
            path: a file of this machine or an address; of a slide in several files (DICOM, MRXS) the one that
                OpenSlide opens.
            target_mpp: um per pixel of the target frame.
            tolerance: relative deviation up to which a level is used without resampling.
            mpp: um per level-0 pixel; overrides what the file says.
            pool: threads that decode; None decodes in the caller's.
            by_tile: read tiles directly where the file allows it; False leaves all to OpenSlide.

        Raises:
            SlideError: the file cannot be opened, has no usable scale, or does not hold one upright picture.
        """
        self.path = path
        try:
            self._file = SlideFile(path)
        except RemoteError as error:
            raise SlideError(str(error)) from None
        try:
            self._open(target_mpp=target_mpp, tolerance=tolerance, mpp=mpp, pool=pool, by_tile=by_tile)
        except RemoteError as error:
            self._file.close(is_good=False)
            raise SlideError(str(error)) from None
        except BaseException:
            self._file.close()
            raise

    def _open(
        self, *, target_mpp: float, tolerance: float, mpp: float | None, pool: Executor | None, by_tile: bool
    ) -> None:
        self._pool = pool
        self._by_tile = by_tile
        self._kept_overview: tuple[float, PixelsThere] | None = None
        self._kept_on_glass: tuple[float, tuple[NDArray[np.uint8], Glass]] | None = None
        self._handle = self._file.opened()
        try:
            refuse_oblong(self._handle.properties)
            mpp_level0 = _level0_mpp(self._handle, mpp)
            self._downsamples = usable_downsamples(self._file, self._handle)
            self.resolution = choose_resolution(
                mpp_level0, self._downsamples, target_mpp=target_mpp, tolerance=tolerance
            )
        except SlideError as error:
            # No `with` has begun yet, so nobody else closes the file.
            self._handle.close()
            raise SlideError(f"{self.path}: {error}") from None
        self.level0_size = self._handle.dimensions
        self.width_px = max(1, round(self.level0_size[0] / self.resolution.downsample))
        self.height_px = max(1, round(self.level0_size[1] / self.resolution.downsample))
        self._open_source()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(is_good=not isinstance(error, RemoteError))

    def close(self, *, is_good: bool = True) -> None:
        """Close the file; a remote one that failed is opened anew the next time."""
        _close(self._source)
        self._handle.close()
        self._file.close(is_good=is_good)

    @property
    def properties(self) -> Mapping[str, str]:
        """What the file says of itself, by OpenSlide's names."""
        return self._handle.properties

    @property
    def file_path(self) -> Path:
        """By which others open what is there of the file: all of it, or of a remote one all that it says of itself."""
        return self._file.path

    @property
    def num_levels(self) -> int:
        """Levels of the file's pyramid."""
        return int(self._handle.level_count)

    @property
    def unused_levels(self) -> tuple[int, ...]:
        """Levels that are left alone, as their size does not say where they lie on level 0, or another has it, too."""
        return tuple(level for level, downsample in enumerate(self._downsamples) if math.isinf(downsample))

    @property
    def reader(self) -> str:
        """What reads the pixels: `tiles`, out of the file directly, or `openslide`."""
        return "openslide" if self.why_not_by_tile else "tiles"

    @property
    def log_of_reader(self) -> str:
        """What a line of the log ends with: why the pixels are read through OpenSlide; empty where they are not."""
        return f", read through OpenSlide: {self.why_not_by_tile}" if self.why_not_by_tile else ""

    def reopen(self) -> None:
        """Open the file anew: after a failed read OpenSlide refuses every other one."""
        _close(self._source)
        self._renew_handle()
        self._open_source()

    def _renew_handle(self) -> None:
        self._handle.close()
        self._handle = self._file.opened()

    def _open_source(self) -> None:
        """Open the level that the target frame is made from."""
        level, step = self.resolution.level, self.resolution.resize
        self._source, self._step, self.why_not_by_tile = self._open_level(level, step=step)
        if self._by_tile and isinstance(self._source, OpenSlideLevel) and not self._source.is_on_grid:
            # OpenSlide would blur it, here more and there less; level 0 it never blurs, so there is such a level.
            on_grid = [each for each in range(self.num_levels) if self._is_on_grid_below(each, level)]
            finer = max(on_grid, key=self._downsamples.__getitem__)
            downsample = self.resolution.downsample
            self.resolution = replace(self.resolution, level=finer, resize=downsample / self._downsamples[finer])
            self.why_not_by_tile += (
                f"; level {level} is {self._downsamples[level]:.6g} times smaller than level 0, which OpenSlide can "
                f"only read blurred, so that level {finer} is read and averaged"
            )
            self._source, self._step, _ = self._open_level(finer, step=self.resolution.resize)
        if self._file.tiff.fault:
            self.why_not_by_tile += (
                f" ({self._file.tiff.fault}), so that nobody has looked for second images and turned pixels in it: "
                "convert the slide, or look at it"
            )

    def _is_on_grid_below(self, level: int, limit: int) -> bool:
        """Whether a level is finer than another one, and OpenSlide gives its own pixels."""
        return self._downsamples[level] < self._downsamples[limit] and self._plain_level(level).is_on_grid

    def _open_level(self, level: int, *, step: float, is_compared: bool = True) -> tuple[Level, float, str]:
        """A level of the file, or what a decoder makes of it.

        Returns:
            The level, how many of its pixels make one of the frame, and why its tiles are not read directly.
        """
        plain = self._plain_level(level)
        if not self._by_tile:
            return plain, step, "it was asked for"
        try:
            tiles, reduction = open_tile_level(
                self._file, plain, largest_reduction=step, is_compared=is_compared, pool=self._pool
            )
        except NotByTileError as reason:
            if reason.__cause__:  # OpenSlide refuses every read after one that failed
                self._renew_handle()
            return plain, step, str(reason)
        # Rounded, as 1.84 / 2 * 2 is not a whole number of pixels otherwise.
        return tiles, round(step / reduction, 9), ""

    def _plain_level(self, level: int) -> OpenSlideLevel:
        return OpenSlideLevel(lambda: self._handle, level, self._file)

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

    def read_into(self, image: NDArray[np.uint8], box_px: Box) -> NDArray[np.bool_] | None:
        """Write the pixels of a box of the target frame to `image`, as `read` gives them.

        Returns:
            None where the file holds every pixel that lies on the slide, else those that it does not, which come out
            white: bool [box height, box width].
        """
        inside = box_px.intersection(Box(0, 0, self.width_px, self.height_px))
        if inside != box_px:
            image[:] = WHITE
        if not inside.area:
            return None
        view = inside._replace(x=inside.x - box_px.x, y=inside.y - box_px.y).slices()
        found = sample_into(image[view], self._source, inside, step=(self._step, self._step))
        if found is None:
            return None
        is_absent = np.zeros(image.shape[:2], dtype=bool)
        is_absent[view] = found
        return is_absent

    def expect_cells(self, needed: NDArray[np.bool_], *, cell_px: int) -> None:
        """Say which cells will be read from the top, bool [rows, cols], so that a remote file's are fetched ahead."""
        if isinstance(self._source, TileLevel) and self._file.is_in_part:
            margin_px = math.ceil(self._step) if self._step != 1 else 0
            self._source.expect(
                Box(start * cell_px, row * cell_px, (end - start) * cell_px, cell_px)
                .scaled(self._step)
                .grown(margin_px)
                for row, flags in enumerate(needed)
                for start, end in runs(flags)
            )

    def read_cell_rows(self, needed: NDArray[np.bool_], *, cell_px: int) -> Iterator[PixelsThere]:
        """The slide in rows of cells, each source pixel read once.

        Args:
            needed: bool [rows, cols]: the cells to read; the others come out white.
            cell_px: edge of a cell in the target frame.

        Yields:
            Each row of cells, from the top.
        """
        for row, flags in enumerate(needed):
            yield self.read_cell_row(row, flags, cell_px=cell_px)

    def read_cell_row(self, row: int, needed: NDArray[np.bool_], *, cell_px: int) -> PixelsThere:
        """One row of cells; those that are not `needed`, bool [cols], come out white."""
        pixels = np.empty((cell_px, needed.size * cell_px, 3), dtype=np.uint8)
        is_absent: NDArray[np.bool_] | None = None
        # Cells side by side are read in one go, so that a tile across their border is decoded once.
        for start, end in runs(needed):
            cols = slice(start * cell_px, end * cell_px)
            box_px = Box(cols.start, row * cell_px, cols.stop - cols.start, cell_px)
            found = self.read_into(pixels[:, cols], box_px)
            if found is not None:
                is_absent = np.zeros(pixels.shape[:2], dtype=bool) if is_absent is None else is_absent
                is_absent[:, cols] = found
        for start, end in runs(~needed):
            pixels[:, start * cell_px : end * cell_px] = WHITE
        return PixelsThere(pixels, is_absent)

    def overview_px(self, mpp: float) -> int:
        """How many pixels `thumbnail` reads for a picture at about `mpp` um/px."""
        width, height = self._handle.level_dimensions[self.overview_level(mpp)]
        return int(width * height)

    def overview_level(self, mpp: float) -> int:
        """The level that `thumbnail` reads: the coarsest one not coarser than `mpp`, but for rounded downsamples."""
        factor = max(1.0, mpp / self.resolution.mpp_level0)
        fine_enough = [level for level, each in enumerate(self._downsamples) if each <= factor * 1.01]
        return max(fine_enough, key=lambda level: self._downsamples[level])

    def read_places(self, level: int, boxes_level0_px: Sequence[Box], *, mpp: float) -> list[NDArray[np.uint8] | None]:
        """What a level of the file shows at some places: uint8 RGB, in pixels of at most `mpp` um or of the level.

        Of the level that the target frame is made from it is what is read for the frame. Others are to be looked at
        only: their tiles are not compared with OpenSlide's.

        Returns:
            For each place its pixels; None where the scanner's data cannot be decoded.
        """
        if level == self.resolution.level:
            downsample = self.resolution.downsample / self._step
            return self._read_places(self._source, downsample, boxes_level0_px)
        step = mpp / self.resolution.mpp_level0 / self._downsamples[level]
        source, step_left, _ = self._open_level(level, step=max(1.0, step), is_compared=False)
        downsample = self._downsamples[level] * max(1.0, step) / step_left
        try:
            return self._read_places(source, downsample, boxes_level0_px)
        finally:
            _close(source)

    def _read_places(
        self, source: Level, downsample: float, boxes_level0_px: Sequence[Box]
    ) -> list[NDArray[np.uint8] | None]:
        frame = Box(0, 0, *source.size_px)
        boxes_px = [box.scaled(1 / downsample).intersection(frame) for box in boxes_level0_px]
        if isinstance(source, TileLevel):
            # One round of requests for all places, where the file is remote.
            source.fetch(source.places_of(boxes_px))
        return [self._read_place(source, box_px) for box_px in boxes_px]

    def _read_place(self, source: Level, box_px: Box) -> NDArray[np.uint8] | None:
        try:
            return pixels_of(source, box_px)
        except SlideError:
            self._renew_handle()  # OpenSlide refuses every read after one that failed
            return None

    def thumbnail(self, mpp: float) -> NDArray[np.uint8]:
        """The whole slide at about `mpp` um/px: uint8 RGB [h, w, 3], as `overview` reads it."""
        return self.overview(mpp).pixels

    def overview(self, mpp: float) -> PixelsThere:
        """The whole slide at about `mpp` um/px.

        It is read in bands from the coarsest level that is not coarser than `mpp`, so that a large slide without a
        pyramid fits into memory, too. What is absent there is shown as any finer level holds it. The last one is kept:
        tissue is found in it, and what is read is held against it.
        """
        if self._kept_overview is None or self._kept_overview[0] != mpp:
            self._kept_overview = (mpp, self._read_overview(mpp))
        return self._kept_overview[1]

    def overview_on_glass(self, mpp: float) -> tuple[NDArray[np.uint8], Glass]:
        """The overview without the noise of single pixels, uint8 RGB [h, w, 3], and the glass that is seen in it.

        The last one is kept: tissue is found in it, and what lies on the tissue.
        """
        if self._kept_on_glass is None or self._kept_on_glass[0] != mpp:
            smooth = smoothed(self.overview(mpp).pixels)
            self._kept_on_glass = (mpp, (smooth, find_glass(smooth)))
        return self._kept_on_glass[1]

    def _read_overview(self, mpp: float) -> PixelsThere:
        factor = max(1.0, mpp / self.resolution.mpp_level0)
        level = self.overview_level(mpp)
        source, _, _ = self._open_level(level, step=factor / self._downsamples[level])
        width, height = (max(1, round(edge / factor)) for edge in self.level0_size)
        try:
            image = np.empty((height, width, 3), dtype=np.uint8)
            step = (source.size_px[0] / width, source.size_px[1] / height)
            is_absent = sample_into(image, source, Box(0, 0, width, height), step=step)
        finally:
            _close(source)
        if is_absent is not None:
            self._fill_absent(image, is_absent, level)
        return PixelsThere(image, is_absent)

    def _fill_absent(self, image: NDArray[np.uint8], is_absent: NDArray[np.bool_], level: int) -> None:
        """Fill what a level does not show with its own tiles and finer ones: tissue in any is tissue.

        Else a hole in the overview would hide tissue, which then would be neither read nor missed. Tiles that
        OpenSlide blanks, as it does in Aperio's files below a missing one, serve here, too: they tell where to look.
        """
        finer = (each for each in range(self.num_levels) if self._downsamples[each] <= self._downsamples[level])
        for each in sorted(finer, key=self._downsamples.__getitem__, reverse=True):
            if not is_absent.any():
                return
            step = self.level0_size[0] / image.shape[1] / self._downsamples[each]
            try:
                tiles, _ = open_tile_level(
                    self._file,
                    self._plain_level(each),
                    largest_reduction=step,
                    as_stored=True,
                    pool=self._pool,
                )
            except NotByTileError:
                continue
            try:
                _fill_from(tiles, image, is_absent)
            finally:
                tiles.close()


def _fill_from(source: TileLevel, image: NDArray[np.uint8], is_absent: NDArray[np.bool_]) -> None:
    """Fill what is absent in a picture of the whole slide with what a level holds there; that is absent no more.

    Scanners leave out tiles of glass on every level alike: then no tile is found, and nothing is read.
    """
    size_px = (image.shape[1], image.shape[0])
    step = (source.size_px[0] / size_px[0], source.size_px[1] / size_px[1])
    for tile in source.boxes_there():
        x, y = int(tile.x / step[0]), int(tile.y / step[1])
        x_end, y_end = math.ceil(tile.x_end / step[0]), math.ceil(tile.y_end / step[1])
        box = Box(x, y, x_end - x, y_end - y).intersection(Box(0, 0, *size_px))
        missing = is_absent[box.slices()]
        if missing.any():
            filled = np.empty((box.height, box.width, 3), dtype=np.uint8)
            try:
                still = sample_into(filled, source, box, step=step)
            except SlideError:
                continue  # damaged here; another level may show it
            found = missing if still is None else missing & ~still
            image[box.slices()][found] = filled[found]
            is_absent[box.slices()] &= ~found


def _close(level: Level) -> None:
    if isinstance(level, TileLevel):
        level.close()


def read_scale(path: Location, mpp: float | None = None) -> tuple[float, Mapping[str, str]]:
    """Um per level-0 pixel of a slide, and what its file says of itself, at the cost of opening it.

    Args:
        path: the slide's file.
        mpp: what the manifest says, if it does; it counts.

    Raises:
        SlideError: the file cannot be opened, or has no usable scale.
    """
    with open_file(path) as handle:
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
