"""A hole in one level does not hide tissue that another level holds, and nothing blank passes for tissue."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from synthetic_slides import islands_picture

from bccdist.slides.absent import SeenTissue, unread_cells
from bccdist.slides.slide import PixelsThere, Slide
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


MASK = np.ones((40, 40), dtype=bool)


def tissue_like(seed: int) -> NDArray[np.uint8]:
    """A cell of pink with structure of all sizes: uint8 RGB [256, 256, 3]."""
    random = np.random.default_rng(seed)
    picture = np.full((256, 256, 3), (200.0, 120.0, 170.0))
    for size in (4, 8, 16, 32, 64):
        waves = random.normal(0, 12, (size, size, 1)).astype(np.float32)
        picture += cv2.resize(waves, (256, 256), interpolation=cv2.INTER_CUBIC)[..., None]
    return picture.clip(0, 255).astype(np.uint8)


def overview_of(cell: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What an overview shows of a cell, which goes on beyond its edge: uint8 RGB [40, 40, 3]."""
    edge_px = round(40 * TISSUE_MPP / 0.92)
    wider = np.pad(cell, ((0, edge_px - 256), (0, edge_px - 256), (0, 0)), mode="edge")
    return np.asarray(cv2.resize(wider, (40, 40), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def is_unread(cell: NDArray[np.uint8], shown: NDArray[np.uint8], mask: NDArray[np.bool_] = MASK) -> bool:
    seen = SeenTissue(mask, overview_of(shown))
    needed = np.array([True])
    return bool(unread_cells(PixelsThere(cell, None), seen, needed, top_px=0, cell_px=256, mpp=0.92)[0])


@pytest.mark.parametrize("seed", range(8))
def test_what_the_overview_shows_was_read_also_a_little_moved_or_blurred(seed: int) -> None:
    cell = tissue_like(seed)
    assert not is_unread(cell, cell)
    assert not is_unread(np.roll(cell, (9, -9), axis=(0, 1)), cell)
    assert not is_unread(cv2.GaussianBlur(cell, None, 3), cell)


@pytest.mark.parametrize("seed", range(8))
def test_other_tissue_in_its_place_was_not(seed: int) -> None:
    assert is_unread(tissue_like(100 + seed), tissue_like(seed))


@pytest.mark.parametrize("colour", [(244, 243, 245), (232, 221, 229), (0, 0, 0), (200, 120, 170)])
@pytest.mark.parametrize("noise", [0, 9])
def test_blank_pixels_of_any_colour_in_its_place_were_not(colour: tuple[int, int, int], noise: int) -> None:
    blank = np.random.default_rng(0).normal(colour, noise, (256, 256, 3)).clip(0, 255).astype(np.uint8)
    assert is_unread(blank, tissue_like(0))
    assert not is_unread(blank, tissue_like(0), np.zeros((40, 40), dtype=bool))


def test_a_part_of_a_cell_is_enough() -> None:
    cell = tissue_like(0)
    cell[128:192, 64:128] = 244
    assert is_unread(cell, tissue_like(0))


def test_red_and_blue_that_changed_places_are_told() -> None:
    assert is_unread(np.ascontiguousarray(tissue_like(0)[..., ::-1]), tissue_like(0))


def test_flat_tissue_is_read_as_flat() -> None:
    flat = np.full((256, 256, 3), (200, 120, 170), dtype=np.uint8)
    assert not is_unread(flat, flat)


def test_cells_that_lie_wholly_beyond_the_slide_lack_nothing() -> None:
    seen = SeenTissue(np.ones((20, 20), dtype=bool), np.full((20, 20, 3), 120, dtype=np.uint8))
    for top_px, needed in ((0, [False, False, True]), (512, [True, True, True])):
        row = PixelsThere(np.full((256, 768, 3), 255, dtype=np.uint8), None)
        found = unread_cells(row, seen, np.array(needed), top_px=top_px, cell_px=256, mpp=0.46)
        assert not found.any()
