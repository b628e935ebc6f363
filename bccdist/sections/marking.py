"""One slide goes through networks: heatmaps, and the ledger's rows from them (paper, section 2.4).

The one path to a verdict: the inference stage and the library both go it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bccdist.errors import ConfigurationError
from bccdist.heatmaps.predict import PredictionTally
from bccdist.heatmaps.store import Heatmap, scratch_folder
from bccdist.heatmaps.writing import HeatmapOrder, write_heatmaps
from bccdist.sections.assessable import QualityLimits
from bccdist.sections.rows import section_rows
from bccdist.sections.settling import Settling, settle
from bccdist.slides.colours import colour_log, tissue_colours
from bccdist.slides.manifest import SectionRecord, SlideRecord
from bccdist.slides.sections import Section, have_boxes, sections_of
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask


@dataclass(frozen=True, kw_only=True)
class MarkedSlide:
    """A slide whose heatmaps are there, and what was read of it."""

    record: SlideRecord
    size_level0_px: tuple[int, int]
    """Width and height."""
    downsample: float
    """Level-0 px per target-frame pixel."""
    properties: Mapping[str, str]
    """What the file says of itself, by OpenSlide's names."""
    log_of_reading: str
    """What a line of the log ends with: doubts about its colours, and why it is read through OpenSlide, if it is."""
    tissue: NDArray[np.bool_]
    """Its mask, [h, w] at `TISSUE_MPP`."""
    sections: Sequence[Section]
    tally: PredictionTally
    """What the networks took."""
    colours: Mapping[str, float]
    """The tissue's colours, by `tissue_colours`; none where no heatmap was asked for."""
    exact_tally: PredictionTally | None = None
    """What was computed exactly after a fast way; None where no way was fast and certified."""

    def rows(
        self, heatmap: Heatmap, *, phantom_weights: bool, limits: QualityLimits | None = None
    ) -> Iterator[dict[str, Any]]:
        """The ledger's rows of one of the slide's heatmaps, made now or before.

        Args:
            heatmap: the slide's.
            phantom_weights: whether its network was trained on drawn slides.
            limits: what a section may be like to be assessable; None judges none.

        Raises:
            ConfigurationError: its frame is not that of the slide as it is read now.
        """
        _require_same_frame(heatmap, self.downsample)
        part = self.record.part
        return section_rows(
            heatmap, self.sections, self.tissue, part=part, phantom_weights=phantom_weights, limits=limits
        )


@dataclass(frozen=True, kw_only=True)
class SettledOrder:
    """A heatmap to be that is made in a fast way, and exactly where that leaves a verdict open."""

    order: HeatmapOrder
    """The fast way; its path is the finished heatmap's."""
    settling: Settling
    is_there: bool
    """Whether the heatmap is there; then only what today's sections leave open in it is computed."""


def mark_slide(
    record: SlideRecord,
    sections: Sequence[SectionRecord],
    orders: Sequence[HeatmapOrder],
    *,
    target_mpp: float,
    mpp_tolerance: float,
    batch: int,
    device: torch.device,
    settled: SettledOrder | None = None,
    told: Callable[[float], None] | None = None,
) -> MarkedSlide:
    """Find a slide's tissue and sections, and make its heatmaps in one pass.

    Args:
        record: the slide's.
        sections: what is known of its sections; none where nobody named them.
        orders: the heatmaps that are not there yet; all methods have the same patches and blending.
        target_mpp: resolution that the networks were trained at, in um per pixel.
        mpp_tolerance: relative deviation from it up to which a level is read without resampling.
        batch: patches of 512 px per forward pass.
        device: where the networks are.
        settled: a heatmap that is made in a fast way, certified; it takes a pass of its own.
        told: called now and then with the share of the tissue that is done, 0 to 1.

    Raises:
        SlideError: the slide cannot be read, or its sections are not those that are known.
        HeatmapError: a heatmap cannot be written.
        NotFiniteError: a network gave something else than probabilities.
    """
    tally = PredictionTally(network_s=[])
    with Slide(record.path, target_mpp=target_mpp, tolerance=mpp_tolerance, mpp=record.mpp) as slide:
        tissue = tissue_mask(slide, for_sections=not have_boxes(sections))
        found = sections_of(slide, record.slide_id, tissue, list(sections))
        log_of_colours, colours = "", {}
        if orders:
            colours = tissue_colours(slide, tissue)
            log_of_colours = colour_log(slide, tissue)
            tally = write_heatmaps(slide, record, tissue, orders, batch=batch, device=device, told=told)
        exact_tally = None
        if settled is not None:
            log_of_colours = colour_log(slide, tissue)
            tally, exact_tally = _write_settled(
                slide, record, tissue, found, settled, batch=batch, device=device, told=told
            )
        return MarkedSlide(
            record=record,
            size_level0_px=slide.level0_size,
            downsample=slide.resolution.downsample,
            properties=dict(slide.properties),
            log_of_reading=log_of_colours + slide.log_of_reader,
            tissue=tissue,
            sections=found,
            tally=tally,
            colours=colours,
            exact_tally=exact_tally,
        )


def _write_settled(
    slide: Slide,
    record: SlideRecord,
    tissue: NDArray[np.bool_],
    sections: Sequence[Section],
    settled: SettledOrder,
    *,
    batch: int,
    device: torch.device,
    told: Callable[[float], None] | None,
) -> tuple[PredictionTally, PredictionTally]:
    """Make a heatmap in the fast way, and exactly what that leaves open; returns what either took."""
    order = settled.order
    first_told, then_told = (None, None) if told is None else (partial(_told_of, told, 0), partial(_told_of, told, 1))
    with ExitStack() as stack:
        base, tally = Path(order.path), PredictionTally(network_s=[])
        if not settled.is_there:
            base = stack.enter_context(scratch_folder()) / order.path.name
            fast = replace(order, path=base)
            tally = write_heatmaps(slide, record, tissue, [fast], batch=batch, device=device, told=first_told)
        exact_tally = settle(slide, tissue, sections, Heatmap(base), settled.settling, order.path, told=then_told)
    return tally, exact_tally


def _told_of(told: Callable[[float], None], half: int, share: float) -> None:
    """Tell how far one of two passes is as a share of both."""
    told((half + share) / 2)


def _require_same_frame(heatmap: Heatmap, downsample: float) -> None:
    """Refuse a heatmap of a slide whose levels were taken at other factors once: its pixels lie elsewhere.

    Raises:
        ConfigurationError: its frame is not that of the slide as it is read now.
    """
    there = heatmap.attributes.downsample
    if not isclose(there, downsample, rel_tol=1e-6):
        raise ConfigurationError(
            f"{heatmap.path} was made with {there:.6g} level-0 px per pixel, but the slide is read with "
            f"{downsample:.6g}: an older version misread the sizes of its levels; remove the heatmap, and run the "
            "inference again"
        )
