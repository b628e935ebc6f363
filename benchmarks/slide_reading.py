"""What reading costs where the factor between levels is not whole: `python benchmarks/slide_reading.py SLIDE`.

The slide, a TIFF with a pyramid, is copied with one column and one row less at level 0, as scanners' files often are:
only what its directory says changes, its tiles stay. Both are read cell by cell at the level of the target, in turns,
and so is the slide through OpenSlide. Processor time per cell of 256 px, medians.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import tifffile
import tyro

from bccdist.configuration import CELL_PX
from bccdist.slides.geometry import cell_shape
from bccdist.slides.slide import Slide


def cut(source: Path, path: Path) -> Path:
    """A copy whose level 0 says to be a pixel narrower and lower."""
    path.write_bytes(source.read_bytes())
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("ImageWidth", "ImageLength"):
            tag = tiff.pages.first.tags[name]
            tag.overwrite(tag.value - 1)
    return path


def ms_per_cell(slide: Slide) -> float:
    """Processor time of reading every cell of a slide once."""
    shape = cell_shape(slide.width_px, slide.height_px, cell_px=CELL_PX)
    started_s = time.process_time()
    for _ in slide.read_cell_rows(np.ones(shape, dtype=bool), cell_px=CELL_PX):
        pass
    return 1000 * (time.process_time() - started_s) / (shape[0] * shape[1])


def main(slide: Annotated[Path, tyro.conf.Positional], target_mpp: float = 0.92, rounds: int = 7) -> None:
    """Read a slide, and the same with odd sizes, in turns.

    Args:
        slide: a pyramidal TIFF.
        target_mpp: um per pixel that is read.
        rounds: readings of each.
    """
    with tempfile.TemporaryDirectory() as folder:
        odd = cut(slide, Path(folder) / f"odd{slide.suffix}")
        ways = {"whole factor": (slide, True), "odd factor": (odd, True), "whole factor, OpenSlide": (slide, False)}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (path, by_tile) in ways.items():
                with Slide(path, target_mpp=target_mpp, by_tile=by_tile) as opened:
                    times[way].append(ms_per_cell(opened))
    base = statistics.median(times["whole factor"])
    for way, found in times.items():
        middle = statistics.median(found)
        print(f"{way:24} {middle:6.2f} ms a cell, {middle / base:5.2f} times the first")


if __name__ == "__main__":
    tyro.cli(main)
