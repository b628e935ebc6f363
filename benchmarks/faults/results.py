"""What inference says about one slide, and whether two slides were given the same results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bccdist.heatmaps.store import Heatmap
from bccdist.sections.ledger import read_rows
from bccdist.slides.geometry import Box

STEPS = (64, 128, 153, 192)
"""Probability steps at which areas of largest regions are compared."""
_LEAST_OVERLAP = 0.8
_TISSUE_SHARE = 0.1
_HEATMAP_STEPS = 1
"""Largest difference of two stored probabilities that are the same."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far results may lie apart and still be the same."""

    share: float
    """Of the area of a largest region."""
    area_um2: float
    """Of it, whatever its size."""
    differing: float
    """Share of a section's heatmap pixels that may differ by more than one step."""


EXACT = Tolerance(share=0.02, area_um2=200.0, differing=0.002)
"""For the same pixels, stored in another way."""
NEAR = Tolerance(share=0.15, area_um2=1500.0, differing=1.0)
"""For the same picture from pixels that were compressed or resampled once more."""


@dataclass(frozen=True, kw_only=True)
class SectionResult:
    """What the ledger says about one section."""

    box_um: tuple[float, float, float, float]
    """Left, top, width and height."""
    tissue_um2: float
    coverage: float
    areas_um2: NDArray[np.float64]
    """Of the largest region at each of `STEPS`."""


@dataclass(frozen=True, kw_only=True)
class SlideResult:
    """What inference says about a slide."""

    sections: Sequence[SectionResult]
    heatmap: NDArray[np.uint8]
    """The final output: [h, w]."""
    mpp: float
    """Of the target frame."""
    pixel_um: float
    """Of the heatmap."""


def read_result(heatmap_path: Path, rows_path: Path) -> SlideResult:
    """The result of a slide from its heatmap and its rows."""
    heatmap = Heatmap(heatmap_path)
    attributes = heatmap.attributes
    rows = [row for row in read_rows(rows_path).to_pylist() if row["is_final"]]
    psi = heatmap.outputs[-1]
    return SlideResult(
        sections=[_section(row, attributes.mpp / attributes.downsample) for row in rows],
        heatmap=heatmap.read(psi, Box(0, 0, *attributes.size_target_px)),
        mpp=attributes.mpp,
        pixel_um=attributes.mpp * (rows[0]["pixel_px"] if rows else 1),
    )


def _section(row: dict[str, Any], mpp_level0: float) -> SectionResult:
    sides = ("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px")
    x, y, width, height = (row[side] * mpp_level0 for side in sides)
    pixel_um2 = (row["mpp"] * row["pixel_px"]) ** 2
    return SectionResult(
        box_um=(x, y, width, height),
        tissue_um2=row["tissue_um2"],
        coverage=row["coverage"],
        areas_um2=np.array(row["largest_region_px"], dtype=np.float64)[list(STEPS)] * pixel_um2,
    )


def differences(found: SlideResult, expected: SlideResult, tolerance: Tolerance) -> list[tuple[str, float]]:
    """The expected sections that were not found as they are: what differs, and the coverage that was given.

    A section that was found and is not expected counts, too. The coverage of a section that was not found is that of
    the sections in which it lies, or 1 where nothing says that it is not Normal.
    """
    faults: list[tuple[str, float]] = []
    partners = [_partner(section, found.sections) for section in expected.sections]
    for number, (section, partner) in enumerate(zip(expected.sections, partners, strict=True)):
        if partner is None:
            boxes = [tuple(round(side) for side in each.box_um) for each in (section, *found.sections)]
            text = f"section {number} at {boxes[0]} um is not among those at {boxes[1:]}"
            faults.append((text, _coverage_around(section, found.sections)))
        elif what := _difference(partner, section, found, expected, tolerance):
            faults.append((f"section {number}: {what}", partner.coverage))
    known = {id(partner) for partner in partners}
    extra = [section for section in found.sections if id(section) not in known]
    return faults + [(f"a section that is none, {section.tissue_um2:.0f} um2", section.coverage) for section in extra]


def _coverage_around(section: SectionResult, sections: Sequence[SectionResult]) -> float:
    """The largest coverage of the sections that hold most of a section's box; 1 where none does."""
    area = section.box_um[2] * section.box_um[3]
    holding = [each.coverage for each in sections if _shared_um2(each.box_um, section.box_um) > area / 2]
    return max(holding, default=1.0)


def _shared_um2(one: Sequence[float], other: Sequence[float]) -> float:
    sides = [min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    return max(0.0, sides[0]) * max(0.0, sides[1])


def _partner(section: SectionResult, sections: Sequence[SectionResult]) -> SectionResult | None:
    best = max(sections, key=lambda each: _overlap(each.box_um, section.box_um), default=None)
    return best if best is not None and _overlap(best.box_um, section.box_um) >= _LEAST_OVERLAP else None


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union."""
    shared = _shared_um2(one, other)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def _difference(
    found: SectionResult, expected: SectionResult, of_found: SlideResult, of_expected: SlideResult, limit: Tolerance
) -> str:
    """What is other in a section; empty where nothing is."""
    if abs(found.tissue_um2 - expected.tissue_um2) > _TISSUE_SHARE * expected.tissue_um2:
        return f"{found.tissue_um2:.0f} um2 of tissue for {expected.tissue_um2:.0f}"
    allowed_um2 = limit.area_um2 + limit.share * np.maximum(found.areas_um2, expected.areas_um2)
    if (np.abs(found.areas_um2 - expected.areas_um2) > allowed_um2).any():
        return f"largest regions {found.areas_um2.round().tolist()} um2 for {expected.areas_um2.round().tolist()}"
    if found.coverage != expected.coverage:
        return f"coverage {found.coverage:.3f} for {expected.coverage:.3f}"
    if limit.differing < 1:
        share = _share_differing(of_found, of_expected, expected.box_um)
        if share > limit.differing:
            return f"{share:.2%} of its heatmap's pixels differ"
    return ""


def _share_differing(found: SlideResult, expected: SlideResult, box_um: Sequence[float]) -> float:
    """The share of a section's heatmap pixels that differ by more than one step; both have the same lattice."""
    x, y, width, height = (int(side / expected.pixel_um) for side in box_um)
    views = [each.heatmap[y : y + height, x : x + width].astype(np.int16) for each in (found, expected)]
    rows, cols = (min(view.shape[axis] for view in views) for axis in (0, 1))
    one, other = (view[:rows, :cols] for view in views)
    return float((np.abs(one - other) > _HEATMAP_STEPS).mean()) if one.size else 1.0
