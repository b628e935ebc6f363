"""How fast the review page gets its tiles: `python -m benchmarks.review_tiles [--slide SLIDE ...]`.

A real server in a process of its own answers some clients over 127.0.0.1. Each client walks: it looks at a place,
asks for the tiles around it, zooms or moves on. With one connection a client waits for each tile; a browser has six.
The first walk over all tiles does not count: warm means that the system holds the file, and slides are open.
The ways of reading take turns over the same tiles, without a server.
"""

import http.client
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import NamedTuple, cast

import cv2
import numpy as np
import openslide
import pandas as pd
import tifffile
import tyro
import uvicorn
from openslide.deepzoom import DeepZoomGenerator

from analysis.review.gate import Access
from analysis.review.journal import Journal
from analysis.review.server import make_app
from analysis.review.serving import LOCAL, listen
from analysis.review.session import Session
from analysis.review.tiles import OVERLAP_PX, TILE_PX, DeepZoom, TileReader, encode_jpeg
from analysis.review.worklist import ReviewPlan, Worklist, WorkSection
from bccdist.addresses import on_this_machine
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice
from bccdist.sections.section_rows import SectionRows
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, SlideRecord

_MPP = 0.5
_SEEN_TILES = (4, 3)
"""Columns and rows that fit a screen."""


class Tile(NamedTuple):
    """A tile of a slide."""

    slide_id: str
    level: int
    col: int
    row: int

    @property
    def path(self) -> str:
        """On the server."""
        return f"/tiles/{self.slide_id}/{self.level}/{self.col}_{self.row}.jpeg"


def main(
    slide: tuple[Path, ...] = (), clients: int = 4, screens: int = 12, width: int = 16384, height: int = 12288
) -> None:
    """Measure and print.

    Args:
        slide: Slides to read; without any one is drawn.
        clients: That ask at the same time.
        screens: That each client looks at.
        width: Of the drawn slide.
        height: Of the drawn slide.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = slide or (draw_slide(Path(folder) / "drawn.tif", width, height),)
        records = {
            f"slide-{number}": SlideRecord(slide_id=f"slide-{number}", part=Part.TEST, path=path.resolve(), mpp=_MPP)
            for number, path in enumerate(paths)
        }
        for record in records.values():
            print_ways(record)
        with _server(records, Path(folder)) as (port, pid):
            for connections in (1, 6):
                print_latency(records, port, clients=clients, connections=connections, screens=screens)
                print_size(pid)


def draw_slide(path: Path, width: int, height: int) -> Path:
    """A pyramidal TIFF of JPEG tiles with noise, which is harder to decode than tissue."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(90, 240, (height // 16, width // 16, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = picture // 2 + rng.integers(60, 72, picture.shape, dtype=np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for step in (1, 4, 16):
            image = cv2.resize(picture, (width // step, height // step), interpolation=cv2.INTER_AREA)
            tiff.write(image, tile=(256, 256), compression="jpeg", subfiletype=int(step > 1), photometric="rgb")
    return path


def tiles_of_screens(records: dict[str, SlideRecord], screens: int, seed: int) -> Iterator[list[Tile]]:
    """The tiles of each screen of a walk: every screen at another place, level or slide."""
    random = Random(seed)
    reader = TileReader(records)
    for _ in range(screens):
        slide_id = random.choice(sorted(records))
        facts = reader.facts(slide_id)
        pyramid = DeepZoom(facts.width, facts.height)
        level = random.randint(max(facts.min_level, 8), facts.max_level)
        cols, rows = (-(-edge // TILE_PX) for edge in pyramid.size_px(level))
        col, row = random.randrange(cols), random.randrange(rows)
        yield [
            Tile(slide_id, level, x, y)
            for y in range(row, min(rows, row + _SEEN_TILES[1]))
            for x in range(col, min(cols, col + _SEEN_TILES[0]))
        ]


def print_ways(record: SlideRecord) -> None:
    """Milliseconds a tile, read in one thread by this project and by OpenSlide's own Deep Zoom generator."""
    reader = TileReader({record.slide_id: record})
    tiles = [tile for screen in tiles_of_screens({record.slide_id: record}, 20, seed=0) for tile in screen]
    with openslide.OpenSlide(on_this_machine(record.path)) as handle:
        generator = DeepZoomGenerator(handle, tile_size=TILE_PX, overlap=OVERLAP_PX, limit_bounds=False)
        seconds: dict[str, list[float]] = {"ours": [], "openslide.deepzoom": []}
        for turn in range(3):
            for tile in tiles:
                start_s = time.perf_counter()
                reader.tile(*tile)
                middle_s = time.perf_counter()
                encode_jpeg(np.asarray(generator.get_tile(tile.level, (tile.col, tile.row))))
                end_s = time.perf_counter()
                if turn:
                    seconds["ours"].append(middle_s - start_s)
                    seconds["openslide.deepzoom"].append(end_s - middle_s)
    reader.slides.close()
    print(f"\n{record.path.name}, {len(tiles)} tiles, ms a tile with its JPEG, one thread:")
    for name, found in seconds.items():
        print(f"  {name:20} {percentiles(found)}")


def percentiles(seconds: Sequence[float]) -> str:
    """p50, p95 and the longest, in ms."""
    p50, p95 = (1e3 * float(np.quantile(seconds, share)) for share in (0.5, 0.95))
    return f"p50 {p50:6.1f}   p95 {p95:6.1f}   longest {1e3 * max(seconds):6.1f}"


class _server:  # noqa: N801 - used as a context manager
    """A server of some slides in a process of its own; entering gives its port and pid."""

    def __init__(self, records: dict[str, SlideRecord], folder: Path) -> None:
        context = get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=serve, args=(records, folder, there))

    def __enter__(self) -> tuple[int, int]:
        self._process.start()
        return self._here.recv(), cast("int", self._process.pid)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def serve(records: dict[str, SlideRecord], folder: Path, parent: Connection) -> None:
    """Serve slides until terminated; their port goes to the parent."""
    cv2.setNumThreads(1)
    choice = Choice(
        setting="unet",
        epoch=1,
        psi="psi_4",
        t_p=0.5,
        t_a_um2=1.0,
        beta=1.0,
        area_unit="physical",
        weights_digest="0" * 12,
    )
    sections = tuple(
        WorkSection(
            slide_id=slide_id, section_id="s", part=Part.TEST, box_level0_px=Box(0, 0, 1, 1), is_blind=False, calls={}
        )
        for slide_id in records
    )
    worklist = Worklist(
        paths=StudyPaths(folder),
        manifest=Manifest(path=folder / "slides.csv", slides=tuple(records.values()), sections=()),
        plan=ReviewPlan(),
        choices={"unet": choice},
        headline=choice,
        rows=SectionRows(pd.DataFrame(), np.zeros((0, 256), np.uint32), np.zeros((0, 256), np.float32)),
        sections=sections,
    )
    with Journal(worklist.paths, "bench") as journal, listen(LOCAL, 0) as listener:
        port = listener.getsockname()[1]
        access = Access(port=port, names=frozenset({LOCAL}))
        app = make_app(Session(worklist, journal), access)
        parent.send(port)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none")).run(sockets=[listener])


def print_size(pid: int) -> None:
    """What a process holds by now."""
    kib = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()))
    num_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    mib = {name: int(value) / 1024 for name, value in kib.items()}
    print(f"  server: {mib['VmRSS']:.0f} MiB, at most {mib['VmHWM']:.0f} MiB; {num_files} open files")


def print_latency(records: dict[str, SlideRecord], port: int, *, clients: int, connections: int, screens: int) -> None:
    """Walk twice, and print the latency of the second time."""
    for turn in ("first", "warm"):
        with ThreadPoolExecutor(clients) as pool:
            start_s = time.perf_counter()
            asked = [pool.submit(_walk, records, port, connections, screens, seed) for seed in range(clients)]
            seconds = [each for walk in asked for each in walk.result()]
            wall_s = time.perf_counter() - start_s
        print(
            f"{clients} clients of {connections} connection(s), {turn:5}: {percentiles(seconds)}   "
            f"mean {1e3 * statistics.mean(seconds):.1f}   {len(seconds) / wall_s:.0f} tiles/s"
        )


def _walk(records: dict[str, SlideRecord], port: int, connections: int, screens: int, seed: int) -> list[float]:
    """Seconds until each tile was there, screen by screen."""
    open_connections = [http.client.HTTPConnection(LOCAL, port, timeout=60) for _ in range(connections)]
    seconds: list[float] = []
    with ThreadPoolExecutor(connections) as pool:
        for screen in tiles_of_screens(records, screens, seed):
            shares = [screen[number::connections] for number in range(connections)]
            for found in pool.map(_fetch, open_connections, shares):
                seconds += found
    for connection in open_connections:
        connection.close()
    return seconds


def _fetch(connection: http.client.HTTPConnection, tiles: Sequence[Tile]) -> list[float]:
    seconds = []
    for tile in tiles:
        start_s = time.perf_counter()
        connection.request("GET", tile.path)
        answer = connection.getresponse()
        content = answer.read()
        seconds.append(time.perf_counter() - start_s)
        assert answer.status == 200, (tile, answer.status, content)
        assert answer.headers["X-Tile-Error"] is None, answer.headers["X-Tile-Error"]
    return seconds


if __name__ == "__main__":
    tyro.cli(main)
