"""The overlay shows the heatmap at its place on the slide, and right and wrong verdicts apart."""

from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from killing import killed_at
from numpy.typing import NDArray
from picture_study import choice_of
from range_server import serving
from study_folders import sections, write_study

from analysis.outlines.chosen_regions import read_tissue
from analysis.pictures.colours import heat_bar, heated
from analysis.pictures.crops import Crop, ShownSections, read_section
from analysis.pictures.drawing import PictureBox
from analysis.pictures.overlays import draw_overlays, section_mark
from analysis.pictures.shown_sections import bar_of
from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import ConfigurationError, LedgerError, StageFailedError
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, writing_heatmap
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.chosen_output import ChosenOutput
from bccdist.sections.ledger import write_rows
from bccdist.sections.rows import section_rows
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SlideRecord, read_manifest
from bccdist.slides.sections import Section
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import tissue_mask
from bccdist.study import keep_manifest

WIDTH_PX, HEIGHT_PX = 320, 240
"""Of the synthetic slide in the target frame; level 0 has twice as many."""
WEIGHTS = "abcdefabcdef"
INSIDE = ((104, 164), (216, 256), (160, 210))
OUTSIDE = ((94, 210), (226, 210), (160, 154), (160, 266), (480, 210))
"""Places in level-0 px in and around the one region of the study."""


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
    mark = section_mark(blank_crop(), judged(label, verdict, correct))
    assert mark.text == text
    assert mark.alarming == (correct is False or verdict == "review")


def test_a_section_that_is_not_assessable_keeps_its_verdict_with_the_mark() -> None:
    mark = section_mark(blank_crop(), {**judged(None, "Tumor", correct=None), "not_assessable": "out of focus: -0.84"})
    assert mark.text == "no label / Tumor (not assessable)"
    assert mark.alarming


def test_boxes_have_the_colour_of_the_label_and_lie_on_their_sections() -> None:
    marks = [section_mark(blank_crop(), judged(label, "Tumor", correct=None)) for label in ("Tumor", "Normal", None)]
    assert len({mark.colour for mark in marks}) == 3
    assert len({mark.line for mark in marks}) == 3
    assert marks[0].box == PictureBox(20, 30, 100, 75)


def blank_crop() -> Crop:
    """A whole slide at half of its resolution."""
    return Crop(
        tissue=np.full((HEIGHT_PX, WIDTH_PX, 3), 255, dtype=np.uint8),
        box_px=Box(0, 0, WIDTH_PX, HEIGHT_PX),
        downsample=2.0,
        um_per_px=0.92,
        size_level0_px=(2 * WIDTH_PX, 2 * HEIGHT_PX),
    )


def judged(label: str | None, verdict: str, correct: bool | None) -> dict[Hashable, Any]:
    """What an overlay needs of a row of the verdicts."""
    box = {"x_level0_px": 40, "y_level0_px": 60, "width_level0_px": 200, "height_level0_px": 150}
    return {"label": label, "verdict": verdict, "correct": pd.NA if correct is None else correct, **box}


def write_slide(
    path: Path, *, width: int = 2 * WIDTH_PX, height: int = 2 * HEIGHT_PX, pixels: NDArray[np.uint8] | None = None
) -> None:
    if pixels is None:
        pixels = np.full((height, width, 3), (225, 160, 200), dtype=np.uint8)
        pixels[:60] = pixels[-60:] = pixels[:, 500:] = 245
    resolution = (1e4 / 0.46, 1e4 / 0.46)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", resolution=resolution, resolutionunit="CENTIMETER"
    )


@pytest.fixture
def study(tmp_path: Path) -> tuple[StudyPaths, Path]:
    """A study with one Test slide of two sections, and its manifest."""
    paths = write_study(tmp_path / "study", sections(tp=2, fn=0, fp=0, tn=2))
    select_thresholds(paths.root, SelectConfig())
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    values[80:130, 50:110] = 240
    write_results(paths, tmp_path / "data" / "slide.tif", values, slide_id="slide-0")
    manifest = tmp_path / "data" / "slides.csv"
    manifest.write_text("slide_id,part,path,scanner\nslide-0,Test,slide.tif,phantom\n")
    return paths, manifest


def write_results(paths: StudyPaths, slide_path: Path, values: NDArray[np.uint8], *, slide_id: str) -> None:
    """A slide with its heatmap, and the ledger's rows of its two sections."""
    write_slide(slide_path)
    heatmap = write_heatmap(paths.heatmap("resnet34_ds", 1, slide_id), values)
    found = [
        Section(section_id=f"{slide_id}-a", box_level0_px=Box(40, 60, 240, 360), label=Label.TUMOR),
        Section(section_id=f"{slide_id}-b", box_level0_px=Box(340, 60, 240, 360), label=Label.NORMAL),
    ]
    with Slide(slide_path, target_mpp=0.92) as slide:
        rows = section_rows(heatmap, found, tissue_mask(slide), part=Part.TEST, phantom_weights=False)
        write_rows(paths.ledger_rows("resnet34_ds", 1, slide_id), [{**row, "slide_id": slide_id} for row in rows])


def test_every_slide_of_a_part_is_drawn(study: tuple[StudyPaths, Path]) -> None:
    paths, manifest = study
    (path,) = draw_overlays(Evidence(paths.root), manifest, [Part.TEST], num_workers=0)
    assert path == paths.overlay("resnet34_ds", "slide-0")
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape[1] > 900
    # The region lies at 100 to 220, 160 to 260 level-0 px, and a picture of a small slide has one pixel for each.
    blue_to_red = {place: picture[106 + place[1], 24 + place[0]].astype(int) for place in INSIDE + OUTSIDE}
    assert all(colour[2] - colour[0] > 60 for place, colour in blue_to_red.items() if place in INSIDE)
    assert all(abs(colour - (200, 160, 225)).max() <= 2 for place, colour in blue_to_red.items() if place in OUTSIDE)
    assert not list(path.parent.glob("*partial*"))


def test_the_studys_own_manifest_is_taken_where_none_is_named(study: tuple[StudyPaths, Path]) -> None:
    paths, manifest = study
    with pytest.raises(ConfigurationError, match="is no study"):
        draw_overlays(Evidence(paths.root), num_workers=0)
    keep_manifest(paths.root, read_manifest(manifest))
    assert draw_overlays(Evidence(paths.root), num_workers=0) == [paths.overlay("resnet34_ds", "slide-0")]


def add_slide(paths: StudyPaths, manifest: Path) -> None:
    """One more Test slide, called slide-1."""
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    write_results(paths, manifest.with_name("slide-1.tif"), values, slide_id="slide-1")
    with manifest.open("a") as file:
        file.write("slide-1,Test,slide-1.tif,phantom\n")


def test_pictures_do_not_depend_on_the_number_of_processes_and_a_bad_slide_costs_no_other(
    study: tuple[StudyPaths, Path],
) -> None:
    paths, manifest = study
    add_slide(paths, manifest)
    drawn = [
        [path.read_bytes() for path in draw_overlays(Evidence(paths.root), manifest, [Part.TEST], num_workers=num)]
        for num in (0, 2)
    ]
    assert len(drawn[0]) == 2
    assert drawn[0] == drawn[1]
    manifest.with_name("slide-1.tif").write_bytes(b"no slide")
    paths.overlay("resnet34_ds", "slide-0").unlink()
    with pytest.raises(StageFailedError, match=r"1 overlay\(s\) not drawn, 1 drawn:\n.*slide-1.tif"):
        draw_overlays(Evidence(paths.root), manifest, [Part.TEST], num_workers=0)
    assert paths.overlay("resnet34_ds", "slide-0").exists()


def test_a_slide_that_kills_its_process_is_named_and_the_others_are_drawn(
    study: tuple[StudyPaths, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, manifest = study
    add_slide(paths, manifest)
    setup = partial(killed_at, "slide-1", "analysis.outlines.chosen_regions:open_outputs")
    monkeypatch.setattr("analysis.outlines.chosen_regions.open_outputs", setup)
    with pytest.raises(StageFailedError, match=r"1 drawn:\n  - slide-1: its process .* SIGKILL"):
        draw_overlays(Evidence(paths.root), manifest, [Part.TEST], num_workers=1)
    assert paths.overlay("resnet34_ds", "slide-0").exists()


def test_part_that_was_not_inferred(study: tuple[StudyPaths, Path]) -> None:
    with pytest.raises(LedgerError, match="no sections of Training"):
        draw_overlays(Evidence(study[0].root), study[1], [Part.TRAINING], num_workers=0)


def test_heatmap_of_other_weights_is_not_shown(study: tuple[StudyPaths, Path], tmp_path: Path) -> None:
    paths, manifest = study
    place = paths.heatmap("resnet34_ds", 1, "slide-0")
    place.rename(tmp_path / "away")
    write_heatmap(place, np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8), weights_digest="f" * 12)
    with pytest.raises(StageFailedError, match=r"1 overlay.*\n.*ffffffffffff, but abcdefabcdef were chosen"):
        draw_overlays(Evidence(paths.root), manifest, [Part.TEST], num_workers=0)


def test_another_slide_of_the_same_name_is_not_drawn(study: tuple[StudyPaths, Path]) -> None:
    paths, manifest = study
    write_slide(manifest.with_name("slide.tif"), width=512, height=512)
    with pytest.raises(StageFailedError, match="give the manifest that the study was made with"):
        draw_overlays(Evidence(paths.root), manifest, [Part.TEST], num_workers=0)


def test_heat_lies_on_tissue_from_t_p_on_and_what_decided_has_an_outline(tmp_path: Path) -> None:
    """One region of t_A, one that is too small, one below t_p, and one on white glass: also at another t_p."""
    for t_p in (0.3, 0.8):
        shown = show_four_regions(tmp_path / f"{t_p}", t_p)
        heated_px = (heated(shown.crop.tissue, shown.heat.probability, t_p) != shown.crop.tissue).any(axis=2)
        # Places in target px, which are the picture's here.
        assert heated_px[80:120, 50:100].all()
        assert heated_px[20:24, 20:24].all()
        assert not heated_px[160:200, 50:100].any()
        assert not heated_px[80:120, 200:300].any()
        assert shown.decided[80:120, 50:100].all()
        assert shown.decided.sum() == pytest.approx(50 * 60, rel=0.1)


def show_four_regions(folder: Path, t_p: float) -> ShownSections:
    pixels = np.full((2 * HEIGHT_PX, 2 * WIDTH_PX, 3), (225, 160, 200), dtype=np.uint8)
    pixels[:, 300:] = 245
    write_slide(folder / "slide.tif", pixels=pixels)
    values = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    values[75:125, 45:105] = 240
    values[18:26, 18:26] = 240
    values[160:200, 50:100] = int(255 * t_p) - 5
    values[80:100, 200:230] = 250
    heatmap = write_heatmap(folder / "a.ozx", values)
    record = SlideRecord(slide_id="slide-0", part=Part.TEST, path=folder / "slide.tif")
    choice = replace(choice_of("resnet34_ds"), t_p=t_p, t_a_um2=1280.0)
    boxes = {"a": Box(0, 0, 2 * WIDTH_PX, 2 * HEIGHT_PX)}
    output = ChosenOutput(
        heatmap=heatmap, psi="psi_4", choice=choice, slide=read_tissue(record, 0.92), boxes_level0_px=boxes
    )
    section = {"section_id": "a", "tissue_um2": 1.0, "verdict": "Tumor", "area_um2": 3000 * output.pixel_um2}
    section |= {"x_level0_px": 0, "y_level0_px": 0, "width_level0_px": 640, "height_level0_px": 480}
    return read_section(record, output, section, width_px=WIDTH_PX, height_px=HEIGHT_PX)


def test_the_bar_has_the_colours_of_the_picture_and_no_others(tmp_path: Path) -> None:
    for t_p in (0.3, 0.8):
        shown = show_four_regions(tmp_path / f"{t_p}", t_p)
        bar = bar_of(t_p, shown)
        assert bar.shown == pytest.approx((t_p, 240 / 255), abs=0.02)
        picture = heated(shown.crop.tissue, shown.heat.probability, t_p).reshape(-1, 3).astype(int)
        assert np.abs(picture - bar.colours[-1]).max(axis=1).min() <= 3
        nothing = heat_bar(t_p, [(shown.crop.tissue, np.zeros(shown.crop.tissue.shape[:2], dtype=np.float32))])
        assert not len(nothing.colours)


def test_the_overlay_of_a_slide_on_a_server_is_that_of_the_file(
    study: tuple[StudyPaths, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, manifest = study
    (path,) = draw_overlays(Evidence(paths.root), manifest, num_workers=0)
    local = path.read_bytes()
    path.unlink()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(manifest.parent) as server:
        remote = manifest.with_name("remote.csv")
        remote.write_text(manifest.read_text().replace("slide.tif", f"{server.url}/slide.tif"))
        (path,) = draw_overlays(Evidence(paths.root), remote, num_workers=0)
        assert server.num_bytes > 0
    assert path.read_bytes() == local
