"""Which tissue belongs to which section: boxes share out the pieces of the tissue mask (paper, sections 2.1 and 2.4).

A section is a piece of tissue, and its box names the piece. Boxes of oblique strips overlap, and what counts in a box
is the section's own piece alone. The rule, for found boxes and for those of sections.csv alike:

1. Only what lies inside of boxes is counted.
2. Pieces nearer than `MERGE_GAP_UM` go together, as does a ring with what lies in it. What boxes hold of a piece goes
   to the box that holds most of it; of boxes that hold nearly as much, to the one that fits it best. So a strip's end
   that sticks out of its own box into another one is still the strip's.
3. A piece is shared where another box alone holds a comparable part of it, or one that is most of the tissue in that
   box. Its connected pieces are then given away one by one in the same way, and one that is shared even so is cut: a
   pixel goes to the box that it lies in, and where that is several or none, where the nearest of the others went.
4. What lies beside the tissue (regions of a heatmap reach over its edge) belongs to the nearest tissue of those
   sections whose box it lies in, or whose tissue is nearer than `REACH_UM`.

Nothing depends on the order of the boxes, and no pixel belongs to two sections.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.slides.geometry import Box
from bccdist.slides.pieces import Pieces, connected, distances_px, grouped
from bccdist.slides.tissue import TISSUE_MPP

_REACH_PX = 6
REACH_UM = _REACH_PX * TISSUE_MPP
"""What is nearer than this to a section's tissue may belong to it though it lies outside of its box, in another's."""
_NEARLY = 0.1
"""Share of a piece that a box may hold less than another one, and still have it by fitting better."""
_COMPARABLE = 0.25
"""A box claims a part of another's piece that is at least this share of what that other box holds of it."""
_MOST = 0.5
"""A box claims a part of another's piece that is at least this share of all tissue in it."""


@dataclass(frozen=True, kw_only=True)
class SectionMap:
    """Which section each pixel of a tissue mask belongs to."""

    number: NDArray[np.int16]
    """0 for none, n for the nth section: [h, w]; also beside the tissue."""
    tissue: NDArray[np.bool_]
    """The mask: [h, w]."""
    reading_level0_px: tuple[Box, ...]
    """What holds all that a section counts: its box, widened where its tissue sticks out into another one."""

    @cached_property
    def of_tissue(self) -> NDArray[np.int16]:
        """Which section each pixel of tissue belongs to, 0 beside the tissue, too: [h, w]."""
        return np.where(self.tissue, self.number, np.int16(0))

    def tissue_px(self) -> list[int]:
        """How many pixels of tissue each section has."""
        counts = np.bincount(self.number[self.tissue], minlength=len(self.reading_level0_px) + 1)
        return [int(count) for count in counts[1:]]


def share_out(tissue: NDArray[np.bool_], boxes_level0_px: Sequence[Box], *, mpp_level0: float) -> SectionMap:
    """Share out a slide's tissue among the boxes of its sections, as this module's docstring says.

    Args:
        tissue: the slide's mask at `TISSUE_MPP`, bool [h, w].
        boxes_level0_px: of all sections of the slide.
        mpp_level0: um per level-0 pixel.
    """
    boxes = _boxes_on(tissue, boxes_level0_px, scale=mpp_level0 / TISSUE_MPP)
    number = np.zeros(tissue.shape, dtype=np.int16)
    groups = grouped(tissue)
    shared = _give(number, groups, boxes)
    if shared:
        pieces = connected(np.isin(groups.number, list(shared)))
        for piece, sharers in _give(number, pieces, boxes).items():
            _cut(number, pieces, piece, sharers, boxes)
    own_boxes = _own_boxes(number, boxes)
    widened = {box.number: box.widened(own_boxes[box.number]) for box in boxes}
    return SectionMap(
        number=_with_surroundings(number, boxes, own_boxes),
        tissue=tissue,
        reading_level0_px=tuple(widened[number] for number in sorted(widened)),
    )


@dataclass(frozen=True, kw_only=True)
class _SectionBox:
    """The box of a section."""

    number: int
    """From 1."""
    level0_px: Box
    mask_px: Box
    """The pixels of the tissue mask that it touches."""
    scale: float
    """Pixels of the tissue mask per level-0 pixel."""
    tissue_px: int
    """Pixels of tissue in it, whosoever's."""

    def fit(self, piece: Box) -> float:
        """How well it fits a box of the tissue mask, 0 to 1: intersection over union."""
        # In level-0 px: the box of a found section is that of its piece to the pixel.
        piece_px = piece.scaled(1 / self.scale)
        shared = self.level0_px.intersection(piece_px).area
        return shared / (self.level0_px.area + piece_px.area - shared)

    def widened(self, own_mask_px: Box) -> Box:
        """It in level-0 px, widened where the section's tissue sticks out of it."""
        return (
            self.level0_px if own_mask_px == self.mask_px else self.level0_px.hull(own_mask_px.scaled(1 / self.scale))
        )


def _boxes_on(tissue: NDArray[np.bool_], boxes_level0_px: Sequence[Box], *, scale: float) -> list[_SectionBox]:
    """The sections' boxes, in an order that does not depend on the one in which they come."""
    frame = Box(0, 0, tissue.shape[1], tissue.shape[0])
    boxes = []
    for number, level0_px in enumerate(boxes_level0_px, start=1):
        mask_px = level0_px.scaled(scale).intersection(frame)
        tissue_px = int(np.count_nonzero(tissue[mask_px.slices()]))
        boxes.append(
            _SectionBox(number=number, level0_px=level0_px, mask_px=mask_px, scale=scale, tissue_px=tissue_px)
        )
    return sorted(boxes, key=lambda box: box.level0_px)


def _give(number: NDArray[np.int16], pieces: Pieces, boxes: Sequence[_SectionBox]) -> dict[int, list[_SectionBox]]:
    """Enter for the pixels of every piece that lie inside of boxes whose they are.

    Returns:
        the boxes that share a piece, by piece, the one that has it so far first.
    """
    held_px = [np.bincount(pieces.number[box.mask_px.slices()].ravel(), minlength=len(pieces.num_px)) for box in boxes]
    owners = np.zeros(len(pieces.num_px), dtype=np.int16)
    shared = {}
    for piece in range(1, len(pieces.num_px)):
        holders = [(box, int(held[piece])) for box, held in zip(boxes, held_px, strict=True) if held[piece]]
        if not holders:
            continue
        owner, owned_px = _owner(pieces, piece, holders)
        owners[piece] = owner.number
        others = [box for box, _ in holders if box is not owner]
        claimants = [box for box in others if _claims(pieces, piece, box, owner=owner, owned_px=owned_px)]
        if claimants:
            shared[piece] = [owner, *claimants]
    for box in boxes:
        inside = pieces.number[box.mask_px.slices()]
        np.copyto(number[box.mask_px.slices()], owners[inside], where=inside > 0)
    return shared


def _owner(pieces: Pieces, piece: int, holders: Sequence[tuple[_SectionBox, int]]) -> tuple[_SectionBox, int]:
    """The box that a piece goes to, and how many of its pixels lie in it; `holders` are boxes with that number."""
    if len(holders) == 1:
        return holders[0]
    most_px = max(held_px for _, held_px in holders)
    nearly = [(box, held_px) for box, held_px in holders if held_px >= (1 - _NEARLY) * most_px]
    piece_box = pieces.box(piece)
    return max(nearly, key=lambda holder: holder[0].fit(piece_box))


def _claims(pieces: Pieces, piece: int, box: _SectionBox, *, owner: _SectionBox, owned_px: int) -> bool:
    """Whether a box shares a piece with the one that has most of it."""
    if owned_px == pieces.num_px[piece]:
        return False
    inside = box.mask_px.intersection(pieces.outer_boxes[piece])
    in_both = inside.intersection(owner.mask_px)
    num_inside, num_in_both = (
        int(np.count_nonzero(pieces.number[part.slices()] == piece)) for part in (inside, in_both)
    )
    alone_px = num_inside - num_in_both
    return alone_px >= _COMPARABLE * owned_px or alone_px >= _MOST * box.tissue_px


def _cut(
    number: NDArray[np.int16], pieces: Pieces, piece: int, sharers: Sequence[_SectionBox], boxes: Sequence[_SectionBox]
) -> None:
    """Enter for each pixel of a piece which of its sharers has it."""
    frame = pieces.outer_boxes[piece]
    is_piece = pieces.number[frame.slices()] == piece
    inside = {box.number: _filled(box.mask_px, frame) for box in sharers}
    num_inside = np.sum(list(inside.values()), axis=0)
    nearest = np.full(is_piece.shape, np.inf, dtype=np.float32)
    cut = np.full(is_piece.shape, sharers[0].number, dtype=np.int16)
    # In the boxes' own order, by which the first of equally near ones has a pixel.
    for box in (box for box in boxes if box.number in inside):
        alone = is_piece & inside[box.number] & (num_inside == 1)
        if alone.any():
            allowed = inside[box.number] | (num_inside == 0)
            _enter_nearer(cut, nearest, box.number, distances_px(alone), allowed)
    there = number[frame.slices()]
    np.copyto(there, cut, where=is_piece & (there > 0))


def _filled(box: Box, frame: Box) -> NDArray[np.bool_]:
    """Which pixels of a frame lie in a box: bool [frame height, frame width]."""
    filled = np.zeros((frame.height, frame.width), dtype=bool)
    inside = box.intersection(frame)
    filled[inside._replace(x=inside.x - frame.x, y=inside.y - frame.y).slices()] = True
    return filled


def _enter_nearer(
    number: NDArray[np.int16],
    nearest_px: NDArray[np.float32],
    own_number: int,
    distance_px: NDArray[np.float32],
    allowed: NDArray[np.bool_],
) -> None:
    """Enter a section where it is allowed and nearer than those entered so far; all arrays are [h, w]."""
    is_nearer = allowed & (distance_px < nearest_px)
    nearest_px[is_nearer] = distance_px[is_nearer]
    number[is_nearer] = own_number


def _own_boxes(tissue_number: NDArray[np.int16], boxes: Sequence[_SectionBox]) -> dict[int, Box]:
    """What holds all tissue of each section, in the mask's pixels: its box, widened where tissue sticks out of it."""
    num_px = np.bincount(tissue_number.ravel(), minlength=len(boxes) + 1)
    own_boxes = {}
    for box in boxes:
        own_boxes[box.number] = box.mask_px
        if num_px[box.number] > np.count_nonzero(tissue_number[box.mask_px.slices()] == box.number):
            sides = cv2.boundingRect((tissue_number == box.number).astype(np.uint8))
            own_boxes[box.number] = box.mask_px.hull(Box(*(int(side) for side in sides)))
    return own_boxes


def _with_surroundings(
    tissue_number: NDArray[np.int16], boxes: Sequence[_SectionBox], own_boxes: Mapping[int, Box]
) -> NDArray[np.int16]:
    """The section of each pixel inside of boxes, also beside the tissue, from that of the tissue's pixels: [h, w]."""
    frame = Box(0, 0, tissue_number.shape[1], tissue_number.shape[0])
    # A heatmap's pixel that touches a box is counted whole: its centre may lie a pixel of the mask outside.
    touched = [box.mask_px.grown(1).intersection(frame) for box in boxes]
    in_boxes = np.zeros(tissue_number.shape, dtype=bool)
    for inside in touched:
        in_boxes[inside.slices()] = True
    number = np.zeros_like(tissue_number)
    nearest_px = np.full(tissue_number.shape, np.inf, dtype=np.float32)
    for box, inside in zip(boxes, touched, strict=True):
        around = own_boxes[box.number].grown(_REACH_PX + 1).intersection(frame)
        own = tissue_number[around.slices()] == box.number
        if own.any():
            distance_px = distances_px(own)
            allowed = in_boxes[around.slices()] & (_filled(inside, around) | (distance_px <= _REACH_PX))
            _enter_nearer(number[around.slices()], nearest_px[around.slices()], box.number, distance_px, allowed)
    return number
