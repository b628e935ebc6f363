"""Where annotations and predictions contradict each other: outline by outline, region by region.

A pixel contradicts as much as the prediction is sure of it: |2p - 1| where its annotation says the opposite, else 0.
An outline's or region's score is the sum over its pixels, divided by its area and a little more (`SLACK_UM2`): a mean
that small areas do not reach. Scores of outlines and regions are on one scale, on which `patches` puts patches, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from bccdist.audit.findings import Finding, Outline, Reason, Unit
from bccdist.audit.probability_map import ProbabilityMap
from bccdist.parts import Kind
from bccdist.sections.regions import find_regions
from bccdist.slides.annotations.rasterising import fill_polygon
from bccdist.slides.geometry import Box

SLACK_UM2 = 2000.0
"""Added to every area that a score is divided by: about that of a nest of 50 um. [open]"""
LEAST_REGION_UM2 = 500.0
"""Smallest predicted region without an outline that is told. [open]"""
BORDER_UM = 8.0
"""So far from an outline nobody draws and no network predicts exactly; nothing contradicts there. [open]"""
LONGEST_SHIFT_UM = 250.0
"""How far an outline may have been moved. [open]"""
MOVED_IOU, MOVED_GAIN = 0.5, 0.2
"""An outline was moved where, shifted, it shares at least so much with what is predicted, and so much more. [open]"""
MOST, SOME = 0.5, 0.2
"""Shares of an outline's pixels that contradict, however sure: from `MOST` on all of it does, below `SOME` it agrees.
Networks that are trained with the focal loss are seldom sure. [open]"""
_LEAST_READ = 0.5


def _grown(mask: NDArray[np.bool_], mpp: float) -> NDArray[np.bool_]:
    """A mask with the border on which nobody is exact."""
    radius = max(1, round(BORDER_UM / mpp))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask.view(np.uint8), disc), dtype=bool)


def compare_slide(outlines: Sequence[Outline], found: ProbabilityMap) -> list[Finding]:
    """All outlines of a slide, in their order, and the predicted regions that nobody drew."""
    canvas = _Canvas.of(outlines, found)
    # Tumornest first: what a moved outline belongs to is no nest that was left out.
    order = sorted(range(len(outlines)), key=lambda number: outlines[number].kind is not Kind.TUMORNEST)
    compared = {number: _compare_outline(canvas, number, outlines[number]) for number in order}
    return [*(compared[number] for number in range(len(outlines))), *_regions(canvas)]


@dataclass(frozen=True, kw_only=True)
class _Canvas:
    """What all findings of a slide share, [h, w] each in pixels of the map."""

    found: ProbabilityMap
    tumor: NDArray[np.float32]
    """How sure tumor is predicted, 0 to 1."""
    free: NDArray[np.float32]
    """How sure none is, 0 to 1."""
    num_tumornest: NDArray[np.uint16]
    """Tumornest outlines that cover a pixel."""
    explained: NDArray[np.bool_]
    """Where predicted tumor belongs to an outline; outlines that are compared add to it."""

    @classmethod
    def of(cls, outlines: Sequence[Outline], found: ProbabilityMap) -> "_Canvas":
        signed = np.where(found.is_read, 2 * found.probability - 1, 0).astype(np.float32)
        num = np.zeros(signed.shape, dtype=np.uint16)
        canvas = cls(
            found=found,
            tumor=signed.clip(0, 1),
            free=(-signed).clip(0, 1),
            num_tumornest=num,
            explained=np.zeros(signed.shape, dtype=bool),
        )
        for outline in outlines:
            if outline.kind is Kind.TUMORNEST:
                box = canvas.box_of(outline.polygon)
                num[box.slices()] += canvas.mask_of(outline.polygon, box)
        canvas.explained[:] = _grown(num > 0, found.mpp)
        return canvas

    @property
    def whole(self) -> Box:
        height, width = self.tumor.shape
        return Box(0, 0, width, height)

    def box_of(self, geometry: shapely.Geometry, *, margin_px: int = 0) -> Box:
        """The box around a shape, in pixels of the map, cut to the map."""
        left, top, right, bottom = np.array(geometry.bounds) / self.found.downsample
        x, y = int(np.floor(left)), int(np.floor(top))
        return Box(x, y, int(np.ceil(right)) - x, int(np.ceil(bottom)) - y).grown(margin_px).intersection(self.whole)

    def mask_of(self, polygon: shapely.Polygon, box: Box) -> NDArray[np.bool_]:
        """The pixels of a box whose centres lie in a shape."""
        mask = np.zeros((box.height, box.width), dtype=bool)
        if box.area:
            fill_polygon(mask, polygon, downsample=self.found.downsample, origin_px=(box.x, box.y))
        return mask

    @property
    def um2(self) -> float:
        """Area of a pixel."""
        return self.found.mpp**2

    def score(self, contradicting: float, num_px: int) -> float:
        """The score of an area, from the sum over its pixels."""
        return float(contradicting * self.um2 / (num_px * self.um2 + SLACK_UM2))


def _compare_outline(canvas: _Canvas, number: int, outline: Outline) -> Finding:
    box = canvas.box_of(outline.polygon)
    own = canvas.mask_of(outline.polygon, box)
    is_read = canvas.found.is_read[box.slices()] & own
    num_px = int(own.sum())
    if not num_px or is_read.sum() < _LEAST_READ * num_px:
        return _not_compared(canvas, number, outline, "no patch lies on it" if num_px else "it is too small")
    compare = _compare_tumornest if outline.kind is Kind.TUMORNEST else _compare_other
    return compare(canvas, number, outline, box, own)


def _not_compared(canvas: _Canvas, number: int, outline: Outline, why: str) -> Finding:
    return Finding(
        unit=Unit.OUTLINE,
        number=number,
        kind=outline.kind,
        geometry=outline.polygon,
        reason=Reason.NOT_READ,
        text=f"not compared: {why}",
        score=float("nan"),
        area_um2=_area_um2(canvas, outline.polygon),
        mean_probability=float("nan"),
    )


def _area_um2(canvas: _Canvas, geometry: shapely.Geometry) -> float:
    return float(geometry.area / canvas.found.downsample**2 * canvas.um2)


def _finding(
    canvas: _Canvas,
    number: int,
    outline: Outline,
    *,
    mean: float,
    score: float,
    reason: Reason,
    text: str,
    proposed: tuple[Kind, shapely.Geometry] | None = None,
) -> Finding:
    return Finding(
        unit=Unit.OUTLINE,
        number=number,
        kind=outline.kind,
        geometry=outline.polygon,
        reason=reason,
        text=text,
        score=score,
        area_um2=_area_um2(canvas, outline.polygon),
        mean_probability=mean,
        proposed_kind=proposed and proposed[0],
        proposed=proposed and proposed[1],
    )


def _compare_other(canvas: _Canvas, number: int, outline: Outline, box: Box, own: NDArray[np.bool_]) -> Finding:
    """Stroma or Normal, in which no tumor should be predicted, beside Tumornest that lies in it."""
    part = box.slices()
    tumor = canvas.tumor[part][own & (canvas.num_tumornest[part] == 0)]
    share, mean = float((tumor > 0).sum() / own.sum()), float(canvas.found.probability[part][own].mean())
    score = canvas.score(float(tumor.sum()), int(own.sum()))
    if share < MOST:
        reason = Reason.IN_PART if share >= SOME else Reason.AGREES
        text = f"annotated {outline.kind}, tumor is predicted on {share:.0%} of it"
        return _finding(canvas, number, outline, mean=mean, score=score, reason=reason, text=text)
    canvas.explained[part] |= _grown(own, canvas.found.mpp)
    return _finding(
        canvas,
        number,
        outline,
        mean=mean,
        score=score,
        reason=Reason.SWAPPED,
        text=f"kind swapped: annotated {outline.kind}, predicted tumor (mean probability {mean:.2f})",
        proposed=(Kind.TUMORNEST, outline.polygon),
    )


def _compare_tumornest(canvas: _Canvas, number: int, outline: Outline, box: Box, own: NDArray[np.bool_]) -> Finding:
    part = box.slices()
    free = canvas.free[part][own]
    inside = float(free.sum())
    share, mean = float((free > 0).mean()), float(canvas.found.probability[part][own].mean())
    score = canvas.score(inside, int(own.sum()))
    if share < SOME:
        text = f"annotated Tumornest, predicted tumor (mean probability {mean:.2f})"
        return _finding(canvas, number, outline, mean=mean, score=score, reason=Reason.AGREES, text=text)
    if (shift := _best_shift(canvas, outline, box, own)) is not None:
        return _moved(canvas, number, outline, shift, own, mean=mean, inside=inside)
    if share < MOST:
        text = f"annotated Tumornest, no tumor is predicted on {share:.0%} of it"
        return _finding(canvas, number, outline, mean=mean, score=score, reason=Reason.IN_PART, text=text)
    return _finding(
        canvas,
        number,
        outline,
        mean=mean,
        score=score,
        reason=Reason.SWAPPED,
        text=f"kind swapped, or no tumor: annotated Tumornest, predicted none (mean probability {mean:.2f})",
        proposed=(Kind.NORMAL, outline.polygon),
    )


class _Shift(NamedTuple):
    """By how much an outline may have been moved, and what it shares with the prediction before and after."""

    x_px: int
    y_px: int
    iou_before: float
    iou: float


def _best_shift(canvas: _Canvas, outline: Outline, box: Box, own: NDArray[np.bool_]) -> _Shift | None:
    """Where an outline fits what is predicted much better than where it lies; None where nowhere."""
    reach = max(2, min(max(box.width, box.height), round(LONGEST_SHIFT_UM / canvas.found.mpp)))
    around = box.grown(reach)
    # Tumor that other outlines mark is theirs.
    there = around.intersection(canvas.whole)
    others = canvas.num_tumornest[there.slices()] - canvas.mask_of(outline.polygon, there).astype(np.uint16) > 0
    predicted = np.zeros((around.height, around.width), dtype=np.float32)
    rows, cols = there._replace(x=there.x - around.x, y=there.y - around.y).slices()
    predicted[rows, cols] = (canvas.tumor[there.slices()] > 0) & ~others
    template = own.astype(np.float32)
    shared = cv2.matchTemplate(predicted, template, cv2.TM_CCORR)
    near = cv2.matchTemplate(predicted, np.ones_like(template), cv2.TM_CCORR)
    ious = shared / np.maximum(template.sum() + near - shared, 1)
    y, x = np.unravel_index(int(ious.argmax()), ious.shape)
    before, best = float(ious[reach, reach]), float(ious[y, x])
    if best < MOVED_IOU or best - before < MOVED_GAIN:
        return None
    return _Shift(int(x) - reach, int(y) - reach, before, best)


def _moved(
    canvas: _Canvas,
    number: int,
    outline: Outline,
    shift: _Shift,
    own: NDArray[np.bool_],
    *,
    mean: float,
    inside: float,
) -> Finding:
    by_level0_px = np.array([shift.x_px, shift.y_px]) * canvas.found.downsample
    moved = shapely.transform(outline.polygon, lambda xy: xy + by_level0_px)
    box = canvas.box_of(moved)
    part = box.slices()
    mask = canvas.mask_of(moved, box)
    outside = float(canvas.tumor[part][mask & (canvas.num_tumornest[part] == 0)].sum())
    grown = canvas.box_of(moved, margin_px=max(1, round(BORDER_UM / canvas.found.mpp)))
    canvas.explained[grown.slices()] |= _grown(canvas.mask_of(moved, grown), canvas.found.mpp)
    x_um, y_um = shift.x_px * canvas.found.mpp, shift.y_px * canvas.found.mpp
    return _finding(
        canvas,
        number,
        outline,
        mean=mean,
        score=canvas.score(inside + outside, int(own.sum())),
        reason=Reason.MOVED,
        text=(
            f"outline moved: shifted by {x_um:+.0f} um across and {y_um:+.0f} um down it fits the prediction "
            f"(IoU {shift.iou_before:.2f} -> {shift.iou:.2f})"
        ),
        proposed=(Kind.TUMORNEST, moved),
    )


def _regions(canvas: _Canvas) -> Iterator[Finding]:
    """Predicted tumor that no outline explains."""
    left = ((canvas.tumor > 0) & ~canvas.explained).view(np.uint8)
    # What is left along an outline that was drawn a little too small is no region.
    opened = np.asarray(cv2.morphologyEx(left, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    least_px = max(1, round(LEAST_REGION_UM2 / canvas.um2))
    regions = find_regions([opened], step=1, least_pixels=least_px)
    for number, region in enumerate(regions):
        # Without the steps of its pixels: it may become an annotation.
        plain = shapely.simplify(region.outline, 1.0)
        outline = shapely.transform(plain, lambda xy: xy * canvas.found.downsample)
        box = Box(*_whole_box(region.outline.bounds))
        own = _mask_of_any(region.outline, box)
        part = box.slices()
        mean = float(canvas.found.probability[part][own].mean())
        area_um2 = region.num_pixels * canvas.um2
        yield Finding(
            unit=Unit.REGION,
            number=number,
            kind=None,
            geometry=outline,
            reason=Reason.LEFT_OUT,
            text=f"nest left out: tumor is predicted on {area_um2:,.0f} um2 without an outline ({mean:.2f})",
            score=canvas.score(float(canvas.tumor[part][own].sum()), region.num_pixels),
            area_um2=area_um2,
            mean_probability=mean,
            proposed_kind=Kind.TUMORNEST,
            proposed=outline,
        )


def _whole_box(bounds: Sequence[float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = map(round, bounds)
    return left, top, right - left, bottom - top


def _mask_of_any(outline: shapely.Geometry, box: Box) -> NDArray[np.bool_]:
    """The pixels of a region found in the map, whose pieces touch in corners alone."""
    mask = np.zeros((box.height, box.width), dtype=bool)
    for piece in getattr(outline, "geoms", [outline]):
        fill_polygon(mask, piece, downsample=1, origin_px=(box.x, box.y))
    return mask
