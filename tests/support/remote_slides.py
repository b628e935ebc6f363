"""Slides of JPEG tiles that are served by a range server, and what is read of them."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from bccdist.addresses import Location
from bccdist.heatmaps.writing import cells_of
from bccdist.slides.cell_rows import ReadingTally, readable_rows
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask

APERIO = "Aperio Image Library v1\r\nremote |MPP = {mpp}"


def tissue_picture(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Stained tissue with texture on white glass: uint8 RGB [h, w, 3]."""
    noise = np.random.default_rng(0)
    coarse = noise.integers(-40, 40, (height_px // 24 + 1, width_px // 24 + 1, 3)).astype(np.int16)
    texture = cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    x, y = np.meshgrid(np.linspace(-1, 1, width_px), np.linspace(-1, 1, height_px))
    is_tissue = (x / 0.7) ** 2 + (y / 0.6) ** 2 < 1
    fine = noise.integers(-12, 12, (height_px, width_px, 1))
    picture = np.where(is_tissue[..., None], np.array((190, 110, 170)) + texture + fine, np.array((243, 243, 243)))
    return picture.clip(0, 255).astype(np.uint8)


def write_pyramid(
    path: Path, picture: NDArray[np.uint8], *, mpp: float = 0.5, downsamples: tuple[int, ...] = (1, 2, 4, 16)
) -> Path:
    """A slide of Aperio's kind in JPEG tiles, as scanners write them."""
    with tifffile.TiffWriter(path) as tiff:
        for downsample in downsamples:
            size = (picture.shape[1] // downsample, picture.shape[0] // downsample)
            tiff.write(
                picture if downsample == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA),
                tile=(256, 256),
                compression="jpeg",
                compressionargs={"level": 80, "subsampling": "444", "outcolorspace": "rgb"},
                photometric="rgb",
                description=APERIO.format(mpp=mpp),
                metadata=None,
            )
    return path


def all_read(location: Location, *, target_mpp: float = 1.0) -> tuple[str, str, dict[str, str], int]:
    """What inference reads of a slide: a digest of tissue and cells, what reads it, its properties, unread cells."""
    with Slide(location, target_mpp=target_mpp) as slide:
        tissue = tissue_mask(slide)
        digest, tally = hashlib.sha256(tissue.tobytes()), ReadingTally()
        for row in readable_rows(slide, cells_of(slide, tissue), tally, tissue):
            digest.update(row.pixels.tobytes() + row.unread.tobytes())
        return digest.hexdigest(), slide.reader, dict(slide.properties), tally.num_unread_cells
