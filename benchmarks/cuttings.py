"""How small a cutting is found as the twin of its slide: `python benchmarks/cuttings.py SLIDE ...`.

Of every slide a rectangle of level 0 is cut where it is tissue for the most part, and compared with all slides.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import openslide
import tyro
from numpy.typing import NDArray

from bccdist.slides.fingerprints import LANDMARK_MPP, Fingerprint, find_landmarks, make_fingerprint
from bccdist.slides.likeness import look_alikes
from bccdist.slides.slide import read_scale

SIZES_PX = ((280, 480), (560, 560), (560, 960), (800, 800), (1024, 1024), (1400, 1400))
"""Width and height of cuttings, at level 0."""
_COARSE = 16
_LEAST_TISSUE = 0.8
_COLOURED_FROM = 15
_CUTTING = "a cutting"


def cut(picture: NDArray[np.uint8], size_px: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8] | None:
    """A rectangle of a picture that is tissue for the most part; None where there is none."""
    coarse = cv2.resize(picture, None, fx=1 / _COARSE, fy=1 / _COARSE, interpolation=cv2.INTER_AREA)
    coloured = (np.ptp(coarse, axis=-1) > _COLOURED_FROM).astype(np.float32)
    width, height = (edge // _COARSE for edge in size_px)
    if coloured.shape[0] <= height or coloured.shape[1] <= width:
        return None
    shares = cv2.boxFilter(coloured, -1, (width, height), anchor=(0, 0))[: -height or None, : -width or None]
    corners = np.argwhere(shares >= _LEAST_TISSUE)
    if not len(corners):
        return None
    y, x = (corners[rng.integers(len(corners))] * _COARSE).tolist()
    return picture[y : y + size_px[1], x : x + size_px[0]]


def main(slides: Annotated[Sequence[Path], tyro.conf.Positional], seed: int = 0) -> None:
    """Cut slides and look for the slides of the cuttings.

    Args:
        slides: their files, no two of one piece of tissue.
        seed: of the places.
    """
    rng = np.random.default_rng(seed)
    known: dict[str, Fingerprint] = {str(path): make_fingerprint(path, mpp=None) for path in slides}
    found = {size: [0, 0, 0] for size in SIZES_PX}
    for path in slides:
        mpp, _ = read_scale(path)
        with openslide.OpenSlide(path) as handle:
            picture = np.asarray(handle.read_region((0, 0), 0, handle.dimensions))[..., :3].copy()
        for size_px in SIZES_PX:
            cutting = cut(picture, size_px, rng)
            if cutting is None:
                continue
            reduced = tuple(max(1, round(edge * mpp / LANDMARK_MPP)) for edge in size_px)
            overview = np.asarray(cv2.resize(cutting, reduced, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            positions_px, descriptors = find_landmarks(overview)
            fingerprint = replace(
                known[str(path)],
                size_level0_px=size_px,
                content="",
                positions_px=positions_px,
                descriptors=descriptors,
            )
            pairs = [pair.slide_ids for pair in look_alikes({**known, _CUTTING: fingerprint})]
            others = {name for names in pairs if _CUTTING in names for name in names} - {_CUTTING}
            counts = found[size_px]
            counts[0] += 1
            counts[1] += str(path) in others
            counts[2] += bool(others - {str(path)})
    for (width, height), (num, num_found, num_false) in found.items():
        print(f"{width:5} x {height:<5} px: {num_found} of {num} found, {num_false} with another slide")


if __name__ == "__main__":
    tyro.cli(main)
