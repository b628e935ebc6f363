"""Hard sections become a manifest that shards are built from, and only slides that are known as a whole go in."""

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from annotated_slides import scanned
from review_study import SETTING, copied_study, drawn_square, given, say, worklist_of

from analysis.review.answers import GivenAnswer, GivenRegions, read_journals
from analysis.review.export import resolve
from analysis.review.hard_sections import export_hard_sections, hard_sections
from analysis.review.tiles import SlideFacts, TileReader
from bccdist.configuration import ShardConfig
from bccdist.errors import ConfigurationError, StageFailedError
from bccdist.files import read_json
from bccdist.parts import Kind, Part
from bccdist.paths import StudyPaths
from bccdist.slides.annotations import read_annotations
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import read_manifest
from bccdist.slides.slide import Slide
from shards.build import build_slides
from shards.finish import finish_set


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return copied_study(tmp_path)


def false_alarm() -> GivenAnswer:
    """By the model test-1-right is Tumor."""
    return given("test-1/test-1-right", "Normal")


def drawn(slide_id: str, *features: object) -> GivenRegions:
    return GivenRegions(at="2026-01-01", slide_id=slide_id, features=tuple(features))  # type: ignore[arg-type]


def whole_slide() -> GivenRegions:
    """Tumor in the left section of test-1, a look-alike in the right one."""
    return drawn("test-1", drawn_square(200, 300, 300), drawn_square(1400, 400, 240, "Normal"))


def export(paths: StudyPaths, out: Path) -> str:
    return export_hard_sections(paths.root, out, setting=SETTING)


def test_sections_are_hard_where_reviewers_agree_against_the_verdict(paths: StudyPaths) -> None:
    say(
        paths,
        "anna",
        false_alarm(),
        given("test-0/test-0-left", "Normal"),
        given("test-0/test-0-right", "Tumor"),
        given("val1-0/val1-0-left", "Tumor"),
        given("val1-0/val1-0-right", "unsure"),
    )
    say(paths, "bert", given("test-0/test-0-right", "Normal"))
    hard = hard_sections(worklist_of(paths), resolve(read_journals(paths)))
    assert {section.section_id for section in hard} == {"test-1-right", "test-0-left"}


def test_shards_are_built_from_what_is_exported(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", false_alarm(), regions=whole_slide())
    said = export(paths, tmp_path / "hard")
    assert "1 hard section(s) on 1 slide(s)" in said
    assert "Some of them are in Test. Take these slides out" in said
    manifest_path, extra = tmp_path / "hard" / "slides.csv", StudyPaths(tmp_path / "extra")
    build_slides(manifest_path, ["test-1"], extra.root, ShardConfig(), num_workers=0)
    finish_set(manifest_path, extra.root, ShardConfig(), num_workers=0)
    index = pq.read_table(extra.shards.index).to_pandas()
    assert set(index["part"]) == {"Training"}
    left, right = (index[index["section_id"] == f"test-1-{side}"] for side in ("left", "right"))
    assert left["tumornest_fraction"].max() > 0
    assert right["normal_fraction"].max() > 0
    assert right["tumornest_fraction"].max() < left["tumornest_fraction"].max()


def test_regions_are_written_as_qupath_counts_and_read_where_they_were_drawn(
    paths: StudyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(paths, "anna", false_alarm(), regions=whole_slide())
    masks, own = [], Slide.properties.fget  # type: ignore[attr-defined]
    for area, corner in ((None, (200, 300)), (Box(120, 60, 1500, 900), (80, 240))):
        named = {} if area is None else scanned(area)
        monkeypatch.setattr(Slide, "properties", property(lambda slide, named=named: {**own(slide), **named}))
        export(paths, tmp_path / f"hard-{corner[0]}")
        manifest = read_manifest(tmp_path / f"hard-{corner[0]}" / "slides.csv")
        (record,) = manifest.slides
        content = read_json(record.annotations[0])
        assert tuple(content["features"][0]["geometry"]["coordinates"][0][0]) == corner
        with Slide(record.path, target_mpp=0.92) as slide:
            annotation = read_annotations(record.annotations, slide, manifest.kinds)
            masks.append(annotation.masks(Box(0, 0, slide.width_px, slide.height_px)))
        assert not annotation.notes
    assert all(np.array_equal(masks[0][kind], masks[1][kind]) for kind in Kind)
    assert masks[0][Kind.TUMORNEST].any()


def test_a_slide_that_cannot_be_opened_is_left_out_with_the_reason(
    paths: StudyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(paths, "anna", false_alarm(), regions=whole_slide())
    facts = SlideFacts(width=0, height=0, mpp=0.0, min_level=0, max_level=0, error="test-1.tif: cut off")
    monkeypatch.setattr(TileReader, "facts", lambda _reader, _slide_id: facts)
    with pytest.raises(ConfigurationError, match=r"1 slide\(s\) are left out:\n  - test-1: test-1\.tif: cut off"):
        export(paths, tmp_path / "hard")


def test_the_manifest_says_where_slides_came_from_and_which_sections_are_hard(
    paths: StudyPaths, tmp_path: Path
) -> None:
    say(paths, "anna", false_alarm(), regions=whole_slide())
    export(paths, tmp_path / "hard")
    manifest = read_manifest(tmp_path / "hard" / "slides.csv")
    (slide,) = manifest.slides
    assert (slide.part, slide.extra["former_part"], slide.extra["hard_sections"]) == (
        Part.TRAINING,
        "Test",
        "test-1-right",
    )
    assert manifest.is_phantom
    assert {section.section_id: section.label for section in manifest.sections} == {
        "test-1-left": "Tumor",
        "test-1-right": "Normal",
    }
    assert slide.path.is_absolute()


def test_without_drawn_regions_the_error_says_that_training_needs_annotations(
    paths: StudyPaths, tmp_path: Path
) -> None:
    say(paths, "anna", false_alarm())
    with pytest.raises(ConfigurationError, match=r"test-1: nobody drew its regions, and Training slides need anno"):
        export(paths, tmp_path / "hard")
    assert not (tmp_path / "hard").exists()


def test_a_slide_with_tumor_that_nobody_drew_is_left_out(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", false_alarm(), regions=drawn("test-1", drawn_square(1400, 400, 99, "Normal")))
    say(paths, "bert", given("test-0/test-0-left", "Normal"), regions=drawn("test-0", drawn_square(1500, 500, 90)))
    with pytest.raises(StageFailedError) as failed:
        export(paths, tmp_path / "hard")
    assert "section test-1-left is Tumor, but no region of Tumornest lies in it" in str(failed.value)
    assert "1 hard section(s) on 1 slide(s)" in str(failed.value)
    assert [slide.slide_id for slide in read_manifest(tmp_path / "hard" / "slides.csv").slides] == ["test-0"]


def test_a_slide_with_a_section_that_nobody_labelled_is_left_out(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", false_alarm(), given("test-1/test-1-left", "unsure"), regions=whole_slide())
    with pytest.raises(ConfigurationError, match=r"test-1-left has no label that reviewers agree on"):
        export(paths, tmp_path / "hard")


def test_a_set_without_tumor_is_refused_because_shards_would_be(paths: StudyPaths, tmp_path: Path) -> None:
    say(
        paths,
        "anna",
        false_alarm(),
        given("test-1/test-1-left", "Normal"),
        regions=drawn("test-1", drawn_square(1400, 400, 99, "Normal")),
    )
    with pytest.raises(ConfigurationError, match="no slide that is ready has a region of Tumornest"):
        export(paths, tmp_path / "hard")


def test_the_newest_regions_count(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", false_alarm(), regions=drawn("test-1"))
    newer = whole_slide()
    say(paths, "bert", regions=GivenRegions(at="2026-02-02", slide_id="test-1", features=newer.features))
    export(paths, tmp_path / "hard")
    with (tmp_path / "hard" / "annotations" / "test-1.geojson").open() as file:
        assert file.read().count('"Feature"') == 2


def test_where_nobody_contradicts_the_model_there_is_nothing_to_export(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", given("test-0/test-0-left", "Tumor"))
    with pytest.raises(ConfigurationError, match="no answer contradicts a verdict of resnet34_ds"):
        export(paths, tmp_path / "hard")


def test_an_export_that_is_there_is_not_overwritten(paths: StudyPaths, tmp_path: Path) -> None:
    say(paths, "anna", false_alarm(), regions=whole_slide())
    export(paths, tmp_path / "hard")
    with pytest.raises(ConfigurationError, match="is there already"):
        export(paths, tmp_path / "hard")
    with (tmp_path / "hard" / "slides.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
