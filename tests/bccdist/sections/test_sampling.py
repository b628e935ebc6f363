"""A heatmap's pixel stands on the coarse pixel under its centre, in any scale and up to the edge."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bccdist.sections.sampling import indices_of, pixels_under
from bccdist.slides.geometry import Box


@given(st.sampled_from([1, 2, 4, 8, 16]), st.floats(0.01, 2), st.integers(0, 50), st.integers(0, 50))
def test_each_centre_lies_in_its_coarse_pixel(edge_px: int, scale: float, x: int, y: int) -> None:
    box = Box(x, y, 7, 5)
    for begin, indices in zip((y, x), pixels_under(box, (9000, 9000), edge_px=edge_px, scale=scale), strict=True):
        centres = (begin + np.arange(len(indices)) + 0.5) * edge_px * scale
        assert (indices <= centres + 1e-9).all()
        assert (centres - 1e-9 <= indices + 1).all()
        assert (np.diff(indices) >= 0).all()


def test_what_rounding_puts_beyond_the_edge_is_held_inside() -> None:
    assert indices_of(np.array([0.5, 79.9, 80.0, 88.0]), 10, scale=1 / 8).tolist() == [0, 9, 9, 9]
