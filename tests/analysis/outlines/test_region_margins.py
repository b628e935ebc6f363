"""The tables of margins hold each predicted region and the smallest of each section, and never say more than that."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from heatmap_slides import MPP, pink_picture
from heatmap_slides import write_slide as write_tiff
from numpy.typing import NDArray
from study_folders import sections as other_sections
from study_folders import write_study

import analysis
from analysis.outlines.region_margins import write_margins
from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from bccdist.configuration import PHANTOM_WARNING, Psi, SelectConfig, pixel_px
from bccdist.errors import StageFailedError
from bccdist.files import fingerprint_of_file
from bccdist.heatmaps.probability import step_of
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, writing_heatmap
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.ledger import read_rows, write_rows
from bccdist.sections.margins import MARGIN_WARNING
from bccdist.sections.rows import section_rows
from bccdist.slides.geometry import Box, cell_shape
from bccdist.slides.sections import Section
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask
from bccdist.study import claim_study

SETTING = "resnet34_ds"
SIZE_PX = (1536, 800)
"""Width and height; the slide's level 0 is the target frame."""
ISLANDS = [(160, 160, 480, 480), (800, 80, 640, 640)]
OUTPUTS: tuple[Psi, ...] = ("psi_0", "psi_4")
SECTIONS = (
    Section(section_id="left", box_level0_px=Box(150, 150, 500, 500), label=Label.TUMOR),
    Section(section_id="right", box_level0_px=Box(790, 70, 660, 660), label=Label.TUMOR),
    Section(section_id="glass", box_level0_px=Box(0, 0, 100, 100)),
)
LARGE_PX = 128
"""Edge of the squares of tumor that t_A keeps."""


class Study(NamedTuple):
    """A phantom of a Test slide with two islands of tissue, and squares of tumor at known places."""

    paths: StudyPaths
    slide: Path

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Those of regions and of sections, as they are read from their files."""
        write_margins(Evidence(self.paths.root))
        names = ("margins", "section_margins")
        regions, sections = (pd.read_parquet(self.paths.tables / f"{name}.parquet") for name in names)
        return regions, sections.set_index("section_id")


def tumor(*squares: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Probabilities with squares (x, y, edge) of tumor: uint8 [h, w]."""
    values = np.zeros(SIZE_PX[::-1], dtype=np.uint8)
    for number, (x, y, edge_px) in enumerate(squares):
        values[y : y + edge_px, x : x + edge_px] = 240 - number
    return values


def infer(paths: StudyPaths, slide_path: Path, values: NDArray[np.uint8]) -> None:
    """Write a heatmap, and its rows of the ledger."""
    heatmap_path = paths.heatmap(SETTING, 1, "slide-0")
    heatmap_path.unlink(missing_ok=True)
    attributes = HeatmapAttributes(
        slide_id="slide-0",
        setting=SETTING,
        epoch=1,
        outputs=OUTPUTS,
        mpp=MPP,
        downsample=1.0,
        size_level0_px=SIZE_PX,
        size_target_px=SIZE_PX,
        weights_digest="abcdefabcdef",
        config_digest="0" * 12,
        slide_fingerprint=fingerprint_of_file(slide_path),
        phantom=True,
    )
    cells = cell_shape(*SIZE_PX, cell_px=256)
    with writing_heatmap(heatmap_path, outputs=OUTPUTS, size_target_px=SIZE_PX, mpp=MPP) as writer:
        writer.append({psi: values[:: pixel_px(psi), :: pixel_px(psi)] for psi in OUTPUTS})
        writer.finish(attributes, coverage=np.full(cells, 4, np.uint8), tissue_cells=np.ones(cells, dtype=bool))
    with Slide(slide_path, target_mpp=MPP) as slide:
        rows = section_rows(Heatmap(heatmap_path), SECTIONS, tissue_mask(slide), part=Part.TEST, phantom_weights=False)
        write_rows(paths.ledger_rows(SETTING, 1, "slide-0"), rows)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    slide_path = write_tiff(tmp_path / "data" / "slide.tif", pink_picture(*SIZE_PX, islands=ISLANDS))
    manifest = slide_path.with_name("slides.csv")
    (manifest.parent / "v.tif").touch()
    lines = ["slide_id,part,path,scanner", "slide-0,Test,slide.tif,phantom", "Validation-II-0000,val2,v.tif,phantom"]
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    paths = write_study(tmp_path / "study", other_sections(tp=2, fn=0, fp=0, tn=2))
    claim_study(paths.root, manifest)
    select_thresholds(paths.root, SelectConfig())
    return Study(paths, slide_path)


def test_squares_have_the_margins_that_they_were_drawn_with(study: Study) -> None:
    infer(study.paths, study.slide, tumor((352, 240, LARGE_PX), (880, 400, LARGE_PX), (1100, 200, LARGE_PX)))
    regions, _ = study.tables()
    found = regions.set_index(["section_id", "region"])
    expected_px = {("left", 1): 240 - 160, ("right", 1): 200 - 80, ("right", 2): 880 - 800}
    assert set(found.index) == set(expected_px)
    for place, margin_px in expected_px.items():
        assert found.loc[place, "margin_um"] == pytest.approx(margin_px * MPP, abs=TISSUE_MPP)
    assert found["area_um2"].to_numpy() == pytest.approx((LARGE_PX * MPP) ** 2)
    assert found.loc[("left", 1), ["x_level0_px", "y_level0_px"]].tolist() == [416, 304]
    assert sorted(found["max_probability"] * 255) == pytest.approx([238, 239, 240])
    assert (found["max_probability"] == found["mean_probability"]).all()


def test_the_sections_margin_is_the_smallest_of_its_regions(study: Study) -> None:
    infer(study.paths, study.slide, tumor((880, 400, LARGE_PX), (1100, 200, LARGE_PX)))
    regions, sections = study.tables()
    assert sections["num_regions"].to_dict() == {"left": 0, "right": 2, "glass": 0}
    assert sections.loc["right", "margin_um"] == regions["margin_um"].min()
    assert sections.loc[["left", "glass"], "margin_um"].isna().all()
    assert sections["verdict"].to_dict() == {"left": "Normal", "right": "Tumor", "glass": "review"}


@pytest.mark.parametrize("small_px", [None, 4])
def test_the_ledgers_margin_is_a_lower_bound_and_equal_where_all_regions_are_kept(
    study: Study, small_px: int | None
) -> None:
    dropped = [(200, 420, small_px)] if small_px else []
    infer(study.paths, study.slide, tumor((352, 240, LARGE_PX), *dropped))
    regions, sections = study.tables()
    (margin_um,) = regions["margin_um"]
    bound_um = sections.loc["left", "ledger_margin_um"]
    if small_px:
        assert bound_um == pytest.approx((200 - 160) * MPP, abs=TISSUE_MPP)
        assert bound_um < margin_um
    else:
        assert bound_um == margin_um
    table = read_rows(study.paths.ledger_rows(SETTING, 1, "slide-0")).to_pylist()
    (row,) = [row for row in table if (row["section_id"], row["psi"]) == ("left", "psi_4")]
    assert row["margin_um"][step_of(regions["t_p"].iloc[0])] == bound_um


def test_a_study_without_predicted_tumor_has_a_table_without_rows(study: Study) -> None:
    infer(study.paths, study.slide, tumor())
    regions, sections = study.tables()
    assert (len(regions), len(sections)) == (0, 3)
    assert regions.dtypes["margin_um"] == regions.dtypes["area_um2"] == np.float64
    assert regions.dtypes["phantom"] == np.bool_


def test_every_file_says_research_use_only(study: Study) -> None:
    infer(study.paths, study.slide, tumor((352, 240, LARGE_PX)))
    write_margins(Evidence(study.paths.root))
    for name in ("margins", "section_margins"):
        text = (study.paths.tables / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith("**Research use only.")
        assert PHANTOM_WARNING in text.splitlines()[0]
        assert MARGIN_WARNING in text
        path = study.paths.tables / f"{name}.parquet"
        assert pd.read_parquet(path).attrs["margins"] == MARGIN_WARNING
        assert "Research use only" in pq.read_schema(path).metadata[b"pandas"].decode()


def test_what_cannot_be_read_is_named_and_the_others_are_there(study: Study) -> None:
    infer(study.paths, study.slide, tumor((352, 240, LARGE_PX)))
    other = write_tiff(study.slide.with_name("other.tif"), pink_picture(*SIZE_PX, islands=ISLANDS))
    with study.slide.with_name("slides.csv").open("a", encoding="utf-8") as manifest:
        manifest.write("other,Test,other.tif,phantom\n")
    rows = read_rows(study.paths.ledger_rows(SETTING, 1, "slide-0")).to_pylist()
    write_rows(study.paths.ledger_rows(SETTING, 1, "other"), [{**row, "slide_id": "other"} for row in rows])
    other.unlink()
    with pytest.raises(StageFailedError, match=r"1 .* not read, .* hold 1:\n  - resnet34_ds: .*other.ozx"):
        write_margins(Evidence(study.paths.root))
    assert set(pd.read_parquet(study.paths.tables / "margins.parquet")["slide_id"]) == {"slide-0"}
    assert "left out: 1." in (study.paths.tables / "section_margins.md").read_text(encoding="utf-8")


def test_it_runs_as_a_script(study: Study) -> None:
    infer(study.paths, study.slide, tumor((352, 240, LARGE_PX)))
    script = Path(analysis.__file__).with_name("make.py")
    finished = subprocess.run(
        [sys.executable, str(script), "margins", str(study.paths.root)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("**Research use only. From predicted tumor")
