"""Pyramidal, tiled JPEG TIFF that OpenSlide opens as `generic-tiff`."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tifffile import TiffWriter

from bccdist.files import atomic_path

DOWNSAMPLES = (1, 2, 4, 8)
UM_PER_CM = 10_000
SOFTWARE = "bccdist phantom"
"""What a drawn slide's file says that it was made by."""


def write_pyramid(
    path: Path, picture: NDArray[np.uint8], *, mpp: float, tile_px: int, jpeg_quality: int, description: str
) -> None:
    """Write `picture` [h, w, 3] RGB as level 0 and halve it for every next level; equal input gives equal bytes.

    Reduced levels are consecutive pages: OpenSlide's generic-tiff does not follow SubIFDs.
    "rgb" says what `picture` is; tifffile stores JPEG tiles as YCbCr and tags them so.
    """
    with atomic_path(path) as partial, TiffWriter(partial) as tiff:
        for downsample in DOWNSAMPLES:
            tiff.write(
                _shrunk(picture, downsample),
                tile=(tile_px, tile_px),
                photometric="rgb",
                subsampling=(2, 2),
                compression="jpeg",
                compressionargs={"level": jpeg_quality},
                subfiletype=0 if downsample == 1 else 1,
                resolution=(UM_PER_CM / (mpp * downsample),) * 2,
                resolutionunit="CENTIMETER",
                description=description if downsample == 1 else None,
                software=SOFTWARE,
                metadata=None,
                maxworkers=1,
            )


def _shrunk(picture: NDArray[np.uint8], downsample: int) -> NDArray[np.uint8]:
    if downsample == 1:
        return picture
    height_px, width_px = (side // downsample for side in picture.shape[:2])
    return cv2.resize(picture, (width_px, height_px), interpolation=cv2.INTER_AREA).astype(np.uint8)
