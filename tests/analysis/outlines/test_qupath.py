"""What QuPath shows is what the verdict rests on, pixel for pixel, and says where to look again."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import cv2
import numpy as np
import pandas as pd
import pytest
import shapely.affinity
import shapely.geometry
import tifffile
from annotated_slides import scanned
from killing import killed_at
from numpy.typing import NDArray
from study_folders import sections as other_sections
from study_folders import write_study

from analysis.outlines import chosen_regions
from analysis.outlines.qupath import write_regions
from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from bccdist.configuration import Psi, SelectConfig, pixel_px
from bccdist.errors import LedgerError, StageFailedError
from bccdist.heatmaps.probability import step_of
from bccdist.heatmaps.store import Heatmap, HeatmapAttributes, writing_heatmap
from bccdist.parts import Kind, Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import read_choices
from bccdist.sections.chosen_output import ChosenOutput, SlideTissue
from bccdist.sections.ledger import read_rows, write_rows
from bccdist.sections.margins import edge_distances_um
from bccdist.sections.regions import find_regions
from bccdist.sections.rows import section_rows
from bccdist.slides.annotations import read_annotations
from bccdist.slides.annotations.rasterising import fill_polygon
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Kinds, read_manifest
from bccdist.slides.sections import Section
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask

SIZE_PX = (1100, 1300)
"""Width and height in the target frame; sections and regions lie across rows of chunks."""
MPP = 0.92
OUTPUTS: tuple[Psi, ...] = ("psi_0", "psi_4")
SETTING = "resnet34_ds"
KINDS = Kinds(
    names={
        "Tumor": Kind.TUMORNEST,
        **dict.fromkeys(("Section: Tumor", "Section: Normal", "Section: review"), None),
    },
    mask_values={},
)
ATTRIBUTES = HeatmapAttributes(
    slide_id="slide-0",
    setting=SETTING,
    epoch=1,
    outputs=OUTPUTS,
    mpp=MPP,
    downsample=2.0,
    size_level0_px=(2200, 2600),
    size_target_px=SIZE_PX,
    weights_digest="abcdefabcdef",
    config_digest="0" * 12,
    slide_fingerprint="1" * 12,
    phantom=True,
)


NO_TISSUE = SlideTissue(
    properties={},
    size_level0_px=ATTRIBUTES.size_level0_px,
    tissue=np.zeros((1, 1), dtype=bool),
    distances_um=np.zeros((1, 1), dtype=np.float32),
)


class Study(NamedTuple):
    """A study with one Test slide, and what is in it."""

    paths: StudyPaths
    manifest: Path
    sections: tuple[Section, ...]
    heatmap: Heatmap
    counted: NDArray[np.bool_]
    """Cells of 256 px."""

    @property
    def slide(self) -> Path:
        return self.manifest.with_name("slide.tif")

    def write(self, **options: Any) -> dict[str, Any]:
        """The regions of the slide as they are read from their file."""
        (path,) = write_regions(Evidence(self.paths.root), self.manifest, [Part.TEST], num_workers=0, **options)
        words = [f"t_p-{options['t_p']:g}"] if "t_p" in options else []
        asked = "-".join([*words, *([options["psi"]] if options.get("psi") else [])])
        assert path == self.paths.regions(SETTING, "slide-0", asked=asked)
        return read(path)

    def expected(self, psi: Psi, t_p: float, t_a_um2: float) -> NDArray[np.bool_]:
        """What belongs to a region of any section: bool [h, w] of the output's pixels."""
        edge_px = pixel_px(psi)
        pixels = self.heatmap.read(psi, self.heatmap.box_target_px)
        rows, cols = (np.arange(length) * edge_px // 256 for length in pixels.shape)
        mask = (pixels >= step_of(t_p)) & self.counted[np.ix_(rows, cols)]
        found = np.zeros_like(mask)
        for section in self.sections:
            box_px = self.heatmap.lattice_box(psi, section.box_level0_px.scaled(1 / ATTRIBUTES.downsample))
            inside = box_px.slices()
            _, labels, stats, _ = cv2.connectedComponentsWithStats(mask[inside].astype(np.uint8), connectivity=8)
            large = np.asarray(stats)[:, cv2.CC_STAT_AREA] * (edge_px * MPP) ** 2 >= t_a_um2
            large[0] = False
            found[inside] |= large[labels]
        return found


def read(path: Path) -> dict[str, Any]:
    with ZipFile(path) as archive:
        assert archive.namelist() == ["slide-0.geojson"]
        content = json.loads(archive.read("slide-0.geojson"))
    assert isinstance(content, dict)
    return content


def probabilities(seed: int) -> NDArray[np.uint8]:
    """Ragged spots with holes, many of which touch in corners: uint8 [h, w]."""
    rng = np.random.default_rng(seed)
    fine, coarse = (
        cv2.resize(rng.random((length, length), np.float32), SIZE_PX, interpolation=cv2.INTER_NEAREST)
        for length in (330, 7)
    )
    return (np.clip(1.4 * (0.5 * fine + 0.5 * coarse) - 0.1, 0, 1) * 255).astype(np.uint8)


def write_slide(path: Path, size_px: tuple[int, int]) -> None:
    """Tissue down to 2,540 px, and glass below."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((size_px[1], size_px[0], 3), 245, dtype=np.uint8)
    picture[:2540] = (200, 120, 170)
    tifffile.imwrite(
        path,
        picture,
        tile=(256, 256),
        photometric="rgb",
        compression="deflate",
        resolution=(1e4 / 0.46, 1e4 / 0.46),
        resolutionunit="CENTIMETER",
    )


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Section a is large, b was not read whole and has no tumor, c is glass; the thresholds are selected."""
    paths = write_study(tmp_path / "study", other_sections(tp=2, fn=0, fp=0, tn=2))
    select_thresholds(paths.root, SelectConfig())
    pixels = probabilities(0)
    pixels[:300, 650:] = 5
    coverage = np.full((6, 5), 4, dtype=np.uint8)
    coverage[0, 4] = coverage[3, 1] = 2
    tissue_cells = np.ones((6, 5), dtype=bool)
    tissue_cells[5] = False
    path = paths.heatmap(SETTING, 1, "slide-0")
    with writing_heatmap(path, outputs=OUTPUTS, size_target_px=SIZE_PX, mpp=MPP) as writer:
        writer.append({psi: pixels[:: pixel_px(psi), :: pixel_px(psi)] for psi in OUTPUTS})
        writer.finish(ATTRIBUTES, coverage=coverage, tissue_cells=tissue_cells)
    heatmap = Heatmap(path)
    sections = (
        Section(section_id="a", box_level0_px=Box(41, 30, 1200, 2400), label=Label.TUMOR),
        Section(section_id="b", box_level0_px=Box(1300, 10, 900, 500), label=Label.NORMAL),
        Section(section_id="c", box_level0_px=Box(1300, 2570, 900, 30)),
    )
    manifest = tmp_path / "data" / "slides.csv"
    write_slide(manifest.with_name("slide.tif"), ATTRIBUTES.size_level0_px)
    with Slide(manifest.with_name("slide.tif"), target_mpp=MPP) as slide:
        rows = list(section_rows(heatmap, sections, tissue_mask(slide), part=Part.TEST, phantom_weights=False))
    write_rows(paths.ledger_rows(SETTING, 1, "slide-0"), rows)
    manifest.write_text("slide_id,part,path,scanner\nslide-0,Test,slide.tif,phantom\n", encoding="utf-8")
    return Study(paths, manifest, sections, heatmap, (coverage == 4) & tissue_cells)


def features(content: Mapping[str, Any], *, is_region: bool) -> list[dict[str, Any]]:
    return [
        feature
        for feature in content["features"]
        if (feature["properties"]["classification"].get("name") == "Tumor") == is_region
    ]


@pytest.mark.parametrize("area", [None, Box(100, 30, 1000, 1000)], ids=["level 0 alone", "a scanned area"])
@pytest.mark.parametrize("psi", [None, "psi_0"])
@pytest.mark.parametrize("is_by_qupath", [False, True], ids=["as written", "saved by QuPath"])
def test_our_own_reader_gives_the_mask_back_pixel_for_pixel(
    study: Study,
    psi: Psi | None,
    area: Box | None,
    is_by_qupath: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """QuPath keeps coordinates, and drops the member that says what they count from."""
    if area is not None:
        monkeypatch.setattr(Slide, "properties", scanned(area))
    content = study.write(psi=psi)
    about = content.pop("bccdist") if is_by_qupath else content["bccdist"]
    output: Psi = psi or "psi_4"
    assert about["psi"] == output
    expected = study.expected(output, about["t_p"], about["t_a_um2"])
    assert expected.any()
    file = tmp_path / "again.geojson"
    file.write_text(json.dumps(content), encoding="utf-8")
    with Slide(study.slide, target_mpp=MPP) as slide:
        box_px = Box(0, 0, slide.width_px, slide.height_px)
        mask = read_annotations([file], slide, KINDS).masks(box_px)[Kind.TUMORNEST]
    edge_px = pixel_px(output)
    stretched = expected.repeat(edge_px, axis=0).repeat(edge_px, axis=1)
    np.testing.assert_array_equal(mask, stretched[: SIZE_PX[1], : SIZE_PX[0]])


@pytest.mark.parametrize("asked", [{"t_p": 0.8}, {"psi": "psi_0"}, {"psi": "psi_0", "t_p": 0.8}], ids=str)
def test_regions_at_other_thresholds_leave_the_studys_own_as_they_are(study: Study, asked: dict[str, Any]) -> None:
    study.write()
    own = study.paths.regions(SETTING, "slide-0")
    before = own.read_bytes()
    other = study.write(**asked)
    assert own.read_bytes() == before
    assert {name: other["bccdist"][name] for name in asked} == asked
    assert len(list(study.paths.root.glob("regions/*/*.zip"))) == 2


def test_the_chosen_threshold_named_again_is_the_studys_own(study: Study) -> None:
    (choice,) = Evidence(study.paths.root).choices
    (path,) = write_regions(Evidence(study.paths.root), study.manifest, num_workers=0, t_p=choice.t_p, psi="psi_4")
    assert path == study.paths.regions(SETTING, "slide-0")


def test_outlines_are_valid_and_areas_exact(study: Study) -> None:
    found = features(study.write(t_p=0.6), is_region=True)
    outlines = [shapely.geometry.shape(feature["geometry"]) for feature in found]
    assert "MultiPolygon" in {outline.geom_type for outline in outlines}
    assert any(polygon.interiors for outline in outlines for polygon in shapely.get_parts(outline))
    for outline, feature in zip(outlines, found, strict=True):
        measured = feature["properties"]["measurements"]
        assert outline.is_valid
        assert measured["area um2"] == pytest.approx(outline.area * 0.46**2, rel=1e-12)
        assert 0.6 <= measured["mean probability"] <= measured["max probability"] <= 1


def test_sections_say_verdict_label_and_what_was_not_read(study: Study) -> None:
    content = study.write()
    said = {feature["properties"]["name"]: feature for feature in features(content, is_region=False)}
    assert list(said) == ["a", "b", "c"]
    classes = {name: feature["properties"]["classification"]["names"] for name, feature in said.items()}
    assert classes == {"a": ["Section", "Tumor"], "b": ["Section", "review"], "c": ["Section", "review"]}
    first, second, third = (feature["properties"] for feature in said.values())
    assert all(feature["properties"]["isLocked"] for feature in said.values())
    assert shapely.geometry.shape(said["a"]["geometry"]).bounds == (41, 30, 1241, 2430)
    assert (first["metadata"]["label"], first["metadata"]["result"]) == ("Tumor", "right")
    assert first["measurements"]["coverage"] < 1
    assert first["metadata"]["review"].endswith("% of its tissue was not read")
    assert "result" not in second["metadata"]
    assert third["metadata"]["label"] == "none"
    assert third["measurements"]["tissue um2"] == 0


def test_sections_say_how_near_their_verdict_is_to_changing(study: Study) -> None:
    """A number where a shift of probability changes it, and a word where none does, as where there is no tissue."""
    first, second, third = (each["properties"] for each in features(study.write(), is_region=False))
    (choice,) = Evidence(study.paths.root).choices
    assert 1 / 255 <= first["measurements"]["flip shift"] <= 1
    assert "flip shift" not in first["metadata"]
    area_um2 = first["measurements"]["largest region um2"]
    assert first["measurements"]["largest region less t_A um2"] == area_um2 - choice.t_a_um2
    assert first["measurements"]["largest region by t_A"] == area_um2 / choice.t_a_um2 >= 1
    assert second["measurements"]["flip shift"] == pytest.approx(choice.t_p - 5 / 255, abs=1 / 255)
    assert "flip shift" not in third["measurements"]
    assert third["metadata"]["flip shift"] == "never"
    assert third["measurements"]["largest region by t_A"] == 0


def test_the_flip_shift_is_that_of_the_t_p_that_was_asked_for(study: Study) -> None:
    def shift(t_p: float) -> float:
        return float(features(study.write(t_p=t_p), is_region=False)[0]["properties"]["measurements"]["flip shift"])

    assert shift(0.6) - shift(0.8) == pytest.approx(51 / 255)


def test_largest_region_is_the_ledgers(study: Study) -> None:
    content = study.write()
    areas = [feature["properties"]["measurements"]["area um2"] for feature in features(content, is_region=True)]
    first = features(content, is_region=False)[0]["properties"]
    assert max(areas) == pytest.approx(first["measurements"]["largest region um2"])


def test_margins_are_those_of_the_mask_and_the_sections_is_the_smallest(study: Study) -> None:
    content = study.write(t_p=0.8)
    found = features(content, is_region=True)
    assert len(found) > 5
    with Slide(study.slide, target_mpp=MPP) as slide:
        distances_um = edge_distances_um(tissue_mask(slide))
    for feature in found:
        # Centres of heatmap pixels inside the outline, in level-0 px, and the tissue pixels under them.
        outline = shapely.geometry.shape(feature["geometry"])
        x, y = np.meshgrid(np.arange(1, 2200, 2), np.arange(1, 2600, 2))
        inside = shapely.contains_xy(outline, x, y)
        rows, cols = ((centre[inside] * 0.46 / TISSUE_MPP).astype(int) for centre in (y, x))
        expected_um = distances_um[np.minimum(rows, len(distances_um) - 1), cols].min()
        assert feature["properties"]["measurements"]["margin um"] == pytest.approx(expected_um)
    margins_um = [feature["properties"]["measurements"]["margin um"] for feature in found]
    first, _, third = (feature["properties"]["measurements"] for feature in features(content, is_region=False))
    assert first["smallest margin um"] == min(margins_um)
    assert "smallest margin um" not in third
    assert content["bccdist"]["margins"].startswith("Research use only")


def test_the_tissue_of_a_slide_is_found_once_for_all_settings(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def counted(slide: Slide) -> NDArray[np.bool_]:
        found.append(slide.path)
        return tissue_mask(slide)

    monkeypatch.setattr(chosen_regions, "tissue_mask", counted)
    chosen = chosen_regions.read_chosen_verdicts(Evidence(study.paths.root), [Part.TEST])
    choice = chosen.choices[SETTING]
    twice = chosen._replace(
        choices={SETTING: choice, "again": choice},
        verdicts=pd.concat([chosen.verdicts, chosen.verdicts.assign(setting="again")]),
    )
    outputs, failures = chosen_regions.on_each_output(
        study.paths, read_manifest(study.manifest), twice, lambda output, _: output
    )
    assert (len(outputs), failures, found) == (2, [], [study.slide])


def test_phantoms_are_named_in_every_object(study: Study) -> None:
    content = study.write()
    assert content["bccdist"]["phantom"] is True
    warnings = {feature["properties"]["metadata"]["warning"] for feature in content["features"]}
    assert warnings == {"PHANTOM DATA - drawn slides, not tissue"}


def test_a_file_is_the_same_when_written_again(study: Study) -> None:
    study.write()
    path = study.paths.regions(SETTING, "slide-0")
    before = path.read_bytes()
    study.write()
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*partial*"))


def test_coordinates_count_from_the_corner_that_qupath_shows(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = study.write()
    properties = scanned(Box(100, 30, 1000, 1000))
    monkeypatch.setattr(Slide, "properties", properties)
    moved = study.write()
    assert moved["bccdist"]["origin_level0_px"] == [100, 30]
    for one, other in zip(plain["features"], moved["features"], strict=True):
        corners, moved_corners = (
            shapely.get_coordinates(shapely.geometry.shape(feature["geometry"])) for feature in (one, other)
        )
        np.testing.assert_array_equal(corners - (100, 30), moved_corners)
    del properties["openslide.bounds-height"]
    assert study.write() == plain


@pytest.mark.parametrize("area_unit", ["physical", "nominal"])
def test_the_smallest_region_has_just_t_a(area_unit: Any, study: Study) -> None:
    (choice,) = read_choices(study.paths)
    for t_a_um2 in (0.0, 0.8464, 100.0, 16 * 0.92**2, 160_000.0):
        output = ChosenOutput(
            heatmap=study.heatmap,
            psi="psi_4",
            choice=replace(choice, t_a_um2=t_a_um2, area_unit=area_unit),
            slide=NO_TISSUE,
            boxes_level0_px={},
        )
        assert output.least_pixels * output.pixel_um2 >= t_a_um2
        assert output.least_pixels == 1 or (output.least_pixels - 1) * output.pixel_um2 < t_a_um2


@pytest.mark.parametrize("psi", ["psi_0", "psi_4"])
def test_outlines_stay_on_pixels_where_the_scale_is_no_whole_number(study: Study, psi: Psi) -> None:
    downsample, corner_px = 1.8437, (3, 8)
    (choice,) = read_choices(study.paths)
    output = ChosenOutput(heatmap=study.heatmap, psi=psi, choice=choice, slide=NO_TISSUE, boxes_level0_px={})
    study.heatmap.attributes = replace(ATTRIBUTES, downsample=downsample)
    drawn = probabilities(1)[:50, :60] // 150
    edge_px = pixel_px(psi)
    mask = np.zeros((80 * edge_px, 80 * edge_px), dtype=bool)
    for region in find_regions([drawn], step=1):
        outline = output.placed(shapely.affinity.translate(region.outline, *corner_px))
        assert outline.is_valid
        for polygon in shapely.get_parts(outline):
            fill_polygon(mask, polygon, downsample=downsample)
    expected = np.zeros((80, 80), dtype=bool)
    expected[8:58, 3:63] = drawn > 0
    np.testing.assert_array_equal(mask, expected.repeat(edge_px, axis=0).repeat(edge_px, axis=1))


class Fault(NamedTuple):
    options: dict[str, Any]
    message: str


@pytest.mark.parametrize(
    "fault",
    [
        Fault({"setting": "unet"}, "nothing was selected for unet; selected were resnet34_ds"),
        Fault({"t_p": 0.0}, "above 0 and is at most 1"),
        Fault({"psi": "psi_2"}, "no sections of Test"),
    ],
    ids=lambda fault: next(iter(fault.options)),
)
def test_arguments_that_fit_nothing(study: Study, fault: Fault) -> None:
    with pytest.raises(LedgerError, match=fault.message):
        study.write(**fault.options)


def test_a_heatmap_that_is_not_the_ledgers_is_refused(study: Study) -> None:
    rows = list(
        section_rows(
            study.heatmap, study.sections, np.ones((149, 126), dtype=bool), part=Part.TEST, phantom_weights=False
        )
    )
    for row in rows:
        row["largest_region_px"] = [value + 1 for value in row["largest_region_px"]]
    write_rows(study.paths.ledger_rows(SETTING, 1, "slide-0"), rows)
    with pytest.raises(StageFailedError, match=r"largest region in section a has .* by the ledger; run the inference"):
        study.write()
    assert not list(study.paths.root.glob("regions/*/*"))


def test_another_slide_of_the_same_name_is_refused(study: Study) -> None:
    write_slide(study.slide, (512, 512))
    with pytest.raises(StageFailedError, match="give the manifest that the study was made with"):
        study.write()


def test_a_slide_that_kills_its_process_is_named_and_the_others_are_written(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    with study.manifest.open("a", encoding="utf-8") as manifest:
        manifest.write("other,Test,slide-of-other.tif,phantom\n")
    write_slide(study.manifest.with_name("slide-of-other.tif"), (512, 512))
    rows = read_rows(study.paths.ledger_rows(SETTING, 1, "slide-0")).to_pylist()
    write_rows(study.paths.ledger_rows(SETTING, 1, "other"), [{**row, "slide_id": "other"} for row in rows])
    setup = partial(killed_at, "other", "analysis.outlines.chosen_regions:open_outputs")
    monkeypatch.setattr(chosen_regions, "open_outputs", setup)
    with pytest.raises(StageFailedError, match=r"1 slide\(s\) were not .*, of 1 they were:\n  - other: .* SIGKILL"):
        write_regions(Evidence(study.paths.root), study.manifest, [Part.TEST], num_workers=1)
    assert study.paths.regions(SETTING, "slide-0").exists()
