"""Mask images as programs save them: read where one reading is possible, else refused with the cause by name."""

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from annotated_slides import HEIGHT_PX, KINDS, WIDTH_PX, blank_slide, whole
from numpy.typing import NDArray
from PIL import Image

from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations import UnknownNamesError, read_annotations
from bccdist.slides.manifest import Kinds

SLIDE = blank_slide()
WHITE_IS_TUMOR = Kinds(names={}, mask_values={0: None, 255: Kind.TUMORNEST})
COLOURS = [0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200]


def areas(*values: int) -> NDArray[np.uint8]:
    """Bands of some values, one below the other, in the target frame."""
    return np.repeat(np.array(values, dtype=np.uint8), HEIGHT_PX // len(values))[:, None].repeat(WIDTH_PX, axis=1)


def tumor(path: Path, kinds: Kinds = KINDS) -> NDArray[np.bool_]:
    return read_annotations([path], SLIDE, kinds).masks(whole(SLIDE))[Kind.TUMORNEST]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_places_in_a_palette_of_colours_are_the_values(tmp_path: Path, name: str, bits: int) -> None:
    values = areas(0, 1)
    image = Image.fromarray(values)
    image.putpalette(COLOURS)
    image.save(tmp_path / name, **({"bits": bits} if name == "a.png" else {}))
    assert np.array_equal(tumor(tmp_path / name), values == 1)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("kinds", [KINDS, WHITE_IS_TUMOR], ids=["as 1", "as 255"])
def test_one_bit_is_1_or_white_as_the_table_says(tmp_path: Path, name: str, kinds: Kinds) -> None:
    values = areas(0, 1)
    Image.fromarray(values * 255).convert("1").save(tmp_path / name)
    assert np.array_equal(tumor(tmp_path / name, kinds), values == 1)


def test_one_bit_whose_two_readings_mean_different_kinds_is_refused(tmp_path: Path) -> None:
    Image.fromarray(areas(0, 1) * 255).convert("1").save(tmp_path / "a.png")
    kinds = Kinds(names={}, mask_values={0: None, 1: Kind.STROMA, 255: Kind.TUMORNEST})
    with pytest.raises(AnnotationError, match=r"stores the values \[0, 1\], which are shown as \[0, 255\]"):
        tumor(tmp_path / "a.png", kinds)
    with pytest.raises(UnknownNamesError, match=r"\[1\] has no meaning"):
        tumor(tmp_path / "a.png", Kinds(names={}, mask_values={0: None, 7: Kind.TUMORNEST}))


def grey_png(path: Path, values: NDArray[np.uint8], *, bits: int) -> Path:
    """A grey PNG of few bits, which OpenCV and Pillow do not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    binary = (values[..., None] >> np.arange(bits)[::-1] & 1).reshape(len(values), -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(binary, axis=1))
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_read_as_stored(tmp_path: Path, bits: int) -> None:
    values = areas(0, 1, 2, 3)
    assert np.array_equal(tumor(grey_png(tmp_path / "a.png", values, bits=bits)), values == 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_deep_and_equal_channels_are_one_channel(tmp_path: Path, name: str, dtype: Any) -> None:
    values = areas(0, 1).astype(dtype)
    for number, image in enumerate((values, cv2.merge([values] * 3))):
        path = tmp_path / f"{number}-{name}"
        assert cv2.imwrite(str(path), image)
        assert np.array_equal(tumor(path), values == 1)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_an_alpha_channel_is_left_out_where_nothing_is_transparent(tmp_path: Path, mode: str) -> None:
    values = areas(0, 1)
    image = Image.fromarray(values).convert(mode)
    image.save(tmp_path / "a.png")
    assert np.array_equal(tumor(tmp_path / "a.png"), values == 1)
    image.putalpha(Image.fromarray(values * 255))
    image.save(tmp_path / "b.png")
    with pytest.raises(AnnotationError, match="partly transparent"):
        tumor(tmp_path / "b.png")


def test_a_tiff_whose_zero_is_white_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", areas(0, 1), photometric="miniswhite")
    with pytest.raises(AnnotationError, match="its 0 is white"):
        tumor(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_that_viewers_turn_is_refused(tmp_path: Path, name: str, orientation: int) -> None:
    image = Image.fromarray(areas(0, 1))
    exif = Image.Exif()
    exif[274] = orientation
    image.save(tmp_path / name, exif=exif)
    if orientation == 1:
        assert tumor(tmp_path / name).any()
    else:
        with pytest.raises(AnnotationError, match=f"its Orientation is {orientation}, expected 1"):
            tumor(tmp_path / name)


def blobs(seed: int, *values: int) -> NDArray[np.uint8]:
    """Smooth areas of some values on 0, 480 x 720."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(480, 720)), (0, 0), 20)
    height = noise / noise.std()
    drawn = np.zeros(noise.shape, dtype=np.uint8)
    for number, value in enumerate(values):
        low = 0.5 + 0.5 * (number // 2)
        drawn[(height if number % 2 == 0 else -height) > low] = value
    return drawn


def resized(values: NDArray[np.uint8], factor: float, how: int) -> NDArray[np.uint8]:
    size = (round(values.shape[1] * factor), round(values.shape[0] * factor))
    return np.asarray(Image.fromarray(values).resize(size, how))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("values", [(3,), (2,), (1, 3), (3, 2)], ids=str)
@pytest.mark.parametrize("factor", [0.2, 0.5, 0.77, 1.3, 2, 4])
def test_a_mask_that_was_resized_with_interpolation_is_refused_though_it_holds_known_values(
    tmp_path: Path, seed: int, values: tuple[int, ...], factor: float
) -> None:
    sharp = blobs(seed, *values)
    for how in (Image.Resampling.BILINEAR, Image.Resampling.NEAREST):
        Image.fromarray(resized(sharp, factor, how)).save(tmp_path / f"{how}.png")
    read_annotations([tmp_path / f"{Image.Resampling.NEAREST}.png"], SLIDE, KINDS)
    with pytest.raises(AnnotationError, match="resized with interpolation; resize it with the nearest neighbour"):
        read_annotations([tmp_path / f"{Image.Resampling.BILINEAR}.png"], SLIDE, KINDS)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2])
def test_blends_of_black_and_white_are_no_names_for_kinds_toml(tmp_path: Path, factor: float) -> None:
    blended = resized(blobs(0, 255), factor, Image.Resampling.BILINEAR)
    Image.fromarray(blended).save(tmp_path / "a.png")
    with pytest.raises(AnnotationError, match=r"found 0, .*, expected 0, 255 without blends") as error:
        tumor(tmp_path / "a.png", WHITE_IS_TUMOR)
    assert not isinstance(error.value, UnknownNamesError)


def test_a_layer_between_two_others_is_no_blend(tmp_path: Path) -> None:
    values = np.zeros((480, 720), dtype=np.uint8)
    for number in range(20):
        cv2.circle(values, (40 + 34 * number, 60 + 90 * (number % 5)), 14, 2, -1)
        cv2.circle(values, (40 + 34 * number, 60 + 90 * (number % 5)), 8, 3, -1)
    cv2.imwrite(str(tmp_path / "a.png"), values)
    read_annotations([tmp_path / "a.png"], SLIDE, KINDS)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp"])
def test_a_tiff_whose_compression_changes_values_is_refused(tmp_path: Path, compression: str) -> None:
    values = np.kron(areas(0, 1), np.ones((8, 8), dtype=np.uint8))
    picture = values if compression == "jpeg" else np.repeat(values[..., None], 3, axis=2)
    photometric = "minisblack" if picture.ndim == 2 else "rgb"
    tifffile.imwrite(tmp_path / "a.tif", picture, compression=compression, tile=(64, 64), photometric=photometric)
    with pytest.raises(AnnotationError, match=r"its compression is .*, which may change the values of a mask"):
        tumor(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
def test_a_tiff_may_be_tiled_and_compressed_and_have_a_pyramid(tmp_path: Path, compression: str | None) -> None:
    values = areas(0, 1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        options = {"tile": (16, 16), "photometric": "minisblack", "compression": compression}
        tiff.write(values, subifds=1, **options)
        tiff.write(values[::2, ::2], subfiletype=1, **options)
    assert np.array_equal(tumor(tmp_path / "a.tif"), values == 1)


def test_a_tiff_with_several_masks_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([areas(0, 1), areas(1, 0)]), photometric="minisblack")
    with pytest.raises(AnnotationError, match="it holds 2 images, expected one"):
        tumor(tmp_path / "a.tif")


def test_a_mask_that_lies_across_the_slide_is_refused_as_such(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.ascontiguousarray(areas(0, 1).T))
    with pytest.raises(AnnotationError, match="this one lies across it: turn it"):
        tumor(tmp_path / "a.png")
