"""What a manifest lacks for a whole study is told before anything runs, all of it at once."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_study import annotated, tissue_picture, write_mask, write_slide

from bccdist.configuration import ShardConfig
from bccdist.parts import Label, Part
from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord
from bccdist.stages.requirements import lacks_of_manifest, reading_annotations

SLIDES = tuple(SlideRecord(slide_id=part.short, part=part, path=Path(f"{part.short}.tif")) for part in Part)
SECTIONS = (
    SectionRecord(slide_id="val1", section_id="a", label=Label.TUMOR),
    SectionRecord(slide_id="val2", section_id="b", label=Label.NORMAL),
    SectionRecord(slide_id="test", section_id="c", label=None),
)
WHOLE = Manifest(path=Path("slides.csv"), slides=SLIDES, sections=SECTIONS)


def lacks(manifest: Manifest, *, with_tumor: tuple[str, ...] = ("train", "val1")) -> list[str]:
    return lacks_of_manifest(manifest, lambda record: record.slide_id in with_tumor)


def test_a_manifest_with_all_that_is_needed_lacks_nothing() -> None:
    assert lacks(WHOLE) == []


def without(part: Part) -> Manifest:
    return replace(WHOLE, slides=tuple(slide for slide in SLIDES if slide.part is not part))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: lacks(without(Part.TRAINING)), "no slide is in Training, so nothing could be learned"),
        (lambda: lacks(without(Part.TEST)), "no slide is in Test"),
        (lambda: lacks(WHOLE, with_tumor=("val1",)), r"none of the 1 slide\(s\) of Training has an annotation"),
        (
            lambda: lacks(WHOLE, with_tumor=("train",)),
            "none of the 1 .* of Validation I has .* best: `python jobs/doctor",
        ),
        (
            lambda: lacks(replace(WHOLE, sections=SECTIONS[:1])),
            "no section of Validation I or Validation II is .* Normal",
        ),
        (
            lambda: lacks(replace(WHOLE, sections=SECTIONS[1:])),
            "no section of Validation I or Validation II is .* Tumor",
        ),
    ],
)
def test_each_thing_that_is_lacking_is_one_sentence(change: Callable[[], list[str]], said: str) -> None:
    (lack,) = change()
    assert re.search(said, lack)


def test_all_that_is_lacking_is_told_at_once() -> None:
    assert len(lacks(Manifest(path=Path("slides.csv"), slides=(), sections=()))) == 5


def test_labels_of_the_study_take_the_place_of_the_manifests() -> None:
    unlabelled = replace(WHOLE, sections=())
    assert len(lacks(unlabelled)) == 2
    assert lacks_of_manifest(unlabelled, lambda _: True, labels=SECTIONS) == []


def test_tumor_is_looked_for_in_the_files_and_what_cannot_be_read_holds_none(tmp_path: Path) -> None:
    picture = tissue_picture(1300, 900, seed=0)
    write_slide(tmp_path / "a.tif", picture)
    (tmp_path / "broken.tif").write_text("no slide")
    mask = annotated(1300, 900)
    write_mask(tmp_path / "tumor.png", mask)
    write_mask(tmp_path / "stroma.png", (mask == 2).astype("uint8") * 2)
    (tmp_path / "broken.geojson").write_text("{")
    tumor_in = reading_annotations(WHOLE, ShardConfig())

    def slide(name: str, *annotations: str) -> SlideRecord:
        paths = tuple(tmp_path / each for each in annotations)
        return SlideRecord(slide_id="a", part=Part.TRAINING, path=tmp_path / name, annotations=paths)

    assert tumor_in(slide("a.tif", "tumor.png"))
    assert not tumor_in(slide("a.tif", "stroma.png"))
    assert not tumor_in(slide("a.tif"))
    assert not tumor_in(slide("a.tif", "broken.geojson"))
    assert not tumor_in(slide("broken.tif", "tumor.png"))
