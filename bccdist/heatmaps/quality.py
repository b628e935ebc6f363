"""What a heatmap keeps of its slide's quality: measures by cell, what lies on the tissue, and the network's features.

    quality/cells          float32 [4, rows, cols]: `CELL_MEASURES`, NaN where not measured
    quality/artefacts      uint8 [h, w] at `TISSUE_MPP`: 1 ink, 2 fold, 3 air
    quality/feature_cells  int32 [n, 2]: row and col of the cells that were sampled
    quality/features       float32 [n, c]: of each the deepest feature map of the encoder, averaged

All is made from the pixels that inference reads, while it reads them. Features are those of the network in float32,
eager, whichever way makes the heatmap, so that they may be compared.
"""

from typing import Any, NamedTuple, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from bccdist.slides.quality_measures import SlideQuality

_GROUP = "quality"


class HeatmapQuality(NamedTuple):
    """What is kept with one heatmap."""

    slide: SlideQuality
    feature_cells: NDArray[np.int32]
    """Row and col of the cells that were sampled: [n, 2]."""
    features: NDArray[np.float32]
    """Of each the mean of the network's deepest features: [n, c]."""


def write_quality(group: zarr.Group, quality: HeatmapQuality) -> None:
    """Put it into a heatmap's group."""
    inside = group.create_group(_GROUP)
    arrays: dict[str, NDArray[Any]] = {
        "cells": quality.slide.cells,
        "artefacts": quality.slide.artefacts,
        "feature_cells": quality.feature_cells,
        "features": quality.features,
    }
    for name, values in arrays.items():
        if values.size:
            inside.create_array(name, data=np.ascontiguousarray(values), chunks=values.shape)


def read_quality(group: zarr.Group) -> HeatmapQuality:
    """What a heatmap's group holds of it.

    Raises:
        KeyError: nothing.
    """
    inside = cast("zarr.Group", group[_GROUP])

    def read(name: str, *, if_none: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(cast("zarr.Array[Any]", inside[name])[...]) if name in inside else if_none

    return HeatmapQuality(
        SlideQuality(
            np.asarray(cast("zarr.Array[Any]", inside["cells"])[...], dtype=np.float32),
            np.asarray(cast("zarr.Array[Any]", inside["artefacts"])[...], dtype=np.uint8),
        ),
        read("feature_cells", if_none=np.zeros((0, 2), dtype=np.int32)),
        read("features", if_none=np.zeros((0, 0), dtype=np.float32)),
    )
