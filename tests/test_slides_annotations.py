"""Annotations become masks pixel by pixel, holes and repairs included, and what is not understood is refused."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import shapely
import shapely.geometry
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthetic_slides import smooth_picture, write_slide

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations import KindMasks, fill_polygon, read_annotation
from bccdist.slides.manifest import DEFAULT_KINDS, Kinds
from bccdist.slides.slide import Slide

WIDTH_PX, HEIGHT_PX = 60, 40
"""Of the slide in the target frame; level 0 is twice as large."""
KINDS = Kinds(names={**DEFAULT_KINDS.names, "BCC": Kind.TUMORNEST, "Ink": None}, mask_values=DEFAULT_KINDS.mask_values)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    path = write_slide(
        tmp_path_factory.mktemp("annotated") / "a.tif",
        smooth_picture(2 * WIDTH_PX, 2 * HEIGHT_PX),
        mpp=0.46,
        downsamples=(1, 2),
    )
    return Slide(path, target_mpp=0.92)


def centres_inside(shape: shapely.Geometry, *, size: tuple[int, int], downsample: float) -> NDArray[np.bool_]:
    """Which pixel centres of a mask (height, width) lie in a shape in level-0 px."""
    x, y = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    return np.asarray(shapely.contains_xy(shape, x * downsample, y * downsample))


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
    assert np.array_equal(mask, centres_inside(polygon, size=size, downsample=1))


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


def square(x: float, y: float, edge: float) -> list[list[float]]:
    """A closed ring in level-0 px."""
    return [[x, y], [x + edge, y], [x + edge, y + edge], [x, y + edge], [x, y]]


def feature(geometry: Any, name: str | None = "Tumornest") -> dict[str, Any]:
    """An annotation as QuPath writes it; without a name it has no class."""
    classification = {} if name is None else {"classification": {"name": name, "color": [200, 0, 0]}}
    return {
        "type": "Feature",
        "id": "x",
        "geometry": geometry,
        "properties": {"objectType": "annotation", **classification},
    }


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def read_features(tmp_path: Path, slide: Slide, *features: Any) -> KindMasks:
    return read_content(tmp_path, slide, {"type": "FeatureCollection", "features": list(features)})


def read_content(tmp_path: Path, slide: Slide, content: Any) -> KindMasks:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(content))
    return read_annotation(path, slide, KINDS)


def boxes_mask(*boxes: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """A mask in the target frame; boxes are (x, y, x_end, y_end), each toggles its pixels."""
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)
    for x, y, x_end, y_end in boxes:
        mask[y:y_end, x:x_end] ^= True
    return mask


def test_holes_are_holes(tmp_path: Path, slide: Slide) -> None:
    masks = read_features(tmp_path, slide, feature(polygon(square(10, 10, 40), square(20, 20, 10))))
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((5, 5, 25, 25), (10, 10, 15, 15)))
    assert not masks[Kind.STROMA].any()
    assert not masks[Kind.NORMAL].any()


def test_a_multipolygon_is_all_its_polygons(tmp_path: Path, slide: Slide) -> None:
    geometry = {
        "type": "MultiPolygon",
        "coordinates": [[square(0, 0, 20), square(4, 4, 8)], [square(60, 40, 20)]],
    }
    masks = read_features(tmp_path, slide, feature(geometry, "Stroma"))
    assert np.array_equal(masks[Kind.STROMA], boxes_mask((0, 0, 10, 10), (2, 2, 6, 6), (30, 20, 40, 30)))


def test_overlapping_annotations_are_joined_and_kinds_stay_apart(tmp_path: Path, slide: Slide) -> None:
    masks = read_features(
        tmp_path,
        slide,
        feature(polygon(square(0, 0, 20))),
        feature(polygon(square(10, 0, 20)), "BCC"),
        feature(polygon(square(0, 0, 20)), "Normal"),
        feature(polygon(square(60, 40, 20)), "Ink"),
    )
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((0, 0, 15, 10)))
    assert np.array_equal(masks[Kind.NORMAL], boxes_mask((0, 0, 10, 10)))
    assert not masks[Kind.STROMA].any()


def test_what_sticks_out_of_the_slide_is_cut(tmp_path: Path, slide: Slide) -> None:
    masks = read_features(tmp_path, slide, feature(polygon(square(-50, -50, 70))))
    assert np.array_equal(masks[Kind.TUMORNEST], boxes_mask((0, 0, 10, 10)))


@pytest.mark.parametrize("wrapped", ["list", "feature", "empty"])
def test_a_list_or_a_single_feature_is_read_too(tmp_path: Path, slide: Slide, wrapped: str) -> None:
    one = feature(
        polygon(
            square(
                0,
                0,
                20,
            )
        )
    )
    masks = read_content(tmp_path, slide, {"list": [one], "feature": one, "empty": []}[wrapped])
    expected = boxes_mask() if wrapped == "empty" else boxes_mask((0, 0, 10, 10))
    assert np.array_equal(masks[Kind.TUMORNEST], expected)


SELF_CROSSING = {
    "bow": [[0, 0], [40, 40], [40, 0], [0, 40], [0, 0]],
    "bow with a spike": [[0, 0], [40, 40], [40, 0], [0, 40], [0, 0], [-9, 0], [0, 0]],
}


@pytest.mark.parametrize("ring", SELF_CROSSING.values(), ids=SELF_CROSSING.keys())
def test_a_self_crossing_outline_is_repaired(tmp_path: Path, slide: Slide, ring: list[list[float]]) -> None:
    masks = read_features(tmp_path, slide, feature(polygon(ring)))
    triangles = shapely.MultiPolygon([(((0, 0), (20, 20), (0, 40)), []), (((40, 0), (20, 20), (40, 40)), [])])
    expected = centres_inside(triangles, size=(HEIGHT_PX, WIDTH_PX), downsample=2)
    different = masks[Kind.TUMORNEST] != expected
    assert 150 < masks[Kind.TUMORNEST].sum() < 250
    # Pixel centres on the diagonals may count as inside or not.
    rows, cols = np.nonzero(different)
    assert all(row == col or row + col == 19 for row, col in zip(rows, cols, strict=True))


def test_classes_without_a_meaning_are_named_together(tmp_path: Path, slide: Slide) -> None:
    features = [feature(polygon(square(0, 0, 9)), name) for name in ("Stroma", "Muscle", "Fat", "Muscle")]
    with pytest.raises(AnnotationError) as error:
        read_features(tmp_path, slide, *features)
    message = str(error.value)
    assert "['Fat', 'Muscle'] has no meaning in the table [names]" in message
    assert "'BCC', 'Ink', 'Normal', 'Stroma', 'Tumornest'" in message
    assert "kinds.toml" in message


class Refused(NamedTuple):
    """GeoJSON that is refused, and what is said about it."""

    content: Any
    says: str


NO_AREA = "without area, expected a polygon"
NO_GEOMETRY = "feature 0 has no readable geometry"
NO_CLASS = r"feature 0 has no properties\.classification\.name; give it a class"
REFUSED = {
    "no class": Refused([feature(polygon(square(0, 0, 9)), None)], NO_CLASS),
    "class null": Refused([{"geometry": None, "properties": {"classification": None}}], NO_CLASS),
    "no properties": Refused([{"type": "Feature"}], NO_CLASS),
    "a word as feature": Refused(["x"], NO_CLASS),
    "a number": Refused(3, "expected GeoJSON with a list of features, got int"),
    "features null": Refused({"features": None}, "expected GeoJSON with a list of features, got NoneType"),
    "a line": Refused([feature({"type": "LineString", "coordinates": [[0, 0], [9, 9]]})], f"a LineString {NO_AREA}"),
    "a point": Refused([feature({"type": "Point", "coordinates": [1, 1]})], f"a Point {NO_AREA}"),
    "a flat polygon": Refused([feature(polygon([[0, 0], [9, 9], [5, 5], [0, 0]]))], f"a Polygon {NO_AREA}"),
    "an empty polygon": Refused([feature(polygon())], f"a Polygon {NO_AREA}"),
    "two corners": Refused([feature(polygon([[0, 0], [9, 9]]))], NO_GEOMETRY),
    "geometry null": Refused([feature(None)], NO_GEOMETRY),
    "geometry missing": Refused([{"properties": {"classification": {"name": "BCC"}}}], NO_GEOMETRY),
    "unknown geometry": Refused([feature({"type": "Circle", "coordinates": []})], NO_GEOMETRY),
    "words as corners": Refused([feature(polygon([["a", "b"]] * 4))], NO_GEOMETRY),  # type: ignore[list-item]
    "infinite corner": Refused([feature(polygon([[0, 0], [float("inf"), 0], [9, 9], [0, 0]]))], NO_GEOMETRY),
    "outside": Refused(
        [feature(polygon(square(0, 0, 9))), feature(polygon(square(500, 0, 9)))], "1 of 2 polygons lie"
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_annotated_area_is_refused(tmp_path: Path, slide: Slide, case: Refused) -> None:
    with pytest.raises(AnnotationError, match=case.says) as error:
        read_content(tmp_path, slide, case.content)
    assert str(error.value).startswith(str(tmp_path / "a.geojson"))


@pytest.mark.parametrize("content", [b"", b'{"features": [', b"\xff\xfe\x00", b"<xml/>"])
def test_broken_json_is_refused(tmp_path: Path, slide: Slide, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match="not valid JSON"):
        read_annotation(path, slide, KINDS)


@pytest.mark.parametrize("name", ["a.xml", "a.ndpa", "a"])
def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path, slide: Slide, name: str) -> None:
    with pytest.raises(AnnotationError, match=r"unknown annotation format .*\.geojson, \.json, \.png, \.tif, \.tiff"):
        read_annotation(tmp_path / name, slide, KINDS)


def write_image(path: Path, values: NDArray[Any]) -> Path:
    assert cv2.imwrite(str(path), values)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tif"])
@pytest.mark.parametrize("scale", [1, 2], ids=["in the target frame", "at level 0"])
def test_values_of_a_mask_image_mean_kinds(tmp_path: Path, slide: Slide, name: str, scale: int) -> None:
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    values[:10], values[10:20, :30], values[30:] = 1, 2, 3
    path = write_image(tmp_path / name, np.kron(values, np.ones((scale, scale), dtype=np.uint8)))
    masks = read_annotation(path, slide, KINDS)
    for kind, value in ((Kind.TUMORNEST, 1), (Kind.STROMA, 2), (Kind.NORMAL, 3)):
        assert np.array_equal(masks[kind], values == value)


def test_values_are_mapped_as_the_manifest_says(tmp_path: Path, slide: Slide) -> None:
    values = np.arange(HEIGHT_PX * WIDTH_PX).reshape(HEIGHT_PX, WIDTH_PX) % 3 * 300
    kinds = Kinds(names={}, mask_values={0: None, 300: Kind.TUMORNEST, 600: Kind.TUMORNEST})
    masks = read_annotation(write_image(tmp_path / "a.png", values.astype(np.uint16)), slide, kinds)
    assert np.array_equal(masks[Kind.TUMORNEST], values > 0)
    assert not masks[Kind.NORMAL].any()


def test_a_value_without_a_meaning_is_refused(tmp_path: Path, slide: Slide) -> None:
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    values[0, :2] = 7, 9
    with pytest.raises(AnnotationError, match=r"\[7, 9\] has no meaning in the table \[mask_values\]"):
        read_annotation(write_image(tmp_path / "a.png", values), slide, KINDS)


@pytest.mark.parametrize("size", [(WIDTH_PX, HEIGHT_PX), (HEIGHT_PX, HEIGHT_PX), (HEIGHT_PX, WIDTH_PX + 2)])
def test_a_mask_of_another_shape_is_refused(tmp_path: Path, slide: Slide, size: tuple[int, int]) -> None:
    path = write_image(tmp_path / "a.png", np.zeros(size, dtype=np.uint8))
    with pytest.raises(
        AnnotationError, match=f"{size[1]} x {size[0]} px does not fit the slide's 120 x 80 level-0 px"
    ):
        read_annotation(path, slide, KINDS)


def test_a_mask_with_colours_or_broken_numbers_is_refused(tmp_path: Path, slide: Slide) -> None:
    colour = write_image(tmp_path / "colour.png", np.zeros((HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8))
    tifffile.imwrite(tmp_path / "fractions.tif", np.full((HEIGHT_PX, WIDTH_PX), 1.5, dtype=np.float32))
    (tmp_path / "text.png").write_text("no image")
    for path, got in (
        (colour, r"shape \(40, 60, 3\) of uint8"),
        (tmp_path / "fractions.tif", r"shape \(40, 60\) of float32"),
        (tmp_path / "text.png", "no image"),
    ):
        with pytest.raises(AnnotationError, match=f"expected a single-channel mask image, got {got}"):
            read_annotation(path, slide, KINDS)


def test_a_mask_that_is_too_large_to_read_is_refused_with_what_to_do(tmp_path: Path, slide: Slide) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 40_000, 8, 0, 0, 0, 0))
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(AnnotationError, match=r"OpenCV refuses it: .*; save it at a lower resolution"):
        read_annotation(path, slide, KINDS)
