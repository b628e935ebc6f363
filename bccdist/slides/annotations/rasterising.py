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
    rings = [shapely.get_coordinates(ring) / downsample for ring in (polygon.exterior, *polygon.interiors)]
    origin = np.array(origin_px)
    x_min, y_min = np.maximum(np.floor(rings[0].min(axis=0)), origin).astype(int)
    x_max, y_max = np.minimum(np.ceil(rings[0].max(axis=0)), origin + mask.shape[::-1]).astype(int)
    if x_min >= x_max or y_min >= y_max:
        return
    crossings = [_crossings(ring, first_row=y_min, end_row=y_max) for ring in rings]
    rows, cols = np.concatenate(crossings, axis=1) - origin[::-1, None]
    # Sorted by row and column, crossings are begins and ends of runs in turn: each row has an even number of them.
    stride = mask.shape[1] + 1
    begins, ends = np.sort(rows * stride + np.clip(cols, 0, mask.shape[1])).reshape(-1, 2).T
    runs = np.stack([begins // stride, begins % stride, ends % stride], axis=1)
    for row, start, end in runs.tolist():
        mask[row, start:end] = True


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
