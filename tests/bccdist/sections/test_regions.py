"""Outlines run along pixels' edges, are valid, and cover just the pixels of their region."""

import math
from typing import NamedTuple

import cv2
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.sections.regions import Region, find_regions

_IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3))


def _cut(pixels: NDArray[np.uint8], num_rows: int) -> list[NDArray[np.uint8]]:
    return [pixels[start : start + num_rows] for start in range(0, len(pixels), num_rows)]


def _filled(region: Region, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels whose centres lie in the outline."""
    y, x = np.indices(shape) + 0.5
    return np.asarray(shapely.contains_xy(region.outline, x, y))


@given(_IMAGES, st.integers(1, 3), st.integers(1, 12))
def test_regions_are_those_of_labelling_whatever_the_strips(
    pixels: NDArray[np.uint8], step: int, num_rows: int
) -> None:
    distances_um = np.random.default_rng(pixels.size).random(pixels.shape, np.float32)
    distances_of_strips = [distances_um[start : start + num_rows] for start in range(0, len(pixels), num_rows)]
    regions = list(find_regions(_cut(pixels, num_rows), step=step, distances_um=distances_of_strips))
    num_labels, labels = cv2.connectedComponents((pixels >= step).astype(np.uint8), connectivity=8)
    assert len(regions) == num_labels - 1
    for region in regions:
        inside = _filled(region, pixels.shape)
        (label,) = set(labels[inside].tolist())
        assert (inside == (labels == label)).all()
        assert region.outline.is_valid
        assert region.outline.area == region.num_pixels == inside.sum()
        assert region.max_value == pixels[inside].max()
        assert region.mean_value == pytest.approx(pixels[inside].mean())
        assert region.margin_um == distances_um[inside].min()


@given(_IMAGES, st.integers(1, 20))
def test_small_regions_are_left_out(pixels: NDArray[np.uint8], least_pixels: int) -> None:
    sizes = [region.num_pixels for region in find_regions([pixels], step=1)]
    kept = [region.num_pixels for region in find_regions([pixels], step=1, least_pixels=least_pixels)]
    assert kept == [size for size in sizes if size >= least_pixels]


class _Drawn(NamedTuple):
    name: str
    rows: tuple[str, ...]
    num_polygons: int
    num_holes: int
    num_corners: int
    """Of all rings, the last of each not counted again."""


@pytest.mark.parametrize(
    "drawn",
    [
        _Drawn("a square", ("##", "##"), num_polygons=1, num_holes=0, num_corners=4),
        _Drawn("a ring", ("###", "#.#", "###"), num_polygons=1, num_holes=1, num_corners=8),
        _Drawn("two in a corner", ("#.", ".#"), num_polygons=2, num_holes=0, num_corners=8),
        _Drawn("holes in a corner", ("####", "#.##", "##.#", "####"), num_polygons=1, num_holes=2, num_corners=12),
        _Drawn("a hole open in a corner", ("###", "#.#", "##."), num_polygons=1, num_holes=1, num_corners=10),
    ],
    ids=lambda drawn: drawn.name,
)
def test_corners_and_holes(drawn: _Drawn) -> None:
    pixels = np.array([[char == "#" for char in row] for row in drawn.rows], dtype=np.uint8)
    (region,) = find_regions(_cut(pixels, 1), step=1)
    polygons = shapely.get_parts(region.outline)
    assert len(polygons) == drawn.num_polygons
    assert shapely.get_num_interior_rings(polygons).sum() == drawn.num_holes
    num_rings = drawn.num_polygons + drawn.num_holes
    assert shapely.get_num_coordinates(region.outline) - num_rings == drawn.num_corners


def test_regions_without_distances_have_no_margin() -> None:
    (region,) = find_regions([np.ones((2, 3), dtype=np.uint8)] * 2, step=1)
    assert math.isnan(region.margin_um)


def test_strips_without_their_distances_are_no_regions() -> None:
    strips = [np.ones((2, 3), dtype=np.uint8)] * 2
    with pytest.raises(ValueError, match="shorter"):
        list(find_regions(strips, step=1, distances_um=[np.ones((2, 3), dtype=np.float32)]))


def test_nothing_is_found_where_nothing_reaches_the_level() -> None:
    assert not list(find_regions([np.full((3, 4), 99, dtype=np.uint8)] * 2, step=100))
