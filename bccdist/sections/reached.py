"""How the verdict on each section of a heatmap was reached: in the exact way, or certified by a fast one.

A section of a heatmap with a certificate is exact where all its cells were computed exactly, and certified where none
was, its tissue was read whole, and both ends of the bound around its fast curve fall on one side of t_A. Anything else
is neither, and is computed exactly before it becomes a row (`bccdist.sections.settling`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, AreaUnit, Psi, pixel_px
from bccdist.errors import LedgerError
from bccdist.heatmaps.certificate import FastCurve, HeatmapCertificate
from bccdist.heatmaps.probability import step_of
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes
from bccdist.sections.certificate import is_certified, levels_apart
from bccdist.sections.verdicts import ReachedBy, areas_at_all_steps, has_tumor
from bccdist.slides.geometry import Box
from bccdist.slides.section_map import SectionMap
from bccdist.slides.tissue import TISSUE_MPP


def cells_of_sections(
    shares: SectionMap, num_sections: int, counted: NDArray[np.bool_], *, mpp: float
) -> NDArray[np.bool_]:
    """The cells in which a section has pixels that its verdict may count: bool [n, rows, cols].

    Args:
        shares: whose the slide's tissue is.
        num_sections: of the slide.
        counted: bool [rows, cols]: the cells of tissue.
        mpp: um per target-frame pixel.
    """
    flags = np.zeros((num_sections, *counted.shape), dtype=bool)
    rows, cols = np.nonzero(shares.number)
    numbers = shares.number[rows, cols].astype(np.int64) - 1
    pixels_per_cell = CELL_PX * mpp / TISSUE_MPP
    # A pixel of the mask may lie across a border, and then it is in the cells on both sides.
    for row_edge in (rows, rows + 1 - 1e-6):
        for col_edge in (cols, cols + 1 - 1e-6):
            cell_rows = np.minimum((row_edge / pixels_per_cell).astype(np.int64), counted.shape[0] - 1)
            cell_cols = np.minimum((col_edge / pixels_per_cell).astype(np.int64), counted.shape[1] - 1)
            flags[numbers, cell_rows, cell_cols] = True
    return flags & counted


def areas_um2(curves: NDArray[np.uint32], psi: Psi, *, mpp: float, area_unit: AreaUnit) -> NDArray[np.float64]:
    """The areas of curves of one slide at all probability steps: float64 [n, 256]."""
    num = len(curves)
    return areas_at_all_steps(curves, mpp=np.full(num, mpp), pixel_px=np.full(num, pixel_px(psi)), area_unit=area_unit)


def are_certified(
    curves: NDArray[np.uint32], coverage: NDArray[np.float64], certificate: HeatmapCertificate, *, mpp: float
) -> NDArray[np.bool_]:
    """Whether the exact verdicts follow from the fast curves of some sections: bool [n].

    Args:
        curves: uint32 [n, 256], of the certificate's output.
        coverage: float [n], share of the tissue that was read; the bound is one on sections that were read whole.
        certificate: the heatmap's.
        mpp: um per target-frame pixel.
    """
    fast_um2 = areas_um2(curves, certificate.psi, mpp=mpp, area_unit=certificate.area_unit)
    follows = is_certified(fast_um2, step_of(certificate.t_p), certificate.levels, certificate.t_a_um2)
    return np.asarray(follows & (coverage >= 1))


def say_the_same(
    curves: NDArray[np.uint32],
    of_final: NDArray[np.uint32],
    certificate: HeatmapCertificate,
    final: Psi,
    *,
    mpp: float,
) -> NDArray[np.bool_]:
    """Whether two outputs of a fast heatmap give the same verdicts, which may differ by pixels at a section's edge.

    Args:
        curves: uint32 [n, 256], of the certificate's output.
        of_final: uint32 [n, 256], of the final output, from which the ledger's verdict is read.
        certificate: the heatmap's.
        final: the final output's name.
        mpp: um per target-frame pixel.

    Returns:
        bool [n].
    """
    step, unit = step_of(certificate.t_p), certificate.area_unit
    verdicts = [
        has_tumor(areas_um2(each, psi, mpp=mpp, area_unit=unit)[:, step], certificate.t_a_um2)
        for each, psi in ((curves, certificate.psi), (of_final, final))
    ]
    return np.asarray(verdicts[0] == verdicts[1], dtype=bool)


class SectionsReached:
    """How the verdicts on the sections of one heatmap were reached, and the ledger's columns that say so."""

    def __init__(self, heatmap: Heatmap, shares: SectionMap, num_sections: int) -> None:
        self._path = heatmap.path
        self._attributes = heatmap.attributes
        self._exact = heatmap.exact_cells
        self._cells = None
        if heatmap.attributes.certificate is not None:
            self._cells = cells_of_sections(shares, num_sections, heatmap.tissue_cells, mpp=heatmap.attributes.mpp)

    def columns(
        self, index: int, box_level0_px: Box, tissue: Mapping[str, float], curves: Mapping[Psi, Sequence[int]]
    ) -> dict[Psi, dict[str, Any]]:
        """The columns of one section's rows, by output.

        Args:
            index: of the section.
            box_level0_px: its box.
            tissue: its tissue_um2 and coverage.
            curves: its largest_region_px, of every output of the heatmap.

        Raises:
            LedgerError: the section is neither certified nor wholly exact.
        """
        certificate = self._attributes.certificate
        if certificate is None or self._cells is None:
            reached = ReachedBy.EXACT if is_exact(self._attributes) else ReachedBy.FAST
            return {psi: _columns(reached) for psi in curves}
        cells = self._cells[index]
        if not cells.any():  # a box without tissue of its own has nothing that any way could see
            return {psi: _columns(ReachedBy.EXACT, certificate) for psi in curves}
        if (cells & ~self._exact).any():
            return self._fast_columns(certificate, cells, box_level0_px, tissue, curves)
        final = self._attributes.outputs[-1]
        fast = _fast_curve(certificate, box_level0_px, tissue["tissue_um2"])
        # What was not read whole cannot be compared.
        if certificate.outside or fast is None or tissue["coverage"] < 1:
            reached = ReachedBy.OUTSIDE if certificate.outside else ReachedBy.RECOMPUTED
            return {psi: _columns(reached, certificate) for psi in curves}
        apart, was_certified = self._compared(certificate, fast, curves[final], final)
        reached = ReachedBy.CHECKED if was_certified else ReachedBy.RECOMPUTED
        return {psi: _columns(reached, certificate, apart if psi == final else None) for psi in curves}

    def _fast_columns(
        self,
        certificate: HeatmapCertificate,
        cells: NDArray[np.bool_],
        box_level0_px: Box,
        tissue: Mapping[str, float],
        curves: Mapping[Psi, Sequence[int]],
    ) -> dict[Psi, dict[str, Any]]:
        final, mpp = self._attributes.outputs[-1], self._attributes.mpp
        curve, of_final = (np.array([curves[psi]], dtype=np.uint32) for psi in (certificate.psi, final))
        (follows,) = are_certified(curve, np.array([tissue["coverage"]]), certificate, mpp=mpp)
        follows = follows and say_the_same(curve, of_final, certificate, final, mpp=mpp).all()
        if not follows or (cells & self._exact).any() or certificate.outside:
            raise LedgerError(
                f"{self._path}: the section in the box {tuple(box_level0_px)} is neither certified nor computed "
                "exactly; run the inference again for this slide"
            )
        return {psi: _columns(ReachedBy.CERTIFIED if psi == final else ReachedBy.FAST, certificate) for psi in curves}

    def _compared(
        self, certificate: HeatmapCertificate, fast: FastCurve, exact: Sequence[int], final: Psi
    ) -> tuple[int, bool]:
        """How many levels the exact curve lies from the fast one, and whether that one was certified."""
        mpp, unit = self._attributes.mpp, certificate.area_unit
        fast_curve = np.array([fast.largest_region_px], dtype=np.uint32)
        fast_um2 = areas_um2(fast_curve, certificate.psi, mpp=mpp, area_unit=unit)
        exact_um2 = areas_um2(np.array([exact], dtype=np.uint32), final, mpp=mpp, area_unit=unit)
        step = step_of(certificate.t_p)
        (apart,) = levels_apart(exact_um2[:, step], fast_um2, step)
        # Only sections that were read whole by the fast way have a curve that is kept.
        (follows,) = are_certified(fast_curve, np.ones(1), certificate, mpp=mpp)
        return int(apart), bool(follows)


def is_exact(attributes: HeatmapAttributes) -> bool:
    """Whether all of a heatmap was made in the paper's tiling, in float32, with every block everywhere."""
    is_float32 = attributes.arithmetic.partition(" ")[0] in ("float32", "")
    return attributes.tiling == "paper" and is_float32 and attributes.cascade_band is None


def _fast_curve(certificate: HeatmapCertificate, box_level0_px: Box, tissue_um2: float) -> FastCurve | None:
    """What the fast way had found of a section with this box and tissue."""
    name = (tuple(box_level0_px), tissue_um2)
    return next((each for each in certificate.fast_curves if (each.box_level0_px, each.tissue_um2) == name), None)


def _columns(
    reached: ReachedBy, certificate: HeatmapCertificate | None = None, apart: int | None = None
) -> dict[str, Any]:
    return {
        "reached_by": reached.value,
        "levels_apart": apart,
        "certificate_levels": None if certificate is None else certificate.levels,
        "certificate_confidence": None if certificate is None else certificate.confidence,
        "certificate_num_slides": None if certificate is None else certificate.num_slides,
        "certificate_t_p": None if certificate is None else certificate.t_p,
        "certificate_t_a_um2": None if certificate is None else certificate.t_a_um2,
        "certificate_area_unit": None if certificate is None else certificate.area_unit,
    }
