"""Slides of other slides' tiles show the same pixels elsewhere, and glass around them."""

from pathlib import Path

import numpy as np
import openslide
import pytest
from heatmap_slides import grey_picture, write_slide
from numpy.typing import NDArray

from bccdist.errors import ConfigurationError
from bccdist.parts import Part
from bccdist.phantom.pyramid import write_pyramid
from bccdist.slides.manifest import read_manifest
from benchmarks import paper_slide
from benchmarks.pasting import Piece, paste


def _slide(path: Path, *, width: int, height: int, seed: int) -> Path:
    picture = np.repeat(grey_picture(width, height, seed=seed)[..., None], 3, axis=2)
    write_pyramid(path, picture, mpp=0.46, tile_px=256, jpeg_quality=80, description="")
    return path


def _read(path: Path, level: int) -> NDArray[np.uint8]:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))[..., :3]


def test_two_slides_beside_each_other_keep_their_pixels(tmp_path: Path) -> None:
    one = _slide(tmp_path / "one.tif", width=1024, height=512, seed=1)
    other = _slide(tmp_path / "other.tif", width=512, height=1024, seed=2)
    pieces = [Piece(path=one, x_level0_px=0, y_level0_px=0), Piece(path=other, x_level0_px=1536, y_level0_px=512)]
    paste(tmp_path / "both.tif", pieces, margin_level0_px=512)
    with openslide.OpenSlide(tmp_path / "both.tif") as both:
        assert both.dimensions == (2560, 2048)
        assert both.level_downsamples == (1, 2, 4, 8)
        assert float(both.properties["openslide.mpp-x"]) == pytest.approx(0.46)
    for level, scale in enumerate((1, 2)):
        found = _read(tmp_path / "both.tif", level).copy()
        for piece in pieces:
            expected = _read(piece.path, level)
            there = found[piece.y_level0_px // scale :, piece.x_level0_px // scale :]
            np.testing.assert_array_equal(there[: expected.shape[0], : expected.shape[1]], expected)
            there[: expected.shape[0], : expected.shape[1]] = 255
        assert (found == 255).all()


def test_coarse_levels_that_end_within_a_tile_show_glass_behind_it(tmp_path: Path) -> None:
    dark = tmp_path / "dark.tif"
    write_pyramid(
        dark, np.full((512, 1024, 3), 80, dtype=np.uint8), mpp=0.46, tile_px=256, jpeg_quality=90, description=""
    )
    paste(tmp_path / "wide.tif", [Piece(path=dark, x_level0_px=512, y_level0_px=512)], margin_level0_px=2048)
    found = _read(tmp_path / "wide.tif", 3)
    assert abs(found[64:128, 64:192].astype(int) - 80).max() <= 3
    assert found[:56].min() > 245
    assert found[:, 200:].min() > 245


@pytest.mark.parametrize("kind", ["deflate", "within a tile", "between tiles"])
def test_what_cannot_be_pasted_is_refused(kind: str, tmp_path: Path) -> None:
    first = _slide(tmp_path / "first.tif", width=512, height=512, seed=1)
    if kind == "deflate":
        second = write_slide(tmp_path / "second.tif", grey_picture(512, 512))
    elif kind == "within a tile":
        second = _slide(tmp_path / "second.tif", width=512, height=528, seed=1)
    else:
        second = first
    place = 512 if kind != "between tiles" else 520
    pieces = [Piece(path=path, x_level0_px=x, y_level0_px=0) for path, x in ((first, 0), (second, place))]
    with pytest.raises(ConfigurationError, match="cannot be pasted"):
        paste(tmp_path / "both.tif", pieces)


def test_a_slide_of_the_papers_size_has_the_sections_of_what_it_is_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = np.full((1024, 1536, 3), 240, dtype=np.uint8)
    picture[200:800, 300:1200] = (200, 80, 150)
    write_pyramid(tmp_path / "a.tif", picture, mpp=0.46, tile_px=256, jpeg_quality=90, description="")
    (tmp_path / "slides.csv").write_text("slide_id,part,path\na,test,a.tif\n")
    (tmp_path / "sections.csv").write_text(
        "slide_id,section_id,x_level0_px,y_level0_px,width_level0_px,height_level0_px,label\na,s0,300,200,900,600,Tumor\n"
    )
    paper_slide.main(
        manifest=tmp_path / "slides.csv", folder=tmp_path / "pasted", num_patches=20, width_level0_px=4096
    )
    made = read_manifest(tmp_path / "pasted" / "slides.csv")
    (slide,) = made.slides_of([Part.TEST])
    sections = made.sections_of(slide.slide_id)
    assert len(sections) >= 2
    assert {section.label for section in sections} == {"Tumor"}
    assert f"{len(sections)} slides pasted" in capsys.readouterr().out
    pixels = _read(slide.path, 0)
    for section in sections:
        box = section.box_level0_px
        assert box is not None
        assert abs(pixels[box.y : box.y_end, box.x : box.x_end].mean(axis=(0, 1)) - (200, 80, 150)).max() < 3
