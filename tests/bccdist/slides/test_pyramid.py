"""A file of two pictures, or of a turned or stretched one, is refused; levels that lie elsewhere are left alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from synthetic_slides import islands_picture, write_slide

from bccdist.errors import SlideError
from bccdist.slides.slide import Slide

MPP = 0.46
Picture = NDArray[np.uint8]


def tissue_picture(seed: int, width_px: int, height_px: int) -> Picture:
    """Pieces of mottled pink at random places on glass."""
    random = np.random.default_rng(seed)
    islands = [
        (int(x), int(y), width_px // 6, height_px // 4)
        for x, y in zip(
            random.integers(0, width_px - width_px // 6, 5),
            random.integers(0, height_px - height_px // 4, 5),
            strict=True,
        )
    ]
    picture = islands_picture(width_px, height_px, *islands).astype(float)
    spots = cv2.GaussianBlur(random.normal(0, 1, picture.shape[:2]), (0, 0), 12)
    is_tissue = picture[..., 1] < 200
    picture[is_tissue] += (40 * spots / spots.std())[is_tissue][:, None]
    return picture.clip(0, 255).astype(np.uint8)


def reduced(picture: Picture, factor: int) -> Picture:
    size = (picture.shape[1] // factor, picture.shape[0] // factor)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def padded(picture: Picture, block_px: int, *, level: int = 255) -> Picture:
    """Padded to whole blocks at the right and at the bottom."""
    rows, cols = (-edge % block_px for edge in picture.shape[:2])
    return np.pad(picture, ((0, rows), (0, cols), (0, 0)), constant_values=level)


def write_pages(path: Path, pages: Sequence[tuple[Picture, dict[str, Any]]]) -> Path:
    """A TIFF of pages with what is said of each: `mpp` or any of tifffile's arguments."""
    with tifffile.TiffWriter(path) as tiff:
        for picture, said in pages:
            arguments: dict[str, Any] = {
                "tile": (256, 256), "compression": "deflate", "photometric": "rgb", "metadata": None, **said
            }  # fmt: skip
            mpp = arguments.pop("mpp", None)
            if mpp:
                arguments |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
            tiff.write(picture, **arguments)
    return path


def pyramid_of(
    picture: Picture, *, factors: tuple[int, ...] = (2, 4), flag: int = 1
) -> list[tuple[Picture, dict[str, Any]]]:
    levels = [(reduced(picture, factor), {"subfiletype": flag, "mpp": MPP * factor}) for factor in factors]
    return [(picture, {"mpp": MPP}), *levels]


@pytest.mark.parametrize("level", [0, 255], ids=["black", "white"])
@pytest.mark.parametrize(
    ("size_px", "block_px"),
    [((2450, 1530), 256), ((2450, 1530), 48), ((1500, 1500), 256), ((1801, 3003), 128)],
    ids=["tiles", "small blocks", "both edges alike", "upright"],
)
def test_padded_levels_are_left_alone_and_everything_lies_where_it_lies_without_them(
    tmp_path: Path, size_px: tuple[int, int], block_px: int, level: int
) -> None:
    picture = tissue_picture(1, *size_px)
    plain = write_slide(tmp_path / "plain.tif", picture)
    pages = pyramid_of(picture, factors=(2, 4, 8))
    odd = write_pages(
        tmp_path / "odd.tif", [pages[0], *((padded(each, block_px, level=level), said) for each, said in pages[1:])]
    )
    with Slide(plain, target_mpp=2 * MPP) as expected, Slide(odd, target_mpp=2 * MPP) as slide:
        assert 1 in slide.unused_levels
        assert (slide.width_px, slide.height_px) == (expected.width_px, expected.height_px)
        assert slide.resolution.mpp == pytest.approx(2 * MPP)
        difference = slide.thumbnail(8).astype(int) - expected.thumbnail(8)
        assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("size_px", [(2401, 1603), (1999, 2999), (2048, 1024)])
@pytest.mark.parametrize("rounding", [np.floor, np.ceil, np.round])
def test_levels_whose_edges_were_rounded_are_used(tmp_path: Path, size_px: tuple[int, int], rounding: Any) -> None:
    picture = tissue_picture(2, *size_px)
    pages = [(picture, {"mpp": MPP})]
    for factor in (2, 4, 8, 16):
        size = [int(rounding(edge / factor)) for edge in size_px]
        level = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        pages.append((level, {"subfiletype": 1}))
    with Slide(write_pages(tmp_path / "rounded.tif", pages), target_mpp=2 * MPP) as slide:
        assert slide.unused_levels == ()


def second_images() -> dict[str, list[tuple[Picture, dict[str, Any]]]]:
    """Pages of files that hold two pictures."""
    first, other = tissue_picture(3, 2048, 1536), tissue_picture(4, 2048, 1536)
    small, narrow = tissue_picture(5, 1024, 768), tissue_picture(6, 1500, 700)
    svs = {"description": "Aperio Image Library v11\r\n2048x1536 (256x256) JPEG/RGB Q=90|AppMag = 20|MPP = 0.46"}
    return {
        "two pyramids": [*pyramid_of(first), *pyramid_of(other)],
        "levels without a flag": [*pyramid_of(first, flag=0), *pyramid_of(other, flag=0)],
        "no lower levels": [(first, {"mpp": MPP}), (other, {})],
        "half as large": [(first, {"mpp": MPP}), (small, {})],
        "another shape": [*pyramid_of(first), *pyramid_of(narrow)],
        "in strips": [*pyramid_of(first), (narrow, {"tile": None, "mpp": MPP})],
        "flagged as smaller": [(first, {"mpp": MPP}), (narrow, {"subfiletype": 1})],
        "called an overview, but as large": [(first, {"mpp": MPP}), (other, {"description": "overview"})],
        "two levels of one size": [*pyramid_of(first), (reduced(other, 2), {"subfiletype": 1})],
        "SVS": [(first, svs), (other, svs), (reduced(first, 4), svs), (reduced(other, 4), svs)],
    }


@pytest.mark.parametrize("name", second_images())
def test_a_second_image_is_refused(tmp_path: Path, name: str) -> None:
    path = write_pages(tmp_path / "two.tif", second_images()[name])
    with pytest.raises(SlideError, match="second image"):
        Slide(path, target_mpp=2 * MPP)


def test_a_second_series_of_an_ome_tiff_is_refused_and_its_label_is_none(tmp_path: Path) -> None:
    def write(path: Path, *series: tuple[Picture, str]) -> Path:
        with tifffile.TiffWriter(path, ome=True) as tiff:
            for picture, name in series:
                said = {"tile": (256, 256), "compression": "deflate", "photometric": "rgb"}
                scale = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
                tiff.write(picture, subifds=1, metadata={"axes": "YXS", "Name": name}, **said, **scale)
                tiff.write(reduced(picture, 2), subfiletype=1, **said)
        return path

    first, other = tissue_picture(3, 2048, 1536), tissue_picture(4, 2048, 1536)
    label = tissue_picture(7, 600, 400)
    with Slide(write(tmp_path / "one.ome.tif", (first, "scan"), (label, "label image")), target_mpp=2 * MPP) as slide:
        assert slide.level0_size == (2048, 1536)
    with pytest.raises(SlideError, match="second image"):
        Slide(write(tmp_path / "two.ome.tif", (first, "scan 1"), (other, "scan 2")), target_mpp=2 * MPP)


def harmless_pages() -> dict[str, list[tuple[Picture, dict[str, Any]]]]:
    """Pages beside a pyramid that are no second image."""
    first = tissue_picture(3, 2048, 1536)
    blurred = np.asarray(cv2.GaussianBlur(first, (0, 0), 3), dtype=np.uint8)
    photograph = tissue_picture(8, 900, 420)
    strips: dict[str, Any] = {"tile": None}
    return {
        "label and macro in strips": [*pyramid_of(first), (photograph, strips), (photograph[:400, :400], strips)],
        "tiled macro, flagged": [*pyramid_of(first), (photograph, {"subfiletype": 9})],
        "tiled macro, named": [*pyramid_of(first), (photograph, {"description": "Macro"})],
        "thumbnail": [*pyramid_of(first), (reduced(first, 3), strips)],
        "levels without a flag": pyramid_of(first, flag=0),
        "planes of focus": [*pyramid_of(first), *pyramid_of(blurred)],
        "thumbnail as a level": [*pyramid_of(first), (reduced(first, 4), {"subfiletype": 1})],
    }


@pytest.mark.parametrize("name", harmless_pages())
def test_labels_macro_images_thumbnails_and_planes_of_focus_are_no_second_images(tmp_path: Path, name: str) -> None:
    pages = harmless_pages()[name]
    with Slide(write_pages(tmp_path / "one.tif", pages), target_mpp=2 * MPP) as slide:
        assert slide.level0_size == (2048, 1536)
        assert not {0, 1} & set(slide.unused_levels)


@pytest.mark.parametrize("orientation", [2, 3, 6])
def test_a_turned_or_mirrored_picture_is_refused(tmp_path: Path, orientation: int) -> None:
    said = {"mpp": MPP, "extratags": [(274, "H", 1, orientation, True)]}
    path = write_pages(tmp_path / "turned.tif", [(tissue_picture(1, 600, 400), said)])
    with pytest.raises(SlideError, match=f"Orientation {orientation}"):
        Slide(path, target_mpp=2 * MPP)


@pytest.mark.parametrize("mpp", [None, 0.46])
@pytest.mark.parametrize("said", [(0.46, 0.92), (0.46, 0.49), (46.0, 92.0)])
def test_pixels_that_are_not_square_are_refused_also_with_the_manifests_mpp(
    tmp_path: Path, said: tuple[float, float], mpp: float | None
) -> None:
    path = write_slide(tmp_path / "oblong.tif", tissue_picture(1, 600, 400), mpp=said)
    with pytest.raises(SlideError, match="not square"):
        Slide(path, target_mpp=0.92, mpp=mpp)


def test_pixels_that_are_not_square_are_refused_where_their_resolution_has_no_unit(tmp_path: Path) -> None:
    said = {"resolution": (1, 2), "resolutionunit": "NONE"}
    path = write_pages(tmp_path / "oblong.tif", [(tissue_picture(1, 600, 400), said)])
    with pytest.raises(SlideError, match="not square: 2 times as wide as high"):
        Slide(path, target_mpp=0.92, mpp=MPP)


@pytest.mark.shared_data
def test_the_case_of_padded_levels_reads_as_its_level_0(shared_data: Path) -> None:
    with Slide(shared_data / "cases" / "padded-levels" / "padded.tif", target_mpp=0.92) as slide:
        assert slide.unused_levels == (1, 2, 3)
        assert slide.resolution.mpp == pytest.approx(0.92)


@pytest.mark.shared_data
def test_the_case_of_two_images_is_refused_and_the_second_one_named(shared_data: Path) -> None:
    with pytest.raises(SlideError, match="second image, page 3 of 3072 x 2048 px"):
        Slide(shared_data / "cases" / "two-images" / "two_jpeg.tif", target_mpp=0.92)
