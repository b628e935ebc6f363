"""Two heatmaps of one slide side by side: how far stored probabilities are apart, and which verdicts differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, pixel_px
from bccdist.heatmaps.probability import NUM_STEPS, step_of
from bccdist.heatmaps.store import Heatmap
from bccdist.parts import Part
from bccdist.sections.curve import CURVE_LENGTH
from bccdist.sections.rows import section_rows
from bccdist.sections.verdicts import has_tumor, region_area_um2, verdicts_of
from bccdist.slides.geometry import Box
from bccdist.slides.sections import Section
from bccdist.speedups.record import Thresholds

_ROWS_AT_ONCE_PX = 2048


@dataclass(kw_only=True)
class Comparison:
    """One way of inference against the reference, counted over the slides."""

    network_s: float = 0.0
    changed_verdicts: list[str] = field(default_factory=list)
    max_steps: int = 0
    """Largest difference of stored values of any output."""
    sum_steps: int = 0
    """Sum of the differences of the final output's stored values, on covered tissue."""
    num_crossing: int = 0
    """Pixels of the final output that change their side of t_p, on covered tissue."""
    num_pixels: int = 0
    """Pixels of the final output on covered tissue."""

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
                edge = CELL_PX // pixel_px(psi)
                # Stored values are bytes, whose difference would wrap around below 0.
                ours, theirs = (heatmap.read(psi, box_px).astype(np.int16) for heatmap in (other, reference))
                inside = cells.repeat(edge, axis=0).repeat(edge, axis=1)[: ours.shape[0], : ours.shape[1]]
                self._add_pixels(ours[inside], theirs[inside], t_p=t_p, is_final=psi == reference.outputs[-1])

    def _add_pixels(self, ours: NDArray[np.int16], theirs: NDArray[np.int16], *, t_p: float, is_final: bool) -> None:
        steps = np.abs(ours - theirs)
        self.max_steps = max(self.max_steps, int(steps.max(initial=0)))
        if is_final:
            self.sum_steps += int(steps.sum())
            self.num_pixels += steps.size
            self.num_crossing += int(((ours >= step_of(t_p)) != (theirs >= step_of(t_p))).sum())


def verdicts_by_name(
    heatmap: Heatmap, sections: Sequence[Section], tissue: NDArray[np.bool_], *, part: Part, thresholds: Thresholds
) -> dict[str, str]:
    """The verdict by each output on each section of a slide, by section_id/psi."""
    rows = list(section_rows(heatmap, sections, tissue, part=part, phantom_weights=False))
    if not rows:
        return {}
    area_um2 = region_area_um2(
        np.array([row["largest_region_px"] for row in rows], dtype=np.uint32).reshape(-1, CURVE_LENGTH),
        step_of(thresholds.t_p),
        mpp=np.array([row["mpp"] for row in rows]),
        pixel_px=np.array([row["pixel_px"] for row in rows]),
        area_unit=thresholds.area_unit,
    )
    called = has_tumor(area_um2, thresholds.t_a_um2)
    verdicts = verdicts_of(called, np.array([row["coverage"] for row in rows]))
    names = [f"{row['section_id']}/{row['psi']}" for row in rows]
    return dict(zip(names, map(str, verdicts), strict=True))
