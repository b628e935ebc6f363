"""How many twins of slides are found: `python benchmarks/likeness.py slides.csv [--also FILE ...] [--num-drawn 650]`.

Each slide is changed as a second file of the same piece would be: turned, mirrored, recompressed, cut, scanned again,
at another um/px, with seeded chance. The twins are written as TIFF files and their fingerprints made of these; all
slides and all twins of one change are then compared with each other. Printed are the share of twins that are found,
the pairs of different tissue that are called alike, and the times.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, TypeVar

import cv2
import numpy as np
import tifffile
import tyro

from bccdist.addresses import on_this_machine
from bccdist.command import run_command
from bccdist.slides.fingerprints import Fingerprint, content_of, make_fingerprint
from bccdist.slides.likeness import look_alikes
from bccdist.slides.manifest import read_manifest
from bccdist.slides.slide import Slide
from benchmarks.rescans import Picture, recompressed, scaled, scanned_again, turned

Result = TypeVar("Result")
Sources = dict[str, tuple[Path, float | None]]
"""Files by name, with the um/px where the file's is wrong."""
_TWIN = "twin of "
_READ_MPP = 0.92
_TISSUE_SHARE = 0.15
"""Share of a cutting that is darker than glass; cuttings of glass have nothing to be found by."""


Change = Callable[[Picture, np.random.Generator], tuple[Picture, float]]
"""From a picture to the changed one, and how many times the um/px the file says."""


def _cut(picture: Picture, random: np.random.Generator, *, edge: float) -> Picture:
    """A cutting of a share of each edge, with some tissue on it."""
    height, width = (int(length * edge) for length in picture.shape[:2])
    for _ in range(100):
        y = int(random.integers(picture.shape[0] - height + 1))
        x = int(random.integers(picture.shape[1] - width + 1))
        cutting = picture[y : y + height, x : x + width]
        if float((cutting.min(axis=2) < 215).mean()) > _TISSUE_SHARE:
            break
    return cutting


CHANGES: dict[str, Change] = {
    "turned by 90, 180 or 270 degrees": lambda picture, random: (np.rot90(picture, int(random.integers(1, 4))), 1),
    "turned by any angle": lambda picture, random: (turned(picture, random.uniform(5, 355)), 1),
    "mirrored": lambda picture, random: (picture[:, ::-1] if random.random() < 0.5 else picture[::-1], 1),
    "mirrored and turned": lambda picture, random: (turned(picture[:, ::-1].copy(), random.uniform(5, 355)), 1),
    "JPEG of quality 30": lambda picture, _: (recompressed(picture, 30), 1),
    "JPEG of quality 10": lambda picture, _: (recompressed(picture, 10), 1),
    "cut to 70 % of each edge": lambda picture, random: (_cut(picture, random, edge=0.7), 1),
    "cut to 50 %": lambda picture, random: (_cut(picture, random, edge=0.5), 1),
    "cut to 50 %, mirrored and turned": lambda picture, random: (
        np.rot90(_cut(picture, random, edge=0.5)[:, ::-1]),
        1,
    ),
    "cut to 35 %": lambda picture, random: (_cut(picture, random, edge=0.35), 1),
    "1.3 times the um/px": lambda picture, _: (scaled(picture, 1 / 1.3), 1.3),
    "2 times the um/px": lambda picture, _: (scaled(picture, 0.5), 2),
    "half the um/px": lambda picture, _: (scaled(picture, 2.0), 0.5),
    "um/px 2 times too large": lambda picture, _: (picture, 2),
    "um/px 2.54 times too large": lambda picture, _: (picture, 2.54),
    "um/px 2 times too small": lambda picture, _: (picture, 0.5),
    "scanned again": lambda picture, random: (scanned_again(picture, random), 1),
    "scanned again at 1.8 times the um/px": lambda picture, random: (
        scanned_again(scaled(picture, 1 / 1.8), random),
        1.8,
    ),
}


def _picture_of(path: Path, mpp: float | None) -> tuple[Picture, float]:
    """A slide at about 10x, and its um/px."""
    with Slide(path, target_mpp=_READ_MPP, mpp=mpp) as slide:
        return slide.thumbnail(_READ_MPP), max(_READ_MPP, slide.resolution.mpp_level0)


def _write(path: Path, twin: Picture, mpp: float) -> None:
    tifffile.imwrite(
        path,
        np.ascontiguousarray(twin),
        photometric="rgb",
        tile=(256, 256),
        compression="deflate",
        resolution=(1e4 / mpp,) * 2,
        resolutionunit="CENTIMETER",
        metadata=None,
    )


def _twins(sources: Sources, folder: Path, *, seed: int) -> Iterator[tuple[str, str, Fingerprint]]:
    """Source, change and fingerprint of each twin."""
    for number, (name, (path, given_mpp)) in enumerate(sources.items()):
        picture, mpp = _picture_of(path, given_mpp)
        for change_number, (change_name, change) in enumerate(CHANGES.items()):
            random = np.random.default_rng([seed, number, change_number])
            changed, factor = change(picture, random)
            _write(folder / "twin.tif", changed, mpp * factor)
            yield name, change_name, make_fingerprint(folder / "twin.tif", mpp=None)


def _timed(what: Callable[[], Result]) -> tuple[Result, float]:
    """What comes out, and the CPU time that it took."""
    start_s = time.process_time()
    result = what()
    return result, time.process_time() - start_s


def measure(sources: Sources, *, seed: int) -> dict[str, Fingerprint]:
    """Print how many twins are found, which pairs are false, and times of one core; returns the fingerprints."""
    content_s, prints_s, prints = [], [], {}
    for name, (path, mpp) in sources.items():
        content_s.append(_timed(partial(content_of, path))[1])
        prints[name], seconds = _timed(partial(make_fingerprint, path, mpp=mpp))
        prints_s.append(seconds)
    print(f"content: median {np.median(content_s):.2f} s a slide, at most {max(content_s):.2f} s")
    print(f"whole fingerprint: median {np.median(prints_s):.2f} s a slide, at most {max(prints_s):.2f} s")
    alike, seconds = _timed(partial(look_alikes, prints))
    print(f"{len(prints)} slides compared in {seconds:.1f} s; alike: {len(alike)} pair(s)")
    for each in alike:
        print(f"  {each.slide_ids[0]} and {each.slide_ids[1]}: {each.num_agreeing} landmarks")
    true = {frozenset(each.slide_ids) for each in alike} | {frozenset([name]) for name in prints}
    with tempfile.TemporaryDirectory() as folder:
        twins = sorted(_twins(sources, Path(folder), seed=seed), key=lambda twin: list(CHANGES).index(twin[1]))
    num_found = num_false = 0
    for change, of_change in groupby(twins, key=lambda twin: twin[1]):
        group = {f"{_TWIN}{name}": fingerprint for name, _, fingerprint in of_change}
        found = look_alikes({**prints, **group})
        agreeing = dict.fromkeys(prints, 0)
        for each in found:
            names = frozenset(name.removeprefix(_TWIN) for name in each.slide_ids)
            if len(names) == 1:
                agreeing[next(iter(names))] = each.num_agreeing
            elif names not in true:
                num_false += 1
                print(f"  FALSE: {each.slide_ids[0]} and {each.slide_ids[1]}: {each.num_agreeing} landmarks")
        numbers = sorted(agreeing.values())
        num_found += sum(number > 0 for number in numbers)
        missed = [name for name, number in agreeing.items() if not number]
        print(
            f"{change:38s} {len(numbers) - len(missed):4d} of {len(numbers)}; landmarks: fewest {numbers[0]}, "
            f"median {numbers[len(numbers) // 2]}{'; NOT FOUND: ' if missed else ''}{', '.join(missed)}",
            flush=True,
        )
    print(f"all: {num_found} of {len(twins)} found ({num_found / len(twins):.2%}), {num_false} false pair(s)")
    return prints


def _time_many(prints: dict[str, Fingerprint], num: int, *, seed: int) -> None:
    """How long a comparison of many slides takes: landmarks drawn from all slides at random."""
    random = np.random.default_rng(seed)
    pool = np.concatenate([each.descriptors for each in prints.values()])
    many = {}
    for number in range(num):
        rows = random.integers(len(pool), size=800)
        many[str(number)] = Fingerprint(
            size_level0_px=(0, 0),
            content="",
            positions_px=random.uniform(0, 2000, (800, 2)).astype(np.float32),
            descriptors=(pool[rows].astype(int) + random.integers(-4, 5, (800, 128))).clip(0, 255).astype(np.uint8),
        )
    alike, seconds = _timed(partial(look_alikes, many))
    print(f"{num} slides, {num * (num - 1) // 2:,} pairs: {seconds:.0f} s of CPU time; alike: {len(alike)} pair(s)")


def main(
    manifest: Annotated[Path, tyro.conf.Positional],
    also: tuple[str, ...] = (),
    seed: int = 0,
    num_drawn: int = 0,
    every: int = 1,
) -> None:
    """Measure how many twins of slides are found.

    Args:
        manifest: The slides.csv of the slides.
        also: More slides, each as FILE or FILE:MPP.
        seed: Of what is random in the changes.
        num_drawn: So many slides with landmarks drawn at random are compared, for the time; 0 for none.
        every: Take one slide in so many.
    """
    slides = read_manifest(manifest).slides
    sources: Sources = {slide.slide_id: (on_this_machine(slide.path), slide.mpp) for slide in slides}
    for text in also:
        name, _, mpp = text.partition(":")
        sources[Path(name).name] = (Path(name), float(mpp) if mpp else None)
    cv2.setNumThreads(1)
    prints = measure(dict(list(sources.items())[::every]), seed=seed)
    if num_drawn:
        _time_many(prints, num_drawn, seed=seed)


if __name__ == "__main__":
    run_command(lambda: tyro.cli(main))
