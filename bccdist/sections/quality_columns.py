"""The ledger's columns of quality: what was measured of a slide, by section.

Null is "not measured", of heatmaps of before and of sections too small, and never "good".
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX
from bccdist.heatmaps.store import Heatmap
from bccdist.sections.sampling import indices_of
from bccdist.slides.quality_measures import CELL_MEASURES, MEASURES, SHARES
from bccdist.slides.section_map import SectionMap
from bccdist.slides.tissue import TISSUE_MPP

FEATURES = "features"


class QualityOfSections:
    """What was measured of a heatmap's slide, by section."""

    def __init__(self, heatmap: Heatmap, shares: SectionMap) -> None:
        """Read it.

        Args:
            heatmap: the slide's.
            shares: whose the slide's tissue is.

        Raises:
            HeatmapError: what was measured is damaged.
        """
        self._quality = heatmap.quality
        self._shares = shares
        self._cells_per_px = TISSUE_MPP / (CELL_PX * heatmap.attributes.mpp)

    def columns(self, number: int) -> dict[str, Any]:
        """`MEASURES` and the features of the section with this number, from 1; None where one was not measured."""
        if self._quality is None:
            return dict.fromkeys((*MEASURES, FEATURES))
        measured, own = self._quality.slide, self._shares.number == number
        tissue_px = self._tissue_px(own & self._shares.tissue)
        found: dict[str, Any] = {
            name: _weighted_median(values, tissue_px)
            for name, values in zip(CELL_MEASURES, measured.cells, strict=True)
        }
        # Ink hides tissue from the mask: what lies on it counts as tissue, too.
        area_px = int((own & (self._shares.tissue | (measured.artefacts > 0))).sum())
        for name, artefact in SHARES.items():
            found[name] = float((own & (measured.artefacts == artefact)).sum() / area_px) if area_px else None
        return {**found, FEATURES: self._features(tissue_px)}

    def _tissue_px(self, tissue: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many pixels of some tissue each cell holds: [rows, cols]."""
        shape = self._quality.slide.cells.shape[1:] if self._quality else (0, 0)
        rows, cols = np.nonzero(tissue)
        cell_rows = indices_of(rows + 0.5, shape[0], scale=self._cells_per_px)
        cell_cols = indices_of(cols + 0.5, shape[1], scale=self._cells_per_px)
        return np.bincount(cell_rows * shape[1] + cell_cols, minlength=shape[0] * shape[1]).reshape(shape)

    def _features(self, tissue_px: NDArray[np.int64]) -> list[float] | None:
        """The mean features of the sampled cells that hold tissue of the section, by how much they hold."""
        if self._quality is None or not len(self._quality.features):
            return None
        weights = tissue_px[tuple(self._quality.feature_cells.T)]
        if not weights.any():
            return None
        return [float(value) for value in np.average(self._quality.features, axis=0, weights=weights)]


def _weighted_median(values: NDArray[np.float32], weights: NDArray[np.int64]) -> float | None:
    """The middle of some values where each counts so many times; NaN counts for nothing."""
    counted = np.isfinite(values) & (weights > 0)
    if not counted.any():
        return None
    order = np.argsort(values[counted], kind="stable")
    ranks = weights[counted][order].cumsum()
    return float(values[counted][order][np.searchsorted(ranks, ranks[-1] / 2)])
