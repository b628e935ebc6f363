"""One output of a slide at the chosen thresholds, and the regions that its verdicts rest on (paper, section 2.4).

A region belongs to the section whose tissue it lies on, as the ledger counts it: where boxes overlap, it is there
once, and one that crosses from tissue to tissue is cut. Its margin is the smallest distance to the edge of the tissue
found on the slide. Margins are for research use only: that edge need not be a surgical margin
(bccdist/sections/margins.py says what counts as an edge).
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, Psi, pixel_px
from bccdist.errors import HeatmapError
from bccdist.heatmaps.probability import step_of
from bccdist.heatmaps.store import CHUNK_PIXELS, Heatmap
from bccdist.sections.choices import Choice
from bccdist.sections.regions import Region, find_regions
from bccdist.sections.sampling import is_own_under, map_of_sections, pixels_under
from bccdist.sections.verdicts import Verdict
from bccdist.slides.geometry import Box
from bccdist.slides.section_map import SectionMap
from bccdist.slides.tissue import TISSUE_MPP

SectionVerdict = Mapping[Hashable, Any]
"""A row of the verdicts."""
_DECIMALS = 3
"""A coordinate in level-0 px is rounded to so many."""


def boxes_by_slide(verdicts: pd.DataFrame) -> dict[str, dict[str, Box]]:
    """The boxes of the sections of whole slides, by slide_id and section_id."""
    boxes: defaultdict[str, dict[str, Box]] = defaultdict(dict)
    for section in verdicts.drop_duplicates(["slide_id", "section_id"]).to_dict("records"):
        boxes[section["slide_id"]][section["section_id"]] = section_box(section)
    return dict(boxes)


@dataclass(frozen=True, kw_only=True)
class SlideTissue:
    """What is read of a slide, once for all settings."""

    properties: Mapping[str, str]
    """What the file says of itself, by OpenSlide's names."""
    size_level0_px: tuple[int, int]
    """Width and height."""
    tissue: NDArray[np.bool_]
    """The tissue mask: [h, w] at `TISSUE_MPP`."""
    distances_um: NDArray[np.float32]
    """Distances to the tissue's edge, by `edge_distances_um`: [h, w] at `TISSUE_MPP`."""


@dataclass(frozen=True, kw_only=True)
class ChosenOutput:
    """One output of one slide's heatmap, at the chosen thresholds."""

    heatmap: Heatmap
    psi: Psi
    choice: Choice
    """The model and the thresholds."""
    slide: SlideTissue
    boxes_level0_px: Mapping[str, Box]
    """The boxes of all sections of the slide, by section_id."""

    @cached_property
    def section_map(self) -> SectionMap:
        """Whose the slide's tissue is, by the order of `boxes_level0_px`."""
        return map_of_sections(self.heatmap, self.slide.tissue, list(self.boxes_level0_px.values()))

    @property
    def pixel_um2(self) -> float:
        """Area of a heatmap pixel, as the selection counts it."""
        edge_um = pixel_px(self.psi) * (self.heatmap.attributes.mpp if self.choice.area_unit == "physical" else 1.0)
        return edge_um * edge_um

    @property
    def least_pixels(self) -> int:
        """The fewest pixels of a region of t_A."""
        # A quotient is rounded to either side of a whole number: the product decides, as in the selection.
        about = math.floor(self.choice.t_a_um2 / self.pixel_um2)
        return next(num for num in range(max(1, about - 1), about + 3) if num * self.pixel_um2 >= self.choice.t_a_um2)

    def regions_in(self, section: SectionVerdict) -> list[Region]:
        """The regions of one section, in the order of their first pixels; outlines are in the slide's heatmap pixels.

        Raises:
            HeatmapError: the heatmap cannot be read, or is not the one that the ledger was made of.
        """
        if not section["tissue_um2"]:
            return []
        index = list(self.boxes_level0_px).index(section["section_id"])
        holding_level0_px = self.section_map.reading_level0_px[index]
        box_px = self.heatmap.lattice_box(self.psi, holding_level0_px.scaled(1 / self.heatmap.attributes.downsample))
        found = find_regions(
            self.strips(box_px, index + 1),
            step=step_of(self.choice.t_p),
            least_pixels=self.least_pixels,
            distances_um=self.distance_strips(box_px),
        )
        # They count from the box so far.
        corner_px = np.array((box_px.x, box_px.y))
        regions = [
            region._replace(outline=shapely.transform(region.outline, lambda xy: xy + corner_px)) for region in found
        ]
        self._require_ledgers_area(section, max((region.num_pixels for region in regions), default=0))
        return regions

    def strips(self, box_px: Box, number: int) -> Iterator[NDArray[np.uint8]]:
        """A box of heatmap pixels by rows of chunks, 0 where the verdict on a section does not count them.

        Args:
            box_px: in pixels of the output.
            number: the section's in `section_map`.
        """
        # As the ledger counts: only cells of tissue of which every patch was predicted.
        counted, scale = self.heatmap.counted_cells, self.heatmap.attributes.mpp / TISSUE_MPP
        edge_px = pixel_px(self.psi)
        for strip in _by_chunks(box_px):
            cells = pixels_under(strip, counted.shape, edge_px=edge_px, scale=1 / CELL_PX)
            under = pixels_under(strip, self.slide.tissue.shape, edge_px=edge_px, scale=scale)
            values = self.heatmap.read(self.psi, Box(*(edge_px * length for length in strip)))
            yield values * (counted[np.ix_(*cells)] & is_own_under(self.section_map, number, *under))

    def distance_strips(self, box_px: Box) -> Iterator[NDArray[np.float32]]:
        """The distances to the tissue's edge under the same strips, in um (research use only)."""
        distances_um, scale = self.slide.distances_um, self.heatmap.attributes.mpp / TISSUE_MPP
        for strip in _by_chunks(box_px):
            under = pixels_under(strip, distances_um.shape, edge_px=pixel_px(self.psi), scale=scale)
            yield distances_um[np.ix_(*under)]

    def placed(self, outline: shapely.Geometry, *, origin_level0_px: tuple[int, int] = (0, 0)) -> shapely.Geometry:
        """An outline in heatmap pixels as level-0 px from an origin (x, y).

        x and y are moved each alone, so it stays valid.
        """
        edge_level0_px = pixel_px(self.psi) * self.heatmap.attributes.downsample
        origin = np.array(origin_level0_px)
        return shapely.transform(outline, lambda xy: np.round(xy * edge_level0_px - origin, _DECIMALS))

    def _require_ledgers_area(self, section: SectionVerdict, largest_px: int) -> None:
        """Refuse a heatmap that is not the one of the ledger, which the verdict stands on."""
        largest_um2 = largest_px * self.pixel_um2
        # A section that is not Tumor may have regions, but none of t_A, and smaller ones were not looked for.
        expected_um2 = section["area_um2"] if section["verdict"] == Verdict.TUMOR else 0.0
        if not math.isclose(largest_um2, expected_um2, rel_tol=1e-9):
            raise HeatmapError(
                f"{self.heatmap.path}: the largest region in section {section['section_id']} has {largest_um2:.1f} "
                f"um2, but {expected_um2:.1f} um2 by the ledger; run the inference stage again for this slide"
            )


def section_box(section: SectionVerdict) -> Box:
    """A section's box in level-0 px."""
    return Box(*(section[f"{side}_level0_px"] for side in ("x", "y", "width", "height")))


def smallest_margin_um(regions: list[Region]) -> float:
    """The smallest margin of some regions; NaN where there are none. Research use only."""
    return min((region.margin_um for region in regions), default=math.nan)


def _by_chunks(box_px: Box) -> Iterator[Box]:
    """A box cut into rows of the heatmap's chunks, so that each chunk is read once."""
    for chunk_y in range(box_px.y // CHUNK_PIXELS * CHUNK_PIXELS, box_px.y_end, CHUNK_PIXELS):
        y, y_end = max(chunk_y, box_px.y), min(chunk_y + CHUNK_PIXELS, box_px.y_end)
        yield Box(box_px.x, y, box_px.width, y_end - y)
