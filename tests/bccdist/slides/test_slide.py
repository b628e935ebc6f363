"""A slide is read at the target's um/px, from the level that fits, white outside, or refused with what to do."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthetic_slides import smooth_colours, smooth_picture, write_slide

from bccdist.errors import SlideError
from bccdist.slides.geometry import Box
from bccdist.slides.level import WHITE
from bccdist.slides.slide import PLAUSIBLE_MPP, Slide, choose_resolution

TARGET_MPP = 0.92
WIDTH_PX, HEIGHT_PX = 1600, 1000
"""Of level 0: wider than high."""


class Choice(NamedTuple):
    """A scan, and what is read of it at 0.92 um/px."""

    mpp_level0: float
    downsamples: tuple[float, ...]
    level: int
    downsample: float
    resize: float


CHOICES = {
    "20x: the level that fits": Choice(0.46, (1, 2, 4), 1, 2, 1),
    "20x of 0.44 um/px: the level of 0.88": Choice(0.44, (1, 2, 4), 1, 2, 1),
    "10x as it is": Choice(0.92, (1, 2), 0, 1, 1),
    "10 % finer is used": Choice(0.8281, (1,), 0, 1, 1),
    "10 % coarser is used": Choice(1.0119, (1,), 0, 1, 1),
    "more than 10 % finer is resampled": Choice(0.82, (1,), 0, 0.92 / 0.82, 0.92 / 0.82),
    "the nearest of two that fit": Choice(0.46, (1, 1.9, 2.05), 2, 2.05, 1),
    "40x with a fourth: 1 um/px fits": Choice(0.25, (1, 4, 16), 1, 4, 1),
    "40x with an eighth: from the finest": Choice(0.25, (1, 8), 0, 3.68, 3.68),
    "40x with a half: from the half": Choice(0.25, (1, 2, 8), 1, 3.68, 1.84),
    "20x without levels": Choice(0.5, (1,), 0, 1.84, 1.84),
}


@pytest.mark.parametrize("case", CHOICES.values(), ids=CHOICES.keys())
def test_the_level_that_fits_is_read_as_it_is_else_the_next_finer_is_resampled(case: Choice) -> None:
    chosen = choose_resolution(case.mpp_level0, case.downsamples, target_mpp=TARGET_MPP, tolerance=0.1)
    assert chosen.level == case.level
    assert chosen.downsample == pytest.approx(case.downsample)
    assert chosen.resize == pytest.approx(case.resize)
    assert chosen.mpp == pytest.approx(case.mpp_level0 * case.downsample)


@given(
    mpp_level0=st.floats(0.05, 1.2), steps=st.lists(st.floats(1.1, 4), max_size=5), tolerance=st.sampled_from([0, 0.1])
)
def test_the_resolution_is_the_target_or_within_the_tolerance(
    mpp_level0: float, steps: list[float], tolerance: float
) -> None:
    downsamples = tuple(np.cumprod([1.0, *steps]).tolist())
    if mpp_level0 > TARGET_MPP * (1 + tolerance):
        with pytest.raises(SlideError, match="coarser than the target"):
            choose_resolution(mpp_level0, downsamples, target_mpp=TARGET_MPP, tolerance=tolerance)
        return
    chosen = choose_resolution(mpp_level0, downsamples, target_mpp=TARGET_MPP, tolerance=tolerance)
    assert chosen.resize >= 1
    assert chosen.downsample == pytest.approx(downsamples[chosen.level] * chosen.resize)
    assert chosen.mpp == pytest.approx(TARGET_MPP, rel=1e-9 if chosen.resize > 1 else tolerance + 1e-9)


def test_a_scan_that_is_coarser_than_the_target_is_refused() -> None:
    with pytest.raises(SlideError, match=r"1\.84 um/px, coarser than the target of 0\.92 um/px.*scan it finer"):
        choose_resolution(1.84, (1, 2), target_mpp=TARGET_MPP, tolerance=0.1)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of slides that show the same picture, each with its own um/px and levels."""
    folder = tmp_path_factory.mktemp("slides")
    picture = smooth_picture(WIDTH_PX, HEIGHT_PX)
    write_slide(folder / "fits.tif", picture, mpp=0.46, downsamples=(1, 2, 4))
    write_slide(folder / "resampled.tif", picture, mpp=0.3, downsamples=(1, 2))
    write_slide(folder / "coarse.tif", picture, mpp=1.84)
    small = picture[:256, :512]
    write_slide(folder / "without_mpp.tif", small, mpp=None)
    write_slide(folder / "absurd.tif", small, mpp=46.0)
    write_slide(folder / "not_square.tif", small, mpp=(0.46, 0.5))
    return folder


def expected_pixels(slide: Slide, box_px: Box) -> NDArray[np.uint8]:
    """The colours of the picture at the pixel centres of a box, white outside of it."""
    x, y = np.meshgrid(np.arange(box_px.x, box_px.x_end), np.arange(box_px.y, box_px.y_end))
    downsample = slide.resolution.downsample
    colours = smooth_colours((x + 0.5) * downsample, (y + 0.5) * downsample)
    colours[(x < 0) | (y < 0) | (x >= slide.width_px) | (y >= slide.height_px)] = WHITE
    return colours


def largest_error(got: NDArray[np.uint8], expected: NDArray[np.uint8]) -> int:
    return int(np.abs(got.astype(int) - expected).max())


BOXES = {
    "inside": Box(101, 67, 300, 200),
    "top left": Box(-40, -30, 100, 80),
    "whole": Box(0, 0, 800, 500),
    "around": Box(-10, -10, 850, 550),
    "bottom right": Box(380, 290, 500, 300),
    "one pixel": Box(200, 100, 1, 1),
}


@pytest.mark.parametrize("box_px", BOXES.values(), ids=BOXES.keys())
def test_reading_at_the_target_gives_the_known_pixels(slides: Path, box_px: Box) -> None:
    with Slide(slides / "fits.tif", target_mpp=TARGET_MPP) as slide:
        assert (slide.level0_size, slide.width_px, slide.height_px) == ((1600, 1000), 800, 500)
        image = slide.read(box_px)
        assert image.shape == (box_px.height, box_px.width, 3)
        assert largest_error(image, expected_pixels(slide, box_px)) <= 1


@pytest.mark.parametrize("box_px", BOXES.values(), ids=BOXES.keys())
def test_resampling_gives_the_known_pixels(slides: Path, box_px: Box) -> None:
    with Slide(slides / "resampled.tif", target_mpp=TARGET_MPP) as slide:
        assert slide.resolution.level == 1
        assert slide.resolution.mpp == pytest.approx(TARGET_MPP)
        # 1600 x 1000 px of 0.3 um are 521.7 x 326.1 px of 0.92 um.
        assert (slide.width_px, slide.height_px) == (522, 326)
        got, expected = slide.read(box_px), expected_pixels(slide, box_px)
        # The last column lies partly outside the scan, where it is white.
        inside = Box(0, 0, slide.width_px - 1, slide.height_px).intersection(box_px)
        view = inside._replace(x=inside.x - box_px.x, y=inside.y - box_px.y).slices()
        assert largest_error(got[view], expected[view]) <= 3
        assert (got >= expected.astype(int) - 3).all()
        outside = (expected == WHITE).all(axis=2)
        assert (got[outside] == WHITE).all()


def test_the_part_of_a_pixel_that_reaches_outside_is_white(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "dark.tif", np.full((309, 309, 3), 40, dtype=np.uint8), mpp=0.3)
    with Slide(path, target_mpp=TARGET_MPP) as slide:
        # 309 px of 0.3 um are 100.76 px of 0.92 um.
        image = slide.read(Box(0, 0, slide.width_px, slide.height_px))
    assert image.shape == (101, 101, 3)
    assert (image[:100, :100] == 40).all()
    assert (image[:, 100] > 60).all()
    assert (image[100, :] > 60).all()


def test_a_box_outside_the_slide_is_white(slides: Path) -> None:
    with Slide(slides / "fits.tif", target_mpp=TARGET_MPP) as slide:
        for box_px in (Box(-64, 0, 64, 64), Box(800, 0, 64, 64), Box(0, 500, 64, 64), Box(5000, -900, 64, 64)):
            assert (slide.read(box_px) == WHITE).all()


NEEDED = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1]], dtype=bool)


def test_rows_of_cells_equal_a_read_of_the_needed_cells(slides: Path) -> None:
    with Slide(slides / "fits.tif", target_mpp=TARGET_MPP) as slide:
        bands = [band.pixels for band in slide.read_cell_rows(NEEDED, cell_px=256)]
        assert [band.shape for band in bands] == [(256, 1024, 3)] * 3
        for (row, col), needed in np.ndenumerate(NEEDED):
            cell = bands[row][:, col * 256 : (col + 1) * 256]
            read = slide.read(Box(col * 256, row * 256, 256, 256))
            assert np.array_equal(cell, read if needed else np.full_like(cell, WHITE))


def test_rows_of_cells_read_each_source_pixel_once(slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Slide(slides / "fits.tif", target_mpp=TARGET_MPP) as slide:
        times_read = np.zeros((slide.height_px, slide.width_px), dtype=int)
        read_into = slide._source.read_into

        def counting(image: NDArray[np.uint8], box_px: Box) -> None:
            times_read[box_px.slices()] += 1
            read_into(image, box_px)

        monkeypatch.setattr(slide._source, "read_into", counting)
        list(slide.read_cell_rows(NEEDED, cell_px=256))
    needed_px = np.kron(NEEDED, np.ones((256, 256), dtype=int))[: slide.height_px, : slide.width_px]
    assert np.array_equal(times_read, needed_px)


def test_resampled_rows_of_cells_fit_together(slides: Path) -> None:
    with Slide(slides / "resampled.tif", target_mpp=TARGET_MPP) as slide:
        rows = slide.read_cell_rows(np.ones((5, 8), dtype=bool), cell_px=64)
        bands = np.concatenate([band.pixels for band in rows])
        whole = slide.read(Box(0, 0, 512, 320))
        assert largest_error(bands[:320, :512], whole) <= 3


@pytest.mark.parametrize(
    ("mpp", "size"), [(0.92, (800, 500)), (4.0, (184, 115)), (8.0, (92, 58)), (0.1, (1600, 1000))]
)
def test_a_thumbnail_shows_the_whole_slide(slides: Path, mpp: float, size: tuple[int, int]) -> None:
    with Slide(slides / "fits.tif", target_mpp=TARGET_MPP) as slide:
        image = slide.thumbnail(mpp)
    assert image.shape == (size[1], size[0], 3)
    x, y = np.meshgrid((np.arange(size[0]) + 0.5) * 1600 / size[0], (np.arange(size[1]) + 0.5) * 1000 / size[1])
    assert largest_error(image, smooth_colours(x, y)) <= 4


class Refused(NamedTuple):
    """A slide that has no usable scale, and what is said about it."""

    name: str
    says: tuple[str, ...]


REFUSED = [
    Refused("without_mpp.tif", ("does not say its um/px", "set the column mpp in slides.csv")),
    Refused("absurd.tif", ("46", "expected 0.05 to 5.0", "set the column mpp in slides.csv")),
    Refused("not_square.tif", ("not square", "0.46 x 0.5", "convert the slide")),
    Refused("coarse.tif", ("1.84 um/px, coarser than the target of 0.92", "scan it finer or leave it out")),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_slide_without_a_usable_scale_is_refused_with_what_to_do(slides: Path, case: Refused) -> None:
    with pytest.raises(SlideError) as error:
        Slide(slides / case.name, target_mpp=TARGET_MPP)
    for text in (str(slides / case.name), *case.says):
        assert text in str(error.value)


@pytest.mark.parametrize("name", [case.name for case in REFUSED if case.name != "not_square.tif"])
def test_the_manifest_overrides_what_the_file_says(slides: Path, name: str) -> None:
    with Slide(slides / name, target_mpp=TARGET_MPP, mpp=0.46) as slide:
        assert slide.resolution.mpp_level0 == 0.46
        assert slide.resolution.downsample == pytest.approx(2)


@pytest.mark.parametrize("mpp", [0.0046, 46.0, float("nan")])
def test_an_absurd_override_is_refused(slides: Path, mpp: float) -> None:
    with pytest.raises(SlideError, match=r"slides\.csv says .* um/px, expected 0\.05 to 5\.0; correct its column mpp"):
        Slide(slides / "fits.tif", target_mpp=TARGET_MPP, mpp=mpp)


def test_a_wider_tolerance_takes_the_level_as_it_is(slides: Path) -> None:
    with Slide(slides / "resampled.tif", target_mpp=0.72, tolerance=0.2) as slide:
        assert (slide.resolution.level, slide.resolution.resize) == (1, 1)


class HandleWith:
    """Stands for an open file that says a um/px."""

    def __init__(self, mpp_x: str, mpp_y: str) -> None:
        """Say these words."""
        self.properties: Mapping[str, Any] = {
            openslide.PROPERTY_NAME_MPP_X: mpp_x,
            openslide.PROPERTY_NAME_MPP_Y: mpp_y,
        }
        self.level_downsamples = (1.0,)
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("words", [("abc", "abc"), ("0.46", ""), ("0,46", "0,46"), ("nan", "nan"), ("inf", "0.46")])
def test_words_that_are_no_mpp_are_refused_and_the_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    handle = HandleWith(*words)
    path = tmp_path / "a.tif"
    path.touch()
    monkeypatch.setattr(openslide, "OpenSlide", lambda _path: handle)
    with pytest.raises(SlideError) as error:
        Slide(path, target_mpp=TARGET_MPP)
    low, high = PLAUSIBLE_MPP
    assert f"says {words[0]} x {words[1]} um/px, expected {low} to {high}; set the column mpp" in str(error.value)
    assert handle.is_closed


def test_what_is_no_slide_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no slide")
    for path, says in (
        (tmp_path / "gone.tif", "the slide is not there"),
        (tmp_path / "text.tif", "OpenSlide cannot open it"),
        (tmp_path, "it is a folder, expected a file"),
    ):
        with pytest.raises(SlideError, match=f"{path}: {says}"):
            Slide(path, target_mpp=TARGET_MPP)


def test_a_damaged_slide_is_refused_where_it_is_read_and_can_be_opened_anew(slides: Path, tmp_path: Path) -> None:
    whole = (slides / "fits.tif").read_bytes()
    with tifffile.TiffFile(slides / "fits.tif") as tiff:
        start, length = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    path = tmp_path / "damaged.tif"
    path.write_bytes(whole[:start] + b"\xff" * length + whole[start + length :])
    with Slide(path, target_mpp=0.46) as slide:
        with pytest.raises(SlideError, match=r"cannot decode the tile in row 0, column 0 .* copy or scan it again"):
            slide.read(Box(0, 0, 256, 256))
        path.write_bytes(whole)
        slide.reopen()
        assert np.array_equal(slide.read(Box(0, 0, 256, 256)), smooth_picture(256, 256))


def test_a_slide_is_closed_after_its_block(slides: Path) -> None:
    with Slide(slides / "fits.tif", target_mpp=TARGET_MPP) as slide:
        handle = slide._handle
    with pytest.raises(Exception, match=r"(?i)clos|wrong type"):
        handle.read_region((0, 0), 0, (1, 1))


def test_an_ndpi_larger_than_four_gib_that_openslide_cannot_open_is_named(tmp_path: Path) -> None:
    path = tmp_path / "large.NDPI"
    path.write_bytes(b"II*\x00\x00\x01\x00\x00\x01\x00\x00\x00")  # the directory lies beyond 4 GiB
    os.truncate(path, (1 << 32) + (1 << 29))
    with pytest.raises(SlideError, match=r"an NDPI of 4\.5 GiB, and OpenSlide does not read .*: export"):
        Slide(path, target_mpp=TARGET_MPP)
    os.truncate(path, 1 << 20)
    with pytest.raises(SlideError, match="convert it or leave it out"):
        Slide(path, target_mpp=TARGET_MPP)


def test_a_tiff_whose_directories_cannot_be_parsed_says_what_was_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(tmp_path / "slide.tif", smooth_picture(600, 400), mpp=0.92)

    def broken(_: Path, **__: str) -> NoReturn:
        raise ValueError("offset beyond the file")

    monkeypatch.setattr("bccdist.slides.tiff_pages.tifffile.TiffFile", broken)
    with Slide(path, target_mpp=0.92) as slide:
        assert "offset beyond the file" in slide.log_of_reader
        assert "nobody has looked for second images" in slide.why_not_by_tile
