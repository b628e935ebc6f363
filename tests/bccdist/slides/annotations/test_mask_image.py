"""Mask images are looked up by the nearest centre, and refused where they do not fit or mean nothing."""

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from annotated_slides import HEIGHT_PX, KINDS, WIDTH_PX, blank_slide, whole
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations import UnknownNamesError, read_annotations
from bccdist.slides.annotations.mask_image import MaskImage, fits
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Kinds

SLIDE = blank_slide()


def write_image(path: Path, values: NDArray[Any]) -> Path:
    assert cv2.imwrite(str(path), values)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tif"])
@pytest.mark.parametrize("scale", [1, 2], ids=["in the target frame", "at level 0"])
def test_values_of_a_mask_image_mean_kinds(tmp_path: Path, name: str, scale: int) -> None:
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    values[:10], values[10:20, :30], values[30:] = 1, 2, 3
    path = write_image(tmp_path / name, np.kron(values, np.ones((scale, scale), dtype=np.uint8)))
    annotation = read_annotations([path], SLIDE, KINDS)
    masks = annotation.masks(whole(SLIDE))
    for kind, value in ((Kind.TUMORNEST, 1), (Kind.STROMA, 2), (Kind.NORMAL, 3)):
        assert np.array_equal(masks[kind], values == value)
        assert annotation.areas_um2[kind] == pytest.approx((values == value).sum() * 0.92**2)


def test_values_are_mapped_as_the_manifest_says(tmp_path: Path) -> None:
    values = np.arange(HEIGHT_PX * WIDTH_PX).reshape(HEIGHT_PX, WIDTH_PX) // 20 % 3 * 300
    kinds = Kinds(names={}, mask_values={0: None, 300: Kind.TUMORNEST, 600: Kind.TUMORNEST})
    path = write_image(tmp_path / "a.png", values.astype(np.uint16))
    masks = read_annotations([path], SLIDE, kinds).masks(whole(SLIDE))
    assert np.array_equal(masks[Kind.TUMORNEST], values > 0)
    assert not masks[Kind.NORMAL].any()


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    slide_size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_mask_is_looked_up_as_opencv_resizes_the_whole(
    size: tuple[int, int], slide_size: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, size, dtype=np.uint8)
    height, width = slide_size
    image = MaskImage(values=values, meanings=KINDS.mask_values, width_px=width, height_px=height)
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
    box = Box(x, y, int(rng.integers(1, width - x + 1)), int(rng.integers(1, height - y + 1)))
    masks = {kind: np.zeros((box.height, box.width), dtype=bool) for kind in Kind}
    image.mark(masks, box)
    for kind, value in ((Kind.TUMORNEST, 1), (Kind.STROMA, 2), (Kind.NORMAL, 3)):
        assert np.array_equal(masks[kind], resized[box.slices()] == value)


def test_a_value_without_a_meaning_is_refused(tmp_path: Path) -> None:
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    values[0, :2] = 7, 9
    with pytest.raises(UnknownNamesError, match=r"\[7, 9\] has no meaning in the table \[mask_values\]") as error:
        read_annotations([write_image(tmp_path / "a.png", values)], SLIDE, KINDS)
    assert error.value.unknown == (7, 9)


@pytest.mark.parametrize("size", [(WIDTH_PX, HEIGHT_PX), (HEIGHT_PX, HEIGHT_PX), (HEIGHT_PX, WIDTH_PX + 2)])
def test_a_mask_of_another_shape_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_image(tmp_path / "a.png", np.zeros(size, dtype=np.uint8))
    with pytest.raises(
        AnnotationError, match=f"{size[1]} x {size[0]} px does not fit the slide's 120 x 80 level-0 px"
    ):
        read_annotations([path], SLIDE, KINDS)


@pytest.mark.parametrize("size", [(2301, 1533), (2302, 1534), (4603, 3067), (1151, 767), (288, 192), (4602, 3066)])
def test_sides_may_be_rounded_to_a_pixel(size: tuple[int, int]) -> None:
    assert fits(size, (4603, 3067))


@pytest.mark.parametrize("size", [(4608, 3072), (2320, 1536), (2301, 1545), (2048, 2048)])
def test_a_mask_that_was_cut_or_padded_would_be_stretched(size: tuple[int, int]) -> None:
    assert not fits(size, (4603, 3067))


def test_a_mask_of_which_no_marked_pixel_is_looked_up_is_refused(tmp_path: Path) -> None:
    values = np.zeros((8 * HEIGHT_PX, 8 * WIDTH_PX), dtype=np.uint8)
    values[:2, :2] = 1
    with pytest.raises(AnnotationError, match="its pixels of Tumornest mark no pixel"):
        read_annotations([write_image(tmp_path / "a.png", values)], SLIDE, KINDS)


def test_a_mask_with_colours_or_broken_numbers_is_refused(tmp_path: Path) -> None:
    colours = np.full((HEIGHT_PX, WIDTH_PX, 3), (0, 1, 1), dtype=np.uint8)
    colour = write_image(tmp_path / "colour.png", colours)
    tifffile.imwrite(tmp_path / "fractions.tif", np.full((HEIGHT_PX, WIDTH_PX), 1.5, dtype=np.float32))
    (tmp_path / "text.png").write_text("no image")
    for path, got in (
        (colour, r"shape \(40, 60, 3\) of uint8"),
        (tmp_path / "fractions.tif", r"shape \(40, 60\) of float32"),
        (tmp_path / "text.png", "no image"),
    ):
        with pytest.raises(AnnotationError, match=f"expected a single-channel mask image, got {got}"):
            read_annotations([path], SLIDE, KINDS)


def test_a_mask_that_is_too_large_to_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 40_000, 8, 0, 0, 0, 0))
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(AnnotationError, match=r"OpenCV refuses it: .*; save it at a lower resolution"):
        read_annotations([path], SLIDE, KINDS)
