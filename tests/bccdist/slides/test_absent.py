"""A hole in one level does not hide tissue that another level holds, and nothing blank passes for tissue."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from synthetic_slides import islands_picture

from bccdist.slides.absent import blank_cells
from bccdist.slides.slide import Slide
from bccdist.slides.stain import stained
from bccdist.slides.tissue import TISSUE_MPP

MPP = 0.46
APERIO = "Aperio Image Library v11.2.1\n2048x1536 (128x128)|AppMag = 20|MPP = 0.46"
ISLAND = (512, 512, 512, 512)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """Two islands on glass, uint8 RGB [1536, 2048, 3]; the first fills whole tiles of every level."""
    return islands_picture(2048, 1536, ISLAND, (1300, 600, 400, 500), noise=6)


def write_with_holes(path: Path, picture: NDArray[np.uint8], levels: tuple[int, ...]) -> Path:
    """Four levels; in some the tiles of the first island are not there. A generic TIFF or, by its name, Aperio's."""
    is_aperio = path.suffix == ".svs"
    with tifffile.TiffWriter(path) as tiff:
        for level in range(4):
            size = (picture.shape[1] >> level, picture.shape[0] >> level)
            tiff.write(
                cv2.resize(picture, size, interpolation=cv2.INTER_AREA),
                tile=(64, 64),
                compression="deflate",
                photometric="rgb",
                subfiletype=0 if is_aperio else int(level > 0),
                description=APERIO if is_aperio else None,
                resolution=(1e4 / (MPP * 2**level),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for level in levels:
            page = tiff.pages[level]
            places = np.array(page.databytecounts).reshape(-(-page.imagelength // 64), -1)
            x, y, width, height = (edge // 64 >> level for edge in ISLAND)
            places[y : y + height, x : x + width] = 0
            page.tags["TileByteCounts"].overwrite(places.ravel().tolist())
    return path


@pytest.mark.parametrize("name", ["a.tif", "a.svs"])
@pytest.mark.parametrize("levels", [(0,), (3,), (0, 3), (1, 3), (2, 3), (0, 1, 3), (0, 1, 2)])
def test_tissue_that_any_level_holds_shows_in_the_overview(
    tmp_path: Path, picture: NDArray[np.uint8], name: str, levels: tuple[int, ...]
) -> None:
    with Slide(write_with_holes(tmp_path / name, picture, levels), target_mpp=0.92) as slide:
        mask = stained(slide.thumbnail(TISSUE_MPP), mpp=TISSUE_MPP)
    x, y, width, height = (round(edge * MPP / TISSUE_MPP) for edge in ISLAND)
    assert mask[y + 2 : y + height - 2, x + 2 : x + width - 2].mean() > 0.99


def test_glass_that_no_level_holds_is_glass(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    without_island = picture.copy()
    x, y, width, height = ISLAND
    without_island[y : y + height, x : x + width] = picture[0, 0]
    with Slide(write_with_holes(tmp_path / "a.tif", without_island, (0, 1, 2, 3)), target_mpp=0.92) as slide:
        mask = stained(slide.thumbnail(TISSUE_MPP), mpp=TISSUE_MPP)
    assert not mask[:, : mask.shape[1] // 2].any()


def is_blank(cell: NDArray[np.uint8], *, tissue: bool) -> bool:
    mask = np.full((32, 32), tissue)
    return bool(blank_cells(cell, mask, top_px=0, cell_px=256, mpp=0.92)[0])


def test_a_part_of_a_cell_that_is_blank_under_tissue_is_told_and_on_glass_is_not() -> None:
    cell = np.random.default_rng(0).integers(80, 200, (256, 256, 3), dtype=np.uint8)
    assert not is_blank(cell, tissue=True)
    cell[128:, :64] = (232, 221, 229)
    assert is_blank(cell, tissue=True)
    assert not is_blank(cell, tissue=False)


def test_tissue_of_one_colour_is_not_blank() -> None:
    assert not is_blank(np.full((256, 256, 3), (200, 120, 170), dtype=np.uint8), tissue=True)
