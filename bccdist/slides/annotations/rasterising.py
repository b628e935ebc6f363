"""Polygons become pixels: those whose centres lie inside."""

import numpy as np
import shapely
from numpy.typing import NDArray


def fill_polygon(
    mask: NDArray[np.bool_], polygon: shapely.Polygon, *, downsample: float, origin_px: tuple[int, int] = (0, 0)
) -> None:
    """Set the pixels of a mask whose centres lie inside a polygon.

    In each row the crossings of all edges, taken in pairs, bound runs of pixels inside; holes come out by
    themselves. Crossings are computed in the target frame and moved into the mask as whole numbers, so that a
    pixel comes out the same whichever box it is asked for in.

    Args:
        mask: bool [h, w], changed in place: a box of the target frame.
        polygon: with or without holes, in level-0 px.
        downsample: level-0 pixels per target pixel.
        origin_px: the mask's corner (x, y) in the target frame.
    """
    origin = np.array(origin_px)
    rows, starts, ends = _runs(polygon, downsample, first_px=origin, end_px=origin + mask.shape[::-1])
    for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
        mask[row, start:end] = True


def num_pixels(polygon: shapely.Polygon, *, downsample: float, size_px: tuple[int, int]) -> int:
    """How many pixels of a frame of a size (width, height) `fill_polygon` would set, without a mask of them."""
    _, starts, ends = _runs(polygon, downsample, first_px=np.zeros(2, dtype=int), end_px=np.array(size_px))
    return int((ends - starts).sum())


def _runs(
    polygon: shapely.Polygon, downsample: float, *, first_px: NDArray[np.int64], end_px: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The row, first column and end column of each run of pixels inside a polygon, counted from `first_px` (x, y)."""
    rings = [shapely.get_coordinates(ring) / downsample for ring in (polygon.exterior, *polygon.interiors)]
    x_min, y_min = np.maximum(np.floor(rings[0].min(axis=0)), first_px).astype(np.int64)
    x_max, y_max = np.minimum(np.ceil(rings[0].max(axis=0)), end_px).astype(np.int64)
    if x_min >= x_max or y_min >= y_max:
        none = np.zeros(0, dtype=np.int64)
        return none, none, none
    crossings = [_crossings(ring, first_row=int(y_min), end_row=int(y_max)) for ring in rings]
    rows, cols = np.concatenate(crossings, axis=1) - first_px[::-1, None]
    # Sorted by row and column, crossings are begins and ends of runs in turn: each row has an even number of them.
    width = int(end_px[0] - first_px[0])
    begins, ends = np.sort(rows * (width + 1) + np.clip(cols, 0, width)).reshape(-1, 2).T
    return begins // (width + 1), begins % (width + 1), ends % (width + 1)


def _crossings(
    ring: NDArray[np.float64], *, first_row: int, end_row: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of pixels that each edge crosses, and in each the first column whose centre is not left of the edge.

    Args:
        ring: closed, (x, y) in pixels, [n, 2].
        first_row, end_row: only rows in [first_row, end_row) are of interest.
    """
    # Every edge runs down, so that neighbours round alike along a shared edge: no pixel is in both or in neither.
    runs_down = (ring[:-1, 1] <= ring[1:, 1])[:, None]
    x, y = np.where(runs_down, ring[:-1], ring[1:]).T
    x_next, y_next = np.where(runs_down, ring[1:], ring[:-1]).T
    # A row belongs to an edge if its centre line lies in [upper end, lower end).
    first = np.clip(np.ceil(y - 0.5), first_row, end_row).astype(np.int64)
    last = np.clip(np.ceil(y_next - 0.5), first_row, end_row).astype(np.int64)
    edge = np.repeat(np.arange(len(x)), last - first)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
    slope = (x_next - x)[edge] / (y_next - y)[edge]
    crossing = x[edge] + (rows + 0.5 - y[edge]) * slope
    return rows, np.ceil(crossing - 0.5).astype(np.int64)
