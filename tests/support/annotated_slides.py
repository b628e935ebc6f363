"""Slides without pixels, and drawings on them, for the tests of annotations."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bccdist.parts import Kind
from bccdist.slides.annotations import KindMasks, read_annotations
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import DEFAULT_KINDS, Kinds
from bccdist.slides.slide import Resolution, Slide

WIDTH_PX, HEIGHT_PX = 60, 40
"""Of the slide in the target frame; level 0 is twice as large."""
KINDS = Kinds(names={**DEFAULT_KINDS.names, "BCC": Kind.TUMORNEST, "Ink": None}, mask_values=DEFAULT_KINDS.mask_values)


def blank_slide(
    *,
    width_px: int = WIDTH_PX,
    height_px: int = HEIGHT_PX,
    downsample: float = 2.0,
    mpp_level0: float = 0.46,
    properties: Mapping[str, str] | None = None,
) -> Slide:
    """What annotations need to know of a slide; sizes are those of the target frame."""
    resolution = Resolution(mpp_level0=mpp_level0, level=0, downsample=downsample, resize=downsample)
    facts = SimpleNamespace(
        path=Path("blank.ndpi"),
        width_px=width_px,
        height_px=height_px,
        level0_size=(round(width_px * downsample), round(height_px * downsample)),
        resolution=resolution,
        properties=properties or {},
    )
    return cast("Slide", facts)


def scanned(box_level0_px: Box) -> dict[str, str]:
    """The properties by which a slide names the area that was scanned, as MRXS and SCN files do."""
    sides = zip(("x", "y", "width", "height"), box_level0_px, strict=True)
    return {f"openslide.bounds-{side}": str(length) for side, length in sides}


def whole(slide: Slide) -> Box:
    """The box of the target frame that is the whole slide."""
    return Box(0, 0, slide.width_px, slide.height_px)


def read_text(path: Path, text: str, slide: Slide, kinds: Kinds = KINDS) -> KindMasks:
    """The masks of the whole slide from a file with some text."""
    path.write_text(text, encoding="utf-8")
    return read_annotations([path], slide, kinds).masks(whole(slide))


def read_features(folder: Path, slide: Slide, *features: Any) -> KindMasks:
    """The masks of the whole slide from GeoJSON features."""
    content = {"type": "FeatureCollection", "features": list(features)}
    return read_text(folder / "a.geojson", json.dumps(content), slide)


def square(x: float, y: float, edge: float) -> list[list[float]]:
    """A closed ring in level-0 px."""
    return [[x, y], [x + edge, y], [x + edge, y + edge], [x, y + edge], [x, y]]


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    """A GeoJSON polygon."""
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry: Any, name: str | None = "Tumornest", /, **properties: Any) -> dict[str, Any]:
    """An annotation as QuPath writes it; without a name it has no class."""
    classification = {} if name is None else {"classification": {"name": name, "color": [200, 0, 0]}}
    return {
        "type": "Feature",
        "id": "x",
        "geometry": geometry,
        "properties": {"objectType": "annotation", **classification, **properties},
    }


def boxes_mask(*boxes: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """A mask in the target frame; boxes are (x, y, x_end, y_end), each toggles its pixels."""
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)
    for x, y, x_end, y_end in boxes:
        mask[y:y_end, x:x_end] ^= True
    return mask
