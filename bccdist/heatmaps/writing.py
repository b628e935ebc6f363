"""One pass over a slide: a heatmap file for each network (paper, section 2.4)."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, Blending, Psi
from bccdist.heatmaps.layout import Layout
from bccdist.heatmaps.predict import PredictionTally, Predictor, predict_rows
from bccdist.heatmaps.store import HeatmapAttributes, writing_heatmap
from bccdist.slides.geometry import cell_shape, tissue_cells
from bccdist.slides.manifest import PHANTOM_SCANNER, SlideRecord
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP


def cells_of(slide: Slide, tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The slide's cells that hold tissue: bool [rows, cols] from its mask, bool [h, w] at `TISSUE_MPP`."""
    shape = cell_shape(slide.width_px, slide.height_px, cell_px=CELL_PX)
    return tissue_cells(tissue, shape=shape, pixels_per_cell=CELL_PX * slide.resolution.mpp / TISSUE_MPP)


def attributes_of(
    slide: Slide, record: SlideRecord, *, setting: str, epoch: int, outputs: tuple[Psi, ...], layout: Layout
) -> HeatmapAttributes:
    """What a heatmap's attributes say of slide, network and layout; the digests, which name it, are empty."""
    return HeatmapAttributes(
        slide_id=record.slide_id,
        setting=setting,
        epoch=epoch,
        outputs=outputs,
        mpp=slide.resolution.mpp,
        downsample=slide.resolution.downsample,
        size_level0_px=slide.level0_size,
        size_target_px=(slide.width_px, slide.height_px),
        phantom=record.scanner == PHANTOM_SCANNER,
        full_coverage=layout.full_coverage,
        patch_px=layout.patch_px,
        weights_digest="",
        config_digest="",
        slide_fingerprint="",
    )


def write_heatmaps(
    slide: Slide,
    cells: NDArray[np.bool_],
    predictors: Sequence[Predictor],
    paths: Sequence[Path],
    attributes: Sequence[HeatmapAttributes],
    *,
    layout: Layout,
    blending: Blending,
    batch: int,
    device: torch.device,
    tally: PredictionTally,
) -> None:
    """Write a heatmap for each network; the slide is read once for all.

    Args:
        slide: open.
        cells: those that hold tissue, bool [rows, cols].
        predictors: the networks.
        paths: where each one's heatmap goes.
        attributes: of each one's heatmap, but for what the pass counts.
        layout: where patches lie.
        blending: how overlapping ones are averaged.
        batch: patches of 512 px per forward pass.
        device: where the networks are.
        tally: counts on.

    Raises:
        HeatmapError: a heatmap cannot be written.
    """
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                writing_heatmap(
                    path, outputs=about.outputs, size_target_px=about.size_target_px, mpp=slide.resolution.mpp
                )
            )
            for path, about in zip(paths, attributes, strict=True)
        ]
        rows = predict_rows(
            slide, cells, predictors, layout=layout, blending=blending, batch=batch, device=device, tally=tally
        )
        stack.enter_context(closing(rows))
        coverage = []
        for row in rows:
            coverage.append(row.coverage)
            for writer, maps in zip(writers, row.maps, strict=True):
                writer.append(maps)
        for writer, about, network_s in zip(writers, attributes, tally.network_s, strict=True):
            writer.finish(_counted(about, tally, network_s), coverage=np.concatenate(coverage), tissue_cells=cells)


def _counted(attributes: HeatmapAttributes, tally: PredictionTally, network_s: float) -> HeatmapAttributes:
    return replace(
        attributes,
        num_patches=tally.num_patches,
        num_unread_cells=tally.reading.num_unread_cells,
        unread_reason=tally.reading.unread_reason,
        read_s=tally.reading.read_s,
        network_s=network_s,
    )
