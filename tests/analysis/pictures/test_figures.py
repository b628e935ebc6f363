"""The paper's figures are drawn from a study's folder, and their tables say what is shown."""

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest
from picture_study import FALSE_REGION, HEIGHT_PX, MPP, SHIFT_PX, WIDTH_PX, PictureStudy, write_picture_study
from small_study import DOWNSAMPLE, TUMORNEST, annotated

from analysis.make import make
from analysis.page.content import PageContent
from analysis.page.report import write_report
from analysis.pictures.figure2 import choose_slides, write_figure2
from analysis.pictures.figure4 import write_figure4
from analysis.pictures.figure6 import choose_sections, write_figure6
from analysis.pictures.figure7 import write_figure7, zoom_box
from analysis.pictures.figure8 import write_figure8
from analysis.pictures.validation_patches import choose_patches
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table
from bccdist.configuration import SETTINGS
from bccdist.errors import LedgerError, ManifestError, ShardError, StageFailedError
from bccdist.parts import Label
from bccdist.paths import StudyPaths
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest

PHANTOM = "PHANTOM DATA - drawn slides, not tissue"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PictureStudy:
    return write_picture_study(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def study(made: PictureStudy, tmp_path: Path) -> PictureStudy:
    """A copy of the study's folder that a test may change."""
    shutil.copytree(made.root, tmp_path / "study")
    return replace(made, paths=StudyPaths(tmp_path / "study"))


def check_files(study: PictureStudy, table: Table) -> None:
    """Picture and table are there, and say that the slides are drawn."""
    picture = cv2.imread(str(study.paths.figure(table.name)))
    assert picture is not None
    assert min(picture.shape[:2]) > 200
    frame = pd.read_parquet(study.paths.figures / f"{table.name}.parquet")
    assert frame["phantom"].all()
    assert len(pd.read_csv(study.paths.figures / f"{table.name}.csv")) == len(frame) == len(table.frame)
    assert PHANTOM in (study.paths.figures / f"{table.name}.md").read_text()
    assert not list(study.paths.figures.glob("*partial*"))


def test_figure2_shows_labels_of_test_slides(study: PictureStudy) -> None:
    table = write_figure2(Evidence(study.root))
    check_files(study, table)
    assert table.frame["slide_id"].tolist() == ["test-0", "test-0", "test-1", "test-1"]
    assert table.frame["label"].tolist() == ["Tumor", "Normal"] * 2
    assert table.frame["x_level0_px"].tolist() == [0, WIDTH_PX] * 2


def test_figure2_shows_the_slides_that_are_named_labelled_or_not(study: PictureStudy) -> None:
    table = write_figure2(Evidence(study.root), ["test-2"])
    check_files(study, table)
    assert table.frame["label"].isna().all()
    assert "| none |" in table.markdown.replace("  ", " ").replace("  ", " ")
    with pytest.raises(ManifestError, match="no slide 'test-9'"):
        write_figure2(Evidence(study.root), ["test-9"])


def labelled(manifest: Manifest, **labels: str) -> Manifest:
    """The manifest with other sections: for each slide the first letters of their labels."""
    names = {"T": Label.TUMOR, "N": Label.NORMAL}
    template = manifest.sections[0]
    sections = [
        replace(template, slide_id=slide_id.replace("_", "-"), section_id=f"{slide_id}{number}", label=names[letter])
        for slide_id, letters in labels.items()
        for number, letter in enumerate(letters)
    ]
    return replace(manifest, sections=tuple(sections))


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        ({"test_0": "TTTT", "test_1": "TN", "test_2": "TTNN"}, ["test-2", "test-1"]),
        ({"test_0": "TTTT", "test_1": "N", "test_2": "NT"}, ["test-2", "test-0"]),
        ({"test_2": "N", "val1_0": "TN"}, ["test-2"]),
    ],
    ids=["both labels", "one label", "one slide"],
)
def test_figure2_prefers_slides_with_both_labels(
    made: PictureStudy, labels: dict[str, str], chosen: list[str]
) -> None:
    assert [record.slide_id for record in choose_slides(labelled(made.manifest, **labels))] == chosen


def test_figure2_needs_a_label(made: PictureStudy) -> None:
    with pytest.raises(LedgerError, match="no section of a Test slide has a label"):
        choose_slides(labelled(made.manifest, val1_0="TN"))


def expected_iou(box_px: Box) -> float:
    """Of what every setting sees on a slide of Validation I with what is annotated, in one patch."""
    truth, seen = (np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool) for _ in range(2))
    truth[:] = annotated(WIDTH_PX, HEIGHT_PX) == TUMORNEST
    seen[100:300, 60 + SHIFT_PX : 350 + SHIFT_PX] = True
    rows, cols = box_px.intersection(Box(0, 0, WIDTH_PX, HEIGHT_PX)).slices()
    return float((truth & seen)[rows, cols].sum() / (truth | seen)[rows, cols].sum())


def test_figure4_shows_every_setting_on_patches_of_several_slides(study: PictureStudy) -> None:
    table = write_figure4(Evidence(study.root), 2)
    check_files(study, table)
    frame = table.frame
    assert frame["setting"].tolist() == ["unet", "resnet34_ds", "resnet34_linear"] * 2
    assert sorted(frame["slide_id"].unique()) == ["val1-0", "val1-1"]
    assert frame["psi"].tolist() == ["psi_4", "psi_4", "merged"] * 2
    corners = ["x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px"]
    box_px = Box(*frame[corners].iloc[0]).scaled(1 / DOWNSAMPLE)
    assert (box_px.width, box_px.height) == (512, 512)
    assert frame["iou"].to_numpy() == pytest.approx(expected_iou(box_px), abs=1e-6)
    assert frame["um_per_px"].to_numpy() == pytest.approx(MPP)
    index = pd.read_parquet(study.paths.shards.index).set_index("key")
    shares = index.loc[frame["key"], "tumornest_fraction"].to_numpy()
    assert frame["tumornest_share"].to_numpy() == pytest.approx(shares, abs=1e-6)


def test_patches_are_those_nearest_to_the_wanted_share(made: PictureStudy) -> None:
    choices = [made.choice("unet")]
    index = pd.read_parquet(made.paths.shards.index)
    validation = index[(index["part"] == "Validation I") & (index["tumornest_fraction"] > 0)]
    nearest = (validation["tumornest_fraction"] - 0.3).abs().groupby(validation["slide_id"]).min()
    chosen = choose_patches(made.paths, choices, 2)
    assert chosen["distance"].tolist() == pytest.approx(sorted(nearest))
    everything = choose_patches(made.paths, choices, 1000)
    assert len(everything) == len(validation)
    assert everything["key"].tolist()[:2] == chosen["key"].tolist()


def test_settings_without_heatmaps_are_named_and_the_others_drawn(
    study: PictureStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    for slide_id in ("val1-0", "val1-1"):
        study.paths.heatmap("unet", 2, slide_id).unlink()
    study.paths.heatmap("resnet34_ds", 2, "val1-0").unlink()
    table = write_figure4(Evidence(study.root), 2)
    check_files(study, table)
    notes = capsys.readouterr().out.splitlines()
    assert [note.split(":")[1].strip() for note in notes] == ["unet, epoch 2", "resnet34_ds, epoch 2"]
    assert "of 2 of the 2 slides of Validation I (val1-0, val1-1), so it is left out" in notes[0]
    assert "of 1 of the 2 slides of Validation I (val1-0), so they are left out" in notes[1]
    shown = table.frame[["slide_id", "setting"]].to_records(index=False).tolist()
    assert shown == [("val1-1", "resnet34_ds"), ("val1-1", "resnet34_linear"), ("val1-0", "resnet34_linear")]


def test_figure4_without_any_heatmap(study: PictureStudy) -> None:
    for setting in SETTINGS:
        shutil.rmtree(study.root / "heatmaps" / setting, ignore_errors=True)
    with pytest.raises(LedgerError, match="run the inference stage for Validation I with the chosen epochs"):
        write_figure4(Evidence(study.root))


def test_figure4_needs_the_index_and_a_patch(study: PictureStudy) -> None:
    with pytest.raises(LedgerError, match="--patches 0: a figure shows at least one patch"):
        write_figure4(Evidence(study.root), 0)
    study.paths.shards.manifest.unlink()
    with pytest.raises(ShardError, match="unfinished"):
        write_figure4(Evidence(study.root))


def test_figure6_shows_correctly_classified_sections(study: PictureStudy) -> None:
    table = write_figure6(Evidence(study.root))
    check_files(study, table)
    assert table.frame["setting"].unique().tolist() == ["resnet34_ds"]
    assert table.frame["section_id"].tolist() == ["test-0-left", "test-1-left", "test-0-right"]
    assert (table.frame["label"] == table.frame["verdict"]).all()
    assert (table.frame["um_per_px"] >= MPP / 2).all()


def test_figure6_of_another_setting(study: PictureStudy) -> None:
    table = write_figure6(Evidence(study.root), "unet", tumor=1, normal=2)
    assert table.frame["setting"].unique().tolist() == ["unet"]
    assert table.frame["section_id"].tolist() == ["test-0-left", "test-0-right", "test-1-right"]
    with pytest.raises(LedgerError, match="nothing was selected for resnet34; selected were unet"):
        write_figure6(Evidence(study.root), "resnet34")
    with pytest.raises(LedgerError, match="ask for more than none"):
        write_figure6(Evidence(study.root), tumor=0, normal=0)


def test_a_figure_of_another_setting_has_its_own_name_and_is_shown_where_that_setting_comes_first(
    study: PictureStudy,
) -> None:
    def page(setting: str) -> str:
        with suppress(StageFailedError):
            write_report(Evidence(study.root), setting)
        return study.paths.report.read_text(encoding="utf-8")

    write_figure6(Evidence(study.root))
    own, caption = study.paths.figure("figure6").read_bytes(), "Figure 6. Sections of Test that were classified right."
    command = "<code>python analysis/make.py figure6 STUDY --setting unet</code> draws it"
    assert caption in page("resnet34_ds")
    assert (caption in page("unet"), command in page("unet")) == (False, True)
    assert write_figure6(Evidence(study.root), "unet").name == "figure6_unet"
    assert study.paths.figure("figure6").read_bytes() == own
    assert caption in page("unet")


def test_figures_6_and_7_show_the_setting_that_comes_first_in_the_report(study: PictureStudy) -> None:
    """The one with the best F_beta on Validation I + II, whatever its name."""
    selection = pd.read_parquet(study.paths.selection)
    selection.assign(f_beta=[0.7, 0.8, 0.9]).to_parquet(study.paths.selection)
    for write in (write_figure6, write_figure7):
        assert write(Evidence(study.root)).frame["setting"].unique().tolist() == ["resnet34_linear"]


class Judged(NamedTuple):
    """A section as the choice sees it."""

    slide_id: str
    section_id: str
    label: str
    area_um2: float
    correct: bool | None = True
    tissue_um2: float = 1.0


def test_sections_are_spread_over_areas_and_slides() -> None:
    rows = [Judged(f"s{number // 2}", f"a{number}", "Tumor", 100.0 * number) for number in range(12)]
    rows += [
        Judged("s9", "wrong", "Tumor", 5000.0, correct=False),
        Judged("s9", "open", "Tumor", 9000.0, correct=None),
    ]
    verdicts = pd.DataFrame(rows).astype({"correct": "boolean"})
    chosen = choose_sections(verdicts, num_tumor=3, num_normal=2)
    assert chosen["section_id"].tolist() == ["a11", "a7", "a1"]
    many = choose_sections(verdicts, num_tumor=20, num_normal=2)
    assert many["section_id"].tolist() == [f"a{number}" for number in reversed(range(12))]


def test_figure7_shows_the_region_that_decided(study: PictureStudy) -> None:
    table = write_figure7(Evidence(study.root))
    check_files(study, table)
    (row,) = table.frame.to_dict("records")
    assert (row["section_id"], row["label"], row["verdict"]) == ("test-1-right", "Normal", "Tumor")
    region = Box(*(row[f"region_{side}_level0_px"] for side in ("x", "y", "width", "height")))
    assert region == FALSE_REGION.scaled(DOWNSAMPLE)
    assert row["area_um2"] == pytest.approx(FALSE_REGION.area * MPP**2)
    assert row["region_mean_probability"] == pytest.approx(180 / 255)


def test_figure7_says_kindly_that_there_is_no_false_positive(study: PictureStudy) -> None:
    message = (
        r"none of the 2 sections of Test labelled Normal was called Tumor.*resnet34_ds \(1\), resnet34_linear \(1\)"
    )
    with pytest.raises(LedgerError, match=message):
        write_figure7(Evidence(study.root), "unet")


def test_figure7_refuses_a_heatmap_of_other_weights(study: PictureStudy) -> None:
    place = study.paths.heatmap("resnet34_ds", 2, "test-1")
    shutil.copy(study.paths.heatmap("unet", 2, "test-1"), place)
    with pytest.raises(StageFailedError, match="run the inference stage again, or the selection"):
        write_figure7(Evidence(study.root))


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (Box(1000, 1000, 100, 200), Box(540, 590, 1020, 1020)),
        (Box(0, 1900, 100, 100), Box(0, 980, 1020, 1020)),
        (Box(100, 500, 1000, 100), Box(0, 40, 1600, 1020)),
        (Box(0, 0, 3000, 2000), Box(0, 0, 3000, 2000)),
    ],
    ids=["small", "in a corner", "long", "whole slide"],
)
def test_the_region_is_shown_with_what_is_around_it(region: Box, expected: Box) -> None:
    assert zoom_box(region, least_level0_px=1020, size_level0_px=(3000, 2000)) == expected


def test_figure8_shows_every_output_of_both_settings(study: PictureStudy) -> None:
    table = write_figure8(Evidence(study.root), 1)
    check_files(study, table)
    psis = table.frame.groupby("setting")["psi"].agg(list).to_dict()
    blocks = [f"psi_{block}" for block in range(5)]
    assert psis == {"resnet34_ds": blocks, "resnet34_linear": [*blocks, "merged"]}
    assert set(table.frame["slide_id"]) < {"val1-0", "val1-1"}
    iou = table.frame.set_index(["setting", "psi"])["iou"]
    assert iou["resnet34_ds", "psi_4"] == iou["resnet34_linear", "merged"]
    assert iou["resnet34_ds", "psi_0"] != iou["resnet34_ds", "psi_4"]


def test_figure8_of_one_setting_and_of_none(study: PictureStudy) -> None:
    write_figure8(Evidence(study.root), 2)
    selection = pd.read_parquet(study.paths.selection)
    selection[selection["setting"] != "resnet34_linear"].to_parquet(study.paths.selection)
    both = cv2.imread(str(study.paths.figure("figure8")))
    assert write_figure8(Evidence(study.root), 2).frame["setting"].unique().tolist() == ["resnet34_ds"]
    # It has no merged output, so no empty column for one.
    one = cv2.imread(str(study.paths.figure("figure8")))
    assert one.shape[1] < both.shape[1]
    selection[selection["setting"] == "unet"].to_parquet(study.paths.selection)
    with pytest.raises(LedgerError, match=r"neither was selected \(there are: unet\)"):
        write_figure8(Evidence(study.root))


def test_pictures_are_the_same_when_drawn_again(study: PictureStudy) -> None:
    first, again = (
        (write_figure7(Evidence(study.root)), study.paths.figure("figure7").read_bytes()) for _ in range(2)
    )
    assert first[1] == again[1]


def test_commands_print_the_table_and_the_picture(study: PictureStudy, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (2, 4, 6, 7, 8):
        make([f"figure{number}", str(study.root)])
        printed = capsys.readouterr().out
        assert printed.startswith(f"**Figure {number}. ")
        assert printed.splitlines()[-1] == f"{study.paths.figure(f'figure{number}').with_suffix('')}.*"


@pytest.mark.parametrize("name", ["figure4", "figure8"])
def test_a_figure_of_models_or_thresholds_of_before_is_told_and_one_of_today_is_shown(
    study: PictureStudy, name: str
) -> None:
    {"figure4": write_figure4, "figure8": write_figure8}[name](Evidence(study.root), 1)
    chosen = pd.read_parquet(study.paths.selection)
    number = name[-1]

    def content() -> PageContent:
        evidence = Evidence(study.root)
        return PageContent(evidence=evidence, headline=evidence.headline(None), tables={})

    assert len(list(content().picture(name))) == 1
    assert content().left_out(name) == []
    chosen.assign(t_p=0.7).to_parquet(study.paths.selection)
    assert list(content().picture(name)) == []
    (line,) = content().left_out(name)
    assert line.startswith(f"Left out: Figure {number}: drawn of models or thresholds of before; `python jobs/launch_")
    chosen.to_parquet(study.paths.selection)
    assert len(list(content().picture(name))) == 1
