"""Large slides of real pixels for benchmarks: the slides of a manifest side by side, as 20x JPEG pyramids."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from bccdist.parts import Kind, Part
from bccdist.slides.annotations import read_annotations
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, read_manifest
from bccdist.slides.slide import Slide

TILE_PX = 256
MPP_LEVEL0 = 0.46
_KIND_VALUES = {Kind.TUMORNEST: 1, Kind.STROMA: 2, Kind.NORMAL: 3}
"""As in `DEFAULT_KINDS`."""


def write_mosaics(manifest: Path, folder: Path, *, num_slides: int, size_10x_px: tuple[int, int]) -> Path:
    """Write mosaics of a manifest's Training slides, each with levels at 20x, 10x and 5x and a mask image at 5x.

    Returns:
        The path of their slides.csv.
    """
    source = read_manifest(manifest)
    pieces = cycle(source.slides_of([Part.TRAINING]))
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["slide_id,part,path,annotation"]
    for number in range(num_slides):
        name = f"mosaic-{number}"
        image, mask = _mosaic(source, pieces, size_10x_px)
        _write_pyramid(folder / f"{name}.tif", image)
        assert cv2.imwrite(str(folder / f"{name}.png"), mask[::2, ::2])
        lines.append(f"{name},{Part.TRAINING.value},{name}.tif,{name}.png")
    path = folder / "slides.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _mosaic(
    source: Manifest, pieces: Iterator[object], size_10x_px: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Slides in rows until the frame is full: RGB [h, w, 3] at 20x and mask values [h / 2, w / 2]."""
    width, height = size_10x_px
    image = np.full((2 * height, 2 * width, 3), 240, dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    x = y = row_height = 0
    for record in pieces:
        with Slide(record.path, target_mpp=MPP_LEVEL0) as slide:  # type: ignore[attr-defined]
            fine = slide.read(Box(0, 0, slide.width_px, slide.height_px))
        with Slide(record.path, target_mpp=2 * MPP_LEVEL0) as slide:  # type: ignore[attr-defined]
            box = Box(0, 0, slide.width_px, slide.height_px)
            masks = read_annotations(record.annotations, slide, source.kinds).masks(box)  # type: ignore[attr-defined]
        if x and x + box.width > width:
            x, y, row_height = 0, y + row_height, 0
        if y >= height:
            break
        part = Box(x, y, box.width, box.height).intersection(Box(0, 0, width, height))
        image[2 * y : 2 * part.y_end, 2 * x : 2 * part.x_end] = fine[: 2 * part.height, : 2 * part.width]
        for kind, value in _KIND_VALUES.items():
            mask[part.slices()][masks[kind][: part.height, : part.width]] = value
        x, row_height = x + box.width, max(row_height, box.height)
    return image, mask


def _write_pyramid(path: Path, image: NDArray[np.uint8]) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for level in range(3):
            scale = 1 << level
            size = (image.shape[1] // scale, image.shape[0] // scale)
            tiff.write(
                cv2.resize(image, size, interpolation=cv2.INTER_AREA),
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",  # of what is given; the tiles are YCbCr
                compression="jpeg",
                compressionargs={"level": 85, "subsampling": "420"},
                subfiletype=int(level > 0),
                resolution=(1e4 / (MPP_LEVEL0 * scale),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )
