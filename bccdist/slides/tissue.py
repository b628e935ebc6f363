"""Finds tissue on a slide, by its stain, and makes sure that it is the tissue that is read (paper, section 2.1)."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from bccdist.errors import SlideError
from bccdist.slides.geometry import Box
from bccdist.slides.pyramid import correlation, peaks_of_contrast
from bccdist.slides.rings import has_line_around_pieces
from bccdist.slides.slide import Slide
from bccdist.slides.stain import is_told_from_glass, stained_on

TISSUE_MPP = 8.0
"""um per pixel of the tissue mask."""
LEAST_CORRELATION = 0.7
"""Of what is read with the overview, at places of contrast: levels of scanners lie a few px apart, and differ in
sharpness (0.99 on real slides); two pieces of tissue have some 0.3."""
LEAST_TISSUE_AROUND = 0.3
"""Share of tissue around what the file does not hold, from which that counts as tissue, too."""
_AROUND_PX = 3
"""Around means so many pixels of the mask; the median filter before it takes two at an edge."""
_PARTS = (3, 2)
"""Columns and rows that the overview is divided into; one place in each is compared."""
_PLACE_PX = 12
"""Edge of such a place in the overview."""
_WHITE_FROM = 253
_CELLS = 4
"""Pixels along an edge that a place is reduced to before it is compared."""
_NOT_WHITE = 230
"""Of 255, the part of such a pixel from which it was not blanked."""
_FEWEST_CELLS = 16
"""Of these pixels, from which their correlation says anything."""


class TissueError(SlideError):
    """The overview can be read, but does not tell what is tissue, or not of the level that is read."""


def tissue_mask(slide: Slide, *, for_sections: bool = False) -> NDArray[np.bool_]:
    """Tissue at `TISSUE_MPP`: bool [h, w], from the stain's colour.

    It depends on the slide's pixels and its um/px alone, not on the target mpp.

    Args:
        slide: read at its overview, and for comparison at some places of the read level and of level 0.
        for_sections: whether the pieces of the mask are to be sections, which they are not where glass may have been
            taken for tissue. False where the manifest has the boxes.

    Raises:
        TissueError: sections need glass between them, and it is not seen, or a line runs around them; the glass has a
            colour that only wrong decoding gives; or the overview shows another picture than the level that is read.
        SlideError: the overview cannot be read.
    """
    overview, is_absent = slide.overview(TISSUE_MPP)
    _refuse_other_picture(slide, overview)
    smooth, glass = slide.overview_on_glass(TISSUE_MPP)
    if glass.is_strange:
        raise TissueError(
            f"{slide.path}: its glass has the colour {glass.colour} (red, green, blue of 255), expected some white: "
            "its colour space was not understood, or written wrongly; convert the slide and look at its colours"
        )
    mask = stained_on(glass, smooth, mpp=TISSUE_MPP)
    if is_absent is not None:
        mask |= absent_in_tissue(is_absent, mask)
    if for_sections and not (glass.is_certain and is_told_from_glass(mask, glass, smooth)):
        raise TissueError(
            f"{slide.path}: no glass was found that tissue could be told from ({mask.mean():.0%} would be tissue): "
            "the slide is full of tissue, or unevenly lit or tinted; look at it, and give the boxes of its sections "
            "in sections.csv"
        )
    if for_sections and has_line_around_pieces(mask, mpp=TISSUE_MPP):
        raise TissueError(
            f"{slide.path}: a thin closed line of the colour of tissue runs around pieces of tissue: where a pen drew "
            "it, they are sections of their own, else one; look at the slide, and give the boxes of its sections in "
            "sections.csv"
        )
    return mask


def absent_in_tissue(is_absent: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What the file does not hold and tissue reaches up to: bool [h, w].

    Scanners leave out tiles of bare glass, which tissue hardly touches. A tile that was lost lies amid tissue: what it
    showed counts as tissue that was not read, so that its section is for review.

    Args:
        is_absent: pixels of the overview that the file does not hold, bool [h, w].
        mask: the tissue that was seen, bool [h, w].
    """
    num, number, stats, _ = cv2.connectedComponentsWithStats(is_absent.astype(np.uint8), connectivity=8)
    lost = np.zeros_like(is_absent)
    for each in range(1, num):
        x, y, width, height = (int(value) for value in stats[each][:4])
        frame = Box(x, y, width, height).grown(_AROUND_PX).intersection(Box(0, 0, mask.shape[1], mask.shape[0]))
        here = number[frame.slices()] == each
        around = (cv2.dilate(here.astype(np.uint8), np.ones((2 * _AROUND_PX + 1,) * 2, np.uint8)) > 0) & ~here
        if around.any() and mask[frame.slices()][around].mean() >= LEAST_TISSUE_AROUND:
            lost[frame.slices()] |= here
    return lost


def _refuse_other_picture(slide: Slide, overview: NDArray[np.uint8]) -> None:
    """Refuse a slide whose levels show different things: sections would be found on one and read from the other.

    What cannot be read is left out here, as it is told of where it is needed.
    """
    places = list(_places_of_contrast(overview))
    shown = [_cells(overview[box.slices()]) for box in places]
    boxes_level0_px = [box.scaled(TISSUE_MPP / slide.resolution.mpp_level0) for box in places]
    for level in {slide.resolution.level, 0} - {slide.overview_level(TISSUE_MPP)}:
        read = slide.read_places(level, boxes_level0_px, mpp=TISSUE_MPP)
        pairs = [(picture, other) for picture, other in zip(shown, read, strict=True) if other is not None]
        if not pairs:
            continue
        here, there = np.array([picture for picture, _ in pairs]), np.array([_cells(other) for _, other in pairs])
        # What lacks on a level, or was blanked, is no other picture: where it is read, coverage tells of it.
        not_white = [(other.min(axis=-1) < _WHITE_FROM).astype(np.uint8) * 255 for _, other in pairs]
        is_there = np.array([_cells(each) for each in not_white]) >= _NOT_WHITE
        num = int(is_there.sum())
        if num < _FEWEST_CELLS:
            continue
        alike = correlation(here[is_there].astype(np.float32), there[is_there].astype(np.float32))
        if alike is not None and alike < LEAST_CORRELATION:
            raise TissueError(
                f"{slide.path}: its levels {slide.overview_level(TISSUE_MPP)} and {level} show different pictures "
                f"(correlation {alike:.2f} over {num} squares of contrast, expected {LEAST_CORRELATION}): "
                "the file may hold a second image, or levels that do not lie on each other; convert the slide"
            )


def _places_of_contrast(overview: NDArray[np.uint8]) -> Iterator[Box]:
    """Places spread over the overview, in its pixels, cut to it."""
    height, width = overview.shape[:2]
    for x, y in peaks_of_contrast(overview, parts=_PARTS):
        left, top = (
            max(0, min(x - _PLACE_PX // 2, width - _PLACE_PX)),
            max(0, min(y - _PLACE_PX // 2, height - _PLACE_PX)),
        )
        yield Box(left, top, _PLACE_PX, _PLACE_PX).intersection(Box(0, 0, width, height))


def _cells(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA), dtype=np.uint8)
