"""Pictures with the texture of tissue, each of its own."""

import cv2
import numpy as np

from benchmarks.rescans import Picture


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
    stain = np.array([0.35, 0.75, 0.25], dtype=np.float32)
    light = 1 - on_tissue[..., None] * (0.25 + 0.7 * density[..., None]) * stain
    return np.asarray((255 * light).clip(0, 255), dtype=np.uint8)
