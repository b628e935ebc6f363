"""Pieces of a scene's tissue, from which other sections are laid."""

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.parts import Part
from bccdist.phantom import PhantomConfig
from bccdist.phantom.slides import SlideName, paint_slide
from benchmarks.faults.scene import Scene
from benchmarks.faults.slide_files import Picture

_FOLLICLE, _NEST, _OTHER = 1, 2, 3
GLASS = 243


def tissue_texture(scene: Scene, shape: tuple[int, int]) -> Picture:
    """Tissue without islands, continued to a shape: RGB [h, w, 3]."""
    return _continued(_largest_square(scene, scene.truth == _OTHER), shape)


def nest_texture(scene: Scene, shape: tuple[int, int]) -> Picture:
    """The inside of an island, which is as dark as a nest, continued to a shape: RGB [h, w, 3]."""
    return _continued(_largest_square(scene, (scene.truth == _NEST) | (scene.truth == _FOLLICLE)), shape)


def _largest_square(scene: Scene, mask: NDArray[np.bool_]) -> Picture:
    """The largest upright square of level 0 whose places are all in a mask at half its size."""
    distance = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_C, cv2.DIST_MASK_3)[1:-1, 1:-1]
    row, col = np.unravel_index(int(np.argmax(distance)), distance.shape)
    reach = int(distance[row, col]) - 1
    return scene.picture[2 * (row - reach) : 2 * (row + reach), 2 * (col - reach) : 2 * (col + reach)]


def _continued(piece: Picture, shape: tuple[int, int]) -> Picture:
    """A piece mirrored at its sides until it has a shape."""
    sides = [(0, new - old) for new, old in zip(shape, piece.shape[:2], strict=True)]
    cut = piece[: shape[0], : shape[1]]
    return np.pad(cut, [(0, max(0, more)) for _, more in sides] + [(0, 0)], mode="symmetric")


def glass(shape: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Empty glass with a sensor's noise: RGB [h, w, 3]."""
    return (GLASS + rng.integers(-2, 3, (*shape, 3))).astype(np.uint8)


def other_picture(scene: Scene) -> Picture:
    """A slide that was drawn as the scene's was, and shows other tissue: RGB of the scene's shape."""
    height, width = scene.picture.shape[:2]
    config = PhantomConfig(
        sections_per_slide=(1, 2), slide_width_level0_px=max(1024, width), slide_height_level0_px=max(1024, height)
    )
    name = SlideName(part=Part.TEST, index=1000 + scene.seed)
    return np.ascontiguousarray(paint_slide(name, config).picture[:height, :width])
