"""The largest region's area as a function of the threshold: it decides a section for every t_p and t_A at once.

A section is Tumor if a region of probability >= t_p has an area >= t_A (paper, section 2.4). So the area of the
largest region at each t_p is all that a verdict needs. Probabilities are stored as whole numbers from 0 to 255,
so there are 256 thresholds that differ, and the curve holds them all.

Labelling a section once for each of them takes minutes, and so every pixel is looked at once instead. From each
pixel a way leads over greater neighbours up to a peak, and the pixels of a peak are its basin. A threshold that
keeps a pixel keeps its way as well. So it is enough to know how many pixels of each basin every threshold keeps,
and the greatest threshold at which two neighbouring basins still touch. Basins are then joined from the greatest
threshold to the least. Of equal pixels the later one in reading order is the greater one.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.sections.grouping import Grouping

CURVE_LENGTH = NUM_STEPS + 1
"""One entry for each stored value, 0 with them."""
_STRIP_PX = 1 << 18
"""What is worked on at once; it fits into a processor's cache."""
_Stepped = tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]
"""A probability step and two whole numbers, each [n]."""
_NEIGHBOURS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]


def largest_region_curve(probability: NDArray[np.uint8], *, strip_px: int = _STRIP_PX) -> NDArray[np.uint32]:
    """The number of pixels in the largest 8-connected region of pixels >= v, for each probability step v.

    Args:
        probability: uint8 [h, w]; 0 is no probability, or not covered.
        strip_px: about as many pixels are worked on at once; the result does not depend on it.

    Returns:
        uint32 [256]; it never rises. Entry 0 counts all pixels, whatever their value.
    """
    curve = np.zeros(CURVE_LENGTH, dtype=np.uint32)
    if not probability.any():
        curve[0] = probability.size
        return curve
    members, touches, num_basins = _basins(probability, strip_px)
    regions = _Regions(num_basins)
    # Downwards, so that regions only ever grow and join.
    for step in reversed(range(1, CURVE_LENGTH)):
        regions.join(*touches.at(step))
        regions.grow(*members.at(step))
        curve[step] = regions.largest_px
    curve[0] = probability.size
    return curve


class _ByStep:
    """Pairs of whole numbers, each with a probability step, to be had step by step.

    They stay in the parts that they came in: sorting all at once would take several times their memory.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]] = []

    def add(self, step: NDArray[np.uint8], first: NDArray[np.int32], second: NDArray[np.int32]) -> None:
        """Add n pairs."""
        order = np.argsort(step, kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(step, minlength=CURVE_LENGTH))])
        self._parts.append((start, first[order], second[order]))

    def at(self, step: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The pairs of one step."""
        inside = [(slice(start[step], start[step + 1]), first, second) for start, first, second in self._parts]
        return (
            np.concatenate([first[rows] for rows, first, _ in inside]),
            np.concatenate([second[rows] for rows, _, second in inside]),
        )


class _Regions:
    """Basins that are joined to regions, and the pixels of each."""

    def __init__(self, num_basins: int) -> None:
        self._grouping = Grouping(num_basins)
        self._size_px = np.zeros(num_basins, dtype=np.int64)
        self.largest_px = 0

    def join(self, one: NDArray[np.int32], other: NDArray[np.int32]) -> None:
        """Make one region of the two that each pair of basins belongs to."""
        former = self._grouping.join(one, other)
        self.grow(former, self._size_px[former])

    def grow(self, basins: NDArray[np.int32], pixels: NDArray[np.integer]) -> None:
        """Add pixels to the regions of basins."""
        roots = self._grouping.roots(basins)
        np.add.at(self._size_px, roots, pixels)
        self.largest_px = max(self.largest_px, int(self._size_px[roots].max(initial=0)))


def _basins(pixels: NDArray[np.uint8], strip_px: int) -> tuple[_ByStep, _ByStep, int]:
    """The basins of an image, strip by strip: those that a border cuts touch there.

    Returns:
        (basin, its pixels of this value) by value, (basin, basin) by the step at which they touch, and how many
        basins there are.
    """
    members, touches = _ByStep(), _ByStep()
    num_basins = 0
    above = np.zeros((0, pixels.shape[1]), dtype=np.int32)
    num_rows = max(1, strip_px // pixels.shape[1])
    for start in range(0, len(pixels), num_rows):
        strip = pixels[start : start + num_rows]
        basin, num_here = _numbered_basins(strip)
        members.add(*_count_members(strip, basin, num_here, first=num_basins))
        basin += np.int32(num_basins)
        num_basins += num_here
        # The last row of the strip above comes along, to find what touches across the cut.
        with_above = pixels[start - len(above) : start + num_rows]
        for pairs in _find_touches(with_above, np.concatenate([above, basin]), begin_row=len(above)):
            touches.add(*pairs)
        above = basin[-1:]
    return members, touches, num_basins


def _numbered_basins(strip: NDArray[np.uint8]) -> tuple[NDArray[np.int32], int]:
    """The number of each pixel's basin, int32 [h, w] from 0 in the order of peaks, and how many there are."""
    height, width = strip.shape
    place = np.arange(strip.size, dtype=np.int32)
    to_greater = np.zeros(strip.shape, dtype=np.int32)
    for down, right in _NEIGHBOURS:
        rows, next_rows = _overlap(down, height)
        cols, next_cols = _overlap(right, width)
        to_neighbour = down * width + right
        is_greater = np.greater_equal if to_neighbour > 0 else np.greater
        np.copyto(
            to_greater[rows, cols], to_neighbour, where=is_greater(strip[next_rows, next_cols], strip[rows, cols])
        )
    greater = place + to_greater.ravel()
    # Every pixel names a greater one, up to its peak: following all ways at once takes few rounds.
    while not np.array_equal(further := greater[greater], greater):
        greater = further  # twice as far as before
    is_peak = greater == place
    number = np.cumsum(is_peak, dtype=np.int32) - np.int32(1)
    return number[greater].reshape(height, width), int(number[-1]) + 1


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    """The indices that have a neighbour `shift` further on, and those neighbours."""
    return slice(max(0, -shift), length - max(0, shift)), slice(max(0, shift), length - max(0, -shift))


def _count_members(strip: NDArray[np.uint8], basin: NDArray[np.int32], num_basins: int, *, first: int) -> _Stepped:
    """How many pixels of each value each basin has: (value, basin, pixels); basins are numbered from `first`."""
    pairs, pixels = np.unique(strip.astype(np.int32) * np.int32(num_basins) + basin, return_counts=True)
    return (pairs // num_basins).astype(np.uint8), pairs % num_basins + np.int32(first), pixels.astype(np.int32)


def _find_touches(values: NDArray[np.uint8], basin: NDArray[np.int32], *, begin_row: int) -> Iterator[_Stepped]:
    """Neighbouring pixels of different basins, as (the lesser value, basin, basin).

    Two neighbours with a greater pixel beside both of them are connected through it at every step that keeps them.
    So of the six pairs in a square of four pixels only the three with its greatest pixel are looked at.

    Args:
        values: uint8 [h, w].
        basin: int32 [h, w].
        begin_row: pairs within the rows before this one are left out.
    """
    right, down, falling, rising = _pairs_with_greatest(values)
    # Pairs within the strip above were found with that strip.
    right[:begin_row] = False
    here, after = slice(None, -1), slice(1, None)
    everywhere = slice(None)
    for pairs, one, other in (
        (right, (everywhere, here), (everywhere, after)),
        (down, (here, everywhere), (after, everywhere)),
        (falling, (here, here), (after, after)),
        (rising, (here, after), (after, here)),
    ):
        wanted = pairs & (basin[one] != basin[other])
        yield np.minimum(values[one], values[other])[wanted], basin[one][wanted], basin[other][wanted]


def _pairs_with_greatest(values: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], ...]:
    """Which neighbours hold the greatest pixel of every square of four that they both lie in.

    Returns:
        bool [h, w - 1], [h - 1, w] and twice [h - 1, w - 1]: pairs to the right, downwards, and on the diagonals of
        each square from its upper left and from its upper right corner.
    """
    upper_left, upper_right = values[:-1, :-1], values[:-1, 1:]
    lower_left, lower_right = values[1:, :-1], values[1:, 1:]
    # Of equal pixels the later one in reading order counts as greater, as with basins; so exactly one is the greatest.
    is_lower_right = (lower_right >= upper_left) & (lower_right >= upper_right) & (lower_right >= lower_left)
    is_lower_left = (lower_left >= upper_left) & (lower_left >= upper_right) & (lower_left > lower_right)
    is_upper_right = (upper_right >= upper_left) & (upper_right > lower_left) & (upper_right > lower_right)
    is_upper_left = ~(is_lower_right | is_lower_left | is_upper_right)
    height, width = values.shape
    # A pair lies in two squares, but for those at the border, and has to hold the greatest pixel of both.
    right, down = np.ones((height, width - 1), dtype=bool), np.ones((height - 1, width), dtype=bool)
    right[:-1] &= is_upper_left | is_upper_right
    right[1:] &= is_lower_left | is_lower_right
    down[:, :-1] &= is_upper_left | is_lower_left
    down[:, 1:] &= is_upper_right | is_lower_right
    return right, down, is_upper_left | is_lower_right, is_upper_right | is_lower_left
