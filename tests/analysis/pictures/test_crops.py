"""A picture of a box shows tissue, heatmap and annotated tumor of the same place, at any resolution."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from picture_study import MPP, T_P, choice_of, write_heatmap
from PIL import Image
from small_study import DOWNSAMPLE, MPP_LEVEL0, annotated, tissue_picture, write_mask, write_slide

from analysis.pictures import crops
from analysis.pictures.crops import mpp_to_fit, read_annotated_crop, read_crop, read_heat
from analysis.pictures.shown_sections import section_picture
from bccdist.configuration import Psi
from bccdist.errors import HeatmapError, SlideError
from bccdist.heatmaps.store import Heatmap
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.chosen_heatmap import open_chosen
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import DEFAULT_KINDS, SlideRecord

SIZE_PX = (1000, 700)
"""Width and height in the target frame."""
OUTPUTS: tuple[Psi, ...] = ("psi_0", "psi_4")
CHOICE = choice_of("resnet34_ds")


class Drawn(NamedTuple):
    """A grey slide whose heatmap holds the same values as its pixels."""

    paths: StudyPaths
    record: SlideRecord
    values: NDArray[np.uint8]
    heatmap: Heatmap


def waves() -> NDArray[np.uint8]:
    """Slow waves without symmetry: uint8 [h, w]."""
    x, y = np.meshgrid(np.arange(SIZE_PX[0]), np.arange(SIZE_PX[1]))
    return np.asarray(128 + 60 * np.sin(x / 60) + 50 * np.cos(y / 45 + x / 200), dtype=np.uint8)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    folder = tmp_path_factory.mktemp("drawn")
    values = waves()
    write_slide(folder / "slide.tif", values[..., None].repeat(3, axis=2))
    write_mask(folder / "mask.png", annotated(*SIZE_PX))
    record = SlideRecord(
        slide_id="slide-0",
        part=Part.TEST,
        path=folder / "slide.tif",
        annotations=(folder / "mask.png",),
        scanner="phantom",
    )
    paths = StudyPaths(folder / "study")
    place = paths.heatmap(CHOICE.setting, CHOICE.epoch, "slide-0")
    heatmap = write_heatmap(place, values, outputs=OUTPUTS, weights_digest=CHOICE.weights_digest)
    return Drawn(paths, record, values, heatmap)


def level0(box_px: Box) -> Box:
    return box_px.scaled(DOWNSAMPLE)


def test_a_patch_has_the_pixels_of_slide_heatmap_and_annotation(drawn: Drawn) -> None:
    box_px = Box(33, 50, 512, 512)
    crop, tumornest = read_annotated_crop(drawn.record, level0(box_px), mpp=MPP, kinds=DEFAULT_KINDS)
    assert (crop.box_px, crop.downsample) == (box_px, DOWNSAMPLE)
    assert crop.um_per_px == pytest.approx(MPP)
    inside = drawn.values[box_px.slices()]
    np.testing.assert_array_equal(crop.tissue, inside[..., None].repeat(3, axis=2))
    heat = read_heat(drawn.heatmap, "psi_4", crop, t_p=0.6)
    np.testing.assert_allclose(heat.probability, inside / 255, atol=1e-6)
    np.testing.assert_array_equal(heat.mask_share, inside >= 0.6 * 255)
    np.testing.assert_array_equal(tumornest, (annotated(*SIZE_PX) == 1)[box_px.slices()])


def test_a_coarse_output_keeps_its_squares(drawn: Drawn) -> None:
    box_px = Box(40, 80, 200, 100)
    crop = read_crop(drawn.record, level0(box_px), mpp=MPP)
    heat = read_heat(drawn.heatmap, "psi_0", crop, t_p=T_P)
    squares = drawn.values[::16, ::16].repeat(16, axis=0).repeat(16, axis=1)[box_px.slices()]
    np.testing.assert_allclose(heat.probability, squares / 255, atol=1e-6)


def test_a_small_picture_holds_exact_means_of_the_heatmap(drawn: Drawn) -> None:
    box_px = Box(96, 60, 400, 300)
    crop = read_crop(drawn.record, level0(box_px), mpp=4 * MPP)
    heat = read_heat(drawn.heatmap, "psi_4", crop, t_p=T_P)
    blocks = drawn.values[box_px.slices()].reshape(75, 4, 100, 4).astype(float)
    np.testing.assert_allclose(heat.probability, blocks.mean(axis=(1, 3)) / 255, atol=1e-5)
    np.testing.assert_allclose(heat.mask_share, (blocks >= 127.5).mean(axis=(1, 3)), atol=1e-5)


@given(x=st.integers(-300, 1900), y=st.integers(-300, 1300), edge=st.integers(40, 900), factor=st.floats(1.0, 9.0))
def test_the_heatmap_lies_where_the_tissue_is_at_any_resolution(
    drawn: Drawn, x: int, y: int, edge: int, factor: float
) -> None:
    crop = read_crop(drawn.record, Box(x, y, edge, edge + 30), mpp=factor * MPP_LEVEL0)
    heat = read_heat(drawn.heatmap, "psi_4", crop, t_p=T_P)
    height, width = heat.probability.shape
    assert crop.tissue.shape == (height, width, 3)
    rows, cols = np.arange(height) + crop.box_px.y, np.arange(width) + crop.box_px.x
    last_row, last_col = (edge_px * DOWNSAMPLE / crop.downsample - 2 for edge_px in SIZE_PX[::-1])
    inside = np.outer((rows >= 2) & (rows < last_row), (cols >= 2) & (cols < last_col))
    # Both are means of the same values; a shift by one pixel changes the steepest of them by `downsample` or more.
    assert np.abs(255 * heat.probability - crop.tissue[..., 0])[inside].max(initial=0) <= 1.6
    assert not heat.probability[rows < 0].any()
    assert (crop.tissue[rows < -1] == 255).all()


def test_bands_do_not_show(drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    crop = read_crop(drawn.record, Box(31, 11, 1500, 1200), mpp=2.7 * MPP)
    for psi in OUTPUTS:
        whole = read_heat(drawn.heatmap, psi, crop, t_p=T_P)
        monkeypatch.setattr(crops, "_BAND_PIXELS", 9000)
        banded = read_heat(drawn.heatmap, psi, crop, t_p=T_P)
        monkeypatch.undo()
        for one, other in zip(whole, banded, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 2000), st.integers(1, 2000))
def test_a_box_fits_its_picture_and_is_never_finer_than_the_scan(
    width: int, height: int, most_x: int, most_y: int
) -> None:
    mpp = mpp_to_fit(Box(5, 5, width, height), 0.25, width_px=most_x, height_px=most_y)
    assert mpp >= 0.25
    assert round(width * 0.25 / mpp) <= most_x
    assert round(height * 0.25 / mpp) <= most_y


def test_a_slide_is_not_made_finer_than_it_was_scanned(drawn: Drawn) -> None:
    box = Box(0, 0, 60, 40)
    crop = read_crop(drawn.record, box, mpp=mpp_to_fit(box, MPP_LEVEL0, width_px=500, height_px=500))
    assert crop.tissue.shape == (40, 60, 3)
    with pytest.raises(SlideError, match="coarser than the target"):
        read_crop(drawn.record, box, mpp=MPP_LEVEL0 / 2)


def test_a_heatmap_of_another_slide_is_refused(drawn: Drawn, tmp_path: Path) -> None:
    other = write_heatmap(tmp_path / "other.ozx", drawn.values[:300], outputs=OUTPUTS, weights_digest="0" * 12)
    crop = read_crop(drawn.record, Box(0, 0, 100, 100), mpp=MPP)
    with pytest.raises(SlideError, match="give the manifest that the study was made with"):
        read_heat(other, "psi_4", crop, t_p=T_P)


def test_a_heatmap_of_other_weights_is_refused(drawn: Drawn) -> None:
    paths = drawn.paths
    assert open_chosen(paths, CHOICE, "slide-0").attributes.slide_id == "slide-0"
    with pytest.raises(HeatmapError, match=f"weights {CHOICE.weights_digest}, but 000000000000 were chosen"):
        open_chosen(paths, replace(CHOICE, weights_digest="0" * 12), "slide-0")
    with pytest.raises(HeatmapError, match="no heatmap there"):
        open_chosen(paths, CHOICE, "slide-1")


def section(box_level0_px: Box, **changes: Any) -> dict[Any, Any]:
    """What pictures need of a row of the verdicts."""
    sides = ("x", "y", "width", "height")
    box = {f"{side}_level0_px": length for side, length in zip(sides, box_level0_px, strict=True)}
    verdict = {"slide_id": "slide-0", "section_id": "a", "psi": "psi_4", "t_p": T_P, "tissue_um2": 0.0}
    return {**verdict, **box, **changes}


def test_a_section_picture_is_tissue_beside_tissue_with_heat(tmp_path: Path) -> None:
    write_slide(tmp_path / "slide.tif", tissue_picture(*SIZE_PX, seed=0))
    record = SlideRecord(slide_id="slide-0", part=Part.TEST, path=tmp_path / "slide.tif")
    values = np.zeros(SIZE_PX[::-1], dtype=np.uint8)
    values[200:400, 300:600] = 240
    paths = StudyPaths(tmp_path)
    place = paths.heatmap(CHOICE.setting, CHOICE.epoch, "slide-0")
    write_heatmap(place, values, outputs=OUTPUTS, weights_digest=CHOICE.weights_digest)
    row = section(level0(Box(100, 0, 800, 600)))
    boxes = {"a": level0(Box(100, 0, 800, 600))}
    plain = section_picture(paths, record, CHOICE, row, boxes, width_px=404)
    warned = section_picture(paths, replace(record, scanner="phantom"), CHOICE, row, boxes, width_px=404)
    of_phantoms = section_picture(paths, record, replace(CHOICE, phantom_weights=True), row, boxes, width_px=404)
    assert len({plain, warned, of_phantoms}) == 3
    assert plain[:2] == b"\xff\xd8"
    assert len(plain) < 40_000
    picture, with_warning = (np.asarray(Image.open(io.BytesIO(jpeg))).astype(int) for jpeg in (plain, warned))
    assert picture.shape[1] == with_warning.shape[1] == 404
    assert with_warning.shape[0] == picture.shape[0] + 24
    difference = np.abs(picture[:147, :197] - picture[:147, 207:]).max(axis=2)
    assert difference[55:95, 55:120].min() > 20
    assert np.percentile(difference[4:40, 4:-4], 95) < 20
    assert (with_warning[:24] < 128).any()


def test_a_picture_of_a_high_section_has_bounds_too(drawn: Drawn) -> None:
    row = section(Box(0, 0, 20, 1400))
    jpeg = section_picture(drawn.paths, drawn.record, CHOICE, row, {"a": Box(0, 0, 20, 1400)}, width_px=300)
    width_px, height_px = Image.open(io.BytesIO(jpeg)).size
    assert width_px == 300
    assert height_px < 300 + 3 * 24


def test_a_box_is_placed_on_the_picture_and_cut_to_it(drawn: Drawn) -> None:
    crop = read_crop(drawn.record, level0(Box(100, 50, 400, 300)), mpp=2 * MPP)
    assert crop.place(level0(Box(120, 60, 80, 40))) == (10, 5, 40, 20)
    assert crop.place(level0(Box(0, 0, 900, 60))) == (0, 0, 200, 5)
