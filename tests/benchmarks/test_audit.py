"""The audit's benchmark plants errors of three kinds, counts what a list finds, and fixes it as a reviewer does."""

import json
from pathlib import Path
from typing import Any

import shapely
from audit_study import LEFT_OUT_LEVEL0_PX, SETTING, WRONG, kinds_marked, write_audited_study
from shapely.geometry import shape

from bccdist.audit.table import read_audit
from bccdist.parts import Kind, Part
from bccdist.paths import StudyPaths
from bccdist.phantom.config import PhantomConfig
from bccdist.phantom.slides import make_phantom
from bccdist.slides.manifest import Manifest, read_manifest
from benchmarks.audit import Planted, fixes_of, found_in, num_learned, plant, write_fixed

SMALL = PhantomConfig(
    num_train=2,
    num_val1=1,
    num_val2=0,
    num_test=0,
    sections_per_slide=(1, 1),
    slide_width_level0_px=1600,
    slide_height_level0_px=1280,
    tumor_share=1.0,
    annotated_share=1.0,
)


def features(manifest: Manifest, part: Part) -> dict[str, list[dict[str, Any]]]:
    """What is drawn on each slide."""
    files = {slide.slide_id: Path(str(slide.annotations[0])) for slide in manifest.slides_of([part])}
    return {slide_id: list(json.loads(path.read_text())["features"]) for slide_id, path in files.items()}


def test_errors_of_all_kinds_are_planted_in_training_alone_and_all_else_stands(tmp_path: Path) -> None:
    clean = read_manifest(make_phantom(tmp_path / "phantom", SMALL, report=lambda _: None))
    planted = plant(tmp_path / "planted", clean, share=0.3, seed=1)
    assert {error.error for error in planted} == {"left out", "moved", "swapped"}
    changed = read_manifest(tmp_path / "planted" / "slides.csv")
    after = features(changed, Part.TRAINING)
    for slide_id, before in features(clean, Part.TRAINING).items():
        errors = [error for error in planted if error.slide_id == slide_id]
        new = [number for number, each in enumerate(after[slide_id]) if each not in before]
        assert new == sorted(error.number for error in errors if error.wrong is not None)
        assert len(after[slide_id]) == len(before) - sum(error.wrong is None for error in errors)
        assert all(
            shape(after[slide_id][error.number]["geometry"]).equals(error.wrong) for error in errors if error.wrong
        )
    assert features(changed, Part.VALIDATION_1) == features(clean, Part.VALIDATION_1)


def test_what_is_found_is_counted_and_fixed_through_the_review(tmp_path: Path) -> None:
    small = write_audited_study(tmp_path / "audited")
    study = StudyPaths(small.root)
    table = read_audit(study.audit(SETTING).table)
    first = table.slice(0, 1).to_pylist()[0]
    swapped = shapely.from_wkb(first["geometry"])
    number = int(first["id"].rpartition("-")[2])
    left_out = shapely.box(*LEFT_OUT_LEVEL0_PX)
    planted = [
        Planted("swapped", WRONG, number, Kind.NORMAL, swapped, swapped),
        Planted("left out", WRONG, -1, Kind.TUMORNEST, left_out, None),
        Planted("left out", WRONG, -1, Kind.TUMORNEST, shapely.box(0, 0, 50, 50), None),
    ]
    found = found_in(table, planted, unit="place")
    assert (found.num_looked_at, found.by_error) == (1, {"left out": (0, 2), "moved": (0, 0), "swapped": (1, 1)})
    assert num_learned(table, planted) == 1, "nobody predicts tumor in the corner"
    fixes = fixes_of(table, planted, 3)
    assert sorted(kind or "" for kind in fixes.values()) == ["Normal", "Tumornest"]
    write_fixed(study, SETTING, tmp_path / "fixed", fixes)
    before, after = (kinds_marked(path, WRONG) for path in (small.manifest, tmp_path / "fixed" / "slides.csv"))
    assert after["Normal"] > before["Normal"]
    assert 0 < after["Tumornest"] < before["Tumornest"]
