"""What a network says of a slide, put together from the slide's patches at a quarter of their resolution.

A pixel of the map is 4 x 4 px of the target frame, fine enough for outlines of nests, and holds the mean over all
patches that cover it. On disk it is an 8-bit grey PNG: 0 where no patch lies, else 1 + 254 p.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.errors import SlideError
from bccdist.files import write_bytes

MAP_PX = 4
"""Edge of a pixel of the map, in px of the target frame."""
_STEPS = 254


@dataclass(frozen=True, kw_only=True)
class ProbabilityMap:
    """What is predicted on one slide."""

    probability: NDArray[np.float32]
    """Of tumor, 0 to 1, [h, w]; 0 where nothing was read."""
    is_read: NDArray[np.bool_]
    """Where a patch lies, [h, w]."""
    downsample: float
    """Level-0 pixels per pixel of the map."""
    mpp: float
    """um per pixel of the map."""


class MapInTheMaking:
    """Takes the patches of a slide one by one; of the slide it holds two numbers a pixel of the map."""

    def __init__(self, *, width_px: int, height_px: int) -> None:
        """Begin a map without patches; sizes are in px of the target frame."""
        size = (-(-height_px // MAP_PX), -(-width_px // MAP_PX))
        self._sum = np.zeros(size, dtype=np.float32)
        self._num = np.zeros(size, dtype=np.uint16)

    def add(self, probability: NDArray[np.float32], *, x_px: int, y_px: int) -> None:
        """Add a patch: probabilities [h, w] in pixels of the map, and its corner in px of the target frame."""
        x, y = round(x_px / MAP_PX), round(y_px / MAP_PX)
        # The last patches of a slide stick out of it.
        left = (self._sum.shape[0] - y, self._sum.shape[1] - x)
        height, width = (min(*sides) for sides in zip(probability.shape, left, strict=True))
        self._sum[y : y + height, x : x + width] += probability[:height, :width]
        self._num[y : y + height, x : x + width] += 1

    def finished(self, *, downsample: float, mpp: float) -> ProbabilityMap:
        """The map; of the target frame it takes level-0 pixels per pixel and um per pixel."""
        return ProbabilityMap(
            probability=(self._sum / np.maximum(self._num, 1)).astype(np.float32),
            is_read=self._num > 0,
            downsample=downsample * MAP_PX,
            mpp=mpp * MAP_PX,
        )


def pooled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels of the target frame, [..., h, w], as means in pixels of the map."""
    height, width = values.shape[-2:]
    parts = values.reshape(*values.shape[:-2], height // MAP_PX, MAP_PX, width // MAP_PX, MAP_PX)
    return np.asarray(parts.mean(axis=(-3, -1)), dtype=np.float32)


def write_map(path: Path, found: ProbabilityMap) -> None:
    """Write a map atomically."""
    values = np.where(found.is_read, 1 + np.rint(found.probability * _STEPS), 0).astype(np.uint8)
    write_bytes(path, cv2.imencode(".png", values)[1].tobytes())


def read_map(path: Path, *, downsample: float, mpp: float) -> ProbabilityMap:
    """Read a map; level-0 pixels and um per pixel of the map stand in the rows of its slide.

    Raises:
        SlideError: it is not there, or no picture.
    """
    try:
        values = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    except OSError:
        values = None
    if values is None:
        raise SlideError(
            f"{path}: not there or damaged; remove the slide's rows beside it, and launch the audit again"
        )
    return ProbabilityMap(
        probability=((np.maximum(values, 1) - np.float32(1)) / np.float32(_STEPS)).astype(np.float32),
        is_read=np.asarray(values) > 0,
        downsample=downsample,
        mpp=mpp,
    )
