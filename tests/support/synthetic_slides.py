"""Lossless tiled TIFFs with chosen pixels, levels and um/px, for the tests of the slide layer."""

from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

PINK = (200, 120, 170)
GLASS = (236, 236, 236)


def smooth_picture(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Slow waves, another in each channel: uint8 RGB [h, w, 3]."""
    x, y = np.meshgrid(np.arange(width_px) + 0.5, np.arange(height_px) + 0.5)
    return smooth_colours(x, y)


def smooth_colours(x_level0_px: NDArray[np.floating], y_level0_px: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The colours of `smooth_picture` at some places, where pixel centres lie at halves."""
    waves = [np.sin(x_level0_px / 90), np.cos(y_level0_px / 70), np.sin((x_level0_px - y_level0_px) / 110)]
    return np.stack([128 + 90 * wave for wave in waves], axis=-1).round().astype(np.uint8)


def islands_picture(
    width_px: int, height_px: int, *islands: tuple[int, int, int, int], noise: float = 0.0
) -> NDArray[np.uint8]:
    """Pink islands (x, y, width, height) on grey glass, with noise of a standard deviation: uint8 RGB [h, w, 3]."""
    picture = np.full((height_px, width_px, 3), GLASS, dtype=np.float64)
    for x, y, width, height in islands:
        picture[y : y + height, x : x + width] = PINK
    picture += np.random.default_rng(0).normal(0, noise, picture.shape) if noise else 0
    return picture.clip(0, 255).astype(np.uint8)


def write_slide(
    path: Path,
    picture: NDArray[np.uint8],
    *,
    mpp: float | tuple[float, float] | None = 0.46,
    downsamples: tuple[int, ...] = (1,),
) -> Path:
    """Write `picture` as level 0 and its reductions as the other levels; `mpp` (x, y) or None to leave it out."""
    mpp_xy = (mpp, mpp) if isinstance(mpp, float) else mpp
    with tifffile.TiffWriter(path) as tiff:
        for downsample in downsamples:
            size = (picture.shape[1] // downsample, picture.shape[0] // downsample)
            tiff.write(
                cv2.resize(picture, size, interpolation=cv2.INTER_AREA),
                tile=(256, 256),
                compression="deflate",
                photometric="rgb",
                subfiletype=int(downsample > 1),
                resolution=mpp_xy and (1e4 / (mpp_xy[0] * downsample), 1e4 / (mpp_xy[1] * downsample)),
                resolutionunit=mpp_xy and "CENTIMETER",
                metadata=None,
            )
    return path
