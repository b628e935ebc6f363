"""Textures of the phantom: slow noise, fibres along a direction field, and nuclei stamped as ellipses."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.phantom.outlines import Float

SUBPIXEL_BITS = 4
FIBRE_STEP_PX = 2.0
NUM_FIBRE_STEPS = 7


@dataclass(frozen=True, kw_only=True)
class Nuclei:
    """Filled ellipses: centre [n, 2] (x, y), half axes [n, 2] (long, short), angle [n], darkness [n]."""

    center_px: NDArray[np.float64]
    half_axes_px: NDArray[np.float64]
    angle: NDArray[np.float64]
    darkness: NDArray[np.float64]

    def moved(self, x_px: float, y_px: float) -> "Nuclei":
        """The nuclei shifted by (x, y)."""
        return replace(self, center_px=self.center_px + np.array([x_px, y_px]))

    def where(self, is_kept: NDArray[np.bool_]) -> "Nuclei":
        """The nuclei for which `is_kept` [n] is true."""
        return Nuclei(
            center_px=self.center_px[is_kept],
            half_axes_px=self.half_axes_px[is_kept],
            angle=self.angle[is_kept],
            darkness=self.darkness[is_kept],
        )


def smooth_noise(rng: np.random.Generator, *, height_px: int, width_px: int, scale_px: float) -> Float:
    """Noise [h, w] of mean 0 and deviation near 1 that changes over about `scale_px`."""
    rows, columns = (max(4, round(side / scale_px) + 3) for side in (height_px, width_px))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    noise = cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    return np.float32(1.3) * noise.astype(np.float32)


def fibres(rng: np.random.Generator, direction: Float) -> Float:
    """Noise [h, w] smeared along `direction` (radians, [h, w]), deviation 1: strokes of about 30 px."""
    height_px, width_px = direction.shape
    grain = cv2.GaussianBlur(rng.standard_normal((height_px, width_px), dtype=np.float32), (0, 0), 0.8)
    column, row = np.meshgrid(np.arange(width_px, dtype=np.float32), np.arange(height_px, dtype=np.float32))
    step_x, step_y = np.cos(direction) * np.float32(FIBRE_STEP_PX), np.sin(direction) * np.float32(FIBRE_STEP_PX)
    total = np.zeros_like(grain)
    for step in range(-NUM_FIBRE_STEPS, NUM_FIBRE_STEPS + 1):
        at_x, at_y = column + step * step_x, row + step * step_y
        shifted = cv2.remap(grain, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        total += shifted.astype(np.float32)
    return total / np.float32(total.std())


def scatter(
    rng: np.random.Generator, *, width_px: float, height_px: float, spacing_px: float, jitter_px: float
) -> NDArray[np.float64]:
    """Points [n, 2] of a triangular grid over (0, 0) to (width, height), each moved at random."""
    rows = np.arange(0, height_px, spacing_px * np.sqrt(3) / 2)
    columns = np.arange(0, width_px, spacing_px)
    x, y = np.meshgrid(columns, rows)
    x = x + (np.arange(len(rows)) % 2)[:, None] * (spacing_px / 2)
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    return points + rng.normal(0, jitter_px, points.shape)


def draw_nuclei(
    rng: np.random.Generator,
    center_px: NDArray[np.float64],
    *,
    half_axes_px: tuple[float, float],
    angle: NDArray[np.float64] | None = None,
) -> Nuclei:
    """Nuclei at the points, sizes varying by 10 %; without an angle they lie at random."""
    num_nuclei = len(center_px)
    size = rng.normal(1, 0.1, (num_nuclei, 2)).clip(0.7, 1.3) * half_axes_px
    turned = rng.uniform(0, np.pi, num_nuclei) if angle is None else angle + rng.normal(0, 0.12, num_nuclei)
    return Nuclei(center_px=center_px, half_axes_px=size, angle=turned, darkness=rng.uniform(0.7, 1.0, num_nuclei))


def joined(groups: list[Nuclei]) -> Nuclei:
    """All nuclei of the groups as one."""
    return Nuclei(
        center_px=np.concatenate([group.center_px for group in groups]),
        half_axes_px=np.concatenate([group.half_axes_px for group in groups]),
        angle=np.concatenate([group.angle for group in groups]),
        darkness=np.concatenate([group.darkness for group in groups]),
    )


def stamp(nuclei: Nuclei, *, height_px: int, width_px: int) -> Float:
    """The picture [h, w] of the nuclei: 0 between them, up to 1 inside."""
    picture = np.zeros((height_px, width_px), np.uint8)
    scale = 1 << SUBPIXEL_BITS
    centers = np.round((nuclei.center_px - 0.5) * scale).astype(int).tolist()
    axes = np.round(nuclei.half_axes_px * scale).astype(int).tolist()
    turns = np.degrees(nuclei.angle).tolist()
    greys = np.round(nuclei.darkness * 255).tolist()
    for center, axis, turn, grey in zip(centers, axes, turns, greys, strict=True):
        cv2.ellipse(picture, center, axis, turn, 0, 360, grey, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    return picture.astype(np.float32) / np.float32(255)
