"""The manifest of the real slides: parts, masks and labels as the data set has them."""

from collections import Counter
from pathlib import Path

import pytest

from bccdist.configuration import ShardConfig
from bccdist.parts import Kind, Label, Part
from bccdist.slides.annotations import read_annotations
from bccdist.slides.manifest import read_manifest
from jobs.make_ebhi_manifest import make_manifest
from shards.patches import open_slide


@pytest.mark.shared_data
def test_a_slide_has_patches_for_the_pools_of_all_three_kinds(shared_data: Path, tmp_path: Path) -> None:
    """Surroundings are the method's stroma: without them its pool is never exercised on real tissue."""
    manifest = read_manifest(make_manifest(shared_data / "ebhi-slides", tmp_path / "ebhi"))
    record = manifest.slides_of([Part.TRAINING])[0]
    with open_slide(record, ShardConfig()) as slide:
        areas_um2 = read_annotations(record.annotations, slide, manifest.kinds).areas_um2
    assert all(areas_um2[kind] > 0 for kind in Kind)


@pytest.mark.shared_data
def test_the_manifest_holds_all_slides_and_sections(shared_data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(make_manifest(shared_data / "ebhi-slides", tmp_path / "ebhi"))
    assert Counter(slide.part for slide in manifest.slides) == {
        Part.TRAINING: 22,
        Part.VALIDATION_1: 5,
        Part.VALIDATION_2: 7,
        Part.TEST: 7,
    }
    assert len(manifest.sections) == 198
    assert {section.label for section in manifest.sections} == set(Label)
    assert all(section.box_level0_px for section in manifest.sections)
    assert all(bool(slide.annotations) == slide.part.is_annotated for slide in manifest.slides)
    assert manifest.kinds.mask_values == {0: None, 1: Kind.NORMAL, 2: Kind.TUMORNEST, 3: Kind.STROMA}
    assert not manifest.is_phantom
