"""Patches of tissue, and what is made from them before faster ways are measured: the halo and the int8 models."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bccdist.configuration import CELL_PX, PATCH_PX
from bccdist.errors import ConfigurationError
from bccdist.files import digest_of
from bccdist.heatmaps.predictors import piece_of
from bccdist.heatmaps.writing import cells_of
from bccdist.networks.inference import FirstBlock
from bccdist.networks.openvino_engine import INT8_RECIPE, make_int8_model
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.paths import RunPaths
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SectionRecord, SlideRecord
from bccdist.slides.sections import have_boxes, sections_of
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask
from bccdist.speedups.record import int8_digest, read_speedups

_LARGEST_HALO_PX = CELL_PX
_NUM_FEATURE_SAMPLES = 16
"""Patches whose features are held at once; at width 64 each takes 24 MiB."""


class _Place(NamedTuple):
    """A patch that may become a sample."""

    record: SlideRecord
    label: str
    """Of its section; empty where it has none."""
    brightness: float
    """Mean of the slide's overview over it, 0 to 255: nuclei are dark, stroma and fat are pale."""
    box_px: Box


def sample_patches(
    records: Sequence[SlideRecord],
    open_slide: Callable[[SlideRecord], Slide],
    num_samples: int,
    *,
    sections: Callable[[str], list[SectionRecord]] = lambda _: [],
) -> Tensor:
    """Patches of tissue that are spread over labels, slides and kinds of tissue: uint8 RGB [n, 512, 512, 3].

    Tumor sections, Normal sections and those without a label give equal numbers, each slide with such sections gives
    an equal number of these, and on a slide they are evenly spaced in the order from the darkest patch to the palest.
    What a small group lacks the others give. The same slides give the same patches.

    Args:
        records: the slides; where there are more than samples, which of them give one is drawn with a fixed seed.
        open_slide: opens one of them.
        num_samples: n, if there are as many.
        sections: of a slide_id, with the labels that the manifest has.

    Raises:
        ConfigurationError: there is no tissue.
        SlideError: a slide cannot be read.
    """
    places = [place for record in records for place in _places(record, open_slide, sections(record.slide_id))]
    if not places:
        raise ConfigurationError("no slide of Validation I has tissue; there is nothing to measure on")
    order = {record.slide_id: number for number, record in enumerate(records)}
    chosen = sorted(_spread(places, num_samples), key=lambda place: (order[place.record.slide_id], place.box_px))
    images = []
    for record, here in groupby(chosen, key=lambda place: place.record):
        with open_slide(record) as slide:
            images += [torch.from_numpy(slide.read(place.box_px)) for place in here]
    return torch.stack(images)


def _places(
    record: SlideRecord, open_slide: Callable[[SlideRecord], Slide], sections: list[SectionRecord]
) -> list[_Place]:
    """All patches of a slide that begin at a cell with tissue."""
    with open_slide(record) as slide:
        tissue = tissue_mask(slide, for_sections=bool(sections) and not have_boxes(sections))
        cells, overview = cells_of(slide, tissue), slide.thumbnail(TISSUE_MPP)
        found = sections_of(slide, record.slide_id, tissue, sections) if sections else []
        frame, scale = slide.resolution, slide.resolution.mpp / TISSUE_MPP
    places = []
    for row, col in np.argwhere(cells):
        box_px = Box(int(col) * CELL_PX, int(row) * CELL_PX, PATCH_PX, PATCH_PX)
        cell_level0_px = Box(box_px.x, box_px.y, CELL_PX, CELL_PX).scaled(frame.mpp / frame.mpp_level0)
        own = max(found, key=lambda each: each.box_level0_px.intersection(cell_level0_px).area, default=None)
        seen = box_px.scaled(scale)
        pixels = overview[seen.y : seen.y_end, seen.x : seen.x_end]
        brightness = float(pixels.mean()) if pixels.size else 255.0
        places.append(_Place(record, str(own.label or "") if own else "", brightness, box_px))
    return places


def _spread(places: Sequence[_Place], num: int) -> list[_Place]:
    """As many of the places, by label, then by slide, then from dark to pale."""
    chosen = []
    by_label = _grouped(places, key=lambda place: place.label)
    for of_label, share in zip(by_label, _dealt(num, by_label), strict=True):
        by_slide = _grouped(of_label, key=lambda place: place.record.slide_id)
        np.random.default_rng(0).shuffle(by_slide)
        for of_slide, few in zip(by_slide, _dealt(share, by_slide), strict=True):
            in_order = sorted(of_slide, key=lambda place: (place.brightness, place.box_px))
            chosen += [in_order[(2 * number + 1) * len(in_order) // (2 * few)] for number in range(few)]
    return chosen


def _grouped(places: Sequence[_Place], *, key: Callable[[_Place], str]) -> list[list[_Place]]:
    return [list(group) for _, group in groupby(sorted(places, key=key), key=key)]


def _dealt(num: int, groups: Sequence[Sequence[_Place]]) -> list[int]:
    """How many each group gives: one after the other gives one, as long as it has some, until there are `num`."""
    shares = [0] * len(groups)
    for number in cycle(range(len(groups))):
        if sum(shares) == min(num, sum(map(len, groups))):
            return shares
        shares[number] += shares[number] < len(groups[number])
    return shares


def halo_of(receptive_field_px: Mapping[str, Mapping[str, int]]) -> int:
    """The halo of dense patches: what holds 99.9 % of the widest output's field, a multiple of 32, at most a cell."""
    widest = max(shares["99.9"] for shares in receptive_field_px.values())
    return min(-(-widest // 32) * 32, _LARGEST_HALO_PX)


def int8_origin(samples_NPP3: Tensor) -> str:
    """Names what int8 models are made from beside the network: the recipe and the patches."""
    return digest_of([INT8_RECIPE, hashlib.sha256(samples_NPP3.cpu().numpy().tobytes()).hexdigest()])


def kept_int8_models(run: RunPaths, epoch: int, *, weights_digest: str, origin: str) -> dict[str, str]:
    """Digests of the int8 models that a record of these weights vouches for; none where they have to be made.

    A machine that measures after another one takes the same models: their bytes follow from roundings of the machine
    that made them, and both would be named otherwise, with all heatmaps that come from them.
    """
    for path in run.all_speedups(epoch):
        try:
            record = read_speedups(path, weights_digest=weights_digest)
            there = {piece: int8_digest(run.int8_model(epoch, piece)) for piece in record.int8_sha256}
        except ConfigurationError:
            continue
        if there and there == record.int8_sha256 and record.int8_origin == origin:
            return there
    return {}


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
