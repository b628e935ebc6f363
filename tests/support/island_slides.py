"""Slides with islands of tissue on grey glass, for what is found in their mask."""

from pathlib import Path

from synthetic_slides import islands_picture, write_slide

from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide

MPP = 2.0
"""Of the test slides: a quarter of the tissue mask's."""
WIDTH_PX, HEIGHT_PX = 1200, 640
ISLANDS = (Box(80, 80, 320, 200), Box(720, 120, 240, 160), Box(160, 400, 400, 160))


def open_slide(folder: Path, *islands: tuple[int, int, int, int], noise: float = 3.0) -> Slide:
    """A slide with some islands, open."""
    picture = islands_picture(WIDTH_PX, HEIGHT_PX, *islands, noise=noise)
    return Slide(write_slide(folder / "a.tif", picture, mpp=MPP), target_mpp=MPP)
