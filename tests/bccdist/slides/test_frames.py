"""Where positions on a slide count from: QuPath shows the scanned area alone, level 0 is all of it."""

import pytest

from bccdist.slides.frames import Frame, qupath_origin, scanned_area
from bccdist.slides.geometry import Box

BOUNDS = {
    "openslide.bounds-x": "300",
    "openslide.bounds-y": "200",
    "openslide.bounds-width": "5000",
    "openslide.bounds-height": "4000",
}


def test_qupath_counts_from_the_corner_of_the_scanned_area_and_level_0_does_not() -> None:
    assert scanned_area(BOUNDS) == Box(300, 200, 5000, 4000)
    assert qupath_origin(BOUNDS) == Frame.QUPATH.origin(BOUNDS) == (300, 200)
    assert Frame.LEVEL0.origin(BOUNDS) == (0, 0)


@pytest.mark.parametrize("missing", sorted(BOUNDS))
def test_a_slide_that_names_no_whole_area_is_shown_from_its_corner(missing: str) -> None:
    rest = {name: text for name, text in BOUNDS.items() if name != missing}
    assert scanned_area(rest) is None
    assert Frame.QUPATH.origin(rest) == Frame.QUPATH.origin({}) == (0, 0)
