"""One file per slide, setting and epoch: its heatmaps, what they cover, and how they were made.

    {slide_id}.ozx           zipped OME-Zarr; OME-NGFF 0.5 metadata of the setting's own output; attribute `bccdist`
      psi_4/0, psi_4/1, ...  group per output with its own metadata; uint8 [h, w], each level half the one before
      coverage               uint8 [rows, cols] of cells of 256 target px: patches averaged there
      tissue_cells           uint8 [rows, cols]: 1 where the cell holds tissue
      exact_cells            uint8 [rows, cols], with a certificate: 1 where the cell was computed in the exact way
      quality/...            what was measured of the slide on the way (`bccdist.heatmaps.quality`)

A value / 255 is the Tumor probability. Arrays are sharded, so a file is a few dozen entries. A heatmap grows as a
folder on the node's own disk, is packed beside its place and renamed: a file with the final name is never half done.
"""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, cast
from zipfile import BadZipFile

import cv2
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from bccdist.configuration import CELL_PX, Psi, pixel_px
from bccdist.errors import HeatmapError
from bccdist.files import atomic_path
from bccdist.heatmaps.certificate import HeatmapCertificate
from bccdist.heatmaps.quality import HeatmapQuality, read_quality, write_quality
from bccdist.heatmaps.zipped import ZippedStore, check_zipped, pack_folder
from bccdist.slides.geometry import Box, cell_shape
from bccdist.slides.quality_measures import QUALITY_VERSION

NGFF_VERSION = "0.5"
CHUNK_PIXELS = 512
SHARD_ROWS = 4096
"""Pixel rows per shard; a shard is as wide as the slide, and one is held in memory per pyramid level."""
COARSEST_PIXELS = 1024
"""The pyramid ends at the first level whose longer side is at most this."""
_ADVICE = "remove it and run the inference again"
_UNREADABLE = (BadZipFile, LookupError, RuntimeError, ValueError)
"""What zip and zarr raise where bytes are damaged."""
_EVERYWHERE = (slice(None), slice(None))


@dataclass(frozen=True, kw_only=True)
class HeatmapAttributes:
    """How a heatmap was made; the attribute `bccdist` of its store."""

    slide_id: str
    setting: str
    epoch: int
    outputs: tuple[Psi, ...]
    """Names of what is stored, the final output last."""
    mpp: float
    """Resolution of the target frame, in um per pixel."""
    downsample: float
    """Level-0 pixels per target-frame pixel."""
    size_level0_px: tuple[int, int]
    """Width and height of the slide at level 0."""
    size_target_px: tuple[int, int]
    """Width and height of the slide in the target frame."""
    weights_digest: str
    config_digest: str
    slide_fingerprint: str
    phantom: bool
    num_patches: int = 0
    full_coverage: int = 4
    """Patches over a cell whose surroundings could all be read."""
    tiling: str = "paper"
    patch_px: int = 512
    """The edge of what the network saw."""
    halo_px: int = 0
    blending: str = "mean"
    arithmetic: str = ""
    """Precision and engine."""
    cascade_band: tuple[float, float] | None = None
    """The blocks after psi_0 were computed where psi_0 lies within it; None is everywhere."""
    reader: str = ""
    """What read the slide: tiles or openslide."""
    why_openslide: str = ""
    """Why its tiles were not read directly; empty where they were."""
    num_unread_cells: int = 0
    unread_reason: str = ""
    read_s: float = 0.0
    network_s: float = 0.0
    certificate: HeatmapCertificate | None = None
    """By what its verdicts are the exact ones though it was made in a fast way; `exact_cells` were not."""
    quality_version: int = 0
    """Of what `quality` holds; 0 where nothing was measured, as in heatmaps of before."""
    software: str = ""
    meaning: str = "value / 255 = Tumor probability"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The attributes from what JSON made of them."""
        as_tuples: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        if (certificate := values.get("certificate")) is not None:
            as_tuples["certificate"] = HeatmapCertificate.from_json(certificate)
        return cls(**as_tuples)


def lattice_shape(size_target_px: tuple[int, int], psi: str) -> tuple[int, int]:
    """Height and width in pixels of an output over a slide of this width and height."""
    width, height = size_target_px
    return cell_shape(width, height, cell_px=pixel_px(psi))


def pyramid_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """The [h, w] of each level, halving and rounding up."""
    shapes = [shape]
    while max(shapes[-1]) > COARSEST_PIXELS:
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return shapes


def halve(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The means of 2 x 2 pixels; a last odd row or column counts twice."""
    height, width = pixels.shape
    even = np.pad(pixels, ((0, height % 2), (0, width % 2)), mode="edge")
    size = (even.shape[1] // 2, even.shape[0] // 2)
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def ngff_metadata(psi: str, *, num_levels: int, mpp: float, folder: str = "") -> dict[str, Any]:
    """The OME-NGFF attribute `ome` of one output.

    The frame is the slide in um, with its zero in the middle of the first target-frame pixel, as viewers that
    place pixel centres expect it: so the outputs lie on one another, and on the slide.

    Args:
        psi: the output's name.
        num_levels: of its pyramid.
        mpp: um per target-frame pixel.
        folder: prefix of the levels' paths.
    """
    datasets = []
    for level in range(num_levels):
        scale = mpp * pixel_px(psi) * 2**level
        # The middle of a coarse pixel lies half of its width behind its edge; the frame begins at a fine one's middle.
        offset = (scale - mpp) / 2
        transformations = [
            {"type": "scale", "scale": [scale, scale]},
            {"type": "translation", "translation": [offset, offset]},
        ]
        datasets.append({"path": f"{folder}{level}", "coordinateTransformations": transformations})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in ("y", "x")]
    return {
        "version": NGFF_VERSION,
        "multiscales": [{"name": f"Tumor probability, {psi}", "type": "mean", "axes": axes, "datasets": datasets}],
    }


class _LevelWriter:
    """One level of a pyramid: gathers rows until a row of shards is full, and passes their halves on."""

    def __init__(self, array: zarr.Array[Any], coarser: Self | None) -> None:
        self._array = array
        self._coarser = coarser
        self._buffer = np.zeros((min(SHARD_ROWS, array.shape[0]), array.shape[1]), dtype=np.uint8)
        self._num_gathered = 0
        self._num_written = 0

    def append(self, rows: NDArray[np.uint8]) -> None:
        while len(rows):
            taken = rows[: len(self._buffer) - self._num_gathered]
            self._buffer[self._num_gathered : self._num_gathered + len(taken)] = taken
            self._num_gathered += len(taken)
            rows = rows[len(taken) :]
            if self._num_gathered == len(self._buffer):
                self._flush()

    def finish(self) -> None:
        """Write what is left, in this level and all coarser ones."""
        self._flush()
        if self._coarser is not None:
            self._coarser.finish()

    def _flush(self) -> None:
        # Whole rows of shards at once: a shard that is written in parts is read and packed again each time.
        rows = self._buffer[: self._num_gathered]
        if not len(rows):
            return
        self._array[self._num_written : self._num_written + len(rows)] = rows
        if self._coarser is not None:
            self._coarser.append(halve(rows))
        self._num_written += len(rows)
        self._num_gathered = 0


class HeatmapWriter:
    """Takes a heatmap row by row; made by `writing_heatmap`."""

    def __init__(
        self,
        folder: Path,
        final: Path,
        *,
        outputs: Sequence[Psi],
        size_target_px: tuple[int, int],
        mpp: float,
        may_replace: bool,
    ) -> None:
        # A store grows in a folder, because a file in a zip cannot be written twice.
        self._folder = folder
        self._final = final
        self._may_replace = may_replace
        self._shapes = {psi: lattice_shape(size_target_px, psi) for psi in outputs}
        self._cells = cell_shape(*size_target_px, cell_px=CELL_PX)
        with _naming_scratch(folder, final):
            self._group = zarr.open_group(folder, mode="w-", zarr_format=3)
            self._levels = {psi: self._pyramid(psi, mpp) for psi in outputs}
        self._num_rows = dict.fromkeys(outputs, 0)
        last = outputs[-1]
        num_levels = len(pyramid_shapes(self._shapes[last]))
        self._ome = ngff_metadata(last, num_levels=num_levels, mpp=mpp, folder=f"{last}/")

    def _pyramid(self, psi: Psi, mpp: float) -> _LevelWriter:
        """The arrays of one output; returns the finest level, which feeds the others."""
        shapes = pyramid_shapes(self._shapes[psi])
        group = self._group.create_group(psi)
        group.attrs["ome"] = ngff_metadata(psi, num_levels=len(shapes), mpp=mpp)
        # From coarse to fine, since each level writes into the next coarser one.
        writer: _LevelWriter | None = None
        for level in reversed(range(len(shapes))):
            writer = _LevelWriter(_create_array(group, str(level), shapes[level]), writer)
        return cast("_LevelWriter", writer)

    def append(self, maps: Mapping[Psi, NDArray[np.uint8]]) -> None:
        """Add the next row of cells of every output; what lies outside the slide is cut off.

        Args:
            maps: uint8 [256 / pixel_px, at least the heatmap's width] for each output.

        Raises:
            HeatmapError: the folder of temporary files is full, or a row does not reach across the slide.
        """
        for psi, pixels in maps.items():
            height, width = self._shapes[psi]
            inside = pixels[: height - self._num_rows[psi], :width]
            if inside.shape[1] != width:
                raise HeatmapError(f"{self._final}: a row of {psi} is {inside.shape[1]} px wide, expected {width}")
            with _naming_scratch(self._folder, self._final):
                self._levels[psi].append(inside)
            self._num_rows[psi] += len(inside)

    def finish(
        self,
        attributes: HeatmapAttributes,
        *,
        coverage: NDArray[np.uint8],
        tissue_cells: NDArray[np.bool_],
        exact_cells: NDArray[np.bool_] | None = None,
        quality: HeatmapQuality | None = None,
    ) -> None:
        """Write what is left and pack the heatmap into its place.

        Args:
            attributes: how the heatmap was made.
            coverage: uint8 [rows, cols] of cells.
            tissue_cells: bool [rows, cols].
            exact_cells: bool [rows, cols] of one with a certificate.
            quality: what was measured of the slide; None where nothing was.

        Raises:
            HeatmapError: rows or cells are missing, a disk is full, or another process has put a heatmap there
                meanwhile.
        """
        missing = [psi for psi, (height, _) in self._shapes.items() if self._num_rows[psi] != height]
        if missing:
            raise HeatmapError(f"{self._final}: not all rows of {', '.join(missing)} were written; nothing is kept")
        arrays = {"coverage": coverage, "tissue_cells": tissue_cells.astype(np.uint8)}
        if exact_cells is not None:
            arrays["exact_cells"] = exact_cells.astype(np.uint8)
        for name, cells in arrays.items():
            if cells.shape != self._cells:
                raise HeatmapError(f"{self._final}: {name} is of {cells.shape} cells, expected {self._cells}")
        with _naming_scratch(self._folder, self._final):
            for writer in self._levels.values():
                writer.finish()
            for name, cells in arrays.items():
                _create_array(self._group, name, cells.shape)[:] = cells
            if quality is not None:
                write_quality(self._group, quality)
            about = replace(attributes, quality_version=0 if quality is None else QUALITY_VERSION)
            self._group.attrs.update({"ome": self._ome, "bccdist": asdict(about)})
        self._put_in_place()

    def _put_in_place(self) -> None:
        try:
            with atomic_path(self._final) as partial:
                pack_folder(self._folder, partial, ngff_version=NGFF_VERSION)
                # Packing takes a while, in which another process may have come first.
                if self._final.exists() and not self._may_replace:
                    raise FileExistsError(
                        errno.EEXIST, "it is there already and left as it is; is another job at work?"
                    )
        except OSError as error:
            raise HeatmapError(error.errno, f"{self._final}: cannot be put in place: {error}") from error


@contextmanager
def _naming_scratch(folder: Path, final: Path) -> Iterator[None]:
    """Say which folder it is, and how to take another, where temporary files cannot be written."""
    try:
        yield
    except OSError as error:
        raise HeatmapError(
            error.errno,
            f"{folder}: {final.name} cannot be written there, as it must be before it is packed: {error}; "
            "make room, or name another folder: `scratch` in the site's file, or TMPDIR",
        ) from error


@contextmanager
def writing_heatmap(
    path: Path, *, outputs: Sequence[Psi], size_target_px: tuple[int, int], mpp: float, may_replace: bool = False
) -> Iterator[HeatmapWriter]:
    """A writer for the heatmap at `path`, which is there once `finish` was called, and not before.

    Args:
        path: the file to be; what is there is overwritten only by what holds all of it, and more.
        outputs: the final one last.
        size_target_px: width and height of the slide in the target frame.
        mpp: um per target-frame pixel.
        may_replace: whether what is written holds all that is there.

    Raises:
        HeatmapError: the folder of temporary files is missing or full; `append` and `finish` raise it too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder() as folder:
        yield HeatmapWriter(
            folder, path, outputs=outputs, size_target_px=size_target_px, mpp=mpp, may_replace=may_replace
        )


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder on the node's own disk (TMPDIR), removed in the end.

    Raises:
        HeatmapError: TMPDIR names a folder that is not there.
    """
    # Named outright: where TMPDIR is missing, tempfile would take another folder without a word.
    parent = Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
    if not parent.is_dir():
        raise HeatmapError(
            f"{parent}: TMPDIR names it, but there is no such folder; make it, "
            "or name another: `scratch` in the site's file, or TMPDIR"
        )
    with tempfile.TemporaryDirectory(prefix="bccdist-heatmap-", dir=parent) as folder:
        yield Path(folder)


def pixels_of_cells(cells: NDArray[np.bool_], psi: Psi, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Flags of cells, bool [rows, cols], as flags of the pixels of an output that begin at the first cell: `shape`."""
    edge = CELL_PX // pixel_px(psi)
    return np.asarray(cells.repeat(edge, axis=0).repeat(edge, axis=1)[: shape[0], : shape[1]])


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of the heatmap at `path` left beside it."""
    for partial in path.parent.glob(f"{path.name}.partial-*"):
        partial.unlink(missing_ok=True)


def _create_array(group: zarr.Group, name: str, shape: tuple[int, ...]) -> zarr.Array[Any]:
    """A uint8 array whose shards are as wide as itself; chunks that are 0 all over are not stored."""
    whole_chunks = [-(-length // CHUNK_PIXELS) * CHUNK_PIXELS for length in shape]
    return group.create_array(
        name,
        shape=shape,
        dtype="uint8",
        chunks=(CHUNK_PIXELS, CHUNK_PIXELS),
        shards=(min(SHARD_ROWS, whole_chunks[0]), whole_chunks[1]),
        compressors=ZstdCodec(level=1, checksum=True),
        fill_value=0,
        dimension_names=("y", "x"),
    )


class Heatmap:
    """A heatmap on disk, opened for reading."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            HeatmapError: there is none, or it is damaged or not one of ours.
        """
        self.path = path
        try:
            check_zipped(path, advice=_ADVICE)
            self._group = zarr.open_group(ZippedStore(path, mode="r"), mode="r", zarr_format=3)
            self.attributes = HeatmapAttributes.from_json(cast("dict[str, Any]", self._group.attrs["bccdist"]))
        except (*_UNREADABLE, FileNotFoundError, IsADirectoryError, TypeError) as error:
            raise HeatmapError(
                f"{path}: no heatmap there, or a damaged one ({type(error).__name__}: {error}); {_ADVICE}"
            ) from error

    @property
    def outputs(self) -> tuple[Psi, ...]:
        """The names of what is stored, the final output last."""
        return self.attributes.outputs

    @property
    def coverage(self) -> NDArray[np.uint8]:
        """Patches averaged over each cell: uint8 [rows, cols]; `attributes.full_coverage` is full."""
        return self._pixels("coverage")

    @property
    def tissue_cells(self) -> NDArray[np.bool_]:
        """The cells that hold tissue: bool [rows, cols]."""
        return self._pixels("tissue_cells").astype(bool)

    @property
    def exact_cells(self) -> NDArray[np.bool_]:
        """The cells that were computed in the exact way though the heatmap has a certificate: bool [rows, cols].

        Of a heatmap without one there is none: how all of it was made is said by its attributes.
        """
        if self.attributes.certificate is None:
            return np.zeros_like(self.tissue_cells)
        return self._pixels("exact_cells").astype(bool)

    @property
    def quality(self) -> HeatmapQuality | None:
        """What was measured of the slide; None where nothing was, or by measures that are not those of today.

        Raises:
            HeatmapError: it is damaged.
        """
        if self.attributes.quality_version != QUALITY_VERSION:
            return None
        try:
            return read_quality(self._group)
        except (*_UNREADABLE, OSError) as error:
            raise HeatmapError(
                f"{self.path}: cannot read quality: {type(error).__name__}: {error}; {_ADVICE}"
            ) from error

    @property
    def covered_cells(self) -> NDArray[np.bool_]:
        """The cells of which every patch was predicted: bool [rows, cols]."""
        return np.asarray(self.coverage == self.attributes.full_coverage, dtype=bool)

    @property
    def counted_cells(self) -> NDArray[np.bool_]:
        """The cells that a verdict counts, of tissue and wholly predicted: bool [rows, cols]."""
        return self.covered_cells & self.tissue_cells

    @property
    def box_target_px(self) -> Box:
        """The whole slide."""
        return Box(0, 0, *self.attributes.size_target_px)

    def read(self, psi: Psi, box_target_px: Box) -> NDArray[np.uint8]:
        """The pixels of an output that touch a box.

        Args:
            psi: one of `outputs`.
            box_target_px: in the target frame; what lies outside the slide is cut off.

        Returns:
            uint8 [h, w]; one pixel is `pixel_px(psi)` target pixels wide.

        Raises:
            HeatmapError: the output is not stored, or is damaged.
        """
        return self._level(psi, 0, self.lattice_box(psi, box_target_px).slices())

    def lattice_box(self, psi: Psi, box_target_px: Box) -> Box:
        """The box that `read` returns, in pixels of the output."""
        return box_target_px.intersection(self.box_target_px).scaled(1 / pixel_px(psi))

    def levels(self, psi: Psi) -> list[tuple[int, int]]:
        """The [h, w] of each level of an output's pyramid, the finest first."""
        return pyramid_shapes(lattice_shape(self.attributes.size_target_px, psi))

    def read_rows(self, psi: Psi, level: int, rows: slice) -> NDArray[np.uint8]:
        """Whole rows of one level of an output's pyramid: uint8 [h, w].

        Raises:
            HeatmapError: the output is not stored, or is damaged.
        """
        return self._level(psi, level, (rows, slice(None)))

    def overview(self, psi: Psi, *, longest: int = COARSEST_PIXELS) -> NDArray[np.uint8]:
        """The whole slide in the finest stored level whose longer side is at most `longest`: uint8 [h, w]."""
        shapes = self.levels(psi)
        level = next((level for level, shape in enumerate(shapes) if max(shape) <= longest), len(shapes) - 1)
        return self._level(psi, level)

    def _level(self, psi: Psi, level: int, inside: tuple[slice, slice] = _EVERYWHERE) -> NDArray[np.uint8]:
        if psi not in self.outputs:
            raise HeatmapError(f"{self.path}: holds {', '.join(self.outputs)}, but {psi} is asked for")
        return self._pixels(f"{psi}/{level}", inside)

    def _pixels(self, name: str, inside: tuple[slice, slice] = _EVERYWHERE) -> NDArray[np.uint8]:
        try:
            return np.asarray(cast("zarr.Array[Any]", self._group[name])[inside], dtype=np.uint8)
        except (*_UNREADABLE, OSError) as error:
            raise HeatmapError(
                f"{self.path}: cannot read {name}: {type(error).__name__}: {error}; {_ADVICE}"
            ) from error
