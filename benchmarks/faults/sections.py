"""Sections whose boxes overlap, and given boxes that cut or share pieces: a section counts its own tissue alone."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.slides.geometry import Box
from benchmarks.faults.fault import Fault, Trial
from benchmarks.faults.results import SlideResult
from benchmarks.faults.slide_files import MPP, Picture, write_pyramid
from benchmarks.faults.slide_trials import Changed, slide_fault
from benchmarks.faults.textures import glass, nest_texture, tissue_texture

KIND = "sections"
_SHAPE = (1024, 1280)
_Make = Callable[[Trial], Changed]
Mask = NDArray[np.bool_]


def _polygon(points: list[tuple[float, float]]) -> Mask:
    mask = np.zeros(_SHAPE, dtype=np.uint8)
    cv2.fillPoly(mask, [np.array(points).round().astype(np.int32)], 1)
    return mask.astype(bool)


def _strip(start: tuple[float, float], end: tuple[float, float], width_px: float) -> Mask:
    """A strip between two points (x, y)."""
    along = np.subtract(end, start)
    across = np.array([-along[1], along[0]]) / np.hypot(*along) * width_px / 2
    corners = [start + across, end + across, end - across, start - across]
    return _polygon([(float(x), float(y)) for x, y in corners])


def _laid(trial: Trial, pieces: list[Mask], nests: list[Mask]) -> Picture:
    """Tissue in the pieces, and nests in it, on glass."""
    picture = glass(_SHAPE, np.random.default_rng(0))
    tissue, nest = tissue_texture(trial.scene, _SHAPE), nest_texture(trial.scene, _SHAPE)
    for mask in pieces:
        picture[mask] = tissue[mask]
    for mask in nests:
        picture[mask] = nest[mask]
    return picture


def _each_alone(trial: Trial, pieces: list[Mask], nests: list[Mask]) -> SlideResult:
    """The results of slides that hold one of the pieces each, as if they were of one slide."""
    results = []
    for number, piece in enumerate(pieces):
        own = [nest & piece for nest in nests]
        path = write_pyramid(trial.folder / f"alone-{number}.tif", _laid(trial, [piece], own))
        results.append(trial.scene.unharmed(path))
    sections = [section for result in results for section in result.sections]
    assert len(sections) == len(pieces), f"{len(sections)} sections of {len(pieces)} pieces"
    return SlideResult(sections=sections, heatmap=results[0].heatmap, mpp=results[0].mpp, pixel_um=results[0].pixel_um)


def _of(trial: Trial, pieces: list[Mask], nests: list[Mask], boxes: tuple[Box, ...] = ()) -> Changed:
    path = write_pyramid(trial.folder / "changed.tif", _laid(trial, pieces, nests))
    like = _each_alone(trial, pieces, nests)
    if boxes:
        # A given box is kept as it is; what counts in it is the section's own piece.
        given = [(box.x * MPP, box.y * MPP, box.width * MPP, box.height * MPP) for box in boxes]
        sections = [replace(section, box_um=box) for section, box in zip(like.sections, given, strict=True)]
        like = replace(like, sections=sections)
    return Changed(path=path, like=like, boxes=boxes)


def _nest_at(x: float, y: float, radius: float, piece: Mask) -> Mask:
    mask = np.zeros(_SHAPE, dtype=np.uint8)
    cv2.circle(mask, (round(x), round(y)), round(radius), 1, cv2.FILLED)
    return mask.astype(bool) & piece


def _oblique(num: int, *, nest: int) -> _Make:
    """Parallel oblique strips whose boxes overlap, with a nest in the middle of one of them."""

    def make(trial: Trial) -> Changed:
        width_px, gap_px = 190.0, float(trial.rng.uniform(270, 290))
        lean = float(trial.rng.uniform(330, 420))
        # Moved along x, two strips are apart by less than that along their common normal.
        step = (width_px + gap_px) / np.cos(np.arctan2(lean, 840))
        starts = [(115 + number * step, 90.0) for number in range(num)]
        pieces = [_strip((x, y), (x + lean, y + 840), width_px) for x, y in starts]
        x, y = starts[nest]
        where = float(trial.rng.uniform(0.35, 0.65))
        return _of(trial, pieces, [_nest_at(x + lean * where, y + 840 * where, 75, pieces[nest])])

    return make


def _hook(trial: Trial) -> Changed:
    """A piece in the bay of a larger one, which has the shape of an L; the nest is in the smaller one."""
    large = _polygon([(60, 60), (270, 60), (270, 760), (1200, 760), (1200, 960), (60, 960)])
    x, y = trial.rng.uniform(570, 600), trial.rng.uniform(60, 80)
    small = _polygon([(x, y), (x + 600, y), (x + 600, y + 400), (x, y + 400)])
    return _of(trial, [large, small], [_nest_at(x + 260, y + 200, 75, small)])


def _touching_corner(trial: Trial) -> Changed:
    """Two triangles whose boxes are nearly one: the nest is in one of them."""
    gap = float(trial.rng.uniform(290, 310))
    upper = _polygon([(60, 60), (1160 - gap, 60), (60, 960 - gap)])
    lower = _polygon([(1220, 960), (100 + gap, 960), (1220, 80 + gap)])
    return _of(trial, [upper, lower], [_nest_at(210, 220, 75, upper)])


def _given(boxes: Callable[[Box, Box], tuple[Box, Box]]) -> _Make:
    """Two pieces side by side, the left one with a nest near the right, and boxes that a person gave them."""

    def make(trial: Trial) -> Changed:
        x = int(trial.rng.integers(50, 80))
        left, right = Box(x, 90, 440, 620), Box(x + 440 + 290, 90, 400, 620)
        pieces = [
            _polygon([(box.x, box.y), (box.x_end, box.y), (box.x_end, box.y_end), (box.x, box.y_end)])
            for box in (left, right)
        ]
        nest = _nest_at(left.x_end - 110, 400, 80, pieces[0])
        return _of(trial, pieces, [nest], boxes=boxes(left, right))

    return make


def _grown(box: Box, left: int, top: int, right: int, bottom: int) -> Box:
    return Box(box.x - left, box.y - top, box.width + left + right, box.height + top + bottom)


FAULTS: tuple[Fault, ...] = (
    *(
        slide_fault(KIND, name, make)
        for name, make in (
            ("two oblique strips, nest in the first", _oblique(2, nest=0)),
            ("two oblique strips, nest in the second", _oblique(2, nest=1)),
            ("a piece in the bay of another", _hook),
            ("two triangles in one square", _touching_corner),
        )
    ),
    *(
        slide_fault(KIND, name, make, by_finding=True)
        for name, make in (
            ("given boxes that share a nest", _given(lambda left, right: (left, _grown(right, 440, 0, 0, 0)))),
            ("given boxes that are both the slide", _given(lambda left, right: (_hull(left, right),) * 2)),
            ("given box that cuts a piece", _given(lambda left, right: (_grown(left, 0, 0, -220, 0), right))),
            ("given box beside its piece", _given(lambda left, right: (left, Box(right.x, 800, right.width, 180)))),
            ("given boxes of the wrong pieces", _given(lambda left, right: (_grown(left, 0, 0, 690, 0), right))),
        )
    ),
)


def _hull(first: Box, other: Box) -> Box:
    return Box(first.x, first.y, other.x_end - first.x, max(first.height, other.height))
