"""Patches of tissue, and what is made from them before faster ways are measured: the halo and the int8 models."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from bccdist.configuration import CELL_PX, PATCH_PX
from bccdist.errors import ConfigurationError
from bccdist.heatmaps.predictors import piece_of
from bccdist.heatmaps.writing import cells_of
from bccdist.networks.inference import FirstBlock
from bccdist.networks.openvino_engine import make_int8_model
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.paths import RunPaths
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SlideRecord
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask
from bccdist.speedups.record import int8_digest

_LARGEST_HALO_PX = CELL_PX
_NUM_FEATURE_SAMPLES = 16
"""Patches whose features are held at once; at width 64 each takes 24 MiB."""


def sample_patches(
    records: Sequence[SlideRecord], open_slide: Callable[[SlideRecord], Slide], num_samples: int
) -> Tensor:
    """Patches that are evenly spread over the tissue of some slides: uint8 RGB [n, 512, 512, 3].

    Raises:
        ConfigurationError: there is no tissue.
        SlideError: a slide cannot be read.
    """
    places: list[tuple[SlideRecord, Box]] = []
    for record in records:
        with open_slide(record) as slide:
            cells = cells_of(slide, tissue_mask(slide))
        places += [
            (record, Box(int(col) * CELL_PX, int(row) * CELL_PX, PATCH_PX, PATCH_PX))
            for row, col in np.argwhere(cells)
        ]
    if not places:
        raise ConfigurationError("no slide of Validation I has tissue; there is nothing to measure on")
    # The first and the last are among them, so that every slide with enough tissue is met.
    chosen = [places[index] for index in np.linspace(0, len(places) - 1, min(num_samples, len(places)), dtype=int)]
    images = []
    for record, here in groupby(chosen, key=lambda place: place[0]):
        with open_slide(record) as slide:
            images += [torch.from_numpy(slide.read(box_px)) for _, box_px in here]
    return torch.stack(images)


def halo_of(receptive_field_px: Mapping[str, Mapping[str, int]]) -> int:
    """The halo of dense patches: what holds 99.9 % of the widest output's field, a multiple of 32, at most a cell."""
    widest = max(shares["99.9"] for shares in receptive_field_px.values())
    return min(-(-widest // 32) * 32, _LARGEST_HALO_PX)


def make_int8_models(run: RunPaths, epoch: int, network: DeeplySupervisedUNet, samples_NPP3: Tensor) -> dict[str, str]:
    """Make the int8 models of all pieces of a network beside its weights, and name each by a digest.

    Args:
        run: the training run that holds the weights.
        epoch: of the weights.
        network: in evaluation mode; not changed.
        samples_NPP3: uint8 RGB [n, p, p, 3], from which the ranges of all features are taken.
    """
    patches: list[tuple[Tensor, ...]] = [(patch[None],) for patch in samples_NPP3]
    pieces: dict[str, list[tuple[Tensor, ...]]] = {"whole": patches}
    if "psi_0" in network.outputs:
        pieces |= {"first": patches, "first-with-features": patches, "later": _features(network, samples_NPP3)}
    digests = {}
    for piece, inputs in pieces.items():
        path = run.int8_model(epoch, piece)
        make_int8_model(piece_of(network, piece), inputs, path)
        digests[piece] = int8_digest(path)
    return digests


def _features(network: DeeplySupervisedUNet, samples_NPP3: Tensor) -> list[tuple[Tensor, ...]]:
    """What the later blocks get from the first one, in float32: their ranges do not depend on its int8 model."""
    first = FirstBlock(network, with_features=True)
    with torch.inference_mode():
        some = samples_NPP3[:_NUM_FEATURE_SAMPLES, None]
        return [tuple(feature.clone() for feature in first(patch)[1:]) for patch in some]
