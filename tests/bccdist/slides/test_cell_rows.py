"""Rows of cells give the slide back, and damage stays where it is."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from heatmap_slides import MPP, damage_tile, grey_picture, write_slide
from numpy.typing import NDArray

from bccdist.slides.cell_rows import CellRow, ReadingTally, readable_rows
from bccdist.slides.slide import Slide


def test_a_sound_slide_comes_back(tmp_path: Path) -> None:
    picture = grey_picture(700, 520)
    path = write_slide(tmp_path / "a.tif", picture)
    needed = np.ones((3, 3), dtype=bool)
    needed[0, 1] = False
    tally = ReadingTally()
    with Slide(path, target_mpp=MPP) as slide:
        rows = list(readable_rows(slide, needed, tally))
    read = np.concatenate([row.pixels for row in rows])[:520, :700, 1]
    assert (read[:256, 256:512] == 255).all()
    read[:256, 256:512] = picture[:256, 256:512]
    assert (read == picture).all()
    assert not any(row.unread.any() for row in rows)
    assert (tally.num_unread_cells, tally.unread_reason) == (0, "")
    assert tally.read_s > 0


def test_damage_costs_its_own_cells_only(tmp_path: Path) -> None:
    picture = grey_picture(1024, 768)
    path = write_slide(tmp_path / "a.tif", picture)
    damage_tile(path, 5)
    damage_tile(path, 7)
    tally = ReadingTally()
    with Slide(path, target_mpp=MPP) as slide:
        rows = list(readable_rows(slide, np.ones((3, 4), dtype=bool), tally))
    assert [row.unread.tolist() for row in rows] == [[False] * 4, [False, True, False, True], [False] * 4]
    read = np.concatenate([row.pixels for row in rows])[..., 0]
    sound = np.ones(picture.shape, dtype=bool)
    sound[256:512, 256:512] = sound[256:512, 768:] = False
    assert (read[sound] == picture[sound]).all()
    assert (read[~sound] == 255).all()
    assert tally.num_unread_cells == 2
    assert "damaged or truncated" in tally.unread_reason


def textured_picture() -> NDArray[np.uint8]:
    """As rich as tissue everywhere: uint8 RGB [768, 1024, 3]."""
    coarse = np.random.default_rng(0).integers(80, 200, (24, 32), dtype=np.uint8)
    return np.repeat(cv2.resize(coarse, (1024, 768), interpolation=cv2.INTER_CUBIC)[..., None], 3, axis=2)


def read_with_tissue_at_the_left(path: Path) -> tuple[list[CellRow], ReadingTally]:
    """All rows of a slide of 1024 x 768 px whose left half is tissue."""
    tissue = np.zeros((round(768 * MPP / 8), round(1024 * MPP / 8)), dtype=bool)
    tissue[:, : tissue.shape[1] // 2] = True
    tally = ReadingTally()
    with Slide(path, target_mpp=MPP) as slide:
        return list(readable_rows(slide, np.ones((3, 4), dtype=bool), tally, tissue)), tally


def test_tissue_that_is_not_in_the_file_is_unread_and_glass_that_is_not_is_glass(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", textured_picture())
    with tifffile.TiffFile(path, mode="r+") as tiff:
        counts = list(tiff.pages[0].databytecounts)
        counts[5] = counts[7] = 0
        tiff.pages[0].tags["TileByteCounts"].overwrite(counts)
    rows, tally = read_with_tissue_at_the_left(path)
    assert [row.unread.tolist() for row in rows] == [[False] * 4, [False, True, False, False], [False] * 4]
    assert tally.num_unread_cells == 1
    assert "does not show the tissue" in tally.unread_reason


@pytest.mark.parametrize("blank", [0, 128, 236, 255])
def test_a_tile_that_is_blank_where_the_overview_shows_tissue_is_unread(tmp_path: Path, blank: int) -> None:
    picture = textured_picture()
    picture[256:512, 256:512] = picture[256:512, 768:] = blank
    path = write_slide(tmp_path / "a.tif", picture, shown=textured_picture())
    rows, tally = read_with_tissue_at_the_left(path)
    assert [row.unread.tolist() for row in rows] == [[False] * 4, [False, True, False, False], [False] * 4]
    assert "does not show the tissue" in tally.unread_reason
