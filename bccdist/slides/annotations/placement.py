"""Whether what a file marks lies where it was drawn: on the slide, in pixels of the target frame, on tissue.

Positions in another unit, at another scale or from another corner are no fault of the file's form: what tells is that
they end up beside the tissue, or in so small a spot that no pixel is marked. Then every label would be moved or lost.
"""

from collections.abc import Iterator, Sequence
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
_BAND_PX = 256


class OffTissueError(AnnotationError):
    """Most of what a file marks lies on glass.

    Attributes:
        share: of what the file marks, on tissue, 0 to 1.
    """

    def __init__(self, message: str, *, share: float) -> None:
        self.share = share
        super().__init__(message)


class Overlap(NamedTuple):
    """How many pixels of the target frame are annotated, and how many of these lie on tissue."""

    num_annotated: int
    num_on_tissue: int

    @property
    def share(self) -> float | None:
        """From 0 to 1; None where nothing is annotated."""
        return self.num_on_tissue / self.num_annotated if self.num_annotated else None


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
    here = _share_on_tissue(polygons, slide, tissue)
    there = _share_on_tissue(_Change("", shift_px=shift_px).of(polygons), slide, tissue)
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
    """How what is annotated overlaps with tissue: of all kinds together, and of Tumornest alone.

    Pixels of the target frame are counted, in bands, so that nothing of the slide's size is held.
    """
    scale = slide.resolution.mpp / TISSUE_MPP
    rows, cols = (
        np.minimum(((np.arange(length_px) + 0.5) * scale).astype(np.int64), length - 1)
        for length_px, length in zip((slide.height_px, slide.width_px), tissue.shape, strict=True)
    )
    counts = np.zeros((2, 2), dtype=np.int64)
    # Numerator and denominator are summed apart: shares of bands could not be averaged.
    for box_px in _bands(annotation.extent_px):
        masks = annotation.masks(box_px)
        under = tissue[np.ix_(*(each[side] for each, side in zip((rows, cols), box_px.slices(), strict=True)))]
        for row, mask in enumerate((np.logical_or.reduce(list(masks.values())), masks[Kind.TUMORNEST])):
            counts[row] += np.count_nonzero(mask), np.count_nonzero(mask & under)
    return Overlap(*counts[0].tolist()), Overlap(*counts[1].tolist())


def _bands(box_px: Box) -> Iterator[Box]:
    for y in range(box_px.y, box_px.y_end, _BAND_PX):
        yield box_px._replace(y=y, height=min(_BAND_PX, box_px.y_end - y))


def _advice(polygons: Sequence[shapely.Polygon], slide: Slide, tissue: NDArray[np.bool_] | None) -> str:
    """What would bring polygons onto tissue, as the end of a sentence; nothing where nothing would."""
    if tissue is None or not polygons:
        return ""
    fitting = [
        change.name
        for change in _changes(slide)
        if (_share_on_tissue(change.of(polygons), slide, tissue) or 0) >= _SHARE_THAT_FITS
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


def _share_on_tissue(polygons: Sequence[shapely.Polygon], slide: Slide, tissue: NDArray[np.bool_]) -> float | None:
    """The share of polygons in level-0 px that lies on tissue, in the tissue mask's pixels; outside there is none.

    None where they are smaller than such a pixel.
    """
    downsample = TISSUE_MPP / slide.resolution.mpp_level0
    mask = np.zeros(tissue.shape, dtype=bool)
    for polygon in polygons:
        fill_polygon(mask, polygon, downsample=downsample)
    num_marked = int(np.count_nonzero(mask))
    if not num_marked:
        return None
    area = shapely.area(polygons).sum()
    inside = shapely.area(shapely.intersection(polygons, shapely.box(0, 0, *slide.level0_size))).sum()
    return float(np.count_nonzero(mask & tissue) / num_marked * inside / area)
