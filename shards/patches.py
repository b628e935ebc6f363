"""The patches of one slide: pixels, mask and what the index says of them (paper, sections 2.1 and 2.3)."""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, PATCH_PX, ShardConfig
from bccdist.errors import ShardError
from bccdist.parts import Kind, Part
from bccdist.slides.annotations import KindMasks, read_annotation
from bccdist.slides.geometry import Box, patch_grid
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import Section, sections_of, tissue_mask
from shards.grid import needed_cells, section_under, tissue_shares

_MOST_CELLS_ACROSS = PATCH_PX // CELL_PX + 1
"""Rows of cells that a patch reaches into, wherever it lies."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known of a slide before its pixels are read."""

    record: SlideRecord
    kinds: KindMasks
    sections: Sequence[Section]
    tissue_fractions: Mapping[Box, float]
    """The patches to store, in the target frame, row by row, with their share of tissue."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One patch as it goes into the tar."""

    key: str
    members: Mapping[str, bytes]
    """Content by extension: jpg, json, mask.png."""
    row: Mapping[str, Any]
    """The columns of the index that are known without the tar."""


def open_slide(record: SlideRecord, config: ShardConfig) -> Slide:
    """A slide of the manifest in the target frame.

    Raises:
        SlideError: it cannot be opened, or has no usable scale.
    """
    return Slide(record.path, target_mpp=config.target_mpp, tolerance=config.mpp_tolerance, mpp=record.mpp)


def survey_slide(slide: Slide, record: SlideRecord, manifest: Manifest, config: ShardConfig) -> Survey:
    """The patches of a slide that hold tissue, its sections and its annotated areas.

    Raises:
        ShardError: the slide's part is not stored as patches, or the slide has no tissue.
        SlideError, AnnotationError: the slide or its annotation cannot be read.
    """
    if not record.part.is_annotated or record.annotation is None:
        raise ShardError(f"{record.slide_id} is in {record.part.value}; only Training and Validation I become patches")
    stride_px = config.stride_px if record.part is Part.TRAINING else config.validation_stride_px
    tissue = tissue_mask(slide)
    boxes = patch_grid(slide.width_px, slide.height_px, patch_px=PATCH_PX, stride_px=stride_px)
    shares = tissue_shares(tissue, boxes, width_px=slide.width_px, height_px=slide.height_px)
    kept = {
        box: float(share)
        for box, share in zip(boxes, shares, strict=True)
        if share > 0 and share >= config.min_tissue_fraction
    }
    if not kept:
        raise ShardError(
            f"{record.path}: none of the {len(boxes)} patches of {record.slide_id} has a share of tissue of at least "
            f"{config.min_tissue_fraction} (the largest is {shares.max():.2g}); look at the slide, and take it out of "
            f"{record.part.value} if it is empty"
        )
    sections = sections_of(slide, record.slide_id, tissue, manifest.sections_of(record.slide_id))
    kinds = read_annotation(record.annotation, slide, manifest.kinds)
    return Survey(record=record, kinds=kinds, sections=sections, tissue_fractions=kept)


def read_samples(slide: Slide, survey: Survey, *, jpeg_quality: int) -> Iterator[Sample]:
    """The patches of a surveyed slide, row by row, ready for the tar.

    Raises:
        SlideError: the scanner's data cannot be decoded.
    """
    for box, image in read_patches(slide, list(survey.tissue_fractions)):
        tumornest = _cut(survey.kinds[Kind.TUMORNEST], box)
        row = _describe(slide, survey, box)
        jpeg, png = _encode_jpeg(image, quality=jpeg_quality), _encode_png(tumornest)
        yield Sample(
            key=row["key"],
            members={"jpg": jpeg, "json": _sidecar(row), "mask.png": png},
            row={**row, **_contents("image", jpeg), **_contents("mask", png)},
        )


def read_patches(slide: Slide, boxes_px: Sequence[Box]) -> Iterator[tuple[Box, NDArray[np.uint8]]]:
    """The pixels of overlapping patches, each source pixel read once.

    Args:
        slide: an open slide.
        boxes_px: patches in the target frame, by y.

    Yields:
        The patch and its pixels: uint8 RGB [512, 512, 3], white outside the slide.
    """
    bands = slide.read_cell_rows(needed_cells(boxes_px, cell_px=CELL_PX), cell_px=CELL_PX)
    window: deque[NDArray[np.uint8]] = deque(maxlen=_MOST_CELLS_ACROSS)
    bottom_px = 0
    for y, row in groupby(boxes_px, key=lambda box: box.y):
        while bottom_px < y + PATCH_PX:
            window.append(next(bands))
            bottom_px += CELL_PX
        strip = np.concatenate(list(window))
        strip = strip[len(strip) - (bottom_px - y) :]
        for box in row:
            yield box, strip[:PATCH_PX, box.x : box.x_end]


def _describe(slide: Slide, survey: Survey, box_px: Box) -> dict[str, Any]:
    """The columns of a patch that say where it lies and what it shows."""
    record, downsample = survey.record, slide.resolution.downsample
    x_level0_px, y_level0_px = round(box_px.x * downsample), round(box_px.y * downsample)
    return {
        "key": f"{record.slide_id}_x{x_level0_px:06d}_y{y_level0_px:06d}",
        "slide_id": record.slide_id,
        "section_id": section_under(box_px.scaled(downsample), survey.sections),
        "part": record.part.value,
        "x_level0_px": x_level0_px,
        "y_level0_px": y_level0_px,
        "mpp": slide.resolution.mpp,
        **{f"{kind.lower()}_fraction": _share(survey.kinds[kind], box_px) for kind in Kind},
        "tissue_fraction": survey.tissue_fractions[box_px],
    }


def _share(mask: NDArray[np.bool_], box_px: Box) -> float:
    return np.count_nonzero(mask[box_px.slices()]) / box_px.area


def _cut(mask: NDArray[np.bool_], box_px: Box) -> NDArray[np.bool_]:
    """The mask under a patch; outside the slide it is False."""
    inside = mask[box_px.slices()]
    patch = np.zeros((box_px.height, box_px.width), dtype=bool)
    patch[: inside.shape[0], : inside.shape[1]] = inside
    return patch


def _sidecar(row: Mapping[str, Any]) -> bytes:
    """The JSON member of a patch."""
    content = {
        "slide_id": row["slide_id"],
        "section_id": row["section_id"],
        "part": row["part"],
        "origin_level0_px": [row["x_level0_px"], row["y_level0_px"]],
        "mpp": row["mpp"],
        "fractions": {name: row[f"{name}_fraction"] for name in ("tumornest", "stroma", "normal", "tissue")},
    }
    return json.dumps(content, sort_keys=True, allow_nan=False).encode()


def _encode_jpeg(image: NDArray[np.uint8], *, quality: int) -> bytes:
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return encoded.tobytes()


def _encode_png(mask: NDArray[np.bool_]) -> bytes:
    """One bit a pixel."""
    _, encoded = cv2.imencode(".png", mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    return encoded.tobytes()


def _contents(name: str, content: bytes) -> dict[str, Any]:
    return {f"{name}_bytes": len(content), f"{name}_sha256": hashlib.sha256(content).hexdigest()}
