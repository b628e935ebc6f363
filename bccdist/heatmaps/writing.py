"""One pass over a slide: a heatmap file for each network (paper, section 2.4)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bccdist import __version__
from bccdist.configuration import CELL_PX
from bccdist.errors import NotFiniteError
from bccdist.heatmaps.layout import Layout
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predict import PredictionTally, Predictor, SlidePass, predict_rows
from bccdist.heatmaps.quality import HeatmapQuality
from bccdist.heatmaps.quality_pass import QualityPass
from bccdist.heatmaps.store import HeatmapAttributes, HeatmapWriter, writing_heatmap
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.slides.geometry import cell_shape, tissue_cells
from bccdist.slides.manifest import PHANTOM_SCANNER, SlideRecord
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP


@dataclass(frozen=True, kw_only=True)
class HeatmapOrder:
    """A heatmap to be: which network makes it, in which way, and where it goes.

    The digests name what it is made from, so that it is found again; one that nobody looks for needs none.
    """

    path: Path
    setting: str
    epoch: int
    predictor: Predictor
    method: Method
    weights_digest: str = ""
    config_digest: str = ""
    slide_fingerprint: str = ""


def cells_of(slide: Slide, tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The slide's cells that hold tissue: bool [rows, cols] from its mask, bool [h, w] at `TISSUE_MPP`."""
    shape = cell_shape(slide.width_px, slide.height_px, cell_px=CELL_PX)
    return tissue_cells(tissue, shape=shape, pixels_per_cell=CELL_PX * slide.resolution.mpp / TISSUE_MPP)


def write_heatmaps(
    slide: Slide,
    record: SlideRecord,
    tissue: NDArray[np.bool_],
    orders: Sequence[HeatmapOrder],
    *,
    batch: int,
    device: torch.device,
    told: Callable[[float], None] | None = None,
    with_quality: bool = True,
) -> PredictionTally:
    """Write a heatmap for each network; the slide is read once for all.

    Args:
        slide: open.
        record: the slide's.
        tissue: its mask at `TISSUE_MPP`, bool [h, w].
        orders: at least one; all methods have the same patches and blending.
        batch: patches of 512 px per forward pass.
        device: where the networks are.
        told: called now and then with the share of the tissue that is done, 0 to 1.
        with_quality: whether the slide's quality is measured on the way, and kept with each heatmap.

    Returns:
        What it took.

    Raises:
        HeatmapError: a heatmap cannot be written.
    """
    method = orders[0].method
    cells = cells_of(slide, tissue)
    layout = method.layout(cells)
    how = SlidePass(
        predictors=[order.predictor for order in orders],
        layout=layout,
        blending=method.blending,
        batch=batch,
        device=device,
    )
    tally = PredictionTally.of(how)
    quality = None
    if with_quality:
        quality = QualityPass(slide, tissue, cells, [_network_of(order) for order in orders], device)
    with ExitStack() as stack:
        writers = [stack.enter_context(_writer(slide, order)) for order in orders]
        # If a writer fails, no thread may still read when the caller closes the slide.
        rows = stack.enter_context(closing(predict_rows(slide, cells, how, tally, tissue, quality=quality)))
        coverage = []
        for row in rows:
            coverage.append(row.coverage)
            for writer, maps in zip(writers, row.maps, strict=True):
                writer.append(maps)
            if told is not None:
                told(_share_above(sum(map(len, coverage)), cells))
        found = _found(slide, quality, len(orders))
        # Only now is it known what the pass took, which each heatmap says of itself.
        for writer, order, network_s, each in zip(writers, orders, tally.network_s, found, strict=True):
            attributes = _attributes(slide, record, order, layout, tally, network_s)
            writer.finish(attributes, coverage=np.concatenate(coverage), tissue_cells=cells, quality=each)
    return tally


def _network_of(order: HeatmapOrder) -> DeeplySupervisedUNet | None:
    network = getattr(order.predictor, "network", None)
    return network if isinstance(network, DeeplySupervisedUNet) else None


def _found(slide: Slide, quality: QualityPass | None, num_orders: int) -> Sequence[HeatmapQuality | None]:
    """What was found of the slide's quality, for each heatmap; the last features are made here."""
    if quality is None:
        return [None] * num_orders
    try:
        quality.catch_up(is_end=True)
    except NotFiniteError as error:
        raise NotFiniteError(f"{slide.path}: {error}") from error
    return quality.result()


def _share_above(row: int, cells: NDArray[np.bool_]) -> float:
    """The share of the cells of tissue, bool [rows, cols], that lie above a row."""
    return float(cells[:row].sum() / max(1, cells.sum()))


def _writer(slide: Slide, order: HeatmapOrder) -> AbstractContextManager[HeatmapWriter]:
    size_px = (slide.width_px, slide.height_px)
    return writing_heatmap(
        order.path, outputs=order.predictor.outputs, size_target_px=size_px, mpp=slide.resolution.mpp
    )


def _attributes(
    slide: Slide, record: SlideRecord, order: HeatmapOrder, layout: Layout, tally: PredictionTally, network_s: float
) -> HeatmapAttributes:
    """What a heatmap says of its slide, its network, its method and the pass that made it."""
    method = order.method
    return HeatmapAttributes(
        slide_id=record.slide_id,
        setting=order.setting,
        epoch=order.epoch,
        outputs=order.predictor.outputs,
        mpp=slide.resolution.mpp,
        downsample=slide.resolution.downsample,
        size_level0_px=slide.level0_size,
        size_target_px=(slide.width_px, slide.height_px),
        weights_digest=order.weights_digest,
        config_digest=order.config_digest,
        slide_fingerprint=order.slide_fingerprint,
        phantom=record.scanner == PHANTOM_SCANNER,
        num_patches=tally.num_patches,
        full_coverage=layout.full_coverage,
        tiling=method.tiling,
        patch_px=layout.patch_px,
        halo_px=method.halo_px,
        blending=method.blending,
        arithmetic=str(method.arithmetic),
        cascade_band=method.band,
        reader=slide.reader,
        why_openslide=slide.why_not_by_tile,
        num_unread_cells=tally.reading.num_unread_cells,
        unread_reason=tally.reading.unread_reason,
        read_s=tally.reading.read_s,
        network_s=network_s,
        software=f"bccdist {__version__}",
    )
