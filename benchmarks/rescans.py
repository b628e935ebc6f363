"""What happens to the picture of a piece of tissue on its way into a second file."""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


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
