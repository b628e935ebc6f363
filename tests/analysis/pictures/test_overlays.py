"""The overlay shows the slide pixel by pixel, the heatmap at its place, and right and wrong verdicts apart."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from study_folders import ledger_row, sections, write_study

from analysis.pictures import overlays
from analysis.pictures.overlay_drawing import Picture, PictureBox, SectionMark, draw, round_length_um
from analysis.pictures.overlays import draw_overlays, picture_mpp, shrink_heatmap
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import LedgerError, StageFailedError
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, writing_heatmap
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import write_rows

WIDTH_PX, HEIGHT_PX = 320, 240
"""Of the synthetic slide in the target frame; level 0 has twice as many."""
WEIGHTS = "abcdefabcdef"


def write_heatmap(path: Path, probability: NDArray[np.uint8], *, weights_digest: str = WEIGHTS) -> Heatmap:
    """A heatmap with psi_4 alone; its size is the slide's in the target frame."""
    height, width = probability.shape
    attributes = HeatmapAttributes(
        slide_id="slide-0",
        setting="resnet34_ds",
        epoch=1,
        outputs=("psi_4",),
        mpp=0.92,
        downsample=2.0,
        size_level0_px=(2 * width, 2 * height),
        size_target_px=(width, height),
        weights_digest=weights_digest,
        config_digest="0" * 12,
        slide_fingerprint="1" * 12,
        phantom=True,
    )
    cells = np.full((-(-height // 256), -(-width // 256)), 4, dtype=np.uint8)
    with writing_heatmap(path, outputs=("psi_4",), size_target_px=(width, height), mpp=0.92) as writer:
        writer.append({"psi_4": probability})
        writer.finish(attributes, coverage=cells, tissue_cells=cells > 0)
    return Heatmap(path)


def plain_picture() -> Picture:
    random = np.random.default_rng(0)
    probability = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.float32)
    probability[100:140, 200:260] = 0.9
    return Picture(
        tissue=random.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8),
        probability=probability,
        mask_share=(probability > 0.6).astype(np.float32),
        um_per_px=2.0,
        t_p=0.6,
        sections=(),
        title="slide-0",
        subtitle="resnet34_ds",
        phantom=False,
    )


def pixels_of(picture: Picture) -> NDArray[np.uint8]:
    """The drawn tissue area, RGB, without margins."""
    figure = draw(picture)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    place = figure.axes[0].bbox
    top, left = round(drawn.shape[0] - place.y1), round(place.x0)
    return drawn[top : top + round(place.height), left : left + round(place.width), :3]


def test_tissue_is_shown_pixel_by_pixel_and_the_heat_where_it_is() -> None:
    picture = plain_picture()
    drawn = pixels_of(picture)
    assert drawn.shape == picture.tissue.shape
    is_same = (drawn == picture.tissue).all(axis=2)
    assert is_same[2:90, 2:-2].all()
    assert not is_same[105:135, 205:255].any()


def test_contour_follows_the_mask() -> None:
    picture = plain_picture()
    without = pixels_of(replace(picture, mask_share=np.zeros_like(picture.mask_share)))
    rows, cols = np.nonzero((pixels_of(picture) != without).any(axis=2))
    assert (rows.min(), rows.max()) == (pytest.approx(100, abs=3), pytest.approx(140, abs=3))
    assert (cols.min(), cols.max()) == (pytest.approx(200, abs=3), pytest.approx(260, abs=3))
    assert not ((np.abs(rows - 120) < 15) & (np.abs(cols - 230) < 25)).any()


def test_boxes_have_the_colour_of_the_label() -> None:
    white = np.full((HEIGHT_PX, WIDTH_PX, 3), 255, dtype=np.uint8)
    blank = replace(plain_picture(), tissue=white, probability=np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.float32))
    edge_colours = []
    for label in ("Tumor", "Normal"):
        mark = SectionMark(box=PictureBox(40, 60, 200, 150), label=label, verdict=label, correct=True)
        drawn = pixels_of(replace(blank, sections=(mark,)))
        edge_colours.append(drawn[209:212, 140].min(axis=0).astype(int))
    tumor, normal = edge_colours
    assert tumor[0] > 2 * tumor[1]
    assert normal[1] > 2 * normal[0]


@pytest.mark.parametrize(
    ("label", "verdict", "correct", "text"),
    [
        ("Tumor", "Tumor", True, "Tumor / Tumor \u2713"),
        ("Tumor", "Normal", False, "Tumor / Normal \u2717 WRONG"),
        ("Normal", "review", None, "Normal / review"),
        (None, "Tumor", None, "no label / Tumor"),
    ],
)
def test_texts_of_sections(label: str | None, verdict: str, correct: bool | None, text: str) -> None:
    assert SectionMark(box=PictureBox(0, 0, 1, 1), label=label, verdict=verdict, correct=correct).text == text


def test_phantoms_are_named_in_the_picture() -> None:
    texts = [
        {text.get_text() for text in draw(replace(plain_picture(), phantom=phantom)).texts}
        for phantom in (True, False)
    ]
    assert texts[0] - texts[1] == {"PHANTOM DATA - drawn slides, not tissue"}


@given(st.floats(1e-3, 1e6))
def test_scale_bar_has_a_round_length(longest_um: float) -> None:
    length_um = round_length_um(longest_um)
    assert length_um <= longest_um * (1 + 1e-6) < 2.5 * length_um * (1 + 1e-6)
    assert f"{length_um:.0e}"[0] in "125"


@given(st.integers(100, 200_000), st.integers(100, 200_000))
def test_picture_fits_and_is_never_finer_than_the_scan(width_px: int, height_px: int) -> None:
    factor = picture_mpp((width_px, height_px), 0.46) / 0.46
    assert factor >= 1
    assert width_px / factor <= 1400.001
    assert height_px / factor <= 1600.001


def test_shrinking_keeps_means_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    values[60:120, 80:160] = 204
    values[120:180, 80:160] = 100
    heatmap = write_heatmap(tmp_path / "slide-0.ozx", values)
    whole = shrink_heatmap(heatmap, (60, 80), step=150)
    monkeypatch.setattr(overlays, "_BAND_TARGET_PX", 50)
    in_bands = shrink_heatmap(heatmap, (60, 80), step=150)
    for one, other in zip(whole, in_bands, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    probability, mask_share = whole
    np.testing.assert_allclose(probability[16:29, 21:39], 0.8, atol=1e-5)
    np.testing.assert_allclose(probability.mean(), values.mean() / 255, rtol=1e-5)
    assert mask_share[16:29, 21:39].min() == 1
    assert mask_share[31:].max() == 0


def test_shrinking_a_heatmap_that_does_not_divide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlays, "_BAND_TARGET_PX", 40)
    heatmap = write_heatmap(tmp_path / "slide-0.ozx", np.full((241, 323), 255, dtype=np.uint8))
    probability, mask_share = shrink_heatmap(heatmap, (101, 137), step=255)
    np.testing.assert_allclose(probability, 1, atol=1e-5)
    np.testing.assert_allclose(mask_share, 1, atol=1e-5)


def write_slide(path: Path, *, width: int = 2 * WIDTH_PX, height: int = 2 * HEIGHT_PX) -> None:
    pixels = np.full((height, width, 3), (225, 160, 200), dtype=np.uint8)
    resolution = (1e4 / 0.46, 1e4 / 0.46)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", resolution=resolution, resolutionunit="CENTIMETER"
    )


@pytest.fixture
def study(tmp_path: Path) -> tuple[StudyPaths, Path]:
    """A study with one Test slide of two sections, and its manifest."""
    place = {"part": "Test", "slide_id": "slide-0", "phantom": True, "mpp": 0.92, "width_level0_px": 240}
    place |= {"height_level0_px": 360, "y_level0_px": 60}
    test = [
        ledger_row(section_id="a", x_level0_px=40, label="Tumor", **place),
        ledger_row(section_id="b", x_level0_px=340, label="Normal", **place),
    ]
    paths = write_study(tmp_path / "study", [*sections(tp=2, fn=0, fp=0, tn=2), *test])
    select_thresholds(paths.root, SelectConfig())
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    values[80:130, 50:110] = 240
    write_heatmap(paths.heatmap("resnet34_ds", 1, "slide-0"), values)
    write_slide(tmp_path / "data" / "slide.tif")
    manifest = tmp_path / "data" / "slides.csv"
    manifest.write_text("slide_id,part,path,scanner\nslide-0,Test,slide.tif,phantom\n")
    return paths, manifest


def test_every_slide_of_a_part_is_drawn(study: tuple[StudyPaths, Path]) -> None:
    paths, manifest = study
    (path,) = draw_overlays(paths.root, manifest, [Part.TEST])
    assert path == paths.overlay("resnet34_ds", "slide-0")
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape[1] > 900
    assert not list(path.parent.glob("*partial*"))


def test_pictures_do_not_depend_on_the_number_of_processes_and_a_bad_slide_costs_no_other(
    study: tuple[StudyPaths, Path],
) -> None:
    paths, manifest = study
    place = {"part": "Test", "slide_id": "slide-1", "phantom": True, "mpp": 0.92, "width_level0_px": 240}
    row = ledger_row(section_id="c", x_level0_px=40, label="Tumor", height_level0_px=360, y_level0_px=60, **place)
    write_rows(paths.ledger_rows("resnet34_ds", 1, "slide-1"), [row])
    write_heatmap(paths.heatmap("resnet34_ds", 1, "slide-1"), np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8))
    write_slide(manifest.with_name("slide-1.tif"))
    with manifest.open("a") as file:
        file.write("slide-1,Test,slide-1.tif,phantom\n")
    drawn = [
        [path.read_bytes() for path in draw_overlays(paths.root, manifest, [Part.TEST], num_workers=num)]
        for num in (0, 2)
    ]
    assert len(drawn[0]) == 2
    assert drawn[0] == drawn[1]
    manifest.with_name("slide-1.tif").write_bytes(b"no slide")
    paths.overlay("resnet34_ds", "slide-0").unlink()
    with pytest.raises(StageFailedError, match=r"1 overlay\(s\) not drawn, 1 drawn:\n.*slide-1.tif"):
        draw_overlays(paths.root, manifest, [Part.TEST], num_workers=2)
    assert paths.overlay("resnet34_ds", "slide-0").exists()


def test_part_that_was_not_inferred(study: tuple[StudyPaths, Path]) -> None:
    with pytest.raises(LedgerError, match="no sections of Training"):
        draw_overlays(study[0].root, study[1], [Part.TRAINING])


def test_heatmap_of_other_weights_is_not_shown(study: tuple[StudyPaths, Path], tmp_path: Path) -> None:
    paths, manifest = study
    place = paths.heatmap("resnet34_ds", 1, "slide-0")
    place.rename(tmp_path / "away")
    write_heatmap(place, np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8), weights_digest="f" * 12)
    with pytest.raises(StageFailedError, match=r"1 overlay.*\n.*ffffffffffff, but abcdefabcdef were chosen"):
        draw_overlays(paths.root, manifest, [Part.TEST])


def test_another_slide_of_the_same_name_is_not_drawn(study: tuple[StudyPaths, Path]) -> None:
    paths, manifest = study
    write_slide(manifest.with_name("slide.tif"), width=512, height=512)
    with pytest.raises(StageFailedError, match="give the manifest that the study was made with"):
        draw_overlays(paths.root, manifest, [Part.TEST])
