"""Levels whose factor is no whole number: a level's own pixels are read at every place, whatever level 0 measures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.faults.fault import Fault, Trial
from benchmarks.faults.results import EXACT, NEAR, Tolerance
from benchmarks.faults.slide_files import MPP, Picture, levels_of, pages_of, write_pyramid, write_svs, write_tiff
from benchmarks.faults.slide_trials import Changed, slide_fault

KIND = "factors"
_OTHER_MPP = Tolerance(share=0.08, area_um2=400.0, differing=0.002)
"""For the same pixels of a level, whose um/px is another one by up to 2 %."""
_Make = Callable[[Trial], Changed]


def _base(trial: Trial, compression: str) -> Path:
    return trial.scene.jpeg if compression == "jpeg" else trial.scene.lossless


def _level_0_cut(compression: str, *, num_px: tuple[int, int] = (1, 1)) -> _Make:
    """Pixels cut off level 0 alone; more than one, and the next level reaches beyond it: another level may be read."""

    def make(trial: Trial) -> Changed:
        levels = levels_of(trial.scene.picture)
        height, width = levels[0].shape[:2]
        right, bottom = trial.rng.integers(num_px[0], num_px[1] + 1, 2).tolist()
        levels[0] = levels[0][: height - bottom, : width - right]
        path = write_tiff(trial.folder / "changed.tif", pages_of(levels, compression=compression))
        tolerance = EXACT if num_px[1] == 1 else NEAR
        return Changed(path=path, like=_base(trial, compression), tolerance=tolerance)

    return make


def _stored_otherwise(compression: str, *, is_planar: bool = False, has_alpha: bool = False) -> _Make:
    """Level 0 cut by a pixel, in a coding that only some exporters use."""

    def make(trial: Trial) -> Changed:
        levels = levels_of(trial.scene.picture)
        levels[0] = levels[0][:-1, :-1]
        if has_alpha:
            levels = [np.dstack([level, np.full(level.shape[:2], 255, np.uint8)]) for level in levels]
        pages = [replace(page, is_planar=is_planar) for page in pages_of(levels, compression=compression)]
        path = write_tiff(trial.folder / "changed.tif", pages)
        is_lossless = compression != "jpeg"
        return Changed(path=path, like=trial.scene.lossless, tolerance=EXACT if is_lossless else NEAR)

    return make


def _level_0_longer(compression: str) -> _Make:
    """A level 0 with a column or row that the next level lost when it was rounded down."""

    def make(trial: Trial) -> Changed:
        levels = levels_of(trial.scene.picture)
        rows, cols = trial.rng.permutation([0, 1]).tolist()
        levels[0] = levels[0][list(range(len(levels[0]))) + [-1] * rows][
            :, list(range(levels[0].shape[1])) + [-1] * cols
        ]
        path = write_tiff(trial.folder / "changed.tif", pages_of(levels, compression=compression))
        return Changed(path=path, like=_base(trial, compression), tolerance=EXACT)

    return make


def _factor(low: float, high: float, compression: str) -> _Make:
    """A lower level that was cut or continued, so that its factor is another one."""

    def make(trial: Trial) -> Changed:
        level_0, level_1, level_2 = levels_of(trial.scene.picture)
        factor = float(trial.rng.uniform(low, high))
        levels = [level_0, _of_factor(level_1, level_0, factor), _of_factor(level_2, level_0, 2 * factor)]
        path = write_tiff(trial.folder / "changed.tif", pages_of(levels, compression=compression))
        return Changed(path=path, like=_base(trial, compression), tolerance=_OTHER_MPP)

    return make


def _of_factor(level: Picture, level_0: Picture, factor: float) -> Picture:
    """A level cut, or continued with its last pixels, to a size."""
    rows, cols = (
        [min(place, old - 1) for place in range(round(new / factor))]
        for old, new in zip(level.shape[:2], level_0.shape[:2], strict=True)
    )
    return level[rows][:, cols]


def _svs_cut(trial: Trial) -> Changed:
    levels = levels_of(trial.scene.picture)
    levels[0] = levels[0][:-1, :-1]
    return Changed(path=write_svs(trial.folder / "changed.svs", levels), like=trial.scene.jpeg, tolerance=EXACT)


def _resampled(trial: Trial) -> Changed:
    """No level is near the target, so that pixels are averaged from a finer one."""
    mpp = MPP * 0.8
    like = trial.scene.shared("finer.tif", lambda path: write_pyramid(path, trial.scene.picture, mpp=mpp))
    levels = levels_of(trial.scene.picture)
    right, bottom = trial.rng.integers(1, 4, 2).tolist()
    levels[0] = levels[0][:-bottom, :-right]
    path = write_tiff(trial.folder / "changed.tif", pages_of(levels, mpp=mpp))
    return Changed(path=path, like=like, tolerance=NEAR)


FAULTS: tuple[Fault, ...] = tuple(
    slide_fault(KIND, name, make)
    for name, make in (
        ("level 0 cut by 1 px, lossless", _level_0_cut("deflate")),
        ("level 0 cut by 1 px, jpeg", _level_0_cut("jpeg")),
        ("level 0 cut by 2 or 3 px, lossless", _level_0_cut("deflate", num_px=(2, 3))),
        ("level 0 cut by 2 or 3 px, jpeg", _level_0_cut("jpeg", num_px=(2, 3))),
        ("level 0 cut by 8 to 10 px, jpeg", _level_0_cut("jpeg", num_px=(8, 10))),
        ("level 0 longer by 1 px, lossless", _level_0_longer("deflate")),
        ("level 0 longer by 1 px, jpeg", _level_0_longer("jpeg")),
        ("factor 2.001 to 2.02, lossless", _factor(2.001, 2.02, "deflate")),
        ("factor 2.001 to 2.02, jpeg", _factor(2.001, 2.02, "jpeg")),
        ("factor 1.98 to 1.999, lossless", _factor(1.98, 1.999, "deflate")),
        ("factor 1.98 to 1.999, jpeg", _factor(1.98, 1.999, "jpeg")),
        ("level 0 cut by 1 px, planes apart", _stored_otherwise("deflate", is_planar=True)),
        ("level 0 cut by 1 px, planes apart, jpeg", _stored_otherwise("jpeg", is_planar=True)),
        ("level 0 cut by 1 px, with an alpha channel", _stored_otherwise("deflate", has_alpha=True)),
        ("level 0 cut by 1 px, alpha channel, planes apart", _stored_otherwise("lzw", is_planar=True, has_alpha=True)),
        ("level 0 cut by 1 px, zstd", _stored_otherwise("zstd")),
        ("level 0 cut by 1 px, packbits", _stored_otherwise("packbits")),
        ("svs: level 0 cut by 1 px", _svs_cut),
        ("level 0 cut, and no level near the target", _resampled),
    )
)
