"""Pictures with the texture of tissue, each of its own, and what happens to a slide on its way into a second file."""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def textured_tissue(seed: int, *, width_px: int = 1800, height_px: int = 1300) -> Picture:
    """Two pieces of tissue with blobs of many sizes, on white glass: uint8 RGB [h, w, 3]."""
    random = np.random.default_rng(seed)
    density = np.zeros((height_px, width_px), dtype=np.float32)
    for size_px in (6, 12, 24, 48):
        noise = random.random((height_px // size_px + 2, width_px // size_px + 2), dtype=np.float32)
        density += cv2.resize(noise, None, fx=size_px, fy=size_px, interpolation=cv2.INTER_CUBIC)[
            :height_px, :width_px
        ]
    density = (density - density.min()) / np.ptp(density)
    y, x = np.mgrid[:height_px, :width_px] / np.array([height_px, width_px]).reshape(2, 1, 1)
    on_tissue = ((x - 0.3) / 0.22) ** 2 + ((y - 0.5) / 0.4) ** 2 < 1
    on_tissue |= ((x - 0.75) / 0.18) ** 2 + ((y - 0.45) / 0.35) ** 2 < 1
    stain = np.array([0.25, 0.75, 0.35], dtype=np.float32)
    light = 1 - on_tissue[..., None] * (0.25 + 0.7 * density[..., None]) * stain
    return np.asarray((255 * light).clip(0, 255), dtype=np.uint8)


def turned(picture: Picture, degrees: float) -> Picture:
    """The picture turned by any angle on white glass, nothing cut off."""
    height, width = picture.shape[:2]
    transform = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    cos, sin = abs(transform[0, 0]), abs(transform[0, 1])
    size = (int(height * sin + width * cos), int(height * cos + width * sin))
    transform[:, 2] += (size[0] / 2 - width / 2, size[1] / 2 - height / 2)
    return np.asarray(cv2.warpAffine(picture, transform, size, borderValue=(255, 255, 255)), dtype=np.uint8)


def recompressed(picture: Picture, quality: int) -> Picture:
    """The picture after a JPEG of a low quality."""
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)


def scaled(picture: Picture, factor: float) -> Picture:
    """The picture with so many times the pixels along an edge."""
    resized = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)


def scanned_again(picture: Picture, random: np.random.Generator) -> Picture:
    """The picture a little turned, out of focus, in other colours, with noise, and recompressed."""
    light = cv2.GaussianBlur(turned(picture, random.uniform(-3, 3)).astype(np.float32) / 255, (0, 0), 1.2)
    light = light ** random.uniform(0.8, 1.25) * random.uniform(0.88, 1.0, 3).astype(np.float32)
    light += random.normal(0, 0.015, light.shape).astype(np.float32)
    return recompressed((255 * light).clip(0, 255).astype(np.uint8), 60)
