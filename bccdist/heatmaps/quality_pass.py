"""A slide's quality is measured while it goes through networks, from the pixels that they read."""

import copy
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX
from bccdist.errors import NotFiniteError
from bccdist.heatmaps.quality import HeatmapQuality
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.slides.cell_rows import CellRow
from bccdist.slides.pieces import grouped
from bccdist.slides.quality import QualityMeter
from bccdist.slides.slide import Slide

FEATURE_SHARE = 0.03
"""Of the cells of each piece of tissue, whose features are kept: each costs a tenth of a patch, ..."""
FEWEST_CELLS = 2
"""... but at least so many of each piece."""
LEAST_TISSUE = 0.5
"""Share of a sampled cell, where a piece has such cells."""
_BATCH = 4


class QualityPass:
    """Looks at a slide beside the networks: the thread that reads measures, the one that computes makes features."""

    def __init__(
        self,
        slide: Slide,
        tissue: NDArray[np.bool_],
        cells: NDArray[np.bool_],
        networks: Sequence[DeeplySupervisedUNet | None],
        device: torch.device,
    ) -> None:
        """Prepare for a slide.

        Args:
            slide: open.
            tissue: its mask at `TISSUE_MPP`: bool [h, w].
            cells: its cells that hold tissue: bool [rows, cols].
            networks: of which features are made; None makes none.
            device: where the networks run.
        """
        self._meter = QualityMeter(slide, tissue, cells.shape)
        self._sampled = sampled_cells(tissue, cells)
        self._encoders = [None if network is None else _Encoder(network, device) for network in networks]
        # Filled by the thread that reads, emptied by the one that computes.
        self._waiting: deque[tuple[int, int, NDArray[np.uint8]]] = deque()
        self._places: list[tuple[int, int]] = []
        self._features: list[list[NDArray[np.float32]]] = [[] for _ in networks]

    def look_at(self, row: int, found: CellRow) -> None:
        """Measure a row of cells, and keep the pixels of the sampled ones; called by the thread that reads."""
        self._meter.look_at(row, found)
        for col in np.flatnonzero(self._sampled[row] & ~found.unread).tolist():
            self._waiting.append((row, col, found.pixels[:, col * CELL_PX : (col + 1) * CELL_PX].copy()))

    def catch_up(self, *, is_end: bool = False) -> None:
        """Make the features of the cells that are waiting, in full batches; called by the thread that computes.

        Args:
            is_end: whether no cell follows, so that the last batch need not be full.

        Raises:
            NotFiniteError: a feature is infinite or no number.
        """
        # Batches are the same in every run, however far ahead the other thread is: so are the features' last bits.
        while len(self._waiting) >= _BATCH or (is_end and self._waiting):
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._places += [(row, col) for row, col, _ in batch]
            pixels = np.stack([pixels for _, _, pixels in batch])
            for encoder, features in zip(self._encoders, self._features, strict=True):
                if encoder is not None:
                    features.append(encoder(pixels))

    def result(self) -> list[HeatmapQuality]:
        """What was found, for each network."""
        measured = self._meter.result()
        places = np.array(self._places, dtype=np.int32).reshape(-1, 2)
        return [
            HeatmapQuality(measured, places, np.concatenate(features))
            if features
            else HeatmapQuality(measured, places[:0], np.zeros((0, 0), dtype=np.float32))
            for features in self._features
        ]


class _Encoder:
    """A network's encoder in float32, whose deepest features are averaged over a cell."""

    def __init__(self, network: DeeplySupervisedUNet, device: torch.device) -> None:
        self._encoder, self._memory_format, self._device = network.encoder, network.memory_format, device
        if next(network.parameters()).device != device:
            self._encoder = copy.deepcopy(network.encoder).to(device)

    @torch.inference_mode()
    def __call__(self, pixels_NPP3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The features [n, c] of cells, uint8 RGB."""
        x_n3hw = to_network_input(torch.from_numpy(pixels_NPP3).to(self._device))
        deepest = self._encoder(x_n3hw.contiguous(memory_format=self._memory_format))[-1]
        found = deepest.mean(dim=(-2, -1)).cpu().numpy().astype(np.float32)
        if not np.isfinite(found).all():
            raise NotFiniteError("the encoder's deepest features are infinite or no numbers; take another epoch")
        return np.asarray(found)


def sampled_cells(tissue: NDArray[np.bool_], cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells whose features are kept: bool [rows, cols], evenly spread over each piece of tissue.

    Pieces stand for sections, whose boxes may come, or change, after the heatmap.

    Args:
        tissue: the slide's mask: bool [h, w].
        cells: its cells that hold tissue: bool [rows, cols].
    """
    sampled = np.zeros_like(cells)
    pieces = grouped(tissue)
    rows, cols = np.nonzero(tissue)
    scale = np.array(cells.shape) / np.array(tissue.shape)
    places = (((np.stack([rows, cols], axis=1) + 0.5) * scale).astype(np.int64) * [cells.shape[1], 1]).sum(axis=1)
    names, num_px = np.unique(pieces.number[rows, cols].astype(np.int64) * cells.size + places, return_counts=True)
    whole_px = 1 / np.prod(scale)
    for piece in np.unique(names // cells.size).tolist():
        mine = names // cells.size == piece
        sampled.flat[_spread(names[mine] % cells.size, num_px[mine] / whole_px)] = True
    return np.asarray(sampled & cells)


def _spread(places: NDArray[np.int64], tissue_share: NDArray[np.float64]) -> NDArray[np.int64]:
    """Some of a piece's cells, evenly spread over those with enough tissue in reading order."""
    num = max(FEWEST_CELLS, round(FEATURE_SHARE * len(places)))
    full = places[tissue_share >= LEAST_TISSUE]
    if len(full) < num:
        # A stable order, so that equal shares are taken in reading order.
        return places[np.argsort(-tissue_share, kind="stable")[:num]]
    return np.asarray(full[((np.arange(num) + 0.5) * len(full) / num).astype(np.int64)])
