"""The regions that the chosen models find, slide by slide (paper, section 2.4): of at least t_A at the chosen t_p.

What a verdict rests on. A region belongs to the section whose tissue it lies on, as the ledger counts it: where boxes
overlap, it is there once, and one that crosses from tissue to tissue is cut. Its margin is the smallest distance to
the edge of the tissue found on the slide. Margins are for research use only: that edge need not be a surgical margin
(bccdist/sections/margins.py says what counts as an edge).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from analysis.evidence.evidence import Evidence
from analysis.evidence.section_rows import rows_of
from analysis.evidence.verdict_table import no_rows, section_verdicts
from analysis.outlines.chosen_heatmap import open_chosen, require_same_slide
from analysis.outlines.region_outlines import Region, find_regions
from bccdist.configuration import CELL_PX, Psi, pixel_px
from bccdist.errors import HeatmapError, LedgerError, SlideError
from bccdist.heatmaps.probability import step_of
from bccdist.heatmaps.store import CHUNK_PIXELS, Heatmap
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.processes import Failure, run_each
from bccdist.sections.choices import Choice
from bccdist.sections.margins import edge_distances_um
from bccdist.sections.sampling import is_own_under, map_of_sections, pixels_under
from bccdist.sections.verdicts import Verdict
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.slides.section_map import SectionMap
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask

SectionVerdict = Mapping[Hashable, Any]
"""A row of the verdicts."""
_DECIMALS = 3
"""A coordinate in level-0 px is rounded to so many."""
_T = TypeVar("_T")


class ChosenVerdicts(NamedTuple):
    """The chosen models, and what they said."""

    choices: dict[str, Choice]
    """The chosen model of each setting."""
    verdicts: pd.DataFrame
    """One output of each setting, with the columns of `section_verdicts`."""
    boxes_level0_px: Mapping[str, Mapping[str, Box]]
    """The boxes of all sections of the slides, by slide_id and section_id: they share out the tissue."""


def read_chosen_verdicts(
    study: Evidence,
    parts: Sequence[Part],
    *,
    setting: str | None = None,
    psi: Psi | None = None,
    t_p: float | None = None,
) -> ChosenVerdicts:
    """The chosen models and their verdicts on some parts.

    Args:
        study: the study.
        parts: whose slides are read.
        setting: None is every one that was selected.
        psi: the output; None is each setting's own.
        t_p: prediction threshold, 0 to 1; None is the chosen one.

    Raises:
        LedgerError: nothing was selected, or no slide of these parts was inferred, or an argument fits neither.
    """
    choices = _choices(study, setting, t_p)
    rows = rows_of(study.ledger, parts, final_only=psi is None)
    if psi is not None:
        rows = rows.where((rows.frame["psi"] == psi).to_numpy())
    frame = pd.concat([section_verdicts(rows, choice) for choice in choices.values()], ignore_index=True)
    if frame.empty:
        raise no_rows(list(parts), list(choices.values()))
    return ChosenVerdicts(choices, frame, boxes_by_slide(frame))


def boxes_by_slide(verdicts: pd.DataFrame) -> dict[str, dict[str, Box]]:
    """The boxes of the sections of whole slides, by slide_id and section_id."""
    boxes: defaultdict[str, dict[str, Box]] = defaultdict(dict)
    for section in verdicts.drop_duplicates(["slide_id", "section_id"]).to_dict("records"):
        boxes[section["slide_id"]][section["section_id"]] = section_box(section)
    return dict(boxes)


def _choices(study: Evidence, setting: str | None, t_p: float | None) -> dict[str, Choice]:
    """What was chosen, by setting, with another t_p if one is given."""
    choices = study.choices if setting is None else [study.headline(setting)]
    if t_p is not None and not 0 < t_p <= 1:
        raise LedgerError(f"--t-p {t_p}: a prediction threshold lies above 0 and is at most 1")
    return {choice.setting: choice if t_p is None else replace(choice, t_p=t_p) for choice in choices}


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


def on_each_output(
    paths: StudyPaths,
    manifest: Manifest,
    chosen: ChosenVerdicts,
    work: Callable[[ChosenOutput, pd.DataFrame], _T],
    *,
    num_workers: int | None = 0,
) -> tuple[list[_T], list[str]]:
    """Do something with the output of every slide and setting of some verdicts; each slide's tissue is read once.

    Args:
        paths: the study's.
        manifest: its slides.
        chosen: the chosen models and their verdicts.
        work: takes an output and its verdicts.
        num_workers: see `run_each`.

    Returns:
        What `work` returned, by slide and setting, and a line for each output that could not be read.
    """
    slide_ids = [str(slide_id) for slide_id in chosen.verdicts.groupby("slide_id").groups]
    setup = partial(open_outputs, paths, manifest.only(slide_ids), chosen, work)
    outcomes = dict(run_each(setup, slide_ids, num_workers=num_workers))
    done, failures = [], []
    for slide_id in slide_ids:
        outcome = outcomes[slide_id]
        if isinstance(outcome, Failure):
            failures.append(f"  - {slide_id}: {outcome.reason}")
        else:
            done += outcome[0]
            failures += outcome[1]
    return done, failures


def open_outputs(
    paths: StudyPaths, manifest: Manifest, chosen: ChosenVerdicts, work: Callable[[ChosenOutput, pd.DataFrame], _T]
) -> Callable[[str], tuple[list[_T], list[str]]]:
    """What `on_each_output` does with one slide, by slide_id: an output that cannot be read costs no other."""
    of_slide = dict(iter(chosen.verdicts.groupby("slide_id")))

    def work_on_all(slide_id: str) -> tuple[list[_T], list[str]]:
        done, failures = [], []
        tissue_at = cache(partial(_read_tissue, manifest.slide(slide_id)))
        for setting, sections in of_slide[slide_id].groupby("setting"):
            try:
                choice, boxes = chosen.choices[str(setting)], chosen.boxes_level0_px[slide_id]
                output = _open_output(paths, choice, sections, boxes, tissue_at)
                done.append(work(output, sections.sort_values("section_id")))
            except (SlideError, HeatmapError) as error:
                failures.append(f"  - {setting}: {error}")
        return done, failures

    return work_on_all


def _open_output(
    paths: StudyPaths,
    choice: Choice,
    sections: pd.DataFrame,
    boxes_level0_px: Mapping[str, Box],
    tissue_at: Callable[[float], SlideTissue],
) -> ChosenOutput:
    """One slide's output under one setting.

    Raises:
        SlideError: the slide cannot be read, or is not the one that the heatmap was made of.
        HeatmapError: the heatmap cannot be read, or is of other weights than the chosen ones.
    """
    slide_id, psi = sections["slide_id"].iloc[0], sections["psi"].iloc[0]
    heatmap = open_chosen(paths, choice, slide_id)
    slide = tissue_at(heatmap.attributes.mpp)
    require_same_slide(heatmap, slide.size_level0_px)
    return ChosenOutput(heatmap=heatmap, psi=psi, choice=choice, slide=slide, boxes_level0_px=boxes_level0_px)


def _read_tissue(record: SlideRecord, target_mpp: float) -> SlideTissue:
    with Slide(record.path, target_mpp=target_mpp, mpp=record.mpp) as slide:
        width_px, height_px = slide.level0_size
        tissue = tissue_mask(slide)
        return SlideTissue(
            properties=dict(slide.properties),
            size_level0_px=(width_px, height_px),
            tissue=tissue,
            distances_um=edge_distances_um(tissue),
        )
