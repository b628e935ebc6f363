"""Drawn regions are checked, made valid, and come out as QuPath's GeoJSON that this project reads again."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from annotated_slides import blank_slide, whole
from review_study import drawn_square

from analysis.review.corrections import MOST_FEATURES, checked_regions, geometry_of, qupath_collection
from bccdist.errors import AnnotationError
from bccdist.parts import Kind
from bccdist.slides.annotations import read_annotations
from bccdist.slides.manifest import DEFAULT_KINDS

SIZE = (120, 80)


def test_a_region_keeps_its_kind_and_section() -> None:
    drawn = drawn_square(10, 10, 20, "Normal")
    drawn["properties"] |= {"section_id": "s-1", "area_um2": 3, "evil": "<script>", "copied_from": "resnet34_ds"}
    (found,) = checked_regions([drawn], size_level0_px=SIZE)
    assert found["properties"] == {"kind": "Normal", "section_id": "s-1", "copied_from": "resnet34_ds"}
    assert found["id"] == drawn["id"]
    assert geometry_of(found).equals(geometry_of(drawn))


def test_without_a_kind_it_is_tumor() -> None:
    drawn = drawn_square(10, 10, 20)
    drawn["properties"] = None
    (found,) = checked_regions([drawn], size_level0_px=SIZE)
    assert found["properties"]["kind"] == "Tumornest"


def test_an_outline_that_crosses_itself_is_repaired_and_one_beyond_the_slide_is_cut() -> None:
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [40, 40], [40, 0], [0, 40], [0, 0]]]}
    found = checked_regions(
        [{"type": "Feature", "id": "bow", "geometry": bow, "properties": {}}, drawn_square(100, 60, 50)],
        size_level0_px=SIZE,
    )
    assert all(geometry_of(each).is_valid for each in found)
    assert geometry_of(found[0]).area == pytest.approx(800)
    assert geometry_of(found[1]).bounds == (100, 60, 120, 80)


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (None, "expected a list"),
        ({"type": "FeatureCollection"}, "expected a list"),
        ([drawn_square(0, 0, 1)] * (MOST_FEATURES + 1), "at most"),
        (["text"], "feature 0: expected GeoJSON"),
        ([{"id": "a", "geometry": {"type": "Nonsense"}}], "feature 0: expected GeoJSON"),
        ([drawn_square(1, 1, 2, "Cat")], "a kind of Tumornest, Stroma, Normal"),
        ([drawn_square(1, 1, 2), drawn_square(500, 500, 2)], "feature 1: it lies outside"),
        ([{"id": "a", "geometry": {"type": "Point", "coordinates": [1, 1]}}], "without area"),
        ([{"id": "a", "geometry": {"type": "LineString", "coordinates": [[1, 1], [2, 2]]}}], "without area"),
        ([drawn_square(float("nan"), 1, 2)], "feature 0"),
        ([{**drawn_square(1, 1, 2), "id": None}], "expected GeoJSON with an id"),
        ([drawn_square(1, 1, 2), drawn_square(1, 1, 2)], "the same id"),
    ],
)
def test_what_is_no_region_is_refused(features: Any, says: str) -> None:
    with pytest.raises(AnnotationError, match=says):
        checked_regions(features, size_level0_px=SIZE)


def tangle(name: str) -> Any:
    """An outline that crosses itself thousands of times, or thousands of corners that cross once."""
    random = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 5001)
    corners = {
        "scribble": random.uniform(0, 80, (3000, 2)),
        "star": 40 + 40 * np.stack([np.cos(2500 * angles), np.sin(2500 * angles)], axis=1),
        "zigzag": np.stack([np.arange(4000) % 2 * 79.0, np.abs(2000 - np.arange(4000)) / 50 % 79], axis=1),
        "long": np.concatenate([40 + 30 * np.stack([np.cos(angles * 9), np.sin(angles * 9)], axis=1)] * 5),
    }[name]
    ring = [*corners.tolist(), corners[0].tolist()]
    return {"type": "Feature", "id": name, "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}


@pytest.mark.parametrize("name", ["scribble", "star", "zigzag", "long"])
def test_an_outline_that_crosses_itself_thousands_of_times_is_refused_in_time(name: str) -> None:
    """To mend 3,000 corners at random takes minutes."""
    begun_s = time.process_time()
    with pytest.raises(AnnotationError, match="it crosses itself, and has more than"):
        checked_regions([tangle(name)], size_level0_px=SIZE)
    assert time.process_time() - begun_s < 2


def test_what_qupath_gets_is_read_again_as_annotations(tmp_path: Path) -> None:
    regions = checked_regions([drawn_square(20, 20, 20), drawn_square(60, 40, 10, "Normal")], size_level0_px=SIZE)
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(qupath_collection(regions, reviewer="anna", at="2026", origin_level0_px=(0, 0))))
    slide = blank_slide()
    masks = read_annotations([path], slide, DEFAULT_KINDS).masks(whole(slide))
    assert {kind: int(mask.sum()) for kind, mask in masks.items()} == {
        Kind.TUMORNEST: 100,
        Kind.STROMA: 0,
        Kind.NORMAL: 25,
    }


def test_qupath_counts_from_the_corner_of_what_was_scanned() -> None:
    regions = checked_regions([drawn_square(20, 20, 20)], size_level0_px=SIZE)
    content = qupath_collection(regions, reviewer="anna", at="2026", origin_level0_px=(5, 7))
    (feature,) = content["features"]
    assert shapely.from_geojson(json.dumps(feature["geometry"])).bounds == (15, 13, 35, 33)
    assert content["bccdist"] == {"origin_level0_px": [5, 7]}
    assert feature["properties"]["classification"]["name"] == "Tumornest"
    assert feature["properties"]["metadata"] == {"reviewer": "anna", "at": "2026"}
