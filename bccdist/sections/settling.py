"""Which sections of a fast heatmap are computed exactly, and the heatmap that holds both (`bccdist.sections.reached`).

The fast way looks at all tissue. Where its curve does not settle the verdict, where a section was not read whole, on a
slide unlike those that were calibrated, and on a random share as a running check, the exact way looks again, in
whole sections: so that what is stored of a section is all of one way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bccdist.files import digest_of
from bccdist.heatmaps.certificate import FastCurve, HeatmapCertificate
from bccdist.heatmaps.merging import merge_exact
from bccdist.heatmaps.predict import PredictionTally, SlidePass
from bccdist.heatmaps.store import Heatmap
from bccdist.sections.reached import are_certified, cells_of_sections, say_the_same
from bccdist.sections.rows import fast_sections
from bccdist.sections.sampling import map_of_sections
from bccdist.slides.sections import Section
from bccdist.slides.slide import Slide

WhyOutside = Callable[[Slide, NDArray[np.bool_], Heatmap], str]
"""Says why a slide is unlike those that were calibrated, by its tissue and fast heatmap; nothing where it is not."""


@dataclass(frozen=True, kw_only=True)
class Settling:
    """What turns a fast heatmap into one whose verdicts are all certified or exact."""

    certificate: HeatmapCertificate
    """What is promised, of any slide."""
    exact: SlidePass
    """The paper's way, with the network of the fast one."""
    why_outside: WhyOutside


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is to be computed of a slide."""

    wanted: NDArray[np.bool_]
    """Its cells: [rows, cols]."""
    certificate: HeatmapCertificate


def settle(
    slide: Slide,
    tissue: NDArray[np.bool_],
    sections: Sequence[Section],
    base: Heatmap,
    settling: Settling,
    path: Path,
    *,
    told: Callable[[float], None] | None = None,
) -> PredictionTally:
    """Compute exactly what the fast way leaves open, and write the heatmap that holds both.

    Args:
        slide: open.
        tissue: its mask at `TISSUE_MPP`, bool [h, w].
        sections: all of the slide.
        base: a fast heatmap; or the one at `path`, settled for other sections, which then goes on in the new one.
        settling: how.
        path: where the heatmap goes; it is left as it is where nothing is open in it.
        told: called now and then with the share of the open cells that is done, 0 to 1.

    Returns:
        What the exact way took.

    Raises:
        HeatmapError: a heatmap cannot be read or written.
        SlideError: the slide cannot be read.
        NotFiniteError: the network gave something else than probabilities.
    """
    certificate = base.attributes.certificate
    if certificate is None:
        certificate = replace(settling.certificate, outside=settling.why_outside(slide, tissue, base))
    plan = _plan(base, tissue, sections, certificate)
    if base.path == path and not plan.wanted.any():
        return PredictionTally(network_s=[])
    return merge_exact(
        slide, tissue, base, plan.wanted, settling.exact, certificate=plan.certificate, path=path, told=told
    )


def _plan(
    base: Heatmap, tissue: NDArray[np.bool_], sections: Sequence[Section], certificate: HeatmapCertificate
) -> _Plan:
    shares = map_of_sections(base, tissue, [section.box_level0_px for section in sections])
    mpp, exact, final = base.attributes.mpp, base.exact_cells, base.outputs[-1]
    cells = cells_of_sections(shares, len(sections), base.tissue_cells, mpp=mpp)
    found = fast_sections(base, shares, certificate.psi)
    is_open = ~are_certified(found.curves, found.coverage, certificate, mpp=mpp)
    if final != certificate.psi:
        of_final = fast_sections(base, shares, final).curves
        is_open |= ~say_the_same(found.curves, of_final, certificate, final, mpp=mpp)
    is_open |= np.array([_is_drawn(base, section, certificate.check_share) for section in sections], dtype=bool)
    is_open |= (cells & exact).any(axis=(1, 2))
    if certificate.outside:
        is_open[:] = True
    is_open = _with_neighbours(is_open, cells)
    curves = [
        FastCurve(
            box_level0_px=section.box_level0_px,
            tissue_um2=float(found.tissue_um2[index]),
            largest_region_px=tuple(int(each) for each in found.curves[index]),
        )
        for index, section in enumerate(sections)
        # Only what is wholly fast as yet, and was read whole, says how far the fast way is from the exact one.
        if is_open[index] and not (cells[index] & exact).any() and found.coverage[index] >= 1
    ]
    wanted = np.asarray(cells[is_open].any(axis=0) & ~exact)
    return _Plan(wanted=wanted, certificate=replace(certificate, fast_curves=(*certificate.fast_curves, *curves)))


def _is_drawn(base: Heatmap, section: Section, share: float) -> bool:
    """Whether chance has it that a section is computed exactly: the same for the same slide and section."""
    drawn = int(digest_of(["check", base.attributes.slide_fingerprint, section.section_id]), 16)
    return drawn < share * 16**12


def _with_neighbours(is_open: NDArray[np.bool_], cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The open sections, bool [n], with those that share a cell, bool [n, rows, cols], with one of them, and so on."""
    while True:
        computed = cells[is_open].any(axis=0)
        more = is_open | (cells & computed).any(axis=(1, 2))
        if np.array_equal(more, is_open):
            return is_open
        is_open = more
