"""OpenSlide opens the TIFF as a slide of its own: sizes, um/px and every pixel of every level are the heatmap's."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray
from picture_study import choice_of
from study_folders import sections, write_study

from analysis.outlines import heatmap_tiff
from analysis.outlines.heatmap_tiff import export_heatmap
from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from bccdist.configuration import Psi, SelectConfig, pixel_px
from bccdist.errors import BccdistError, HeatmapError, LedgerError
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, writing_heatmap
from bccdist.paths import StudyPaths
from bccdist.sections.chosen_heatmap import open_chosen

SIZE_PX = (2900, 1333)
MPP = 0.92
OUTPUTS: tuple[Psi, ...] = ("psi_0", "psi_4")


def write_heatmap(path: Path, setting: str, *, phantom: bool = True) -> None:
    cells = np.full((6, 12), 4, dtype=np.uint8)
    attributes = HeatmapAttributes(
        slide_id="slide-0",
        setting=setting,
        epoch=1,
        outputs=OUTPUTS,
        mpp=MPP,
        downsample=2.0,
        size_level0_px=(5800, 2666),
        size_target_px=SIZE_PX,
        weights_digest="abcdefabcdef",
        config_digest="0" * 12,
        slide_fingerprint="1" * 12,
        phantom=phantom,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (6 * 256, 12 * 256), dtype=np.uint8)
    with writing_heatmap(path, outputs=OUTPUTS, size_target_px=SIZE_PX, mpp=MPP) as writer:
        writer.append({psi: pixels[:: pixel_px(psi), :: pixel_px(psi)] for psi in OUTPUTS})
        writer.finish(attributes, coverage=cells, tissue_cells=cells > 0)


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    """A study of one setting with one heatmap."""
    paths = write_study(tmp_path / "study", sections(tp=2, fn=0, fp=0, tn=2))
    select_thresholds(paths.root, SelectConfig())
    write_heatmap(paths.heatmap("resnet34_ds", 1, "slide-0"), "resnet34_ds")
    return paths


def level_pixels(slide: openslide.OpenSlide, level: int) -> NDArray[np.uint8]:
    """A level that is grey and opaque, as one channel."""
    rgba = np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))
    assert (rgba[..., 3] == 255).all()
    assert (rgba[..., :3] == rgba[..., :1]).all()
    return np.asarray(rgba[..., 0], dtype=np.uint8)


@pytest.mark.parametrize("least_big_bytes", [1, 1 << 31], ids=["BigTIFF", "TIFF"])
@pytest.mark.parametrize("psi", OUTPUTS)
def test_openslide_reads_every_level(
    paths: StudyPaths, psi: Psi, least_big_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heatmap_tiff, "_CLASSIC_TIFF_BYTES", least_big_bytes)
    path = export_heatmap(Evidence(paths.root), "slide-0", psi=psi)
    assert path == paths.heatmap_tiff("resnet34_ds", "slide-0", psi)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff == (least_big_bytes == 1)
    heatmap = Heatmap(paths.heatmap("resnet34_ds", 1, "slide-0"))
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        for axis in "xy":
            assert float(slide.properties[f"openslide.mpp-{axis}"]) == pytest.approx(MPP * pixel_px(psi))
        shapes = [(height, width) for width, height in slide.level_dimensions]
        assert shapes == heatmap.levels(psi)
        assert len(shapes) == (1 if psi == "psi_0" else 3)
        for level in range(slide.level_count):
            expected = heatmap.read_rows(psi, level, slice(None))
            np.testing.assert_array_equal(level_pixels(slide, level), expected)


def test_levels_are_those_of_the_heatmap(paths: StudyPaths) -> None:
    heatmap = Heatmap(paths.heatmap("resnet34_ds", 1, "slide-0"))
    np.testing.assert_array_equal(
        heatmap.read_rows("psi_4", 0, slice(700, 900)), heatmap.read("psi_4", heatmap.box_target_px)[700:900]
    )
    np.testing.assert_array_equal(heatmap.read_rows("psi_4", 2, slice(None)), heatmap.overview("psi_4"))


def test_one_row_of_tiles_is_held_at_a_time(paths: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    heights = []
    read_rows = Heatmap.read_rows

    def watched(*arguments: Any) -> NDArray[np.uint8]:
        rows = read_rows(*arguments)
        heights.append(len(rows))
        return rows

    monkeypatch.setattr(Heatmap, "read_rows", watched)
    export_heatmap(Evidence(paths.root), "slide-0")
    assert heights == [512, 512, 309, 512, 155, 334]


def test_the_file_says_what_it_is_and_is_the_same_when_written_again(paths: StudyPaths, tmp_path: Path) -> None:
    files = [export_heatmap(Evidence(paths.root), "slide-0", out=tmp_path / f"{number}.tif") for number in (0, 1)]
    assert files[0].read_bytes() == files[1].read_bytes()
    with tifffile.TiffFile(files[0]) as tiff:
        about = json.loads(tiff.pages[0].description)  # type: ignore[union-attr]
    assert (about["slide_id"], about["psi"], about["epoch"]) == ("slide-0", "psi_4", 1)
    assert about["warning"] == "PHANTOM DATA - drawn slides, not tissue"
    assert about["meaning"] == "value / 255 = Tumor probability"


def test_a_network_of_phantoms_is_named_beside_a_real_slide(tmp_path: Path) -> None:
    paths = write_study(tmp_path / "study", sections(tp=2, fn=0, fp=0, tn=2, phantom_weights=True))
    select_thresholds(paths.root, SelectConfig())
    write_heatmap(paths.heatmap("resnet34_ds", 1, "slide-0"), "resnet34_ds", phantom=False)
    with tifffile.TiffFile(export_heatmap(Evidence(paths.root), "slide-0")) as tiff:
        about = json.loads(tiff.pages[0].description)  # type: ignore[union-attr]
    assert about["warning"].startswith("PHANTOM WEIGHTS - ")


class Fault(NamedTuple):
    options: dict[str, Any]
    kind: type[BccdistError]
    message: str


@pytest.mark.parametrize(
    "fault",
    [
        Fault({"psi": "psi_2"}, HeatmapError, "holds psi_0, psi_4, but --psi psi_2 is asked for"),
        Fault({"setting": "unet"}, LedgerError, "nothing was selected for unet; selected were resnet34_ds"),
        Fault({"slide_id": "slide-1"}, HeatmapError, "no heatmap there"),
    ],
    ids=lambda fault: next(iter(fault.options)),
)
def test_what_is_not_there(paths: StudyPaths, fault: Fault) -> None:
    with pytest.raises(fault.kind, match=fault.message):
        export_heatmap(Evidence(paths.root), **{"slide_id": "slide-0", **fault.options})
    assert not list(paths.root.glob("heatmap_tiffs/*/*"))


def test_of_several_settings_the_one_that_comes_first_is_written(tmp_path: Path) -> None:
    rows = [row for name in ("unet", "resnet34_ds") for row in sections(tp=2, fn=0, fp=0, tn=2, setting=name)]
    paths = write_study(tmp_path / "study", rows)
    select_thresholds(paths.root, SelectConfig())
    write_heatmap(paths.heatmap("unet", 1, "slide-0"), "unet")
    assert export_heatmap(Evidence(paths.root), "slide-0") == export_heatmap(
        Evidence(paths.root), "slide-0", setting="unet"
    )


def test_a_slide_without_a_heatmap_is_named_with_those_that_have_one(tmp_path: Path) -> None:
    paths = StudyPaths(tmp_path)
    write_heatmap(paths.heatmap("unet", 2, "slide-0"), "unet")
    with pytest.raises(
        HeatmapError, match=r"no heatmap there: .* none of nosuchslide, but 1 of other slides \(slide-0\)"
    ):
        open_chosen(paths, choice_of("unet"), "nosuchslide")
