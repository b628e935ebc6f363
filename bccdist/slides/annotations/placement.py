"""Whether what a file marks lies where it was drawn: on the slide, in pixels of the target frame, on tissue.

Positions in another unit, at another scale or from another corner are no fault of the file's form: what tells is that
they end up beside the tissue, or in so small a spot that no pixel is marked. Then every label would be moved or lost.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations.annotation import Annotation
from bccdist.slides.annotations.mask_image import MaskImage, fits
from bccdist.slides.annotations.samples import Samples
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
MOST_SHARE_OF_SHIFTS = 0.01
"""Share of all places on the slide where a drawing may lie as well, until its fit says nothing: a small nest does in
many places, so that it comes to lie on tissue by chance."""
_NUM_SHIFTS = 16
"""Places that are tried, along each side."""
_NUM_SHIFTED = 4000
"""Points of a drawing that are tried there."""
_SHARE_THAT_FITS = 0.9
"""Share on tissue from which another scale is offered as what was meant."""


class OffTissueError(AnnotationError):
    """Most of what a file marks lies on glass.

    Attributes:
        share: of what the file marks, on tissue, 0 to 1.
    """

    def __init__(self, message: str, *, share: float) -> None:
        self.share = share
        super().__init__(message)


class _Change(NamedTuple):
    """How positions become level-0 px of the slide, if they are something else."""

    name: str
    """What they are then, as the end of a sentence."""
    of_points: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """From positions to positions, (x, y), [n, 2]."""

    def of(self, samples: Samples) -> Samples:
        """Samples at these positions, with the areas that they had."""
        return samples._replace(points_level0_px=self.of_points(samples.points_level0_px))


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
            f"or is not in level-0 px{_advice(Samples.of_polygons(polygons), slide, tissue)}"
        )
    share_outside = 1 - shares.sum() / shapely.area(polygons).sum()
    if share_outside > LARGEST_SHARE_OUTSIDE:
        raise AnnotationError(
            f"{path}: {share_outside:.0%} of the annotated area lies outside {size}, at most "
            f"{LARGEST_SHARE_OUTSIDE:.0%} may: it belongs to another slide, is not in level-0 px, or must be drawn "
            f"within the slide{_advice(Samples.of_polygons(polygons), slide, tissue)}"
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
            f"{_advice(Samples.of_polygons(polygons), slide, tissue)}"
        )


def require_on_tissue(path: Path, annotation: Annotation, slide: Slide, tissue: NDArray[np.bool_]) -> None:
    """Refuse a file that lies off tissue, or would clearly lie better if it were mirrored, turned or in another unit.

    Of all that it marks, and of its Tumornest alone, at least `LEAST_SHARE_ON_TISSUE` has to lie on tissue. A drawing
    of which `LEAST_GAIN` more would lie there in another position is refused, too, where that is no chance: more than
    half of a mirrored mask may still lie on tissue.

    Raises:
        OffTissueError: it does.
    """
    everything = Samples.of(annotation, slide)
    tumor = Samples.of(annotation, slide, [Kind.TUMORNEST])
    drawings = [
        (samples, what, samples.share_on(tissue, slide))
        for samples, what in ((everything, "the annotated area"), (tumor, str(Kind.TUMORNEST)))
    ]
    for _, what, share in drawings:
        if share is not None and share < LEAST_SHARE_ON_TISSUE:
            raise OffTissueError(
                f"{path}: only {share:.0%} of {what} lies on tissue, expected at least "
                f"{LEAST_SHARE_ON_TISSUE:.0%}: it belongs to another slide, is shifted, or is not in level-0 px: open "
                f"both together{_advice(everything, slide, tissue, is_mask=bool(annotation.mask_images))}",
                share=share,
            )
    for samples, what, share in drawings:
        # As much more as counts does not fit beside the tissue of what lies on it.
        if share is None or share + LEAST_GAIN >= 1:
            continue
        changes = _changes(slide, is_mask=bool(annotation.mask_images))
        better = _better(changes, samples, everything, slide, tissue, here=share)
        if better is not None:
            change, there = better
            raise OffTissueError(
                f"{path}: {share:.0%} of {what} lies on tissue, and {there:.0%} would lie there {change.name}: open "
                "both together, and export it as level 0 shows it; if it is right, take out what lies on glass",
                share=share,
            )


def _better(
    changes: Iterable[_Change],
    samples: Samples,
    everything: Samples,
    slide: Slide,
    tissue: NDArray[np.bool_],
    *,
    here: float,
) -> tuple[_Change, float] | None:
    """The change that brings clearly more onto tissue than `here`, and no less of everything, with the share there."""
    all_here = everything.share_on(tissue, slide) or 0
    found = []
    for change in changes:
        changed = change.of(samples)
        there = changed.share_on(tissue, slide) or 0
        is_better = there - here > LEAST_GAIN and (change.of(everything).share_on(tissue, slide) or 0) >= all_here
        if is_better and _share_of_shifts(changed, there, slide, tissue) <= MOST_SHARE_OF_SHIFTS:
            found.append((change, there))
    return max(found, key=lambda each: each[1], default=None)


def _share_of_shifts(samples: Samples, share: float, slide: Slide, tissue: NDArray[np.bool_]) -> float:
    """Of all places to which a drawing may be shifted, round the slide's edges, the share where it lies as well."""
    some = samples.some(_NUM_SHIFTED)
    steps = np.array(slide.level0_size) / _NUM_SHIFTS
    shifts = [(x, y) for x in range(_NUM_SHIFTS) for y in range(_NUM_SHIFTS) if x or y]
    shifted = (
        some._replace(points_level0_px=(some.points_level0_px + steps * shift) % slide.level0_size) for shift in shifts
    )
    return sum((each.share_on(tissue, slide) or 0) >= share for each in shifted) / len(shifts)


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
    samples = Samples.of_polygons(polygons)
    here = samples.share_on(tissue, slide)
    there = _shifted("", *shift_px).of(samples).share_on(tissue, slide)
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


def _advice(samples: Samples, slide: Slide, tissue: NDArray[np.bool_] | None, *, is_mask: bool = False) -> str:
    """What would bring a drawing onto tissue, as the end of a sentence; nothing where nothing would."""
    if tissue is None:
        return ""
    fitting = [
        change.name
        for change in _changes(slide, is_mask=is_mask)
        if (change.of(samples).share_on(tissue, slide) or 0) >= _SHARE_THAT_FITS
    ]
    return f"; it would fit {' or '.join(fitting)}" if fitting else ""


def _changes(slide: Slide, *, is_mask: bool) -> Iterator[_Change]:
    """What positions may be if they are not level-0 px from the right corner; a mask always covers the slide."""
    yield from _other_sides(slide, is_mask=is_mask)
    if is_mask:
        return
    (width, height), mpp = slide.level0_size, slide.resolution.mpp_level0
    yield _scaled("as fractions of the slide's width and height", width, height)
    yield _scaled("as fractions of the slide's width", width, width)
    yield _scaled("as per cent of the slide's width and height", width / 100, height / 100)
    for unit, size_um in (("millimetres", 1000), ("micrometres", 1), ("nanometres", 1e-3)):
        yield _scaled(f"as {unit}", size_um / mpp, size_um / mpp)
    for factor in (64, 32, 16, 8, 4, 2, 0.5, 0.25):
        yield _scaled(f"if multiplied by {factor}", factor, factor)
    x, y = qupath_origin(slide.properties)
    if (x, y) != (0, 0):
        yield _shifted(f"if {(x, y)} were added", x, y)
        yield _shifted(f"if {(x, y)} were subtracted", -x, -y)


def _other_sides(slide: Slide, *, is_mask: bool) -> Iterator[_Change]:
    """The slide as it looks mirrored or turned; a mask that lies across fits a square slide alone."""
    width, height = slide.level0_size
    yield _Change("mirrored left to right", lambda xy: xy * (-1, 1) + (width, 0))
    yield _Change("turned upside down", lambda xy: xy * (1, -1) + (0, height))
    yield _Change("turned by 180 degrees", lambda xy: -xy + (width, height))
    if not is_mask or fits((height, width), (width, height)):
        yield _Change("with x and y swapped", lambda xy: xy[:, ::-1])
        yield _Change("turned to the right", lambda xy: xy[:, ::-1] * (-1, 1) + (width, 0))
        yield _Change("turned to the left", lambda xy: xy[:, ::-1] * (1, -1) + (0, height))
        yield _Change("with x and y swapped and turned by 180 degrees", lambda xy: (width, height) - xy[:, ::-1])


def _scaled(name: str, x: float, y: float) -> _Change:
    return _Change(name, lambda xy: xy * (x, y))


def _shifted(name: str, x: float, y: float) -> _Change:
    return _Change(name, lambda xy: xy + np.array((x, y)))
