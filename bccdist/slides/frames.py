"""Which pixel of level 0 an annotation counts from: programs differ where a slide names the area that was scanned.

Scanners of MRXS and SCN files lay what they scanned somewhere on a larger canvas. OpenSlide's level 0 is the whole
canvas, and `openslide.bounds-x` and `-y` say where the scanned area begins. QuPath shows that area alone, and its
corner is what it counts from in all that it exports and imports; other programs count from the corner of the canvas.
"""

from collections.abc import Mapping
from enum import StrEnum

from bccdist.slides.geometry import Box

_BOUNDS = tuple(f"openslide.bounds-{side}" for side in ("x", "y", "width", "height"))


class Frame(StrEnum):
    """What positions in level-0 px count from."""

    LEVEL0 = "level0"
    """The upper left corner of level 0."""
    QUPATH = "qupath"
    """The upper left corner of the area that was scanned, where the slide names one."""

    def origin(self, properties: Mapping[str, str]) -> tuple[int, int]:
        """The level-0 pixel (x, y) that this frame counts from, on a slide with these properties of OpenSlide."""
        return qupath_origin(properties) if self is Frame.QUPATH else (0, 0)


DEFAULT_FRAMES: Mapping[str, Frame] = {
    "geojson": Frame.QUPATH,
    "imagescope": Frame.LEVEL0,
    "asap": Frame.LEVEL0,
}
"""The frame of each format whose files do not say theirs; the table [frames] of kinds.toml can set another."""


def scanned_area(properties: Mapping[str, str]) -> Box | None:
    """The box of level 0 that was scanned, where a slide names one: all that QuPath shows of it."""
    if not all(name in properties for name in _BOUNDS):
        return None
    return Box(*(int(properties[name]) for name in _BOUNDS))


def qupath_origin(properties: Mapping[str, str]) -> tuple[int, int]:
    """The level-0 pixel (x, y) that QuPath counts from."""
    area = scanned_area(properties)
    return (0, 0) if area is None else (area.x, area.y)
