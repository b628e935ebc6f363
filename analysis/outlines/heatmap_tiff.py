"""A heatmap as a pyramidal TIFF: `python analysis/make.py heatmap_tiff STUDY SLIDE_ID [--psi psi_0]`.

For programs that do not read OME-Zarr: OpenSlide and QuPath open the file as a slide of its own, in shades of grey
(value / 255 is the Tumor probability), at the heatmap's um/px. It covers the whole of level 0, of which
QuPath shows the scanned area alone where a slide names one.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from analysis.study_evidence.evidence import Evidence
from bccdist import __version__
from bccdist.configuration import Psi, phantom_warning, pixel_px
from bccdist.errors import HeatmapError
from bccdist.files import atomic_path
from bccdist.heatmaps.store import CHUNK_PIXELS, Heatmap

TILE_PIXELS = CHUNK_PIXELS
_CLASSIC_TIFF_BYTES = 1 << 31
"""A larger pyramid becomes a BigTIFF."""
_UM_PER_CM = 1e4


def export_heatmap(
    study: Evidence, slide_id: str, *, setting: str | None = None, psi: Psi | None = None, out: Path | None = None
) -> Path:
    """Write a heatmap of a chosen model as a pyramidal TIFF.

    Args:
        study: The study's folder.
        slide_id: A slide that the chosen model was applied to.
        setting: Which setting: default is the one with the best F_beta on Validation I + II.
        psi: Which output: default is the setting's own.
        out: File to write: default is its place in STUDY/heatmap_tiffs/SETTING/.

    Returns:
        The file's path.

    Raises:
        LedgerError: nothing was selected, or not for this setting.
        HeatmapError: the heatmap cannot be read, or has no such output.
    """
    paths, choice = study.paths, study.headline(setting)
    heatmap = Heatmap(paths.heatmap(choice.setting, choice.epoch, slide_id))
    output: Psi = psi or heatmap.outputs[-1]
    if output not in heatmap.outputs:
        raise HeatmapError(f"{heatmap.path}: holds {', '.join(heatmap.outputs)}, but --psi {output} is asked for")
    path = out or paths.heatmap_tiff(choice.setting, slide_id, output)
    warning = phantom_warning(slides=heatmap.attributes.phantom, weights=choice.phantom_weights)
    write_tiff(path, heatmap, output, warning=warning)
    return path


def write_tiff(path: Path, heatmap: Heatmap, psi: Psi, *, warning: str = "") -> None:
    """Write one output with all levels of its pyramid, atomically; one row of tiles is held in memory.

    Raises:
        HeatmapError: the heatmap is damaged.
    """
    levels = heatmap.levels(psi)
    is_big = sum(height * width for height, width in levels) >= _CLASSIC_TIFF_BYTES
    with atomic_path(path) as partial, tifffile.TiffWriter(partial, bigtiff=is_big) as tiff:
        for level, shape in enumerate(levels):
            pixels_per_cm = _UM_PER_CM / (heatmap.attributes.mpp * pixel_px(psi) * 2**level)
            tiff.write(
                _tiles(heatmap, psi, level, shape),
                shape=shape,
                dtype=np.uint8,
                tile=(TILE_PIXELS, TILE_PIXELS),
                photometric="minisblack",
                compression="deflate",
                subfiletype=int(level > 0),
                resolution=(pixels_per_cm, pixels_per_cm),
                resolutionunit="CENTIMETER",
                description=_description(heatmap, psi, warning) if level == 0 else None,
                software=f"bccdist {__version__}",
                metadata=None,
            )


def _tiles(heatmap: Heatmap, psi: Psi, level: int, shape: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """The tiles of one level in reading order, whole ones: beyond the edge they are 0."""
    height, width = shape
    for y in range(0, height, TILE_PIXELS):
        rows = heatmap.read_rows(psi, level, slice(y, min(y + TILE_PIXELS, height)))
        whole = np.pad(rows, ((0, TILE_PIXELS - len(rows)), (0, -width % TILE_PIXELS)))
        for x in range(0, width, TILE_PIXELS):
            yield np.ascontiguousarray(whole[:, x : x + TILE_PIXELS])


def _description(heatmap: Heatmap, psi: Psi, warning: str) -> str:
    """How the heatmap was made, as JSON in the file's first page."""
    return json.dumps({"psi": psi, **({"warning": warning} if warning else {}), **asdict(heatmap.attributes)})
