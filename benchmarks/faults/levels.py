"""Levels that do not fit each other, several images in one file, units and directions that are not what they seem."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from bccdist.files import csv_text, write_text
from benchmarks.faults.doctor_trials import diagnose
from benchmarks.faults.fault import Fault, Outcome, Seen, Trial
from benchmarks.faults.slide_files import (
    MPP,
    Picture,
    levels_of,
    pages_of,
    write_pyramid,
    write_tiff,
)
from benchmarks.faults.slide_trials import Changed, judge, slide_fault

KIND = "levels"
_ORIENTATION = 274
_STORED: dict[int, Callable[[Picture], Picture]] = {
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.transpose(1, 0, 2),
    6: lambda shown: shown.transpose(1, 0, 2)[::-1],
    7: lambda shown: shown[::-1, ::-1].transpose(1, 0, 2),
    8: lambda shown: shown.transpose(1, 0, 2)[:, ::-1],
}
"""What is stored of a picture that the tag Orientation turns back to what is shown."""
_Make = Callable[[Trial], Changed]


def _padded(colour: int, *, compression: str, sides: tuple[bool, bool] = (True, True)) -> _Make:
    """Lower levels padded to whole tiles."""

    def make(trial: Trial) -> Changed:
        height, width = (int(edge) // 2 - int(trial.rng.integers(20, 120)) for edge in trial.scene.picture.shape[:2])
        level_0, *others = levels_of(trial.scene.picture[: 2 * height // 4 * 4, : 2 * width // 4 * 4])
        like = write_pyramid(trial.folder / "like.tif", level_0, compression=compression)
        levels = [level_0, *(_to_whole_tiles(level, colour, sides) for level in others)]
        pages = [
            replace(page, mpp=(MPP * factor,) * 2)
            for page, factor in zip(pages_of(levels, compression=compression), (1, 2, 4), strict=True)
        ]
        return Changed(path=write_tiff(trial.folder / "changed.tif", pages), like=like)

    return make


def _to_whole_tiles(level: Picture, colour: int, sides: tuple[bool, bool]) -> Picture:
    rows, cols = (-edge % 256 if is_padded else 0 for edge, is_padded in zip(level.shape[:2], sides, strict=True))
    return np.pad(level, ((0, rows), (0, cols), (0, 0)), constant_values=colour)


def _other_aspect(trial: Trial) -> Changed:
    """Lower levels squeezed in one direction."""
    level_0, *others = levels_of(trial.scene.picture)
    squeeze = float(trial.rng.uniform(0.88, 0.96))
    squeezed = [cv2.resize(level, None, fx=1, fy=squeeze, interpolation=cv2.INTER_AREA) for level in others]
    levels = [level_0, *(np.asarray(level, dtype=np.uint8) for level in squeezed)]
    return Changed(path=write_tiff(trial.folder / "changed.tif", pages_of(levels)), like=trial.scene.jpeg)


def _two_pyramids(*, larger_second: bool, interleaved: bool = False) -> Callable[[Trial], Seen]:
    """A second image with levels of its own: the results of either one are right, a mixture is not."""

    def run(trial: Trial) -> Seen:
        scene = trial.scene
        smaller = np.ascontiguousarray(scene.picture[::-1, : scene.picture.shape[1] // 4 * 3 // 16 * 16])
        first, second = pages_of(levels_of(scene.picture)), pages_of(levels_of(smaller))
        like = [scene.jpeg, write_tiff(trial.folder / "second.tif", second)]
        if larger_second:
            first, second = second, first
        pages = [page for pair in zip(first, second, strict=True) for page in pair] if interleaved else first + second
        path = write_tiff(trial.folder / "changed.tif", pages)
        other = judge(trial, Changed(path=path, like=like[1]), by_finding=True)
        if other.outcome is Outcome.RIGHT:
            return other
        return judge(replace_folder(trial), Changed(path=path, like=like[0]), by_finding=True)

    return run


def replace_folder(trial: Trial) -> Trial:
    """The trial with another folder, for another look at its files."""
    folder = trial.folder / "again"
    folder.mkdir()
    return replace(trial, folder=folder)


def _oriented(orientation: int) -> _Make:
    def make(trial: Trial) -> Changed:
        stored = np.ascontiguousarray(_STORED[orientation](trial.scene.picture))
        tag = (_ORIENTATION, "H", 1, orientation, True)
        pages = [replace(page, extra_tags=[tag]) for page in pages_of(levels_of(stored))]
        return Changed(path=write_tiff(trial.folder / "changed.tif", pages), like=trial.scene.jpeg)

    return make


def _not_square(squeeze: tuple[float, float], *, mpp: float | None) -> _Make:
    """The picture stored with fewer pixels along one side, and um/px that say so."""

    def make(trial: Trial) -> Changed:
        picture = np.asarray(
            cv2.resize(trial.scene.picture, None, fx=1 / squeeze[0], fy=1 / squeeze[1], interpolation=cv2.INTER_AREA),
            dtype=np.uint8,
        )
        pages = [
            replace(page, mpp=(MPP * squeeze[0] * factor, MPP * squeeze[1] * factor))
            for page, factor in zip(pages_of(levels_of(picture)), (1, 2, 4), strict=True)
        ]
        path = write_tiff(trial.folder / "changed.tif", pages)
        return Changed(path=path, like=trial.scene.jpeg, mpp=mpp)

    return make


def _wrong_units(factor: float, *, mpp: float = MPP, others: tuple[float, ...] = ()) -> Callable[[Trial], Seen]:
    """One slide of a scanner whose um/px are wrong by a factor; `others` are um/px of another scanner's slides."""

    def run(trial: Trial) -> Seen:
        rows = []
        wrong = int(trial.rng.integers(4))
        for number, um in enumerate([mpp] * 4 + list(others)):
            said = um * factor if number == wrong else um
            slide = f"s{number}-{said:.4f}.tif"
            trial.scene.shared(slide, partial(write_pyramid, picture=trial.scene.picture, mpp=said))
            scanner = "first" if number < 4 else "second"
            rows.append(
                {"slide_id": f"s{number}", "part": "test", "path": trial.scene.folder / slide, "scanner": scanner}
            )
        write_text(trial.folder / "slides.csv", csv_text(list(rows[0]), rows))
        found = diagnose(trial.folder / "slides.csv")
        usual = {code for slide, code in found if slide not in ("", f"s{wrong}")}
        if codes := [code for slide, code in found if slide == f"s{wrong}" and code not in usual]:
            return Seen(Outcome.FINDING, ", ".join(codes))
        return Seen(Outcome.SILENT, f"{mpp * factor:.4g} um/px beside {mpp} of its scanner's others")

    return run


FAULTS: tuple[Fault, ...] = (
    *(
        slide_fault(KIND, name, make, by_finding=True)
        for name, make in (
            ("lower levels padded with white, lossless", _padded(255, compression="deflate")),
            ("lower levels padded with white, jpeg", _padded(255, compression="jpeg")),
            ("lower levels padded with black, jpeg", _padded(0, compression="jpeg")),
            ("lower levels padded below only", _padded(255, compression="jpeg", sides=(True, False))),
            ("lower levels padded at the right only", _padded(255, compression="jpeg", sides=(False, True))),
            ("lower levels of another aspect", _other_aspect),
            *((f"orientation {number}", _oriented(number)) for number in _STORED),
            ("pixels half as many along y", _not_square((1, 2), mpp=None)),
            ("pixels half as many along y, mpp set", _not_square((1, 2), mpp=MPP)),
            ("pixels half as many along x, mpp set", _not_square((2, 1), mpp=MPP)),
            ("pixels fewer by a fifth along y, mpp set", _not_square((1, 1.25), mpp=MPP)),
        )
    ),
    *(
        Fault(kind=KIND, name=name, run=run)
        for name, run in (
            ("two pyramids, the larger first", _two_pyramids(larger_second=False)),
            ("two pyramids, the larger second", _two_pyramids(larger_second=True)),
            ("two pyramids, page by page", _two_pyramids(larger_second=False, interleaved=True)),
            *(
                (f"um/px times {name}", _wrong_units(factor))
                for name, factor in (
                    ("2.54", 2.54), ("1 / 2.54", 1 / 2.54), ("2", 2.0), ("1 / 2", 0.5), ("10", 10.0), ("1 / 10", 0.1)
                )
            ),
            ("um/px of 0.25 times 2, two scanners", _wrong_units(2.0, mpp=0.25, others=(0.5, 0.5))),
            ("um/px times 1 / 2.54, two scanners", _wrong_units(1 / 2.54, others=(0.182, 0.182, 0.182))),
        )
    ),
)  # fmt: skip
