"""The patches of one slide: pixels, mask and what the index says of them (paper, sections 2.1 and 2.3)."""

import hashlib
import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, PATCH_PX, ShardConfig
from bccdist.errors import AnnotationError, ShardError, SlideError
from bccdist.parts import Kind, Label, Part
from bccdist.slides.absent import SeenTissue, unread_cells
from bccdist.slides.ahead import one_ahead
from bccdist.slides.annotations import Annotation, KindMasks, read_annotations
from bccdist.slides.annotations.contradictions import label_doubt
from bccdist.slides.geometry import Box, patch_grid
from bccdist.slides.manifest import Manifest, SlideRecord
from bccdist.slides.section_map import SectionMap, share_out
from bccdist.slides.sections import Section, have_boxes, sections_of
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask
from shards.coding import (
    Intervals,
    encode_cell,
    encode_empty_mask,
    encode_image,
    encode_mask,
    join_cells,
    member_extensions,
)
from shards.grid import are_made_of_cells, needed_cells, section_under, tissue_shares

_MOST_BANDS = PATCH_PX // CELL_PX + 1
"""Rows of cells that a patch reaches into, wherever it lies."""
_PATCHES_A_TASK = 8
_MOST_PENDING_TASKS = 8
"""Tasks that wait for a thread, or for their turn in the tar."""
_FRACTIONS = ("tumornest", "stroma", "normal", "tissue")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known of a slide before its pixels are read."""

    record: SlideRecord
    annotation: Annotation
    sections: Sequence[Section]
    section_map: SectionMap
    """Whose the tissue is, by the order of `sections`."""
    tissue_fractions: Mapping[Box, float]
    """The patches to store, in the target frame, row by row, with their share of tissue."""
    log_of_labels: str
    """What a line of the log ends with where the annotation does not fit the labels of the sections; else empty."""


@dataclass(frozen=True, kw_only=True)
class CodedPatch:
    """One patch as it goes into the tar: a sample, in the words of WebDataset."""

    key: str
    members: Mapping[str, bytes]
    """Content by extension: jpg or png, json, mask.png."""
    row: Mapping[str, Any]
    """The columns of the index that are known without the tar."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """A row of cells of a slide: its pixels and its annotated areas."""

    top_px: int
    pixels: NDArray[np.uint8]
    """RGB [256, width, 3], white where not needed."""
    masks: KindMasks
    """[256, width] each; of those kinds alone that are annotated here."""
    num_marked: Mapping[Kind, NDArray[np.int64]]
    """How many pixels of each cell are of these kinds: [cols]."""
    cells: Mapping[int, Future[Intervals]] = field(default_factory=dict)
    """The JPEG of each needed cell, by its column, where patches are joined from cells."""


def open_slide(record: SlideRecord, config: ShardConfig, pool: Executor | None = None) -> Slide:
    """A slide of the manifest in the target frame, decoded by the threads of `pool`.

    Raises:
        SlideError: it cannot be opened, or has no usable scale.
    """
    return Slide(record.path, target_mpp=config.target_mpp, tolerance=config.mpp_tolerance, mpp=record.mpp, pool=pool)


def survey_slide(slide: Slide, record: SlideRecord, manifest: Manifest, config: ShardConfig) -> Survey:
    """The patches of a slide that hold tissue, its sections and its annotated areas.

    Raises:
        ShardError: the slide's part is not stored as patches, or the slide has no tissue.
        SlideError: the slide cannot be read.
        AnnotationError: its annotation cannot be read, does not lie on the slide's tissue, or has no Tumornest where
            sections are labelled Tumor.
    """
    # Patches of other parts are never trained on: their slides are read whole, at inference.
    if not record.part.is_annotated or not record.annotations:
        raise ShardError(f"{record.slide_id} is in {record.part.value}; only Training and Validation I become patches")
    # Patches of Training overlap by default, to have more of them; those of Validation do not, and count pixels once.
    stride_px = config.stride_px if record.part is Part.TRAINING else config.validation_stride_px
    records = manifest.sections_of(record.slide_id)
    tissue = tissue_mask(slide, for_sections=not have_boxes(records))
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
    sections = sections_of(slide, record.slide_id, tissue, records)
    annotation = read_annotations(record.annotations, slide, manifest.kinds, tissue=tissue)
    labels = [section.label for section in records]
    doubt = label_doubt(
        has_tumor=annotation.areas_um2[Kind.TUMORNEST] > 0,
        num_tumor=labels.count(Label.TUMOR),
        all_normal=set(labels) == {Label.NORMAL},
    )
    if doubt and doubt.is_error:
        raise AnnotationError(f"{record.annotations[0]}: {doubt.text}")
    boxes_level0_px = [section.box_level0_px for section in sections]
    return Survey(
        log_of_labels=f", LABELS DO NOT FIT: {doubt.text}" if doubt else "",
        record=record,
        annotation=annotation,
        sections=sections,
        section_map=share_out(tissue, boxes_level0_px, mpp_level0=slide.resolution.mpp_level0),
        tissue_fractions=kept,
    )


def code_patches(
    slide: Slide, survey: Survey, config: ShardConfig, pool: Executor
) -> Generator[CodedPatch, None, None]:
    """The patches of a surveyed slide, row by row, ready for the tar; each source pixel is read once.

    The threads of `pool` decode a row of cells while they encode the patches of the row above. Close it where it may
    be left early, before the slide.

    Raises:
        SlideError: the scanner's data cannot be decoded.
    """
    boxes_px = list(survey.tissue_fractions)
    needed = needed_cells(boxes_px, cell_px=CELL_PX)
    # Where patches overlap, a cell is coded once and joined into all patches that it is part of.
    by_cell = config.image_coding == "jpeg" and are_made_of_cells(boxes_px, cell_px=CELL_PX)
    pending: deque[Future[list[CodedPatch]]] = deque()
    # Closed here, so that no thread still reads when the slide is closed after an error.
    with closing(one_ahead(read_bands(slide, survey.annotation, needed, survey.section_map.tissue))) as plain:
        bands = _with_cells(plain, needed, config, pool) if by_cell else plain
        for window, row_px in patch_rows(bands, boxes_px):
            for start in range(0, len(row_px), _PATCHES_A_TASK):
                task_px = row_px[start : start + _PATCHES_A_TASK]
                rows = [_describe(slide, survey, box_px) for box_px in task_px]
                pending.append(pool.submit(_code_some, window, task_px, rows, config))
                # In the order in which they were begun, so that threads do not show in the tar.
                if len(pending) > _MOST_PENDING_TASKS:
                    yield from pending.popleft().result()
    for samples in pending:
        yield from samples.result()


def read_bands(
    slide: Slide, annotation: Annotation, needed: NDArray[np.bool_], tissue: NDArray[np.bool_]
) -> Generator[Band, None, None]:
    """A slide from top to bottom, a row of cells at a time.

    Args:
        slide: open.
        annotation: its annotated areas.
        needed: bool [rows, cols]: the cells to read.
        tissue: the slide's mask at `TISSUE_MPP`, bool [h, w].

    Raises:
        SlideError: the scanner's data cannot be decoded, or the file does not hold all tissue.
    """
    seen, mpp = SeenTissue.of(slide, tissue), slide.resolution.mpp
    for row, band in enumerate(slide.read_cell_rows(needed, cell_px=CELL_PX)):
        band_px = Box(0, row * CELL_PX, band.pixels.shape[1], CELL_PX)
        lacking = unread_cells(band, seen, needed[row], top_px=band_px.y, cell_px=CELL_PX, mpp=mpp)
        _refuse_lacking(slide, lacking, top_px=band_px.y)
        masks = annotation.masks(band_px)
        num_marked = {kind: _num_in_cells(mask) for kind, mask in masks.items()}
        found = [kind for kind, counts in num_marked.items() if counts.any()]
        yield Band(
            top_px=band_px.y,
            pixels=band.pixels,
            masks={kind: masks[kind] for kind in found},
            num_marked={kind: num_marked[kind] for kind in found},
        )


def _num_in_cells(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many pixels of each cell of a row of them, bool [256, cols * 256], are marked: [cols]."""
    by_column = np.asarray(cv2.reduce(mask.view(np.uint8), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S))
    return np.asarray(by_column.reshape(-1, CELL_PX).sum(axis=1, dtype=np.int64))


def _refuse_lacking(slide: Slide, lacking: NDArray[np.bool_], *, top_px: int) -> None:
    """Refuse a row of cells, bool [cols], that lacks tissue: as white glass it would be learned from."""
    if lacking.any():
        col, factor = int(np.flatnonzero(lacking)[0]), slide.resolution.downsample
        corner = f"({round(col * CELL_PX * factor)}, {round(top_px * factor)})"
        raise SlideError(
            f"{slide.path}: the level that is read does not show the tissue of its overview near level-0 px {corner}; "
            "export or scan it again, or take it out"
        )


def _with_cells(
    bands: Iterable[Band], needed: NDArray[np.bool_], config: ShardConfig, pool: Executor
) -> Iterator[Band]:
    """The bands, with the JPEG of each needed cell under way.

    A thread may wait for a cell, but never for one that no thread has begun: cells enter the queue before the
    patches that are joined from them.
    """
    for band, flags in zip(bands, needed, strict=True):
        cells = {
            col: pool.submit(encode_cell, band.pixels[:, col * CELL_PX : (col + 1) * CELL_PX], config)
            for col in np.flatnonzero(flags).tolist()
        }
        yield replace(band, cells=cells)


def patch_rows(bands: Iterator[Band], boxes_px: Sequence[Box]) -> Iterator[tuple[list[Band], list[Box]]]:
    """The patches that begin at the same height, with the rows of cells that they lie in.

    Args:
        bands: the slide from top to bottom.
        boxes_px: patches in the target frame, by y.
    """
    window: deque[Band] = deque(maxlen=_MOST_BANDS)
    for y, row in groupby(boxes_px, key=lambda box: box.y):
        while not window or window[-1].top_px + CELL_PX < y + PATCH_PX:
            window.append(next(bands))
        yield [band for band in window if band.top_px < y + PATCH_PX and y < band.top_px + CELL_PX], list(row)


def cut_image(bands: Sequence[Band], box_px: Box) -> NDArray[np.uint8]:
    """The pixels of a patch out of the rows of cells that it lies in: uint8 RGB [512, 512, 3]."""
    return np.concatenate([band.pixels[part] for band, part in _parts_of(bands, box_px)])


def cut_mask(bands: Sequence[Band], box_px: Box, kind: Kind) -> NDArray[np.bool_]:
    """The pixels of a patch that are annotated as `kind`: bool [512, 512]."""
    mask = np.zeros((box_px.height, box_px.width), dtype=bool)
    for band, (rows, cols) in _parts_of(bands, box_px):
        if kind in band.masks:
            top = band.top_px + rows.start - box_px.y
            mask[top : top + rows.stop - rows.start] = band.masks[kind][rows, cols]
    return mask


def shares_of(bands: Sequence[Band], box_px: Box) -> dict[Kind, float]:
    """The share of a patch's pixels that are annotated as each kind; nothing is copied for it."""
    parts = _parts_of(bands, box_px)
    return {kind: sum(_num_marked(band, kind, part) for band, part in parts) / box_px.area for kind in Kind}


def _num_marked(band: Band, kind: Kind, part: tuple[slice, slice]) -> int:
    """How many pixels are of a kind in a part of a row of cells."""
    if kind not in band.masks:
        return 0
    rows, cols = part
    if rows.stop - rows.start == CELL_PX and cols.start % CELL_PX == 0 and cols.stop % CELL_PX == 0:
        # A cell lies in several patches, and is counted once.
        return int(band.num_marked[kind][cols.start // CELL_PX : cols.stop // CELL_PX].sum())
    return cv2.countNonZero(band.masks[kind].view(np.uint8)[part])


def _parts_of(bands: Sequence[Band], box_px: Box) -> list[tuple[Band, tuple[slice, slice]]]:
    """The rows of cells that a patch lies in, and which part of each is the patch's, from top to bottom."""
    # A window may hold a row of cells more than the patch reaches into.
    shared = [(band, Box(box_px.x, band.top_px, box_px.width, CELL_PX).intersection(box_px)) for band in bands]
    return [(band, part._replace(y=part.y - band.top_px).slices()) for band, part in shared if part.area]


def _code_some(
    bands: Sequence[Band], boxes_px: Sequence[Box], rows: Sequence[Mapping[str, Any]], config: ShardConfig
) -> list[CodedPatch]:
    """Cut and encode some patches; `rows` are their columns that do not depend on their pixels."""
    return [_code_patch(bands, box_px, row, config) for box_px, row in zip(boxes_px, rows, strict=True)]


def _code_patch(bands: Sequence[Band], box_px: Box, about: Mapping[str, Any], config: ShardConfig) -> CodedPatch:
    shares = shares_of(bands, box_px)
    row = {**about, **{f"{kind.lower()}_fraction": share for kind, share in shares.items()}}
    # Most patches have no tumor, and the mask of all of those is the same.
    has_tumor = row["tumornest_fraction"] > 0
    contents = {
        "image": _image_of(bands, box_px, config),
        "mask": encode_mask(cut_mask(bands, box_px, Kind.TUMORNEST)) if has_tumor else encode_empty_mask(),
        "json": _sidecar(row),
    }
    for name, content in contents.items():
        row |= {f"{name}_bytes": len(content), f"{name}_sha256": hashlib.sha256(content).hexdigest()}
    members = {extension: contents[name] for name, extension in member_extensions(config.image_coding).items()}
    return CodedPatch(key=row["key"], members=members, row=row)


def _image_of(bands: Sequence[Band], box_px: Box, config: ShardConfig) -> bytes:
    """The coded pixels of a patch, joined from its cells where there are any."""
    if not all(band.cells for band in bands):
        return encode_image(cut_image(bands, box_px), config)
    first = box_px.x // CELL_PX
    return join_cells([[band.cells[col].result() for col in (first, first + 1)] for band in bands], config)


def _describe(slide: Slide, survey: Survey, box_px: Box) -> dict[str, Any]:
    """The columns of a patch that say where it lies."""
    record, downsample = survey.record, slide.resolution.downsample
    x_level0_px, y_level0_px = round(box_px.x * downsample), round(box_px.y * downsample)
    return {
        "key": f"{record.slide_id}_x{x_level0_px:06d}_y{y_level0_px:06d}",
        "slide_id": record.slide_id,
        "section_id": section_under(
            box_px.scaled(downsample), survey.section_map, survey.sections, mpp_level0=slide.resolution.mpp_level0
        ),
        "part": record.part.value,
        "x_level0_px": x_level0_px,
        "y_level0_px": y_level0_px,
        "mpp_read": slide.resolution.mpp,
        "tissue_fraction": survey.tissue_fractions[box_px],
    }


def _sidecar(row: Mapping[str, Any]) -> bytes:
    """The JSON member of a patch."""
    content = {
        "slide_id": row["slide_id"],
        "section_id": row["section_id"],
        "part": row["part"],
        "origin_level0_px": [row["x_level0_px"], row["y_level0_px"]],
        "mpp_read": row["mpp_read"],
        "fractions": {name: row[f"{name}_fraction"] for name in _FRACTIONS},
    }
    return json.dumps(content, sort_keys=True, allow_nan=False).encode()
