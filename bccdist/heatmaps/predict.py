"""A slide goes through one or several networks and comes out as rows of heatmaps (paper, section 2.4).

Reading, computing and what is done with the rows overlap: one thread reads ahead, one computes ahead.
Shape suffixes: N patches, P pixels along a patch's edge, 3 colours.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bccdist.configuration import CELL_PX, Blending, Psi
from bccdist.errors import NotFiniteError
from bccdist.heatmaps.layout import PAPER, Layout, PatchRow, cells_under, group_rows, grouped, place_patches
from bccdist.heatmaps.quality_pass import QualityPass
from bccdist.heatmaps.soundness import unsound_patch
from bccdist.heatmaps.stitching import PatchCounts, RowStitcher, are_probabilities
from bccdist.slides.ahead import one_ahead
from bccdist.slides.cell_rows import CellRow, ReadingTally, readable_rows
from bccdist.slides.level import WHITE
from bccdist.slides.slide import Slide


class Predictor(Protocol):
    """A network as heatmaps need it, on the device."""

    @property
    def outputs(self) -> tuple[Psi, ...]:
        """What it gives, the final one last."""

    def __call__(self, patches_NPP3: Tensor) -> Mapping[Psi, Tensor]:
        """The Tumor probability of each output: float32 [n, p / pixel_px, p / pixel_px] from uint8 RGB."""


@dataclass(frozen=True, kw_only=True)
class SlidePass:
    """How a slide goes through networks: the same for all of them and from top to bottom."""

    predictors: Sequence[Predictor]
    """Each is given every patch."""
    layout: Layout = PAPER
    """Where patches lie."""
    blending: Blending = "mean"
    """How overlapping patches are averaged."""
    batch: int
    """Patches of 512 px per forward pass; of larger ones as many as have that many pixels."""
    device: torch.device
    """Where the networks are."""

    @property
    def patches_at_once(self) -> int:
        """Patches of this layout per forward pass."""
        return self.layout.batch(self.batch)


@dataclass(kw_only=True)
class PredictionTally:
    """What one slide took, counted while it goes on."""

    reading: ReadingTally = field(default_factory=ReadingTally)
    num_patches: int = 0
    """Patches cut from the slide; each goes through every network."""
    network_s: list[float]
    """Seconds in each network."""

    @classmethod
    def of(cls, how: SlidePass) -> Self:
        """Nothing counted yet."""
        return cls(network_s=[0.0] * len(how.predictors))


class HeatmapRows(NamedTuple):
    """A few rows of cells of every network's heatmaps."""

    coverage: NDArray[np.uint8]
    """Patches that were averaged over each cell: [rows, cols]."""
    maps: list[dict[Psi, NDArray[np.uint8]]]
    """255 times the Tumor probability, for each network and output: [rows * 256 / pixel_px, cols * 256 / pixel_px]."""


def predict_rows(
    slide: Slide,
    cells: NDArray[np.bool_],
    how: SlidePass,
    tally: PredictionTally,
    tissue: NDArray[np.bool_] | None = None,
    *,
    wanted: NDArray[np.bool_] | None = None,
    quality: QualityPass | None = None,
) -> Generator[HeatmapRows, None, None]:
    """The heatmaps of a slide from top to bottom, a few rows of cells at a time.

    Every pixel is read once and brought to the device once, whatever the number of networks; patches are cut there.
    Where a cell cannot be read, coverage is less than full: a patch of the paper's tiling that needs it is left out;
    of dense ones nothing is kept within a cell of it.

    Args:
        slide: open; not to be used by others until the last row is out.
        cells: bool [rows, cols]: the cells that hold tissue.
        how: the networks and where patches lie.
        tally: counts on.
        tissue: bool [h, w] at `TISSUE_MPP`: where pixels of it are not in the file, their cell cannot be read; None
            takes all pixels for tissue.
        wanted: bool [rows, cols]: of overlapping patches only those over these cells are computed, which are what they
            are where all are; None wants all cells.
        quality: looks at what is read.

    Yields:
        HeatmapRows, which together are all rows of cells of the slide.

    Raises:
        NotFiniteError: a network gave something else than probabilities; it names slide, patch and layer.
    """
    wanted = cells if wanted is None else wanted
    return one_ahead(_computed_rows(slide, cells, how, tally, tissue, wanted=wanted, quality=quality))


def _computed_rows(
    slide: Slide,
    cells: NDArray[np.bool_],
    how: SlidePass,
    tally: PredictionTally,
    tissue: NDArray[np.bool_] | None,
    *,
    wanted: NDArray[np.bool_],
    quality: QualityPass | None,
) -> Generator[HeatmapRows, None, None]:
    layout, batch = how.layout, how.patches_at_once
    patches = place_patches(wanted, layout)
    num_rows, num_cols = cells.shape
    # As far down as the last row of patches of a full group reaches: nothing of a group is added below that.
    held = (group_rows(layout, num_cols=num_cols, batch=batch) - 1) * layout.step_cells + layout.kept_cells
    sums = _Sums(how, num_rows=held, num_cols=num_cols)
    # Closed here, so that no thread still reads when the slide is closed after an error.
    needed = _needed_cells(cells, patches, layout)
    look_at = None if quality is None else quality.look_at
    with closing(readable_rows(slide, needed, tally.reading, tissue, look_at=look_at)) as rows:
        window = _Window(rows, cells.shape, layout, num_rows=held, device=how.device)
        for group in grouped(patches, layout, num_cols=num_cols, batch=batch):
            # What lies above this group is complete and goes out before the window moves on.
            yield from sums.finish(group[0].row, window.unread)
            window.move_to(group[0].row)
            try:
                _predict_group(group, window, how, sums, tally)
                if quality is not None:
                    quality.catch_up()
            except NotFiniteError as error:
                raise NotFiniteError(f"{slide.path}: {error}") from error
        yield from sums.finish(num_rows, window.unread)


def _needed_cells(cells: NDArray[np.bool_], patches: Sequence[PatchRow], layout: Layout) -> NDArray[np.bool_]:
    """The cells to read for some patches: bool [rows, cols].

    In the rows that they touch it is all that is read for the whole slide: how a row is decoded and resampled depends
    on what is read of it at once, and a pixel is to be the same whatever is wanted.
    """
    of_all = cells_under(place_patches(cells, layout), layout, cells.shape)
    touched = np.asarray(cells_under(patches, layout, cells.shape).any(axis=1))
    return np.asarray(of_all & touched[:, None])


class _Window:
    """The rows of cells that a group of patches touches, on the device; white outside the slide.

    Attributes:
        unread: of the whole slide, as far as it was read: bool [rows, cols].
    """

    def __init__(
        self, rows: Iterator[CellRow], shape: tuple[int, int], layout: Layout, *, num_rows: int, device: torch.device
    ) -> None:
        self.unread = np.zeros(shape, dtype=bool)
        self._rows = enumerate(rows)
        self._layout = layout
        self._margin = layout.margin_cells
        # Patches may stick out of the slide by all but one of the cells that they keep.
        self._side = layout.kept_cells - 1 + self._margin
        self._height = num_rows + 2 * self._margin
        size = (self._height * CELL_PX, (shape[1] + 2 * self._side) * CELL_PX, 3)
        self._pixels = torch.full(size, WHITE, dtype=torch.uint8, device=device)
        # Wholly above the slide, where all is white, as the window is now.
        self._top = -self._height

    def move_to(self, row: int) -> None:
        """Let what is kept of the group's first row of patches begin at this row of cells."""
        top = row - self._margin
        # What both windows share is moved, not read again; the rest comes from the slide.
        fresh = min(self._height, top - self._top)
        rows = self._pixels.view(self._height, CELL_PX, -1, 3)
        for place in range(self._height - fresh):
            rows[place] = rows[place + fresh]
        for place in range(self._height - fresh, self._height):
            self._fill(place, top + place)
        self._top = top

    def _fill(self, place: int, row: int) -> None:
        """Put a row of the slide to a place in the window."""
        band = self._pixels[place * CELL_PX : (place + 1) * CELL_PX]
        if not 0 <= row < len(self.unread):
            band.fill_(WHITE)
            return
        # Rows that no patch needs are skipped: the reader gives all of them, in order.
        found = next(cells for number, cells in self._rows if number == row)
        self.unread[row] = found.unread
        pixels = torch.from_numpy(found.pixels)
        if band.is_cuda:
            # Only from pinned memory does copying go on beside computing.
            pixels = pixels.pin_memory()
        width = found.pixels.shape[1]
        band[:, self._side * CELL_PX :][:, :width].copy_(pixels, non_blocking=True)

    def cut(self, places: Sequence[tuple[int, int]]) -> Tensor:
        """The patches whose kept squares begin at these (row, col) of cells: uint8 [n, p, p, 3]."""
        return torch.stack([self._patch(row, col) for row, col in places])

    def _patch(self, row: int, col: int) -> Tensor:
        top = (row - self._top) * CELL_PX - self._layout.halo_px
        left = (col + self._side) * CELL_PX - self._layout.halo_px
        return self._pixels[top : top + self._layout.patch_px, left : left + self._layout.patch_px]

    def is_readable(self, row: int, col: int) -> bool:
        """Whether no cell that the patch keeps is unread."""
        kept = self._layout.kept_cells
        return not self.unread[max(0, row) : row + kept, max(0, col) : col + kept].any()


class _Sums:
    """What is added up over the rows of cells that are held: for every network and output, and the counts."""

    def __init__(self, how: SlidePass, *, num_rows: int, num_cols: int) -> None:
        layout = how.layout
        self._layout = layout
        self._num_rows = num_rows
        self._first_row = layout.step_cells - layout.kept_cells
        self._counts = PatchCounts(layout, num_rows=num_rows, num_cols=num_cols)
        self._stitchers = [
            {
                psi: RowStitcher(psi, layout, how.blending, num_rows=num_rows, num_cols=num_cols, device=how.device)
                for psi in predictor.outputs
            }
            for predictor in how.predictors
        ]

    def add_counts(self, places: Sequence[tuple[int, int]]) -> None:
        """Note some patches: the counts are the same for all networks."""
        for row, col in places:
            self._counts.add(row - self._first_row, col)

    def add(self, index: int, places: Sequence[tuple[int, int]], found: Mapping[Psi, Tensor]) -> None:
        """Add what a network found on some patches."""
        here = [(row - self._first_row, col) for row, col in places]
        for psi, stitcher in self._stitchers[index].items():
            stitcher.add(here, found[psi])

    def finish(self, row: int, unread: NDArray[np.bool_]) -> Iterator[HeatmapRows]:
        """The rows of cells above this one, which no later patch touches."""
        while self._first_row < row:
            num_rows = min(row - self._first_row, self._num_rows)
            flags = self._counts.flags[:num_rows] & ~self._is_lost(num_rows, unread)[:, None, None, :]
            maps = [
                {psi: stitcher.take(flags).cpu().numpy() for psi, stitcher in group.items()}
                for group in self._stitchers
            ]
            # Patches of the paper begin a cell above the slide; that cell is no part of the heatmap.
            outside = min(num_rows, max(0, -self._first_row))
            self._counts.drop(num_rows)
            self._first_row += num_rows
            if outside < num_rows:
                coverage = flags[outside:].sum(axis=(1, 2), dtype=np.uint8)
                yield HeatmapRows(coverage, [_without_top(group, outside, num_rows) for group in maps])

    def _is_lost(self, num_rows: int, unread: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The cells so near to unread ones that what was computed there is not kept: bool [num_rows, cols]."""
        margin = self._layout.margin_cells
        lost = np.zeros((num_rows, unread.shape[1]), dtype=bool)
        for row, col in np.argwhere(unread[max(0, self._first_row - margin) :][: num_rows + 2 * margin]):
            # Negative above the first row held: from there an unread cell still reaches down by the margin.
            here = row + max(0, self._first_row - margin) - self._first_row
            across = slice(max(0, here - margin), max(0, here + margin + 1))
            lost[across, max(0, col - margin) : col + margin + 1] = True
        return lost


def _without_top(maps: dict[Psi, NDArray[np.uint8]], outside: int, num_rows: int) -> dict[Psi, NDArray[np.uint8]]:
    """The maps without the rows of cells above the slide."""
    return {psi: pixels[len(pixels) // num_rows * outside :] for psi, pixels in maps.items()}


@torch.inference_mode()
def _predict_group(
    group: Sequence[PatchRow], window: _Window, how: SlidePass, sums: _Sums, tally: PredictionTally
) -> None:
    """The patches of some rows through every network, in batches."""
    places = [(row.row, col) for row in group for col in row.cols]
    # Patches without a halo are left out if they need an unread cell; of others what lies near it is not kept.
    if not how.layout.halo_px:
        places = [place for place in places if window.is_readable(*place)]
    tally.num_patches += len(places)
    sums.add_counts(places)
    spans: list[tuple[int, Callable[[], float]]] = []
    checks: list[tuple[int, int, Tensor]] = []
    for start in range(0, len(places), how.patches_at_once):
        here = places[start : start + how.patches_at_once]
        # Cut once for all networks: only one batch of patches is held beside the window.
        patches = window.cut(here)
        for index, predictor in enumerate(how.predictors):
            stop = _stopwatch(patches.device)
            found = predictor(patches)
            spans.append((index, stop()))
            checks.append((start, index, are_probabilities(found.values())))
            sums.add(index, here, found)
    # After the last batch, because to ask a GPU for its time is to wait for it.
    for index, seconds in spans:
        tally.network_s[index] += seconds()
    # Looked at once for the group: a GPU would have to be waited for each time.
    for start, index, is_sound in checks:
        if not is_sound:
            here = places[start : start + how.patches_at_once]
            raise NotFiniteError(unsound_patch(how.predictors[index], window.cut(here), here))


def _stopwatch(device: torch.device) -> Callable[[], Callable[[], float]]:
    """Start to measure what the device does; calling the result stops, and calling that in turn gives seconds.

    On a GPU only the last call waits, so that its queue is never empty in between.
    """
    if device.type != "cuda":
        started = perf_counter()

        def stop() -> Callable[[], float]:
            elapsed_s = perf_counter() - started
            return lambda: elapsed_s

        return stop
    begin = _recorded_event(device)

    def stop_on_gpu() -> Callable[[], float]:
        end = _recorded_event(device)
        return lambda: _seconds_between(begin, end)

    return stop_on_gpu


def _recorded_event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    # Named, because the thread that computes begins with the first GPU as its own, whichever the network is on.
    event.record(torch.cuda.current_stream(device))
    return event


def _seconds_between(begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000
