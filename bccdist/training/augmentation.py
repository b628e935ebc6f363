"""Random changes to training patches: warp, stain, blur (paper, section 2.3).

The random numbers of a patch follow from (seed, epoch, position in the epoch) alone, so they are the same
whichever worker or rank makes it. Rotation, scale and elastic field are one resampling of image and mask.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.configuration import AugmentConfig
from bccdist.random_streams import Purpose, random_stream

RGB_OF_STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
"""Optical density of haematoxylin, eosin and residual in RGB (Ruifrok and Johnston 2001)."""
_DENSITY = (-np.log((np.arange(256) + 1.0) / 256)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The changes to one patch."""

    angle_rad: float
    scale: float
    """Above 1 magnifies."""
    elastic_px: NDArray[np.float32]
    """Displacement (x, y) at the nodes of a coarse grid, [g, g, 2]."""
    density_matrix: NDArray[np.float32]
    """Maps optical densities and 1 to optical densities, [3, 4]."""
    blur_sigma_px: float


def draw_augmentation(config: AugmentConfig, *, seed: int, epoch: int, position: int) -> Augmentation:
    """The changes to the patch at a position of an epoch."""
    random = random_stream(Purpose.AUGMENTATION, seed=seed, epoch=epoch, position=position)
    low, high = np.log(config.scale)
    nodes = (config.elastic_grid, config.elastic_grid, 2)
    return Augmentation(
        angle_rad=float(np.deg2rad(random.uniform(0, config.rotation_deg))),
        scale=float(np.exp(random.uniform(low, high))),
        elastic_px=random.normal(0, config.elastic_px, nodes).astype(np.float32),
        density_matrix=_stain_matrix(
            factors=random.uniform(1 - config.stain, 1 + config.stain, 3),
            offset=random.uniform(-config.brightness, config.brightness),
        ),
        blur_sigma_px=float(random.uniform(0, config.blur_sigma_px)),
    )


def augment(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], change: Augmentation
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A changed patch.

    Args:
        image: uint8 RGB [h, w, 3].
        mask: uint8 [h, w]; its values stay as they are, only moved.
        change: what to do.

    Returns:
        Image and mask of the same shapes. Outside the patch its mirror image is seen.
    """
    map_xy = _sampling_map(change, height=image.shape[0], width=image.shape[1])
    warped = _warp(image, map_xy, cv2.INTER_LINEAR)
    return _blur(_stain(warped, change.density_matrix), change.blur_sigma_px), _warp(mask, map_xy, cv2.INTER_NEAREST)


def _sampling_map(change: Augmentation, *, height: int, width: int) -> NDArray[np.float32]:
    """Where each pixel of the result comes from: (x, y) in the source, [h, w, 2]."""
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    cos, sin = np.cos(change.angle_rad) / change.scale, np.sin(change.angle_rad) / change.scale
    x = (np.arange(width) - centre_x).astype(np.float32)[None, :]
    y = (np.arange(height) - centre_y).astype(np.float32)[:, None]
    field = cv2.resize(change.elastic_px, (width, height), interpolation=cv2.INTER_CUBIC)
    field[..., 0] += cos * x + sin * y + centre_x
    field[..., 1] += cos * y - sin * x + centre_y
    return np.asarray(field, dtype=np.float32)


def _warp(image: NDArray[np.uint8], map_xy: NDArray[np.float32], interpolation: int) -> NDArray[np.uint8]:
    warped = cv2.remap(image, map_xy, None, interpolation, borderMode=cv2.BORDER_REFLECT_101)  # type: ignore[call-overload]
    return np.asarray(warped, dtype=np.uint8)


def _stain_matrix(*, factors: NDArray[np.float64], offset: float) -> NDArray[np.float32]:
    """To stain densities, each times its factor, and back."""
    matrix = (np.linalg.inv(RGB_OF_STAINS) @ np.diag(factors) @ RGB_OF_STAINS).T
    return np.hstack([matrix, np.full((3, 1), offset)]).astype(np.float32)


def _stain(image: NDArray[np.uint8], density_matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    density = cv2.transform(_DENSITY[image], density_matrix)
    return np.clip(256 * cv2.exp(-density) - 1, 0, 255).round().astype(np.uint8)


def _blur(image: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    if sigma_px < 0.1:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.uint8)
