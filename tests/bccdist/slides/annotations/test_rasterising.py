"""Polygons become pixels exactly, holes included, and whatever box they are asked for in."""

import numpy as np
import pytest
import shapely
import shapely.affinity
from annotated_slides import HEIGHT_PX, WIDTH_PX, blank_slide, whole
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.parts import Kind
from bccdist.slides.annotations import Annotation
from bccdist.slides.annotations.rasterising import fill_polygon, num_pixels
from bccdist.slides.geometry import Box


def centres_inside(shape: shapely.Geometry, *, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixel centres of a mask (height, width) lie in a shape in pixels."""
    x, y = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    return np.asarray(shapely.contains_xy(shape, x, y))


def random_star(rng: np.random.Generator, *, reach_px: float) -> shapely.Polygon:
    """A polygon that winds once around its centre, with a hole in every second one."""
    num_corners = int(rng.integers(5, 40))
    angles = (np.arange(num_corners) + rng.uniform(0, 0.8, num_corners)) * 2 * np.pi / num_corners
    radii = rng.uniform(0.3, 1, len(angles)) * reach_px
    centre = rng.uniform(-0.2, 1.2, 2) * (WIDTH_PX, HEIGHT_PX)
    ring = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    hole = centre + (ring - centre) * rng.uniform(0.2, 0.7)
    return shapely.Polygon(ring, [hole] if rng.random() < 0.5 else [])


@given(seed=st.integers(0, 2**32 - 1), downsample=st.floats(0.3, 5))
def test_a_polygon_fills_the_pixels_whose_centres_it_holds(seed: int, downsample: float) -> None:
    rng = np.random.default_rng(seed)
    polygon = random_star(rng, reach_px=rng.uniform(0.5, 60))
    size = (HEIGHT_PX, WIDTH_PX)
    mask = np.zeros(size, dtype=bool)
    fill_polygon(mask, shapely.transform(polygon, lambda xy: xy * downsample), downsample=downsample)
    assert np.array_equal(mask, centres_inside(polygon, size=size))


@given(x=st.integers(-4, 24), y=st.integers(-4, 16), width=st.integers(1, 20), height=st.integers(1, 20))
@example(x=0, y=2, width=15, height=11)
def test_neighbours_share_no_pixel_and_leave_none_out(x: int, y: int, width: int, height: int) -> None:
    """Edges run through pixel centres here, where it must be decided whose the pixel is."""
    x_end, y_end = x + width, y + height
    triangles = [[(x, y), (x_end, y), (x_end, y_end)], [(x, y), (x_end, y_end), (x, y_end)]]
    times = np.zeros((20, 30), dtype=int)
    for triangle in triangles:
        mask = np.zeros(times.shape, dtype=bool)
        fill_polygon(mask, shapely.Polygon(np.array(triangle) + 0.5), downsample=1)
        times += mask
    expected = np.zeros_like(times)
    expected[max(0, y) : max(0, y_end), max(0, x) : max(0, x_end)] = 1
    assert np.array_equal(times, expected)


def partition(rng: np.random.Generator, box: Box) -> list[Box]:
    """A box cut in two, again and again, along its longer side."""
    if max(box.width, box.height) < 3 or rng.random() < 0.3:
        return [box]
    if box.width >= box.height:
        width = int(rng.integers(1, box.width))
        halves = [box._replace(width=width), box._replace(x=box.x + width, width=box.width - width)]
    else:
        height = int(rng.integers(1, box.height))
        halves = [box._replace(height=height), box._replace(y=box.y + height, height=box.height - height)]
    return [part for half in halves for part in partition(rng, half)]


@given(seed=st.integers(0, 2**32 - 1), downsample=st.floats(0.3, 5), on_centres=st.booleans())
@settings(max_examples=25, deadline=None)
def test_boxes_join_to_the_whole_however_the_slide_is_cut(seed: int, downsample: float, on_centres: bool) -> None:
    """Corners on pixel centres make rounding decide, which must then decide alike in every box."""
    rng = np.random.default_rng(seed)
    stars = [random_star(rng, reach_px=rng.uniform(0.5, 60)) for _ in range(4)]
    if on_centres:
        stars = [shapely.transform(star, lambda xy: np.floor(xy) + 0.5) for star in stars]
    polygons = [
        (kind, part)
        for kind, star in zip((*Kind, Kind.TUMORNEST), stars, strict=True)
        for part in shapely.get_parts(shapely.transform(star, lambda xy: xy * downsample).buffer(0))
    ]
    slide = blank_slide(downsample=downsample)
    annotation = Annotation(slide, polygons=polygons, mask_images=[])
    expected = annotation.masks(whole(slide))
    joined = {kind: np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool) for kind in Kind}
    for box in partition(rng, whole(slide)):
        for kind, mask in annotation.masks(box).items():
            joined[kind][box.slices()] = mask
    for kind in Kind:
        assert np.array_equal(joined[kind], expected[kind])


@pytest.mark.parametrize("box", [Box(-7, -5, 80, 60), Box(-9, 10, 12, 8), Box(70, 50, 4, 3), Box(5, -9, 7, 4)])
def test_outside_the_slide_nothing_is_annotated(box: Box) -> None:
    slide = blank_slide(downsample=1)
    everywhere = shapely.box(-100, -100, 100, 100)
    masks = Annotation(slide, polygons=[(Kind.NORMAL, everywhere)], mask_images=[]).masks(box)
    rows, cols = np.mgrid[box.y : box.y_end, box.x : box.x_end]
    expected = (rows >= 0) & (rows < HEIGHT_PX) & (cols >= 0) & (cols < WIDTH_PX)
    assert np.array_equal(masks[Kind.NORMAL], expected)
    assert not masks[Kind.STROMA].any()
    assert masks[Kind.STROMA].shape == (box.height, box.width)


def test_areas_count_overlaps_once_and_end_at_the_edge_of_the_slide() -> None:
    slide = blank_slide(downsample=2, mpp_level0=0.5)
    polygons = [
        (Kind.TUMORNEST, shapely.box(0, 0, 20, 20)),
        (Kind.TUMORNEST, shapely.box(10, 0, 30, 20)),
        (Kind.STROMA, shapely.box(-10, 0, 10, 10)),
    ]
    annotation = Annotation(slide, polygons=polygons, mask_images=[])
    assert annotation.num_polygons == {Kind.TUMORNEST: 2, Kind.STROMA: 1, Kind.NORMAL: 0}
    assert annotation.areas_um2 == pytest.approx({Kind.TUMORNEST: 150, Kind.STROMA: 25, Kind.NORMAL: 0})


@given(seed=st.integers(0, 2**32 - 1), downsample=st.sampled_from([1.0, 2.0, 2.17, 8.0]))
def test_pixels_are_counted_as_they_are_filled(seed: int, downsample: float) -> None:
    rng = np.random.default_rng(seed)
    star = shapely.affinity.translate(random_star(rng, reach_px=40), *rng.uniform(-20, 60, 2))
    mask = np.zeros((50, 60), dtype=bool)
    fill_polygon(mask, star, downsample=downsample)
    assert num_pixels(star, downsample=downsample, size_px=(60, 50)) == mask.sum()
