"""What a slide is like, in a few numbers: whether it lies within what the calibration has seen.

A conformal bound holds for slides like those that it rests on. Which other slides are not like them no statistics of
scores can tell; these numbers, which cost next to nothing, tell of many: colours of another stain or scanner, and a
network that is unsure as it was on no calibrated slide. A slide outside of any range is to be computed exactly.
"""

from collections.abc import Mapping

import numpy as np

from bccdist.configuration import CELL_PX, Psi
from bccdist.heatmaps.probability import NUM_STEPS, step_of
from bccdist.heatmaps.store import Heatmap, pixels_of_cells
from bccdist.slides.geometry import Box

UNDECIDED = (0.2, 0.8)
"""Probabilities between which a pixel counts as undecided."""
WIDENED_BY = 0.25
"""So much of a range is added at each of its ends. The lowest and highest of n slides leave out 2 of n + 2 further
ones of the same kind, for each trait; with this, hardly one."""
_ROWS_AT_ONCE_PX = 2048


def traits_of(heatmap: Heatmap, psi: Psi, colours: Mapping[str, float]) -> dict[str, float]:
    """The traits of a slide, each by its name.

    undecided_share, p99_probability and max_probability are of the fast way's heatmap on covered tissue cells; what
    `tissue_colours` says of the slide's overview comes with them.

    Args:
        heatmap: made the fast way.
        psi: the output whose curve is certified.
        colours: from `bccdist.slides.colours.tissue_colours`.

    Raises:
        HeatmapError: the heatmap cannot be read.
    """
    counts = _counts(heatmap, psi)
    num = max(1, int(counts.sum()))
    low, high = (step_of(share) for share in UNDECIDED)
    # The smallest value that at most one of a hundred pixels exceeds.
    p99 = int(np.searchsorted(counts.cumsum(), 0.99 * num)) if counts.any() else 0
    return {
        "undecided_share": float(counts[low : high + 1].sum()) / num,
        "p99_probability": p99 / NUM_STEPS,
        "max_probability": float(np.flatnonzero(counts).max(initial=0)) / NUM_STEPS,
        **colours,
    }


def _counts(heatmap: Heatmap, psi: Psi) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How many pixels on covered tissue cells have each stored value: int64 [256]."""
    counts = np.zeros(NUM_STEPS + 1, dtype=np.int64)
    counted = heatmap.counted_cells
    width, height = heatmap.attributes.size_target_px
    for top in range(0, height, _ROWS_AT_ONCE_PX):
        pixels = heatmap.read(psi, Box(0, top, width, min(_ROWS_AT_ONCE_PX, height - top)))
        cells = counted[top // CELL_PX : -(-(top + _ROWS_AT_ONCE_PX) // CELL_PX)]
        counts += np.bincount(pixels[pixels_of_cells(cells, psi, pixels.shape)], minlength=NUM_STEPS + 1)
    return counts


def ranges_of(slides: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """The lowest and highest value of each trait over some slides."""
    names = slides[0] if slides else {}
    return {name: (min(each[name] for each in slides), max(each[name] for each in slides)) for name in names}


def why_outside(traits: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> str:
    """Which traits of a slide lie outside of the widened ranges, in words; empty where none does.

    A trait that is not known, or of which no range is known, lies outside.
    """
    outside = []
    for name in sorted({*traits, *ranges}):
        value = traits.get(name, float("nan"))
        low, high = ranges.get(name, (float("nan"), float("nan")))
        more = WIDENED_BY * (high - low)
        if not low - more <= value <= high + more:
            outside.append(f"{name} is {value:.3g}, calibrated from {low:.3g} to {high:.3g}")
    return "; ".join(outside)
