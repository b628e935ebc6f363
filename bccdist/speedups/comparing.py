"""Two heatmaps of one slide side by side: how far stored probabilities, verdicts and curves are apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, Psi
from bccdist.errors import LedgerError
from bccdist.heatmaps.probability import NUM_STEPS, step_of
from bccdist.heatmaps.store import Heatmap, pixels_of_cells
from bccdist.sections.certificate import flip_levels, levels_apart
from bccdist.sections.choices import Thresholds
from bccdist.sections.verdicts import areas_at_all_steps, has_tumor, verdicts_of
from bccdist.slides.geometry import Box

_ROWS_AT_ONCE_PX = 2048


@dataclass(kw_only=True)
class Comparison:
    """One way of inference against the reference, counted over the slides."""

    network_s: float = 0.0
    changed_verdicts: list[str] = field(default_factory=list)
    max_steps: int = 0
    """Largest difference of stored values of any output."""
    sum_steps: int = 0
    """Sum of the differences of the last output's stored values, on covered tissue."""
    num_crossing: int = 0
    """Pixels of the last output that change their side of t_p, on covered tissue."""
    num_pixels: int = 0
    """Pixels of the last output on covered tissue; it is psi_0 where the way ends there."""

    @property
    def differences(self) -> dict[str, float]:
        """The shares and differences that a speed-up record holds, of probabilities from 0 to 1."""
        return {
            "max_difference": self.max_steps / NUM_STEPS,
            "mean_difference": self.sum_steps / self.num_pixels / NUM_STEPS,
            "crossing_share": self.num_crossing / self.num_pixels,
        }

    def add(self, reference: Heatmap, other: Heatmap, *, t_p: float) -> None:
        """Count how far the stored probabilities of one slide are apart on covered tissue."""
        width, height = reference.attributes.size_target_px
        covered = reference.counted_cells & other.covered_cells
        for top in range(0, height, _ROWS_AT_ONCE_PX):
            box_px = Box(0, top, width, min(_ROWS_AT_ONCE_PX, height - top))
            cells = covered[top // CELL_PX : -(-box_px.y_end // CELL_PX)]
            for psi in other.outputs:
                # Stored values are bytes, whose difference would wrap around below 0.
                ours, theirs = (heatmap.read(psi, box_px).astype(np.int16) for heatmap in (other, reference))
                inside = pixels_of_cells(cells, psi, ours.shape)
                self._add_pixels(ours[inside], theirs[inside], t_p=t_p, is_last=psi == other.outputs[-1])

    def _add_pixels(self, ours: NDArray[np.int16], theirs: NDArray[np.int16], *, t_p: float, is_last: bool) -> None:
        steps = np.abs(ours - theirs)
        self.max_steps = max(self.max_steps, int(steps.max(initial=0)))
        if is_last:
            self.sum_steps += int(steps.sum())
            self.num_pixels += steps.size
            self.num_crossing += int(((ours >= step_of(t_p)) != (theirs >= step_of(t_p))).sum())


@dataclass(frozen=True, kw_only=True)
class SlideScore:
    """How far a fast way's curves of one slide's sections lie from the exact ones."""

    levels: int
    """The largest distance, by `levels_apart`."""
    flip_levels: tuple[int, ...]
    """Of each section, by `flip_levels`."""


def verdicts_by_name(rows: Sequence[Mapping[str, Any]], thresholds: Thresholds) -> dict[str, str]:
    """The verdict of each of a slide's ledger rows, by section_id/psi."""
    if not rows:
        return {}
    called = has_tumor(_areas_um2(rows, thresholds)[:, step_of(thresholds.t_p)], thresholds.t_a_um2)
    verdicts = verdicts_of(called, np.array([row["coverage"] for row in rows]))
    names = [f"{row['section_id']}/{row['psi']}" for row in rows]
    return dict(zip(names, map(str, verdicts), strict=True))


def score_of(
    exact_rows: Sequence[Mapping[str, Any]],
    fast_rows: Sequence[Mapping[str, Any]],
    psi: Psi,
    thresholds: Thresholds,
) -> SlideScore | None:
    """How far a fast way's curves of an output lie from the exact final output; None for a slide without sections.

    Areas are compared in um2, so that the coarse pixels of psi_0 may be held against the final output's.

    Args:
        exact_rows: the slide's ledger rows, made exactly.
        fast_rows: those made the fast way.
        psi: the fast way's output whose curves are taken.
        thresholds: the selection's.

    Raises:
        LedgerError: they are of different sections.
    """
    exact = {row["section_id"]: row for row in exact_rows if row["is_final"]}
    fast = {row["section_id"]: row for row in fast_rows if row["psi"] == psi}
    if exact.keys() != fast.keys():
        raise LedgerError(
            f"the exact rows are of the sections {', '.join(exact)}, the fast ones of {', '.join(fast)}; run the "
            "inference stage again for Validation I and II, without --only-missing"
        )
    if not fast:
        return None
    step = step_of(thresholds.t_p)
    exact_um2 = _areas_um2([exact[section_id] for section_id in fast], thresholds)[:, step]
    fast_um2 = _areas_um2(list(fast.values()), thresholds)
    return SlideScore(
        levels=int(levels_apart(exact_um2, fast_um2, step).max()),
        flip_levels=tuple(flip_levels(fast_um2, step, thresholds.t_a_um2).tolist()),
    )


def _areas_um2(rows: Sequence[Mapping[str, Any]], thresholds: Thresholds) -> NDArray[np.float64]:
    """The area of the largest region at every step, of each ledger row: float64 [n, 256]."""
    return areas_at_all_steps(
        np.array([row["largest_region_px"] for row in rows], dtype=np.uint32),
        mpp=np.array([row["mpp"] for row in rows]),
        pixel_px=np.array([row["pixel_px"] for row in rows]),
        area_unit=thresholds.area_unit,
    )
