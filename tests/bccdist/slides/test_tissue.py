"""Stained tissue is found on grey glass."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from island_slides import HEIGHT_PX, ISLANDS, MPP, WIDTH_PX, open_slide
from numpy.typing import NDArray
from synthetic_slides import islands_picture, write_slide

from bccdist.slides.geometry import Box
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """Three islands on noisy glass."""
    return open_slide(tmp_path_factory.mktemp("tissue"), *ISLANDS)


@pytest.fixture(scope="module")
def tissue(slide: Slide) -> NDArray[np.bool_]:
    return tissue_mask(slide)


@pytest.mark.parametrize("noise", [0.0, 3.0], ids=["clean", "noisy"])
def test_an_empty_slide_has_no_tissue(tmp_path: Path, noise: float) -> None:
    with open_slide(tmp_path, noise=noise) as slide:
        tissue = tissue_mask(slide)
        assert tissue.shape == (160, 300)
        assert not tissue.any()


def test_pink_on_grey_glass_is_tissue(tissue: NDArray[np.bool_]) -> None:
    expected = np.zeros((160, 300), dtype=bool)
    for box in ISLANDS:
        expected[box.scaled(MPP / TISSUE_MPP).slices()] = True
    # The median rounds the islands' corners; nothing else differs.
    assert (tissue != expected).sum() <= 12 * len(ISLANDS)
    assert not tissue[~expected].any()


def test_a_slide_full_of_tissue_is_all_tissue(tmp_path: Path) -> None:
    with open_slide(tmp_path, (0, 0, WIDTH_PX, HEIGHT_PX)) as slide:
        assert tissue_mask(slide).all()


def test_the_mask_does_not_depend_on_the_target_mpp(slide: Slide, tissue: NDArray[np.bool_]) -> None:
    for target_mpp in (2.0, 3.1, 4.0, TISSUE_MPP):
        with Slide(slide.path, target_mpp=target_mpp) as other:
            assert (tissue_mask(other) == tissue).all()


@pytest.mark.parametrize(("number", "is_lost"), [(7, True), (4, False)], ids=["amid tissue", "on glass"])
def test_a_tile_that_is_lost_amid_tissue_counts_as_tissue_and_one_of_glass_as_glass(
    tmp_path: Path, number: int, is_lost: bool
) -> None:
    # Tiles of 256 px, five in a row: number 7 lies inside the island, number 4 far from it.
    with open_slide(tmp_path, (300, 100, 700, 500)) as whole:
        path, expected = whole.path, tissue_mask(whole)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        counts = list(tiff.pages[0].databytecounts)
        counts[number] = 0
        tiff.pages[0].tags["TileByteCounts"].overwrite(counts)
    with Slide(path, target_mpp=MPP) as lacking:
        box_px = Box(number % 5 * 256, number // 5 * 256, 256, 256)
        found = tissue_mask(lacking)
    assert expected[box_px.scaled(MPP / TISSUE_MPP).slices()].all() == is_lost
    # The median rounds the corners where the hole meets the tissue.
    assert (found != expected).sum() <= 12


@pytest.mark.parametrize("width_px", [14, 24])
def test_a_pens_blue_that_is_near_to_haematoxylin_is_no_tissue(tmp_path: Path, width_px: int) -> None:
    picture = islands_picture(WIDTH_PX, HEIGHT_PX, (300, 150, 400, 300), noise=3.0)
    plain = Slide(write_slide(tmp_path / "plain.tif", picture, mpp=MPP), target_mpp=MPP)
    cv2.ellipse(picture, (500, 300), (380, 260), 0, 0, 360, (30, 40, 140), width_px)
    marked = Slide(write_slide(tmp_path / "marked.tif", picture, mpp=MPP), target_mpp=MPP)
    with plain, marked:
        assert np.array_equal(tissue_mask(marked), tissue_mask(plain))
