"""Whether what a file marks lies where it was drawn: on the slide, in pixels of the target frame, on tissue.

Positions in another unit, at another scale or from another corner are no fault of the file's form: what tells is that
they end up beside the tissue, or in so small a spot that no pixel is marked. Then every label would be moved or lost.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations.annotation import Annotation
from bccdist.slides.annotations.mask_image import MaskImage, fits
from bccdist.slides.annotations.rasterising import fill_polygon
from bccdist.slides.frames import qupath_origin, scanned_area
from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP

LARGEST_SHARE_OUTSIDE = 0.05
"""Share of a file's annotated area that may lie beyond the edge of the slide. So much is a generous hand and is cut;
more is a shift or a wrong scale, which would move every label."""
LEAST_SHARE_ON_TISSUE = 0.5
"""Share of the pixels that a file marks, and of those of its Tumornest alone, that has to lie on tissue. Outlines may
be generous, and pale tissue is missed in part; of ebhi-slides and phantoms 0.94 or more lies on tissue."""
LEAST_GAIN = 0.1
"""By how much more of a drawing has to lie on tissue from another corner of the slide, until it must be said which
one it counts from."""
_SHARE_THAT_FITS = 0.9
"""Share on tissue from which another scale is offered as what was meant."""
_NUM_SAMPLES = 1000
"""Points at which a polygon is held against the tissue, about."""
_MOST_STEPS = 2000
"""Steps of the lattice of these points along a polygon."""
_MOST_TRIED = 200
"""Polygons that are tried at other scales, to say what would fit."""


class OffTissueError(AnnotationError):
    """Most of what a file marks lies on glass.

    Attributes:
        share: of what the file marks, on tissue, 0 to 1.
    """

    def __init__(self, message: str, *, share: float) -> None:
        self.share = share
        super().__init__(message)


class Overlap(NamedTuple):
    """How much is annotated, and how much of that lies on tissue; what is drawn twice counts twice."""

    annotated_px2: float = 0.0
    """In square level-0 px, as the next."""
    on_tissue_px2: float = 0.0

    @property
    def share(self) -> float | None:
        """From 0 to 1; None where nothing is annotated."""
        return self.on_tissue_px2 / self.annotated_px2 if self.annotated_px2 else None

    def plus(self, other: "Overlap") -> "Overlap":
        """Both together: areas are summed apart, as shares could not be averaged."""
        return Overlap(self.annotated_px2 + other.annotated_px2, self.on_tissue_px2 + other.on_tissue_px2)


class _Change(NamedTuple):
    """How positions become level-0 px, if they are something else."""

    name: str
    """What they are then, as the end of a sentence."""
    factors: tuple[float, float] = (1, 1)
    shift_px: tuple[float, float] = (0, 0)

    def of(self, polygons: Sequence[shapely.Polygon]) -> list[shapely.Polygon]:
        """Polygons at these positions."""
        changed: list[shapely.Polygon] = shapely.transform(
            np.array(polygons, dtype=object), lambda xy: xy * self.factors + self.shift_px
        ).tolist()
        return changed


def require_on_slide(
    path: Path, polygons: Sequence[shapely.Polygon], slide: Slide, tissue: NDArray[np.bool_] | None
) -> None:
    """Refuse a file of which a polygon, or more than `LARGEST_SHARE_OUTSIDE` of the area, lies outside the slide.

    Raises:
        AnnotationError: it does.
    """
    if not polygons:
        return
    size = f"the slide's {slide.level0_size[0]} x {slide.level0_size[1]} level-0 px"
    shares = shapely.area(shapely.intersection(polygons, shapely.box(0, 0, *slide.level0_size)))
    num_outside = int((shares == 0).sum())
    if num_outside:
        raise AnnotationError(
            f"{path}: {num_outside} of {len(polygons)} polygons lie outside {size}: it belongs to another slide, "
            f"or is not in level-0 px{_advice(polygons, slide, tissue)}"
        )
    share_outside = 1 - shares.sum() / shapely.area(polygons).sum()
    if share_outside > LARGEST_SHARE_OUTSIDE:
        raise AnnotationError(
            f"{path}: {share_outside:.0%} of the annotated area lies outside {size}, at most "
            f"{LARGEST_SHARE_OUTSIDE:.0%} may: it belongs to another slide, is not in level-0 px, or must be drawn "
            f"within the slide{_advice(polygons, slide, tissue)}"
        )


def require_marks(path: Path, annotation: Annotation, slide: Slide, tissue: NDArray[np.bool_] | None) -> None:
    """Refuse a file that draws a kind of which no pixel of the target frame would be marked.

    Raises:
        AnnotationError: it does.
    """
    for kind in annotation.unmarked_kinds:
        polygons = annotation.polygons_of(kind)
        width, height = np.ptp(shapely.get_coordinates(polygons), axis=0) if polygons else (0, 0)
        drawn = f"{len(polygons)} polygon(s) over {width:.3g} x {height:.3g} level-0 px" if polygons else "its pixels"
        raise AnnotationError(
            f"{path}: {drawn} of {kind} mark no pixel of {slide.resolution.mpp:.3g} um; expected outlines in level-0 "
            f"px of the slide's {slide.level0_size[0]} x {slide.level0_size[1]}: export it in these, or take it out"
            f"{_advice(polygons, slide, tissue)}"
        )


def require_on_tissue(path: Path, annotation: Annotation, slide: Slide, tissue: NDArray[np.bool_]) -> None:
    """Refuse a file of which less than `LEAST_SHARE_ON_TISSUE`, in all or of its Tumornest, lies on tissue.

    Raises:
        OffTissueError: so little does.
    """
    overlaps = overlap_with_tissue(annotation, slide, tissue)
    for overlap, what in zip(overlaps, ("the annotated area", str(Kind.TUMORNEST)), strict=True):
        if overlap.share is not None and overlap.share < LEAST_SHARE_ON_TISSUE:
            polygons = [polygon for kind in Kind for polygon in annotation.polygons_of(kind)]
            raise OffTissueError(
                f"{path}: only {overlap.share:.0%} of {what} lies on tissue, expected at least "
                f"{LEAST_SHARE_ON_TISSUE:.0%}: it belongs to another slide, is shifted, or is not in level-0 px: open "
                f"both together{_advice(polygons, slide, tissue)}",
                share=overlap.share,
            )


def require_right_corner(
    path: Path,
    polygons: Sequence[shapely.Polygon],
    slide: Slide,
    tissue: NDArray[np.bool_],
    *,
    shift_px: tuple[float, float],
    setting: str,
) -> None:
    """Refuse a drawing that does not say what it counts from, and lies clearly better from the other corner.

    Args:
        path: the file.
        polygons: as they lie on level 0 by the frame that was taken for theirs.
        slide: one that names the area that was scanned.
        tissue: its tissue mask.
        shift_px: from the corner that was taken to the other one, (x, y) in level-0 px.
        setting: the format's name in the table [frames] of kinds.toml.

    Raises:
        AnnotationError: it does.
    """
    here = _overlap(polygons, slide, tissue).share
    there = _overlap(_Change("", shift_px=shift_px).of(polygons), slide, tissue).share
    if here is not None and there is not None and there - here > LEAST_GAIN:
        raise AnnotationError(
            f"{path}: {here:.0%} of it lies on tissue, and {there:.0%} would if it were moved by {shift_px} level-0 "
            "px, between the corners of level 0 and of the area that was scanned: say which one it counts from: "
            f"{setting} = 'qupath' or 'level0' under [frames] in kinds.toml"
        )


def require_mask_of_level0(path: Path, image: MaskImage, slide: Slide, tissue: NDArray[np.bool_]) -> bool:
    """Refuse a mask image that fits the area that was scanned clearly better than the whole slide.

    Returns:
        Whether it may be of either by its size.

    Raises:
        AnnotationError: it does.
    """
    area = scanned_area(slide.properties)
    height, width = image.values.shape
    if area is None or area.area == 0 or not fits((width, height), (area.width, area.height)):
        return False
    if area == Box(0, 0, *slide.level0_size):
        return False
    here = image.annotated(tissue.shape[::-1])
    inside = area.scaled(slide.resolution.mpp_level0 / TISSUE_MPP).intersection(Box(0, 0, *tissue.shape[::-1]))
    there = np.zeros(tissue.shape, dtype=bool)
    there[inside.slices()] = image.annotated((inside.width, inside.height))
    shares = [int((each & tissue).sum()) / max(1, int(each.sum())) for each in (here, there)]
    if shares[1] - shares[0] > LEAST_GAIN:
        raise AnnotationError(
            f"{path}: a mask covers the whole slide, and {shares[0]:.0%} of what it marks lies on tissue so, but "
            f"{shares[1]:.0%} if it covers the scanned area {tuple(area)} alone, which QuPath shows: pad it to the "
            "whole slide"
        )
    return True


def overlap_with_tissue(annotation: Annotation, slide: Slide, tissue: NDArray[np.bool_]) -> tuple[Overlap, Overlap]:
    """How what is annotated overlaps with tissue: of all kinds together, and of Tumornest alone."""
    everything = tumor = Overlap()
    for kind in Kind:
        found = _overlap(annotation.polygons_of(kind), slide, tissue)
        for image in annotation.mask_images:
            found = found.plus(_overlap_of_mask(image, kind, slide, tissue))
        everything = everything.plus(found)
        tumor = found if kind is Kind.TUMORNEST else tumor
    return everything, tumor


def _overlap(polygons: Iterable[shapely.Polygon], slide: Slide, tissue: NDArray[np.bool_]) -> Overlap:
    """How polygons in level-0 px overlap with tissue, each sampled at some `_NUM_SAMPLES` points."""
    total = Overlap()
    for polygon in polygons:
        points = _points_in(polygon, slide.resolution.downsample)
        share = float(_is_tissue(points, slide, tissue).mean())
        total = total.plus(Overlap(polygon.area, polygon.area * share))
    return total


def _points_in(polygon: shapely.Polygon, smallest_step_px: float) -> NDArray[np.float64]:
    """Points of a lattice in a polygon, at least one: [n, 2]; of a tiny polygon the centres of its pixels."""
    longest_px = max(np.ptp(np.array(polygon.bounds).reshape(2, 2), axis=0))
    # With one step for all, a tiny one would fall between the points; a long thin one fills little of its box.
    step_px = max(smallest_step_px, math.sqrt(polygon.area / _NUM_SAMPLES), longest_px / _MOST_STEPS)
    (x, y), (x_end, y_end) = (np.array(polygon.bounds) / step_px).reshape(2, 2)
    origin = (math.floor(x), math.floor(y))
    mask = np.zeros((math.ceil(y_end) - origin[1], math.ceil(x_end) - origin[0]), dtype=bool)
    fill_polygon(mask, polygon, downsample=step_px, origin_px=origin)
    if not mask.any():
        return np.array(polygon.representative_point().coords)
    points: NDArray[np.float64] = (np.argwhere(mask)[:, ::-1] + origin + 0.5) * step_px
    return points


def _overlap_of_mask(image: MaskImage, kind: Kind, slide: Slide, tissue: NDArray[np.bool_]) -> Overlap:
    """How what is of a kind in a mask image overlaps with tissue, at the centres of the tissue mask's pixels."""
    if kind not in image.meanings.values():
        return Overlap()
    slide_px2 = slide.level0_size[0] * slide.level0_size[1]
    marked = image.annotated(tissue.shape[::-1], [kind])
    if marked.any():
        pixel_px2 = slide_px2 / marked.size
        return Overlap(int(marked.sum()) * pixel_px2, int((marked & tissue).sum()) * pixel_px2)
    # All of it lies between these centres: the mask's own are taken.
    height, width = image.values.shape
    marked = image.annotated((width, height), [kind])
    centres = (np.argwhere(marked)[:, ::-1] + 0.5) * slide.level0_size / (width, height)
    pixel_px2 = slide_px2 / marked.size
    return Overlap(len(centres) * pixel_px2, int(_is_tissue(centres, slide, tissue).sum()) * pixel_px2)


def _is_tissue(points: NDArray[np.float64], slide: Slide, tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether tissue lies at points [n, 2] in level-0 px; outside of the slide there is none."""
    inside = ((points >= 0) & (points < slide.level0_size)).all(axis=1)
    pixels = (points[inside] * slide.resolution.mpp_level0 / TISSUE_MPP).astype(np.int64)
    cols, rows = np.minimum(pixels, np.array(tissue.shape[::-1]) - 1).T
    found = np.zeros(len(points), dtype=bool)
    found[inside] = tissue[rows, cols]
    return found


def _advice(polygons: Sequence[shapely.Polygon], slide: Slide, tissue: NDArray[np.bool_] | None) -> str:
    """What would bring polygons onto tissue, as the end of a sentence; nothing where nothing would."""
    if tissue is None or not polygons:
        return ""
    some = polygons[:: math.ceil(len(polygons) / _MOST_TRIED)]
    fitting = [
        change.name
        for change in _changes(slide)
        if (_overlap(change.of(some), slide, tissue).share or 0) >= _SHARE_THAT_FITS
    ]
    return f"; it would fit {' or '.join(fitting)}" if fitting else ""


def _changes(slide: Slide) -> Iterator[_Change]:
    """What positions may be if they are not level-0 px from the right corner."""
    (width, height), mpp = slide.level0_size, slide.resolution.mpp_level0
    yield _Change("as fractions of the slide's width and height", (width, height))
    yield _Change("as fractions of the slide's width", (width, width))
    yield _Change("as per cent of the slide's width and height", (width / 100, height / 100))
    for unit, size_um in (("millimetres", 1000), ("micrometres", 1), ("nanometres", 1e-3)):
        yield _Change(f"as {unit}", (size_um / mpp, size_um / mpp))
    for factor in (64, 32, 16, 8, 4, 2, 0.5, 0.25):
        yield _Change(f"if multiplied by {factor}", (factor, factor))
    yield _Change("turned upside down", (1, -1), (0, height))
    x, y = qupath_origin(slide.properties)
    if (x, y) != (0, 0):
        yield _Change(f"if {(x, y)} were added", shift_px=(x, y))
        yield _Change(f"if {(x, y)} were subtracted", shift_px=(-x, -y))
