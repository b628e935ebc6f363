"""Where the boxes of sections.csv do not fit the pieces of tissue on a slide (paper, section 2.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bccdist.slides.geometry import Box
from bccdist.slides.pieces import Pieces, connected, grouped
from bccdist.slides.section_map import SectionMap
from bccdist.slides.sections import SMALLEST_SECTION_UM2
from bccdist.slides.tissue import TISSUE_MPP

LEAST_HELD = 0.9
"""A piece of which boxes hold less than this share is cut by them."""
_SMALLEST_PX = SMALLEST_SECTION_UM2 / TISSUE_MPP**2


@dataclass(frozen=True, kw_only=True)
class BoxFaults:
    """Pieces of tissue, as large as a section, that boxes miss, cut or share; boxes in pixels of the tissue mask."""

    missed: Sequence[Box]
    """Pieces in no box: no section counts them."""
    cut: Sequence[tuple[Box, float]]
    """Pieces of which boxes hold a part alone, and that part, 0 to 1: no section counts the rest."""
    shared: Sequence[tuple[Box, Sequence[int]]]
    """Connected pieces that are cut between several sections, and their numbers in the section map."""

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.missed or self.cut or self.shared)


def box_faults(shares: SectionMap) -> BoxFaults:
    """The pieces that a slide's boxes, which share out its tissue, do not fit."""
    groups = grouped(shares.tissue)
    held = {piece: 1 - _counts(groups, piece, shares.number)[0] for piece in groups.with_at_least(_SMALLEST_PX)}
    pieces = connected(shares.tissue)
    holders = {
        piece: np.flatnonzero(_counts(pieces, piece, shares.number)[1:]) + 1
        for piece in pieces.with_at_least(_SMALLEST_PX)
    }
    return BoxFaults(
        missed=[groups.box(piece) for piece, share in held.items() if not share],
        cut=[(groups.box(piece), share) for piece, share in held.items() if 0 < share < LEAST_HELD],
        shared=[(pieces.box(piece), found.tolist()) for piece, found in holders.items() if len(found) > 1],
    )


def _counts(pieces: Pieces, piece: int, number: NDArray[np.int16]) -> NDArray[np.float64]:
    """The share of a piece that each section has, by its number; entry 0 is what none has."""
    inside = pieces.outer_boxes[piece].slices()
    counts = np.bincount(number[inside][pieces.number[inside] == piece], minlength=1)
    return np.asarray(counts / counts.sum(), dtype=np.float64)
