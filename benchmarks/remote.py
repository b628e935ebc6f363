"""What a slide on a server costs: `python benchmarks/remote.py SLIDE --folder SCRATCH`.

Pyramids at 20x and at 40x are written of a slide's own finest pixels, laid side by side, in JPEG tiles of 256 px as
scanners write them, and read at 10x as inference reads: fingerprint, tissue, every cell of tissue. In turns from the
local file and from an HTTP server of another process, which counts requests and bytes, waits before each answer, and
sends no more than so many bytes a second over all connections. Once nobody works on what is read, once a stand-in for
the network's engine takes its time for each cell, or the network itself makes heatmaps (`--width`), and the time in
which it waits for cells is told. `--cache` reads with the cache of a node, too: empty, and with all in it.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from unittest import mock

import cv2
import numpy as np
import tifffile
import torch
import tyro
from numpy.typing import NDArray

from bccdist.addresses import Location, parse_address
from bccdist.configuration import CELL_PX, InferConfig, Setting
from bccdist.heatmaps import predict
from bccdist.heatmaps.method import Method
from bccdist.heatmaps.predictors import make_predictor
from bccdist.heatmaps.writing import HeatmapOrder, cells_of, write_heatmaps
from bccdist.parts import Part
from bccdist.remote import lending
from bccdist.remote.block_cache import FOLDER_VARIABLE
from bccdist.remote.files import fingerprint_of
from bccdist.slides.cell_rows import CellRow, ReadingTally, readable_rows
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SlideRecord
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask
from benchmarks.heatmap_task import random_network

SERVER = Path(__file__).resolve().parent.parent / "tests" / "support" / "range_server.py"
TARGET_MPP = 1.0
SETTING: Setting = "resnet34_ds"


class Reading(NamedTuple):
    """What one reading of a slide took."""

    wall_s: float
    waited_s: float
    """In which nothing was there for the engine, from the first row on."""
    num_requests: int
    num_bytes: int


def finest_pixels(path: Path, *, side_px: int) -> NDArray[np.uint8]:
    """The finest pixels of a slide, laid side by side up to a square: uint8 RGB."""
    with Slide(path, target_mpp=0.01, tolerance=1e9, mpp=0.5) as slide:
        picture = slide.read(Box(0, 0, slide.width_px, slide.height_px))
    repeats = (-(-side_px // picture.shape[0]), -(-side_px // picture.shape[1]), 1)
    return np.tile(picture, repeats)[:side_px, :side_px]


def write_pyramid(path: Path, picture: NDArray[np.uint8], *, mpp: float) -> None:
    """A pyramid by factors of two."""
    level, downsample = picture, 1
    with tifffile.TiffWriter(path) as tiff:
        while min(level.shape[:2]) >= CELL_PX:
            tiff.write(
                # tifffile takes what is photometrically YCbCr to be that already.
                cv2.cvtColor(level, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]],
                tile=(256, 256),
                compression="jpeg",
                compressionargs={"level": 80, "subsampling": "420", "outcolorspace": "ycbcr"},
                photometric="ycbcr",
                subfiletype=int(downsample > 1),
                resolution=(1e4 / (mpp * downsample),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            smaller = cv2.resize(level, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            level = np.asarray(smaller, dtype=np.uint8)
            downsample *= 2


@contextmanager
def served(folder: Path, *, latency_s: float, bytes_per_s: float) -> Iterator[str]:
    """The address of a server of a folder, in a process of its own."""
    command = [sys.executable, str(SERVER), str(folder), str(latency_s), str(bytes_per_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("the server has no pipes")
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def read(location: Location, *, engine_s: float) -> Reading:
    """Read a slide as inference does; the engine takes `engine_s` for each cell of tissue."""
    started_s = time.perf_counter()
    fingerprint_of(location)
    with Slide(location, target_mpp=TARGET_MPP) as slide:
        tissue = tissue_mask(slide)
        cells = cells_of(slide, tissue)
        waits = _Waits()
        for flags, _ in zip(cells, waits.told_of(readable_rows(slide, cells, ReadingTally(), tissue)), strict=True):
            time.sleep(engine_s * int(flags.sum()))
    return Reading(time.perf_counter() - started_s, waits.total_s, 0, 0)


class _Waits:
    """The time in which rows of cells were waited for, from the first one on."""

    def __init__(self) -> None:
        self.total_s = 0.0

    def told_of(self, rows: Generator[CellRow, None, None]) -> Generator[CellRow, None, None]:
        """The same rows; what each took to come is added up."""
        with closing(rows):
            yield next(rows)
            while True:
                asked_s = time.perf_counter()
                row = next(rows, None)
                self.total_s += time.perf_counter() - asked_s
                if row is None:
                    return
                yield row


class NetworkReading:
    """Reading for the network itself, float32 in the paper's tiling, by the fastest engine: heatmaps are written."""

    def __init__(self, slide_path: Path, *, width: int) -> None:
        """Make a network with random weights, normalised by patches of a slide, and compile it."""
        with Slide(slide_path, target_mpp=TARGET_MPP) as slide:
            places = [Box(x, y, 512, 512) for y in (512, 1536) for x in (512, 1024, 1536, 2048)]
            samples = torch.from_numpy(np.stack([slide.read(place) for place in places]))
        network = random_network(SETTING, width, samples)
        self._device = torch.device("cpu")
        self._method = Method.of(InferConfig(), self._device)
        self._predictor = make_predictor(network, self._method, device=self._device, int8_file=Path)
        self._predictor(samples)
        self.name = f"{SETTING} of width {width}, {self._method.arithmetic}"

    def __call__(self, location: Location) -> Reading:
        """Make the heatmaps of a slide as an array's element does, and leave them nowhere."""
        started_s = time.perf_counter()
        fingerprint_of(location)
        with (
            tempfile.TemporaryDirectory() as folder,
            Slide(location, target_mpp=TARGET_MPP) as slide,
            mock.patch.object(predict, "readable_rows", self._waited_rows),
        ):
            order = HeatmapOrder(
                path=Path(folder) / "slide.ozx",
                setting=SETTING,
                epoch=1,
                predictor=self._predictor,
                method=self._method,
            )
            self._waits = _Waits()
            record = SlideRecord(slide_id="slide", part=Part.TEST, path=location)
            write_heatmaps(slide, record, tissue_mask(slide), [order], batch=InferConfig().batch, device=self._device)
        return Reading(time.perf_counter() - started_s, self._waits.total_s, 0, 0)

    def _waited_rows(self, *arguments: object, **more: object) -> Generator[CellRow, None, None]:
        return self._waits.told_of(readable_rows(*arguments, **more))  # type: ignore[arg-type]


def counted(url: str, name: str, way: Callable[[Location], Reading]) -> Reading:
    """Read a slide from a server, with nothing of it in this process before."""
    lending.forget_all()
    _counts(url)
    reading = way(parse_address(f"{url}/{name}"))
    num_requests, num_bytes = _counts(url)
    return reading._replace(num_requests=num_requests, num_bytes=num_bytes)


def in_turns(
    path: Path, url: str, way: Callable[[Location], Reading], *, cache: bool
) -> Iterator[tuple[str, Reading]]:
    """Read a slide from here and from a server, one after the other: the place's name, and what it took."""
    yield "local", way(path)
    yield "server", counted(url, path.name, way)
    if cache:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, mock.patch.dict(os.environ):
            os.environ[FOLDER_VARIABLE] = folder
            for name in ("server, cache empty", "server, all in the cache"):
                yield name, counted(url, path.name, way)


def _counts(url: str) -> tuple[int, int]:
    with urllib.request.urlopen(f"{url}/-counts") as answer:  # noqa: S310 - the server above
        num_requests, num_bytes = json.loads(answer.read())
    return int(num_requests), int(num_bytes)


def main(
    slide: Annotated[Path, tyro.conf.Positional],
    *,
    folder: Path,
    side_px: int = 16384,
    latency_ms: float = 20.0,
    mb_per_s: float = 100.0,
    cells_per_s: float = 400.0,
    width: int | None = None,
    scans: tuple[Literal["20x", "40x"], ...] = ("20x", "40x"),
    cache: bool = False,
    turns: int = 3,
) -> None:
    """Print shares of bytes, wall times and waiting.

    Args:
        slide: whose finest pixels are used.
        folder: where the pyramids are written, unless they are there.
        side_px: edge of level 0.
        latency_ms: before each answer.
        mb_per_s: of all connections together.
        cells_per_s: that the engine's stand-in does.
        width: of the paper's network, which then makes heatmaps in place of the stand-in.
        scans: which pyramids.
        cache: also with the cache of a node.
        turns: medians are of so many.
    """
    for name in scans:
        path = folder / f"{name}.tif"
        if not path.exists():
            write_pyramid(path, finest_pixels(slide, side_px=side_px), mpp={"20x": 0.5, "40x": 0.25}[name])
        ways: dict[str, Callable[[Location], Reading]] = {
            "reading alone": partial(read, engine_s=0.0),
            f"engine of {cells_per_s:g} cells/s": partial(read, engine_s=1 / cells_per_s),
        }
        if width is not None:
            network = NetworkReading(path, width=width)
            ways = {network.name: network}
        size = path.stat().st_size
        print(f"{path.name}, {size / 1e6:.1f} MB, load {os.getloadavg()[0]:.1f}")
        with served(folder, latency_s=latency_ms / 1000, bytes_per_s=mb_per_s * 1e6) as url:
            fingerprint_of(parse_address(f"{url}/{path.name}"))  # what it imports is no part of any turn
            for what, way in ways.items():
                found: dict[str, list[Reading]] = {}
                for turn in range(1, turns + 1):
                    for place, reading in in_turns(path, url, way, cache=cache):
                        found.setdefault(place, []).append(reading)
                        print(f"  turn {turn}, {what}, {place}: {reading.wall_s:.2f} s", flush=True)
                for place, readings in found.items():
                    ratios = [there.wall_s / here.wall_s for here, there in zip(found["local"], readings, strict=True)]
                    wall_s = statistics.median(each.wall_s for each in readings)
                    wait = statistics.median(each.waited_s / each.wall_s for each in readings)
                    ratio, share = statistics.median(ratios), readings[0].num_bytes / size
                    print(
                        f"  {what}, {place}: {readings[0].num_requests} requests, {share:.1%} of the bytes; "
                        f"{wall_s:.2f} s, {ratio:.2f} times local; waiting {wait:.1%}",
                        flush=True,
                    )


if __name__ == "__main__":
    tyro.cli(main)
