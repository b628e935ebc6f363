"""Hamamatsu NDPA: nanometres from the centre of the glass slide, the title is the class.

The NDPI file says where the centre of its image lies. Coordinates are whole nanometres, and a
pixel has some hundreds: they are rounded to hundredths of a level-0 pixel, so that a vertex that was drawn on a
whole pixel is there again, whatever the nanometre's rounding did; none moves by more than 0.005 px. The format
knows no holes.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
import openslide
import shapely
from numpy.typing import NDArray

from bccdist.errors import AnnotationError
from bccdist.slides.annotations.shapes import Marking, Shape, ellipse, points, ring_polygon
from bccdist.slides.slide import Slide

STEPS_PER_PX = 100
"""Coordinates are rounded to this fraction of a level-0 pixel."""
_NM_PER_UM = 1000
_OFFSETS = ("hamamatsu.XOffsetFromSlideCentre", "hamamatsu.YOffsetFromSlideCentre")
_SCALES = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)


class _Frame(NamedTuple):
    """The image's place on the glass; each value is (x, y)."""

    nm_per_px: NDArray[np.float64]
    """Scale that the slide's own file states: NDP.view draws by it, and not by the manifest."""
    image_centre_nm: NDArray[np.float64]
    image_centre_px: NDArray[np.float64]

    def to_px(self, positions_nm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions in nanometres on the glass as level-0 px, [n, 2]."""
        positions_px = (positions_nm - self.image_centre_nm) / self.nm_per_px + self.image_centre_px
        return np.round(positions_px * STEPS_PER_PX) / STEPS_PER_PX


def read_ndpa(path: Path, root: Element, slide: Slide) -> list[Marking]:
    """What an NDPA file marks, by title.

    Raises:
        AnnotationError: the slide does not say where it lies on the glass, or something has no title.
    """
    views = root.findall("ndpviewstate")
    frame = _frame_of(path, slide)
    return [_marking(path, view, frame) for view in views]


def _frame_of(path: Path, slide: Slide) -> _Frame:
    texts = [slide.properties.get(name) for name in (*_SCALES, *_OFFSETS)]
    missing = [name for name, text in zip((*_SCALES, *_OFFSETS), texts, strict=True) if text is None]
    if missing:
        raise AnnotationError(
            f"{path}: NDPA counts from the centre of the glass, and {slide.path} does not say where its image lies "
            f"there (without {', '.join(missing)}); name the .ndpi file in slides.csv, or export GeoJSON from QuPath"
        )
    scale_um, offset_nm = points(f"{slide.path}", [(texts[0], texts[1]), (texts[2], texts[3])])
    if scale_um.min() <= 0:
        raise AnnotationError(
            f"{path}: NDPA is in nanometres, and {slide.path} says {texts[0]} x {texts[1]} um/px; export GeoJSON from "
            "QuPath"
        )
    return _Frame(scale_um * _NM_PER_UM, offset_nm, np.array(slide.level0_size) / 2)


def _marking(path: Path, view: Element, frame: _Frame) -> Marking:
    title = (view.findtext("title") or "").strip()
    place = f"{path}: annotation {view.get('id')} ({title!r})"
    if not title:
        raise AnnotationError(f"{place} has no title; give it the name of its class in NDP.view")
    return Marking(title, partial(_shapes, place, view, frame))


def _shapes(place: str, view: Element, frame: _Frame) -> list[Shape]:
    unit = (view.findtext("coordformat") or "").strip()
    if unit != "nanometers":
        raise AnnotationError(f"{place} has its coordinates in {unit!r}, expected 'nanometers'; save it in NDP.view")
    drawn = view.find("annotation")
    kind_of_shape = None if drawn is None else drawn.get("type")
    if drawn is not None and kind_of_shape == "circle":
        return [Shape(place, _circle(place, drawn, frame))]
    if drawn is not None and kind_of_shape == "freehand" and _is_closed(drawn):
        pairs = ((point.findtext("x"), point.findtext("y")) for point in drawn.findall("pointlist/point"))
        return [Shape(place, ring_polygon(place, frame.to_px(points(place, pairs))))]
    what = "an open line" if kind_of_shape == "freehand" else f"a {kind_of_shape}"
    raise AnnotationError(
        f"{place} is {what}, which has no area; expected a closed freehand outline, a rectangle or a circle: "
        "draw it closed, or take it out, or let its title mean 'none' in kinds.toml"
    )


def _is_closed(drawn: Element) -> bool:
    is_rectangle = (drawn.findtext("specialtype") or "").strip().startswith("rectangle")
    return is_rectangle or (drawn.findtext("closed") or "").strip() == "1"


def _circle(place: str, drawn: Element, frame: _Frame) -> shapely.Polygon:
    radius = drawn.findtext("radius")
    centre_nm, radius_nm = points(place, [(drawn.findtext("x"), drawn.findtext("y")), (radius, radius)])
    (x, y), radii_px = frame.to_px(centre_nm[None])[0], radius_nm / frame.nm_per_px
    if radii_px.min() <= 0:
        raise AnnotationError(f"{place} is a circle of radius {radius} nm without area; take it out")
    return ellipse((float(x), float(y)), (float(radii_px[0]), float(radii_px[1])))
