"""How often mixed-up colours are noticed: `python benchmarks/colours.py SLIDE ...`.

Every slide is looked at as it is, with red and blue swapped, and so on. Counted are slides on which sections are found
and nothing is said of their colours, slides with a doubt, and those that have no section or no glass, where more is
said than this.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from bccdist.slides.colours import colour_doubt
from bccdist.slides.geometry import Box
from bccdist.slides.sections import find_sections
from bccdist.slides.slide import PixelsThere, Slide
from bccdist.slides.stain import find_glass, is_told_from_glass, smoothed, stained_on
from bccdist.slides.tissue import TISSUE_MPP

Picture = NDArray[np.uint8]


def _gamma(exponent: float) -> Callable[[Picture], Picture]:
    curve = (255 * (np.arange(256) / 255) ** exponent).round().astype(np.uint8)
    return lambda picture: np.asarray(curve[picture])


MIX_UPS: dict[str, Callable[[Picture], Picture]] = {
    "as it is": lambda picture: picture,
    "red and blue swapped": lambda picture: picture[..., ::-1],
    "red and green swapped": lambda picture: picture[..., [1, 0, 2]],
    "green and blue swapped": lambda picture: picture[..., [0, 2, 1]],
    "turned once": lambda picture: picture[..., [1, 2, 0]],
    "turned twice": lambda picture: picture[..., [2, 0, 1]],
    "inverted": lambda picture: 255 - picture,
    "gamma 2.2": _gamma(2.2),
    "gamma 1 / 2.2": _gamma(1 / 2.2),
}


class Recoloured(Slide):
    """A slide whose pixels are changed as they are read."""

    change: Callable[[Picture], Picture]

    def overview(self, mpp: float) -> PixelsThere:
        """The overview, changed."""
        pixels, is_absent = super().overview(mpp)
        return PixelsThere(np.ascontiguousarray(self.change(pixels)), is_absent)

    def read_into(self, image: Picture, box_px: Box) -> NDArray[np.bool_] | None:
        """The pixels of a box, changed."""
        found = super().read_into(image, box_px)
        image[:] = self.change(image.copy())
        return found


def said_of(slide: Slide) -> str:
    """What is said of a slide, in a word or two."""
    smooth = smoothed(slide.overview(TISSUE_MPP).pixels)
    glass = find_glass(smooth)
    tissue = stained_on(glass, smooth, mpp=TISSUE_MPP)
    if glass.is_strange or not (glass.is_certain and is_told_from_glass(tissue, glass, smooth)):
        return "no glass"
    if not find_sections(tissue):
        return "no section"
    return "doubt" if colour_doubt(slide, tissue) else "nothing"


def main(slides: Annotated[Sequence[Path], tyro.conf.Positional], target_mpp: float = 0.92) -> None:
    """Look at slides with all mix-ups.

    Args:
        slides: their files.
        target_mpp: um per pixel that is read.
    """
    for name, change in MIX_UPS.items():
        counts: Counter[str] = Counter()
        for path in slides:
            with Recoloured(path, target_mpp=target_mpp) as slide:
                slide.change = change
                counts[said_of(slide)] += 1
        print(f"{name:24}", dict(sorted(counts.items())), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
