"""The regions of a heatmap at a threshold, as outlines along the edges of its pixels (paper, section 2.4).

Rows come in strips, and only the runs of pixels that reach the threshold are kept of them: so memory is that of a
strip and of what is found, and a region that lies across strips is one. Positions are in pixels of the heatmap, and
the upper left corner of the first strip is (0, 0).
"""

import math
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, NamedTuple, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.sections.grouping import Grouping


class Region(NamedTuple):
    """An 8-connected region."""

    outline: shapely.Polygon | shapely.MultiPolygon
    """Valid, in heatmap pixels; pixels that touch in corners alone are in several polygons."""
    num_pixels: int
    max_value: int
    """Stored values, 0 to 255."""
    mean_value: float
    margin_um: float
    """Smallest distance to the tissue's edge; NaN where no distances were given. Research use only."""


class _Runs(NamedTuple):
    """Stretches of neighbouring pixels in a row that reach the threshold, in reading order; each array [n]."""

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    """One past the last column."""
    total: NDArray[np.int64]
    """Sum of the values."""
    peak: NDArray[np.int64]
    """Greatest value."""
    nearest_um: NDArray[np.float32]
    """Smallest distance to the tissue's edge."""

    @property
    def num_pixels(self) -> NDArray[np.int64]:
        return self.end - self.start

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """The runs of consecutive strips."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))

    def where(self, wanted: NDArray[np.bool_] | NDArray[np.int64]) -> "_Runs":
        columns: Iterator[Any] = (column[wanted] for column in self)
        return _Runs(*columns)


def find_regions(
    strips: Iterable[NDArray[np.uint8]],
    *,
    step: int,
    least_pixels: int = 1,
    distances_um: Iterable[NDArray[np.float32]] | None = None,
) -> Iterator[Region]:
    """The 8-connected regions of pixels >= `step`, in the order of their first pixels.

    Args:
        strips: uint8 [h, w] of one width, from top to bottom; at least one.
        step: stored value that belongs to a region, at least 1.
        least_pixels: heatmap pixels of the smallest region; smaller ones are left out.
        distances_um: for each strip its pixels' distances to the tissue's edge, float32 [h, w]; without them regions
            have no margin.
    """
    # All runs come first: which region one belongs to is known when the last strip was read.
    runs = _Runs.joined(_runs_of_strips(strips, distances_um, step))
    region = _regions_of(runs)
    num_pixels = np.bincount(region, weights=runs.num_pixels)
    wanted = num_pixels[region] >= least_pixels
    runs, region = runs.where(wanted), region[wanted]
    # Stable, so that the runs of a region stay in reading order, and regions in that of their first pixels.
    by_region = np.argsort(region, kind="stable")
    bounds = np.flatnonzero(np.diff(region[by_region])) + 1
    for members in np.split(by_region, bounds) if len(region) else []:
        yield _region(runs.where(members))


def _runs_of_strips(
    strips: Iterable[NDArray[np.uint8]], distances_um: Iterable[NDArray[np.float32]] | None, step: int
) -> Iterator[_Runs]:
    first_row = 0
    # Without distances there is no end to them, so only given ones must be as many as the strips.
    pairs = zip(strips, repeat(None)) if distances_um is None else zip(strips, distances_um, strict=True)
    for strip, strip_distances_um in pairs:
        yield _runs_of(strip, strip_distances_um, step, first_row)
        first_row += len(strip)


def _runs_of(strip: NDArray[np.uint8], distances_um: NDArray[np.float32] | None, step: int, first_row: int) -> _Runs:
    """The runs of one strip. A column of zeros behind it parts each row from the next."""
    values = np.pad(strip, ((0, 0), (0, 1))).ravel()
    edges = np.flatnonzero(np.diff((values >= step).view(np.int8), prepend=np.int8(0)))
    # Edges alternate: a run begins at every even one and ends at the odd one after it.
    row, start = np.divmod(edges[::2], strip.shape[1] + 1)
    if not edges.size:
        return _Runs(row, start, start, start, start, start.astype(np.float32))
    nearest_um = np.full(row.size, math.nan, dtype=np.float32)
    if distances_um is not None:
        nearest_um = np.minimum.reduceat(np.pad(distances_um, ((0, 0), (0, 1))).ravel(), edges)[::2]
    return _Runs(
        row + first_row,
        start,
        start + edges[1::2] - edges[::2],
        np.add.reduceat(values, edges, dtype=np.int64)[::2],
        np.maximum.reduceat(values, edges)[::2].astype(np.int64),
        nearest_um,
    )


def _regions_of(runs: _Runs) -> NDArray[np.int64]:
    """The number of each run's region, int64 [n]: runs of neighbouring rows that overlap, or touch in a corner."""
    grouping = Grouping(len(runs.row))
    # Positions along all rows one behind another, with a gap of two columns so that no row touches the next.
    stride = int(runs.end.max(initial=0)) + 2
    above = (runs.row - 1) * stride
    # A run touches those of the row above that end at its start or later and start at its end or earlier: one
    # column more on either side than it covers, for corners. They are neighbours in reading order.
    first = np.searchsorted(runs.row * stride + runs.end, above + runs.start)
    last = np.searchsorted(runs.row * stride + runs.start, above + runs.end, side="right")
    num_above = np.maximum(last - first, 0)
    lower = np.repeat(np.arange(len(runs.row)), num_above)
    # Of each run all its neighbours above, without a loop: the number within its own group, 0, 1, 2 ...
    rank = np.arange(len(lower)) - np.repeat(np.cumsum(num_above) - num_above, num_above)
    grouping.join(lower.astype(np.int32), (first[lower] + rank).astype(np.int32))
    roots = grouping.roots(np.arange(len(runs.row), dtype=np.int32))
    return np.unique(roots, return_inverse=True)[1]


def _region(runs: _Runs) -> Region:
    num_pixels = int(runs.num_pixels.sum())
    return Region(
        outline=_outline(runs),
        num_pixels=num_pixels,
        max_value=int(runs.peak.max()),
        mean_value=float(runs.total.sum() / num_pixels),
        margin_um=float(runs.nearest_um.min()),
    )


def _outline(runs: _Runs) -> shapely.Polygon | shapely.MultiPolygon:
    """What the runs cover, without corners on straight edges."""
    united = shapely.union_all(shapely.box(runs.start, runs.row, runs.end, runs.row + 1))
    # Tolerance 0 drops corners on straight edges and nothing else; the outline stays on the edges of pixels.
    return shapely.simplify(united, 0, preserve_topology=False)
