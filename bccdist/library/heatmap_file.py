"""A heatmap on disk as arrays that say where they lie: whole, or a region of it without the rest."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from bccdist.configuration import CELL_PX, phantom_warning, pixel_px
from bccdist.errors import HeatmapError
from bccdist.heatmaps.probability import NUM_STEPS
from bccdist.heatmaps.store import Heatmap
from bccdist.slides.geometry import Box

BoxLike = Box | Sequence[float]
"""x, y, width and height, such as a section's `box_level0_px`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeatmapArray(NDArrayOperatorsMixin):
    """Pixels of one output of a slide, and where they lie on it; it is used like the array of its values.

    Operators, functions of numpy, indices and methods give plain arrays, which do not know where they lie.

    Attributes:
        values: 255 times the probability of Tumor, uint8 [h, w].
    """

    values: NDArray[np.uint8]
    psi: str
    """The output's name."""
    mpp: float
    """Um per pixel of this array."""
    origin_level0_px: tuple[float, float]
    """x and y of the first pixel's upper left corner on the slide."""
    downsample: float
    """Level-0 pixels of the slide per pixel of this array."""

    @property
    def probability(self) -> NDArray[np.float32]:
        """The probability of Tumor, 0 to 1: float32 [h, w]."""
        return self.values.astype(np.float32) / np.float32(NUM_STEPS)

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """That of the stored values."""
        return self.values.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The values, as numpy asks for them."""
        return np.array(self.values, dtype=dtype, copy=copy)

    def __array_ufunc__(self, function: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """What numpy's function gives for the values; operators such as `>` and `+` come here, too."""
        plain = (each.values if isinstance(each, HeatmapArray) else each for each in inputs)
        return getattr(function, method)(*plain, **options)

    def __getitem__(self, index: Any) -> Any:
        """Some of the values."""
        return self.values[index]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.values)

    def __bool__(self) -> bool:
        """As numpy has it: of several values it is not known, which is an error."""
        return bool(self.values)

    def __getattr__(self, name: str) -> Any:
        """What an array has beside that, such as `max`, `mean`, `ndim` and `T`."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.values, name)

    def __repr__(self) -> str:
        """What it is, without its pixels."""
        height, width = self.shape
        x, y = self.origin_level0_px
        return f"<{self.psi}, {width} x {height} px of {self.mpp:.4g} um, from ({x:g}, {y:g}) of level 0>"


class HeatmapFile:
    """A slide's heatmaps on disk, one for each output of the network.

    Attributes:
        path: the file's.
        slide_id: the slide.
        outputs: names of what is stored, the final output last.
        mpp: um per pixel of the target frame, which is that of the outputs psi_4 and merged.
        size_level0_px: the slide's width and height.
        full_coverage: the value of `coverage` where all was read.
        warning: what is not real, the slide or what the network learned from as far as the file says it; else empty.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a file.

        Raises:
            HeatmapError: there is none, or it is damaged or not one of ours.
        """
        self.path = Path(path)
        self._heatmap = Heatmap(self.path)
        attributes = self._heatmap.attributes
        self.slide_id = attributes.slide_id
        self.outputs = attributes.outputs
        self.mpp = attributes.mpp
        self.size_level0_px = attributes.size_level0_px
        self.full_coverage = attributes.full_coverage
        self.warning = phantom_warning(slides=attributes.phantom)

    def read(
        self, psi: str | None = None, *, box_level0_px: BoxLike | None = None, box_target_px: BoxLike | None = None
    ) -> HeatmapArray:
        """Pixels of an output: all of them, or those that touch a box; no others are read then.

        Args:
            psi: one of `outputs`; None is the final one.
            box_level0_px: x, y, width and height in level-0 px of the slide, cut to it.
            box_target_px: the same in pixels of the target frame, of `mpp`, in place of `box_level0_px`.

        Raises:
            HeatmapError: the output is not stored or damaged, or the box is none or lies outside of the slide.
        """
        known = self.outputs[-1] if psi is None else next((each for each in self.outputs if each == psi), None)
        if known is None:
            raise HeatmapError(f"{self.path}: holds {', '.join(self.outputs)}, but {psi} is asked for")
        box_target = self._box_target_px(box_level0_px, box_target_px)
        values, box_px = self._heatmap.read(known, box_target), self._heatmap.lattice_box(known, box_target)
        return self._placed(values, known, box_px, pixel_px(known))

    @property
    def coverage(self) -> HeatmapArray:
        """Patches that were averaged, for each cell of 256 target px; on tissue, `full_coverage` where all was read.

        Raises:
            HeatmapError: it is damaged.
        """
        values = self._heatmap.coverage
        return self._placed(values, "coverage", Box(0, 0, values.shape[1], values.shape[0]), CELL_PX)

    def _placed(self, values: NDArray[np.uint8], name: str, box_px: Box, edge_target_px: int) -> HeatmapArray:
        edge_level0_px = edge_target_px * self._heatmap.attributes.downsample
        return HeatmapArray(
            values=values,
            psi=name,
            mpp=edge_target_px * self.mpp,
            origin_level0_px=(box_px.x * edge_level0_px, box_px.y * edge_level0_px),
            downsample=edge_level0_px,
        )

    def _box_target_px(self, box_level0_px: BoxLike | None, box_target_px: BoxLike | None) -> Box:
        """What is asked for, in whole pixels of the target frame.

        Raises:
            HeatmapError: the box is none, or lies outside of the slide.
        """
        if box_level0_px is not None and box_target_px is not None:
            raise HeatmapError("a box in level-0 px and one in target px: give one of them")
        given = box_target_px if box_level0_px is None else box_level0_px
        if given is None:
            return self._heatmap.box_target_px
        sides = [float(side) for side in given]
        if len(sides) != 4 or not all(map(isfinite, sides)) or min(sides[2:]) <= 0:
            raise HeatmapError(f"the box {tuple(given)}: expected x, y, and a width and height above 0")
        factor = 1.0 if box_level0_px is None else 1 / self._heatmap.attributes.downsample
        box = _whole(sides, factor).intersection(self._heatmap.box_target_px)
        if not box.area:
            width, height = self.size_level0_px if box_target_px is None else self._heatmap.attributes.size_target_px
            frame = "level-0" if box_target_px is None else "target"
            raise HeatmapError(
                f"{self.path}: the box {tuple(given)} lies outside of the slide's {width} x {height} {frame} px"
            )
        return box

    def __repr__(self) -> str:
        """What it is, in a line."""
        width, height = self.size_level0_px
        warning = f", {self.warning}" if self.warning else ""
        return f"<heatmaps of {self.slide_id}, {', '.join(self.outputs)}: {width} x {height} level-0 px{warning}>"


def _whole(sides: Sequence[float], factor: float) -> Box:
    """The smallest box of whole pixels that holds sides given in another frame."""
    x, y, width, height = (side * factor for side in sides)
    left, top = int(np.floor(x)), int(np.floor(y))
    return Box(left, top, int(np.ceil(x + width)) - left, int(np.ceil(y + height)) - top)


def open_heatmap(path: str | os.PathLike[str]) -> HeatmapFile:
    """Open the heatmaps of a slide: a file .ozx of a study, a cohort, or of `predict` with `out`.

    Raises:
        HeatmapError: there is none, or it is damaged or not one of ours.
    """
    return HeatmapFile(path)
