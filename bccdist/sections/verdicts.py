"""The decision on a section from its curve of largest regions (paper, section 2.4).

A section is Tumor if any connected region of probability >= t_p has an area >= t_A. A section whose tissue was
not read whole, or of which the model is not to be believed (`bccdist.sections.assessable`), can be Tumor, but never
Normal: it is up for review.

How near a verdict is to another one is a query on the same curve: `flip_shift` in probability, `area_factor` in area.
Neither is a margin, which here is a distance to the edge of the tissue (bccdist/sections/margins.py).
"""

import math
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import AreaUnit
from bccdist.heatmaps.probability import NUM_STEPS

NEVER_FLIPS = math.inf
"""`flip_shift` of a verdict that no shift of probability changes: it is greater than every other, and sorts last."""
NEVER = "never"
"""Stands for it in texts."""


class Verdict(StrEnum):
    """What is said about a section."""

    TUMOR = "Tumor"
    NORMAL = "Normal"
    REVIEW = "review"


class ReachedBy(StrEnum):
    """How a verdict was reached."""

    EXACT = "exact"
    """The whole heatmap was made in the paper's tiling and float32."""
    CERTIFIED = "certified"
    """From the fast way; it is the exact one with the certificate's confidence."""
    RECOMPUTED = "recomputed"
    """Exactly, because the fast way could not settle it."""
    CHECKED = "checked"
    """Exactly, though it was certified: by chance, as the running check, or because a neighbour was computed."""
    OUTSIDE = "outside"
    """Exactly, because the slide lies outside of what was calibrated."""
    FAST = "fast"
    """From a fast way, and nobody claims that it is the exact one."""


def region_area_um2(
    curves: NDArray[np.uint32],
    step: int | NDArray[np.int64],
    *,
    mpp: NDArray[np.float64],
    pixel_px: NDArray[np.int64],
    area_unit: AreaUnit,
) -> NDArray[np.float64]:
    """The area of each section's largest region at one or several probability steps.

    Args:
        curves: uint32 [n, 256], heatmap pixels in the largest region at each step.
        step: from `probability.step_of(t_p)`; one, or [k].
        mpp: float [n], um per target-frame pixel.
        pixel_px: int [n], edge of a heatmap pixel in target-frame pixels.
        area_unit: physical counts with the slide's um/px, nominal with 1 um/px.

    Returns:
        float64 um2, [n] or [n, k].
    """
    # The paper's t_A seems to be in pixels of 1 um: nominal counts so, whatever the scanner.
    edge_um = pixel_px * (mpp if area_unit == "physical" else 1.0)
    pixel_um2 = np.asarray(edge_um, dtype=np.float64) ** 2
    num_pixels = curves[:, step].astype(np.float64)
    return num_pixels * (pixel_um2 if num_pixels.ndim == 1 else pixel_um2[:, None])


def areas_at_all_steps(
    curves: NDArray[np.uint32], *, mpp: NDArray[np.float64], pixel_px: NDArray[np.int64], area_unit: AreaUnit
) -> NDArray[np.float64]:
    """The area of each section's largest region at every probability step: float64 um2 [n, 256]."""
    every = np.arange(NUM_STEPS + 1)
    return region_area_um2(curves, every, mpp=mpp, pixel_px=pixel_px, area_unit=area_unit)


def has_tumor(area_um2: NDArray[np.float64], t_a_um2: float | NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a region of the largest area `area_um2` is left after smaller ones than t_A are dropped."""
    return np.asarray((area_um2 >= t_a_um2) & (area_um2 > 0), dtype=bool)


def decision_step(
    curves: NDArray[np.uint32],
    t_a_um2: float,
    *,
    mpp: NDArray[np.float64],
    pixel_px: NDArray[np.int64],
    area_unit: AreaUnit,
) -> NDArray[np.int64]:
    """The highest probability step at which each section is Tumor; it is so at every lower one, too.

    One number a section, from which the verdict at this t_A follows for every t_p: Tumor where it is at least
    `probability.step_of(t_p)`.

    Args:
        curves: uint32 [n, 256], heatmap pixels in the largest region at each step.
        t_a_um2: area threshold.
        mpp: float [n], um per target-frame pixel.
        pixel_px: int [n], edge of a heatmap pixel in target-frame pixels.
        area_unit: physical counts with the slide's um/px, nominal with 1 um/px.

    Returns:
        int64 [n], 0 (no region of t_A at any step above 0) to 255.
    """
    steps = np.arange(1, curves.shape[1])
    areas_um2 = region_area_um2(curves, steps, mpp=mpp, pixel_px=pixel_px, area_unit=area_unit)
    # Areas only fall with the step, so that the number of steps with tumor is the highest of them.
    return np.asarray(has_tumor(areas_um2, t_a_um2).sum(axis=1))


def flip_shift(decision_steps: NDArray[np.int64], step: int) -> NDArray[np.float64]:
    """The smallest shift of the whole heatmap, in probability, that would change each section's verdict at its t_A.

    A shift by k steps adds k / 255 to every stored probability, down to 0 and up to 1; a stored 0, which is also what
    no patch covers, stays 0. Tumor changes by a shift downwards: to Normal, or to review where not all tissue was
    read. Normal and review change by one upwards, to Tumor. So the number needs no sign. It looks at what was read
    alone: tissue that was not read may change a verdict sooner.

    Args:
        decision_steps: int64 [n], from `decision_step`.
        step: from `probability.step_of(t_p)`.

    Returns:
        float64 [n], multiples of 1 / 255 from 1 / 255 to 1, or `NEVER_FLIPS`: no stored probability above 0 makes a
        region of t_A (also where there is no tissue), or t_p is 0, which every pixel reaches.
    """
    is_tumor = decision_steps >= step
    num_steps = np.where(is_tumor, decision_steps - step + 1, step - decision_steps)
    return np.where((decision_steps == 0) | (step == 0), NEVER_FLIPS, num_steps / NUM_STEPS)


def area_factor(area_um2: NDArray[np.float64], t_a_um2: float) -> NDArray[np.float64]:
    """The area of each section's largest region at t_p as a multiple of t_A: at least 1 where the section is Tumor.

    Args:
        area_um2: float64 [n], from `region_area_um2` at t_p.
        t_a_um2: area threshold.

    Returns:
        float64 [n]; 0 without a region, and inf for any region where t_A is 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(area_um2 > 0, area_um2 / t_a_um2, 0.0)


def verdicts_of(
    called_tumor: NDArray[np.bool_],
    coverage: NDArray[np.float64],
    not_assessable: NDArray[np.bool_] | None = None,
) -> NDArray[np.str_]:
    """The verdict on each section, as `Verdict`'s words.

    Args:
        called_tumor: bool [n], from `has_tumor`.
        coverage: float [n], share of the tissue that was read and predicted.
        not_assessable: bool [n], which the model is not to be believed on; None is none.
    """
    is_open = coverage < 1
    if not_assessable is not None:
        is_open = is_open | not_assessable
    # Tumor that was seen is tumor, whatever was not read; only its absence needs all of the tissue.
    otherwise = np.where(is_open, Verdict.REVIEW.value, Verdict.NORMAL.value)
    return np.where(called_tumor, Verdict.TUMOR.value, otherwise)
