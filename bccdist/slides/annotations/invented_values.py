"""Values of a mask that nobody drew: resizing with interpolation, or blurring, makes them between two kinds.

Along a line through a drawn mask, a border from one value to another steps over those between them. In an interpolated
one it goes through them, in bands of a pixel or two.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.errors import AnnotationError
from bccdist.parts import Kind

LEAST_SHARE_BETWEEN = 0.2
"""Of all ways past a value, through it or over it, those through it, from which a mask is called interpolated."""
LEAST_SHARE_OF_STEPS = 0.08
"""The same of all steps from one value to the next. Of drawn masks with up to 16 um a pixel it is at most 0.07, where
kinds meet in corners and thin strips."""
COARSEST_UM = 16.0
"""um per pixel of a mask up to which it is judged: on coarser ones what was drawn is as thin."""
LEAST_SHARE_OF_WIDE = 0.1
MOST_SHARE_OVER = 0.01
"""Bands of three pixels count, too, from such a share of all steps on, where no more than this share steps over a
value: so enlarged masks look."""
_NARROW_PX, _WIDE_PX = 2, 3
_MOST_LINES = 1000
"""Rows, and columns, that are looked at."""
LEAST_UNKNOWN_BETWEEN = 0.5
"""Share of the pixels of unknown values that lie between a lower and a higher one, from which these were invented."""
_FEWEST_UNKNOWN_BETWEEN = 8
_MOST_NAMED = 12
_END_OF_BYTES = 255
"""No rank where ranks are bytes."""


class _Counts(NamedTuple):
    """What is met along lines through a mask."""

    steps: int
    """From one value to another."""
    over: int
    """Those with another value of the mask between the two."""
    narrow: int
    """Bands of up to two pixels with a lower value on one side and a higher one on the other."""
    wide: int
    """The same of up to three pixels."""


def refuse_invented(
    path: Path, values: NDArray[Any], found: list[int], known: Mapping[int, Kind | None], *, pixel_um: float
) -> None:
    """Refuse a mask that was resized with interpolation, so that borders got values of other kinds, or of none.

    Args:
        path: of the mask.
        values: its numbers, [h, w].
        found: the values that occur, sorted.
        known: what values mean.
        pixel_um: edge of the mask's pixels on the slide.

    Raises:
        AnnotationError: it was.
    """
    unknown = [value for value in found if value not in known]
    if unknown_are_invented(values, unknown) or (
        not unknown and are_invented(values, {value: known[value] for value in found}, pixel_um=pixel_um)
    ):
        listed = ", ".join(map(str, found[:_MOST_NAMED])) + (", ..." if len(found) > _MOST_NAMED else "")
        raise AnnotationError(
            f"{path}: along borders it holds values between those of the two sides: found {listed}, expected "
            f"{', '.join(map(str, sorted(known)))} without blends: the mask was resized with interpolation; resize it "
            "with the nearest neighbour"
        )


def are_invented(values: NDArray[Any], meanings: Mapping[int, Kind | None], *, pixel_um: float) -> bool:
    """Whether values between others are there because the mask was interpolated, though all of them have a meaning.

    Args:
        values: the mask, [h, w].
        meanings: of the values that occur, by value from the lowest on.
        pixel_um: edge of its pixels on the slide.
    """
    # Neighbours that mean the same are one: what lies between them is no other kind.
    ranks = np.cumsum([0, *(one is not following for one, following in pairwise(meanings.values()))])
    if pixel_um > COARSEST_UM or ranks[-1] < 2:
        return False
    rows, cols = (values[:: 1 + len(values) // _MOST_LINES], values.T[:: 1 + values.shape[1] // _MOST_LINES])
    counts = [_count(_ranked(np.ascontiguousarray(lines), list(meanings), ranks)) for lines in (rows, cols)]
    steps, over, narrow, wide = (sum(pair) for pair in zip(*counts, strict=True))
    is_narrow = narrow > LEAST_SHARE_BETWEEN * (narrow + over) and narrow > LEAST_SHARE_OF_STEPS * steps
    return bool(is_narrow or (over <= MOST_SHARE_OVER * steps and wide > LEAST_SHARE_OF_WIDE * steps))


def _ranked(lines: NDArray[Any], found: list[int], ranks: NDArray[np.int64]) -> NDArray[Any]:
    """The rank of each value; the usual masks are looked up, as a search takes many times longer."""
    if lines.dtype != np.uint8 or ranks[-1] >= _END_OF_BYTES:
        return np.asarray(ranks[np.searchsorted(found, lines)])
    table = np.zeros(256, dtype=np.uint8)
    table[found] = ranks
    return np.asarray(cv2.LUT(lines, table))


def _count(lines: NDArray[Any]) -> _Counts:
    """What is met along lines of ranks, [n, length]."""
    # A rank that no line has ends each of them, so that all are one.
    end = _END_OF_BYTES if lines.dtype == np.uint8 else -1
    joined = np.pad(lines, ((0, 0), (0, 1)), constant_values=end).ravel()
    starts = np.append(0, np.flatnonzero(joined[1:] != joined[:-1]) + 1)
    lengths, ranks = np.diff(starts, append=len(joined)), joined[starts].astype(np.int64)
    is_step = (ranks[:-1] != end) & (ranks[1:] != end)
    left, here, right = ranks[:-2], ranks[1:-1], ranks[2:]
    is_between = is_step[:-1] & is_step[1:] & ((left < here) == (here < right))
    return _Counts(
        steps=int(is_step.sum()),
        over=int((is_step & (np.abs(np.diff(ranks)) > 1)).sum()),
        narrow=int((is_between & (lengths[1:-1] <= _NARROW_PX)).sum()),
        wide=int((is_between & (lengths[1:-1] <= _WIDE_PX)).sum()),
    )


def unknown_are_invented(values: NDArray[Any], unknown: list[int]) -> bool:
    """Whether values without a meaning lie between others, as a mask that was interpolated or compressed has them."""
    if not unknown:
        return False
    plain = values.astype(np.float32)  # OpenCV erodes no integers of 32 bit
    is_unknown = np.isin(values, unknown)
    near = np.ones((3, 3), dtype=np.uint8)
    is_between = is_unknown & (cv2.erode(plain, near) < plain) & (plain < cv2.dilate(plain, near))
    return int(is_between.sum()) >= max(_FEWEST_UNKNOWN_BETWEEN, LEAST_UNKNOWN_BETWEEN * int(is_unknown.sum()))
