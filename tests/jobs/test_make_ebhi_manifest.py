"""The manifest of the real slides: parts, masks and labels as the data set has them."""

from collections import Counter
from pathlib import Path

import pytest

from bccdist.parts import Kind, Label, Part
from bccdist.slides.manifest import read_manifest
from jobs.make_ebhi_manifest import make_manifest


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
    assert manifest.kinds.mask_values == {0: None, 1: Kind.NORMAL, 2: Kind.TUMORNEST, 3: None}
    assert not manifest.is_phantom
