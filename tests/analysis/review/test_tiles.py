"""Tiles: Deep Zoom's geometry, pixels that lie right, few open files, and slides that cannot be read."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from heatmap_slides import damage_tile, grey_picture
from heatmap_slides import write_slide as write_deflated
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from places import shared_data_folder
from range_server import serving
from synthetic_slides import smooth_picture, write_slide

from analysis.review.tiles import (
    OVERLAP_PX,
    TILE_PX,
    DeepZoom,
    OpenSlides,
    TileReader,
    coarsest_offered,
    error_tile,
)
from bccdist.addresses import parse_address
from bccdist.errors import SlideError
from bccdist.parts import Part
from bccdist.slides.manifest import SlideRecord


def record(path: Path, mpp: float | None = None) -> SlideRecord:
    return SlideRecord(slide_id=path.stem, part=Part.TEST, path=path, mpp=mpp)


def decoded(jpeg: bytes | None) -> NDArray[np.uint8]:
    assert jpeg is not None
    return np.asarray(simplejpeg.decode_jpeg(jpeg, "RGB"), dtype=np.uint8)


@given(st.integers(1, 200_000), st.integers(1, 200_000))
def test_the_levels_halve_until_one_pixel_is_left(width: int, height: int) -> None:
    pyramid = DeepZoom(width, height)
    assert pyramid.size_px(pyramid.max_level) == (width, height)
    assert pyramid.size_px(0) == (1, 1)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(0, 4))
def test_tiles_without_their_overlap_cover_a_level_once(width: int, height: int, down: int) -> None:
    pyramid = DeepZoom(width, height)
    level = max(0, pyramid.max_level - down)
    level_width, level_height = pyramid.size_px(level)
    cols, rows = -(-level_width // TILE_PX), -(-level_height // TILE_PX)
    for col in range(cols):
        box = pyramid.tile_px(level, col, rows - 1)
        assert box is not None
        assert box.x == max(0, col * TILE_PX - OVERLAP_PX)
        assert box.x_end == min(level_width, (col + 1) * TILE_PX + OVERLAP_PX)
        assert box.y_end == level_height
    assert pyramid.tile_px(level, cols, 0) is None
    assert pyramid.tile_px(level, 0, rows) is None


def test_there_are_no_tiles_beyond_the_pyramid() -> None:
    pyramid = DeepZoom(1000, 500)
    assert pyramid.max_level == 10
    assert pyramid.tile_px(11, 0, 0) is None
    assert pyramid.tile_px(10, -1, 0) is None


@pytest.mark.parametrize("downsamples", [(1,), (1, 4), (1, 2, 4, 8)])
def test_every_tile_shows_its_place_of_the_slide(tmp_path: Path, downsamples: tuple[int, ...]) -> None:
    picture = smooth_picture(1500, 900)
    path = write_slide(tmp_path / "slide.tif", picture, downsamples=downsamples)
    reader, pyramid = TileReader({"slide": record(path)}), DeepZoom(1500, 900)
    for level in range(8, pyramid.max_level + 1):
        size = pyramid.size_px(level)
        expected = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.int16)
        for col, row in ((0, 0), ((size[0] - 1) // TILE_PX, (size[1] - 1) // TILE_PX)):
            box = pyramid.tile_px(level, col, row)
            assert box is not None
            tile = decoded(reader.tile("slide", level, col, row))
            assert tile.shape == (box.height, box.width, 3)
            # Levels of the file may be a pixel off; the last row and column may lie beyond the slide by a part.
            inside = np.abs(tile - expected[box.slices()])[:-1, :-1]
            assert inside.mean() < 4
    reader.slides.close()


def test_facts_say_size_scale_and_levels(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "slide.tif", smooth_picture(1500, 900), mpp=0.25)
    facts = TileReader({"slide": record(path)}).facts("slide")
    assert (facts.width, facts.height, facts.min_level, facts.max_level) == (1500, 900, 0, 11)
    assert facts.mpp == pytest.approx(0.25)
    assert facts.origin_level0_px == (0, 0)
    assert facts.error is None


def test_the_manifest_overrides_the_scale(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "slide.tif", smooth_picture(300, 200), mpp=None)
    assert TileReader({"slide": record(path, mpp=0.5)}).facts("slide").mpp == 0.5
    assert "set the column mpp" in str(TileReader({"slide": record(path)}).facts("slide").error)


@pytest.mark.parametrize(
    ("downsamples", "coarsest"), [((1.0,), 13), ((1.0, 4.0, 16.0, 64.0), 0), ((1.0, 4.0), 11), ((1.0, 2.0), 12)]
)
def test_a_slide_without_coarse_levels_offers_no_coarse_tiles(downsamples: Sequence[float], coarsest: int) -> None:
    """At level 13 of 17 one tile is 4096 level-0 px wide, which are 16 million pixels."""
    pyramid = DeepZoom(120_000, 90_000)
    assert pyramid.max_level == 17
    assert coarsest_offered(pyramid, tuple(downsamples)) == coarsest


def test_a_slide_that_is_no_slide_says_why_without_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "broken.svs"
    path.write_bytes(b"not a slide")
    reader = TileReader({"broken": record(path), "gone": record(tmp_path / "gone.svs")})
    for name in ("broken", "gone"):
        error = reader.facts(name).error
        assert error is not None
        assert error.startswith(f"{name}.svs: ")
        assert str(tmp_path) not in error
        with pytest.raises(SlideError, match=name):
            reader.tile(name, 8, 0, 0)


def test_one_damaged_tile_leaves_all_others_readable(tmp_path: Path) -> None:
    path = write_deflated(tmp_path / "slide.tif", grey_picture(1024, 512))
    damage_tile(path, 0)
    reader = TileReader({"slide": record(path)})
    for _ in range(3):
        with pytest.raises(SlideError, match=r"slide\.tif: cannot decode"):
            reader.tile("slide", 10, 0, 0)
        assert decoded(reader.tile("slide", 10, 3, 1)).std() > 1
    assert reader.slides.num_open <= 1


def test_a_slide_that_comes_back_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    reader = TileReader({"slide": record(path)})
    assert reader.facts("slide").error is not None
    write_slide(path, smooth_picture(300, 200))
    assert decoded(reader.tile("slide", 9, 0, 0)).shape == (200, 255, 3)


def num_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked


def test_few_slides_stay_open_whatever_is_asked_for(tmp_path: Path) -> None:
    picture = smooth_picture(600, 400)
    paths = [write_slide(tmp_path / f"slide-{number}.tif", picture) for number in range(12)]
    reader = TileReader({path.stem: record(path) for path in paths}, most_open=3)
    before = num_files()

    def ask(number: int) -> bytes | None:
        return reader.tile(f"slide-{number % 12}", 8 + number % 3, 0, 0)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(120)))
    assert reader.slides.num_open <= 3
    assert num_files() - before <= 3 * 2
    reader.slides.close()
    assert (reader.slides.num_open, num_files()) == (0, before)


def test_a_slide_is_used_by_one_thread_at_a_time_and_used_again(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "slide.tif", smooth_picture(300, 200))
    slides = OpenSlides()
    with slides.using(record(path), 0.46, step=1, tolerance=0.01) as one:
        with slides.using(record(path), 0.46, step=1, tolerance=0.01) as other:
            assert one is not other
        assert slides.num_open == 2
    with slides.using(record(path), 0.46, step=1, tolerance=0.01) as again:
        assert again is one
    slides.close()


def test_the_error_tile_is_a_grey_jpeg_with_a_word() -> None:
    tile = decoded(error_tile())
    assert tile.shape == (TILE_PX, TILE_PX, 3)
    assert np.median(tile) == pytest.approx(190, abs=2)
    assert 0.005 < (tile < 120).mean() < 0.1


@pytest.mark.parametrize(
    "name", ["CMU-1-Small-Region.svs", "ndpi/pif_kidney.ndpi", "generic_tiff/CMU-1_wrong_mpp.jpeg.tiff"]
)
def test_tiles_of_a_slide_on_a_server_are_those_of_the_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    path = shared_data_folder() / "fixtures" / name
    with serving(path.parent) as server:
        address = parse_address(f"{server.url}/{path.name}?X-Signature=Hidden1")
        readers = [TileReader({"slide": replace(record(path, 0.5), path=each)}) for each in (path, address)]
        facts = [reader.facts("slide") for reader in readers]
        assert replace(facts[0], profile=None) == replace(facts[1], profile=None)
        for level in range(facts[0].max_level - 2, facts[0].max_level + 1):
            local, remote = (reader.tile("slide", level, 0, 0) for reader in readers)
            assert local is not None
            assert remote == local
        for reader in readers:
            reader.slides.close()


def test_a_slide_that_is_not_on_its_server_is_named_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(tmp_path) as server:
        address = parse_address(f"{server.url}/case-7/none.svs?X-Signature=Hidden1")
        reader = TileReader({"slide": replace(record(tmp_path, 0.5), path=address)})
        error = reader.facts("slide").error or ""
    assert "none.svs" in error
    assert "case-7" not in error
    assert "Hidden1" not in error
