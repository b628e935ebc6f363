"""What a slide on a server costs: `python benchmarks/remote.py SLIDE --folder SCRATCH`.

Pyramids at 20x and at 40x are written of a slide's own finest pixels, laid side by side, in JPEG tiles of 256 px as
scanners write them, and read at 10x as inference reads: fingerprint, tissue, every cell of tissue. In turns from the
local file and from an HTTP server of another process, which counts requests and bytes, waits before each answer, and
sends no more than so many bytes a second over all connections. Once nobody works on what is read, once a stand-in for
the network's engine takes its time for each cell, and the time in which it waits for cells is told.
"""

import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import tifffile
import tyro
from numpy.typing import NDArray

from bccdist.addresses import Location, parse_address
from bccdist.configuration import CELL_PX
from bccdist.heatmaps.writing import cells_of
from bccdist.remote import lending
from bccdist.remote.files import fingerprint_of
from bccdist.slides.cell_rows import ReadingTally, readable_rows
from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask

SERVER = Path(__file__).resolve().parent.parent / "tests" / "support" / "range_server.py"
TARGET_MPP = 1.0


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
    waited_s = 0.0
    fingerprint_of(location)
    with Slide(location, target_mpp=TARGET_MPP) as slide:
        tissue = tissue_mask(slide)
        cells = cells_of(slide, tissue)
        rows = readable_rows(slide, cells, ReadingTally(), tissue)
        for number, flags in enumerate(cells):
            asked_s = time.perf_counter()
            next(rows)
            waited_s += time.perf_counter() - asked_s if number else 0.0
            time.sleep(engine_s * int(flags.sum()))
    return Reading(time.perf_counter() - started_s, waited_s, 0, 0)


def counted(url: str, name: str, *, engine_s: float) -> Reading:
    """Read a slide from a server, with nothing of it there before."""
    lending.forget_all()
    _counts(url)
    reading = read(parse_address(f"{url}/{name}"), engine_s=engine_s)
    num_requests, num_bytes = _counts(url)
    return reading._replace(num_requests=num_requests, num_bytes=num_bytes)


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
        turns: medians are of so many.
    """
    for name, mpp in (("20x.tif", 0.5), ("40x.tif", 0.25)):
        path = folder / name
        if not path.exists():
            write_pyramid(path, finest_pixels(slide, side_px=side_px), mpp=mpp)
        size = path.stat().st_size
        with served(folder, latency_s=latency_ms / 1000, bytes_per_s=mb_per_s * 1e6) as url:
            for engine_s, what in ((0.0, "reading alone"), (1 / cells_per_s, f"engine of {cells_per_s:g} cells/s")):
                pairs = [(read(path, engine_s=engine_s), counted(url, name, engine_s=engine_s)) for _ in range(turns)]
                remote = pairs[0][1]
                local_s, remote_s = (statistics.median(each[side].wall_s for each in pairs) for side in (0, 1))
                ratio = statistics.median(there.wall_s / here.wall_s for here, there in pairs)
                wait = statistics.median(there.waited_s / there.wall_s for _, there in pairs)
                print(
                    f"{name}, {size / 1e6:.1f} MB, {what}: {remote.num_requests} requests, "
                    f"{remote.num_bytes / size:.1%} of the bytes; {local_s:.2f} s local, {remote_s:.2f} s remote, "
                    f"ratio {ratio:.2f}; waiting {wait:.1%}"
                )


if __name__ == "__main__":
    tyro.cli(main)
