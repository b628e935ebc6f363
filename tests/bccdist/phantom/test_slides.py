"""The phantom on disk: slides that OpenSlide opens, annotations, manifest, and what a second run does."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from shapely.geometry import Point, box, shape

from bccdist.errors import ConfigurationError
from bccdist.parts import Kind, Label, Part
from bccdist.phantom import PhantomConfig, make_phantom
from bccdist.phantom.islands import IslandKind
from bccdist.phantom.slides import SlideName, paint_slide

SMALL = PhantomConfig(
    num_train=2,
    num_val1=1,
    num_val2=1,
    num_test=0,
    sections_per_slide=(2, 2),
    slide_width_level0_px=2048,
    slide_height_level0_px=1280,
)


def _silent(_line: str) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, SMALL, report=_silent)
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _level(path: Path, level: int) -> NDArray[np.uint8]:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB"))


def _features(phantom: Path, slide: dict[str, str]) -> list[dict[str, Any]]:
    return list(json.loads((phantom / slide["annotation"]).read_text(encoding="utf-8"))["features"])


def _kind(feature: dict[str, Any]) -> Kind:
    return Kind(feature["properties"]["classification"]["name"])


def test_openslide_opens_every_slide_with_its_levels_and_mpp(phantom: Path) -> None:
    """Format generic-tiff, downsamples 1, 2, 4, 8, and the um per px of the configuration."""
    for row in _rows(phantom / "slides.csv"):
        path = phantom / row["path"]
        assert openslide.OpenSlide.detect_format(path) == "generic-tiff"
        with openslide.OpenSlide(path) as slide:
            assert slide.dimensions == (2048, 1280)
            assert slide.level_downsamples == (1, 2, 4, 8)
            assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == pytest.approx(0.46, rel=1e-4)
            assert float(slide.properties[openslide.PROPERTY_NAME_MPP_Y]) == pytest.approx(0.46, rel=1e-4)
            assert "phantom" in slide.properties["tiff.ImageDescription"]


def test_colours_survive_the_file(phantom: Path) -> None:
    """Glass is near white, and level 1 is what was painted, but for JPEG and noise."""
    picture = _level(phantom / "slides" / "phantom-train-000.tif", 0).astype(float)
    painted = paint_slide(SlideName(part=Part.TRAINING, index=0), SMALL).picture
    assert picture[:40].min() > 225
    assert np.abs(picture - painted).mean() < 4


def test_manifest_names_every_slide_and_its_files(phantom: Path) -> None:
    """Parts, ids and paths as asked for; annotations for the annotated parts only."""
    rows = _rows(phantom / "slides.csv")
    assert list(rows[0]) == ["slide_id", "part", "path", "annotation", "mpp", "scanner"]
    assert [(row["slide_id"], row["part"]) for row in rows] == [
        ("phantom-train-000", "Training"),
        ("phantom-train-001", "Training"),
        ("phantom-val1-000", "Validation I"),
        ("phantom-val2-000", "Validation II"),
    ]
    for row in rows:
        assert (phantom / row["path"]).is_file()
        assert bool(row["annotation"]) == Part(row["part"]).is_annotated
        assert not row["annotation"] or (phantom / row["annotation"]).is_file()


def test_sections_are_apart_and_their_boxes_tight(phantom: Path) -> None:
    """Thresholded tissue has one piece per section, in a box that fits within 2 px at 10x; gaps are 300 px or more."""
    sections = _rows(phantom / "sections.csv")
    for slide in _rows(phantom / "slides.csv"):
        boxes = [_box_level0_px(row) for row in sections if row["slide_id"] == slide["slide_id"]]
        assert all(box(*a).distance(box(*b)) >= 300 for i, a in enumerate(boxes) for b in boxes[:i])
        np.testing.assert_allclose(sorted(_tissue_boxes_level0_px(phantom / slide["path"])), sorted(boxes), atol=4)


def _box_level0_px(row: dict[str, str]) -> tuple[int, int, int, int]:
    x, y, width, height = (int(row[f"{name}_level0_px"]) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def _tissue_boxes_level0_px(path: Path) -> list[tuple[int, int, int, int]]:
    is_tissue = ndimage.binary_opening(_level(path, 1).min(axis=2) < 225)
    pieces, _ = ndimage.label(is_tissue)
    found = ndimage.find_objects(pieces)
    return [(2 * x.start, 2 * y.start, 2 * x.stop, 2 * y.stop) for y, x in found if x.stop - x.start > 20]


def test_annotations_are_valid_smooth_and_inside_their_slide(phantom: Path) -> None:
    """Closed valid polygons of 40 to 151 points; a stroma ring has its nest as the hole."""
    slides = [row for row in _rows(phantom / "slides.csv") if row["annotation"]]
    features = [feature for slide in slides for feature in _features(phantom, slide)]
    assert {_kind(feature) for feature in features} == set(Kind)
    for feature in features:
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert box(0, 0, 2048, 1280).contains(polygon)
        assert len(feature["geometry"]["coordinates"]) == (2 if _kind(feature) is Kind.STROMA else 1)
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            assert 41 <= len(ring) <= 152


def test_polygons_match_the_painted_pixels(phantom: Path) -> None:
    """Tumornest covers the truth's nest pixels and nothing else, Normal only follicles, but for the border."""
    for slide in (row for row in _rows(phantom / "slides.csv") if row["annotation"]):
        truth = np.asarray(Image.open(phantom / "truth" / f"{slide['slide_id']}.mask.png"))
        nests = [shape(item["geometry"]) for item in _features(phantom, slide) if _kind(item) is Kind.TUMORNEST]
        normals = [shape(item["geometry"]) for item in _features(phantom, slide) if _kind(item) is Kind.NORMAL]
        assert 4 * (truth == IslandKind.NEST).sum() == pytest.approx(sum(nest.area for nest in nests), rel=0.02)
        for polygons, kind in ((nests, IslandKind.NEST), (normals, IslandKind.FOLLICLE)):
            corners = [corner for polygon in polygons for corner in polygon.buffer(-5).exterior.coords]
            assert all(truth[int(y / 2), int(x / 2)] == kind for x, y in corners)


def test_a_section_is_tumor_if_and_only_if_it_holds_a_nest(phantom: Path) -> None:
    """Labels agree with the polygons, and every section id says its slide and its place."""
    slides = {row["slide_id"]: row for row in _rows(phantom / "slides.csv") if row["annotation"]}
    for row in (row for row in _rows(phantom / "sections.csv") if row["slide_id"] in slides):
        nests = [item for item in _features(phantom, slides[row["slide_id"]]) if _kind(item) is Kind.TUMORNEST]
        area = box(*_box_level0_px(row))
        holds_nest = any(area.contains(Point(item["geometry"]["coordinates"][0][0])) for item in nests)
        assert (row["label"] == Label.TUMOR) == holds_nest
        assert row["section_id"].startswith(f"{row['slide_id']}-s")
        assert (row["labelled_by"], row["prefilled"]) == ("phantom-generator", "")


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_build_elsewhere_is_byte_identical(phantom: Path, tmp_path: Path) -> None:
    """Nothing of the time, the folder or the order gets into a file."""
    make_phantom(tmp_path, SMALL, report=_silent)
    assert _files(tmp_path) == _files(phantom)


def test_a_slide_does_not_depend_on_the_others() -> None:
    """The same slide is painted whatever the number of slides; another seed or index paints another."""
    name = SlideName(part=Part.TRAINING, index=1)
    alone = paint_slide(name, replace(SMALL, num_train=0)).picture
    np.testing.assert_array_equal(alone, paint_slide(name, SMALL).picture)
    assert not np.array_equal(alone, paint_slide(name, replace(SMALL, seed=1)).picture)
    assert not np.array_equal(alone, paint_slide(replace(name, index=0), SMALL).picture)


def test_a_rerun_keeps_finished_slides_and_makes_missing_ones(phantom: Path) -> None:
    """A slide without its record is made again, with the same bytes."""
    before = _files(phantom)
    (phantom / "finished" / "phantom-val1-000.json").unlink()
    (phantom / "slides" / "phantom-val1-000.tif").unlink()
    lines: list[str] = []
    make_phantom(phantom, SMALL, report=lines.append)
    assert [line.endswith("kept") for line in lines] == [True, True, False, True]
    assert _files(phantom) == before


def test_another_configuration_in_the_same_folder_is_an_error(phantom: Path) -> None:
    """Nothing is overwritten, even when the first run never reached its end."""
    before = _files(phantom)
    with pytest.raises(ConfigurationError, match="nothing was changed"):
        make_phantom(phantom, replace(SMALL, seed=7), report=_silent)
    assert _files(phantom) == before


def test_a_manifest_of_real_slides_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("slide_id\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not a phantom's manifest"):
        make_phantom(tmp_path, SMALL, report=_silent)


def test_a_bad_configuration_names_every_fault() -> None:
    with pytest.raises(ConfigurationError, match=r"mpp is 0.*seed is -1"):
        PhantomConfig(mpp=0, seed=-1)


def test_a_slide_too_small_for_its_sections_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="make the slides larger"):
        make_phantom(tmp_path, replace(SMALL, sections_per_slide=(9, 9)), report=_silent)
