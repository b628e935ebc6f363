"""How fast patches are built: `python benchmarks/patch_building.py slides.csv [--workers 2] [--rounds 5]`.

The Training slides are put side by side first, as mosaics of the size of a real slide with levels at 20x, 10x and 5x
(benchmarks/mosaics.py); `--as-they-are` takes them one by one. Four ways over the same slides and the same patches, in
one run and in turn, each with the same number of cores; the medians of their patches per second, and the ratios:

- naive: `read_region` for each overlapping patch, encoded with Pillow; no mask, no tar, nothing else
- raw: only what cannot be saved: each tile that is needed decoded once and each patch encoded, by libjpeg-turbo
- array: the build of this project with masks, tars and index rows, as elements of an array with one core each
- element: the same as one element with all cores; the time to start its processes counts
"""

import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import openslide
import simplejpeg
import tyro
from PIL import Image

from bccdist.addresses import on_this_machine
from bccdist.configuration import CELL_PX, PATCH_PX, ShardConfig
from bccdist.parts import Part
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, read_manifest
from bccdist.slides.slide import Slide
from bccdist.slides.tile_level import TileLevel
from benchmarks.mosaics import write_mosaics
from shards.build import build_slides
from shards.grid import needed_cells
from shards.patches import open_slide, survey_slide

CONFIG = ShardConfig()
MOSAIC_PX = (10_240, 5_120)
"""At 10x: 9.4 x 4.7 mm."""
CHROMA = {"444": "4:4:4", "422": "4:2:2", "420": "4:2:0"}


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to build all patches of some slides, by a number of processes with a number of threads."""

    name: str
    build: Callable[[Path, Path, Sequence[str]], None]
    """Manifest, study folder, slides."""
    num_processes: int
    """Processes that take the slides one by one; 0 is this process, for all slides at once."""


@cache
def manifest_at(path: Path) -> Manifest:
    """Read once a process."""
    return read_manifest(path)


@cache
def boxes_of(path: Path, slide_id: str) -> list[Box]:
    """The patches to build of a slide, in its target frame."""
    manifest = manifest_at(path)
    record = manifest.slide(slide_id)
    with open_slide(record, CONFIG) as slide:
        return list(survey_slide(slide, record, manifest, CONFIG).tissue_fractions)


def build_naively(manifest_path: Path, _study: Path, slide_ids: Sequence[str]) -> None:
    """`read_region` and Pillow for each patch."""
    for slide_id in slide_ids:
        record = manifest_at(manifest_path).slide(slide_id)
        with open_slide(record, CONFIG) as slide:
            resolution = slide.resolution
        assert resolution.resize == 1, f"{slide_id} has no level at the target; the naive loop does not resample"
        with openslide.OpenSlide(on_this_machine(record.path)) as handle:
            for box in boxes_of(manifest_path, slide_id):
                place = (round(box.x * resolution.downsample), round(box.y * resolution.downsample))
                image = handle.read_region(place, resolution.level, (PATCH_PX, PATCH_PX)).convert("RGB")
                image.save(io.BytesIO(), "JPEG", quality=CONFIG.jpeg_quality, subsampling=CHROMA[CONFIG.jpeg_chroma])


def decode_and_encode(manifest_path: Path, _study: Path, slide_ids: Sequence[str]) -> None:
    """Each tile under a patch decoded once, and as many patches encoded."""
    for slide_id in slide_ids:
        boxes = boxes_of(manifest_path, slide_id)
        for parts, level in tiles_under(slide_at(manifest_path, slide_id), boxes):
            level._grid.decode(parts, level._reduction)  # noqa: SLF001
        for image in images_of(manifest_path, slide_id):
            simplejpeg.encode_jpeg(image, quality=CONFIG.jpeg_quality, colorsubsampling=CONFIG.jpeg_chroma)


@cache
def slide_at(manifest_path: Path, slide_id: str) -> Slide:
    """An open slide; opened before the clock starts."""
    slide = open_slide(manifest_at(manifest_path).slide(slide_id), CONFIG)
    assert not slide.why_not_by_tile, f"{slide.path}: {slide.why_not_by_tile}"
    return slide


def tiles_under(slide: Slide, boxes: Sequence[Box]) -> list[tuple[list[bytes], TileLevel]]:
    """The parts of every tile that a needed cell touches, as they lie in the file."""
    level = slide._source  # noqa: SLF001
    assert isinstance(level, TileLevel)
    width, height = level._tile_px  # noqa: SLF001
    rows, cols = np.nonzero(needed_cells(boxes, cell_px=CELL_PX))
    inside = Box(0, 0, slide.width_px, slide.height_px)
    places = set()
    for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
        cell = Box(col * CELL_PX, row * CELL_PX, CELL_PX, CELL_PX).intersection(inside).scaled(slide._step)  # noqa: SLF001
        if cell.area:
            places |= {
                (tile_row, tile_col)
                for tile_row in range(cell.y // height, -(-cell.y_end // height))
                for tile_col in range(cell.x // width, -(-cell.x_end // width))
            }
    grid, file = level._grid, level._file  # noqa: SLF001
    inside_grid = [place for place in places if place[0] < grid.extents.shape[0] and place[1] < grid.extents.shape[1]]
    return [
        ([os.pread(file, size, offset) for offset, size in grid.extents[place].tolist() if size], level)
        for place in inside_grid
    ]


@cache
def images_of(manifest_path: Path, slide_id: str) -> list[np.ndarray]:
    """The pixels of every patch; read before the clock starts."""
    slide = slide_at(manifest_path, slide_id)
    return [slide.read(box) for box in boxes_of(manifest_path, slide_id)]


def build_in_this_process(manifest_path: Path, study: Path, slide_ids: Sequence[str]) -> None:
    """The build of this project, by an element with one core."""
    with redirect_stdout(None):
        build_slides(manifest_path, slide_ids, study, CONFIG, num_workers=0)


def build_with_all_cores(manifest_path: Path, study: Path, slide_ids: Sequence[str]) -> None:
    """The build of this project, by an element with all cores."""
    with redirect_stdout(None):
        build_slides(manifest_path, slide_ids, study, CONFIG)


def prepare(manifest_path: Path, slide_ids: Sequence[str]) -> None:
    """Make a worker ready before the clock starts: imports, boxes, files in the page cache."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for slide_id in slide_ids:
        images_of(manifest_path, slide_id)


def seconds(way: Way, pool: ProcessPoolExecutor, manifest_path: Path, slide_ids: Sequence[str]) -> float:
    """Wall time of one way."""
    with tempfile.TemporaryDirectory() as folder:
        build = partial(way.build, manifest_path, Path(folder) / "study")
        started_s = time.perf_counter()
        if way.num_processes:
            list(pool.map(build, [[slide_id] for slide_id in slide_ids]))
        else:
            build(slide_ids)
        return time.perf_counter() - started_s


def main(
    manifest: Annotated[Path, tyro.conf.Positional], workers: int = 2, rounds: int = 5, as_they_are: bool = False
) -> None:
    """Measure and print.

    Args:
        manifest: slides.csv whose Training slides have a level at the target um/px, in JPEG tiles.
        workers: Cores to use.
        rounds: Of which the median counts.
        as_they_are: Take the manifest's slides themselves, not mosaics of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = manifest.resolve()
        if not as_they_are:
            path = write_mosaics(path, Path(folder), num_slides=2 * workers, size_10x_px=MOSAIC_PX)
        measure(path, workers, rounds)


def measure(manifest: Path, workers: int, rounds: int) -> None:
    """Time all ways in turn and print the table."""
    slide_ids = [record.slide_id for record in read_manifest(manifest).slides_of([Part.TRAINING])]
    num_patches = sum(len(boxes_of(manifest, slide_id)) for slide_id in slide_ids)
    ways = [
        Way(name="naive", build=build_naively, num_processes=workers),
        Way(name="raw", build=decode_and_encode, num_processes=workers),
        Way(name="array", build=build_in_this_process, num_processes=workers),
        Way(name="element", build=build_with_all_cores, num_processes=0),
    ]
    os.environ["OMP_NUM_THREADS"] = str(workers)
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=prepare, initargs=(manifest, slide_ids)) as pool:
        for _ in range(rounds + 1):  # the first warms up
            for way in ways:
                times[way.name].append(seconds(way, pool, manifest, slide_ids))
    rates = {name: [num_patches / elapsed_s for elapsed_s in found[1:]] for name, found in times.items()}
    print(f"{num_patches} patches of {len(slide_ids)} slides, {workers} cores, medians of {rounds} rounds")
    print("| way | patches/s | times naive | of raw |\n|---|---|---|---|")
    for name, found in rates.items():
        naive, raw = (
            statistics.median(a / b for a, b in zip(found, rates[other], strict=True)) for other in ("naive", "raw")
        )
        print(f"| {name} | {statistics.median(found):.0f} | {naive:.2f} | {raw:.2f} |")


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = None
    tyro.cli(main)
