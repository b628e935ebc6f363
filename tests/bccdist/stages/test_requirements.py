"""What a manifest lacks for a whole study is told before anything runs, all of it at once."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_study import annotated, tissue_picture, write_mask, write_slide
from small_study import write_study as write_small_study
from synthetic_slides import write_slide as write_tiff
from tissue_pictures import textured_tissue

from bccdist.configuration import ShardConfig
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.slides.fingerprints import fingerprints_of
from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord
from bccdist.stages.requirements import lacks_of_files, lacks_of_manifest, lacks_of_pixels, reading_annotations
from bccdist.stages.table import SHARDS
from bccdist.study import claim_study

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
    tumor_in = reading_annotations(WHOLE, ShardConfig(), StudyPaths(tmp_path / "study"))

    def slide(name: str, *annotations: str) -> SlideRecord:
        paths = tuple(tmp_path / each for each in annotations)
        return SlideRecord(slide_id="a", part=Part.TRAINING, path=tmp_path / name, annotations=paths)

    assert tumor_in(slide("a.tif", "tumor.png"))
    assert not tumor_in(slide("a.tif", "stroma.png"))
    assert not tumor_in(slide("a.tif"))
    assert not tumor_in(slide("a.tif", "broken.geojson"))
    assert not tumor_in(slide("broken.tif", "tumor.png"))


@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_what_has_gone_is_missed_only_where_it_is_still_needed(tmp_path: Path, ending: str) -> None:
    study = write_small_study(tmp_path, width_px=800, height_px=560)
    manifest, paths = claim_study(study.root, study.manifest), StudyPaths(study.root)
    study.build()
    gone = study.data / f"train-1{ending}"
    gone.unlink()
    record = manifest.slide("train-1")
    assert lacks_of_files(manifest, paths, [SHARDS]) == []
    assert reading_annotations(manifest, ShardConfig(), paths)(record)
    paths.shards.rows("train-1").unlink()
    (lack,) = lacks_of_files(manifest, paths, [SHARDS])
    assert lack == f"slide train-1: {gone} is not there, and not all is made of it yet"
    assert not reading_annotations(manifest, ShardConfig(), paths)(record)


@pytest.fixture
def copied(tmp_path: Path) -> Manifest:
    """A slide, its copy in another container and part, a slide of its size, and one that is no slide."""
    tissue = textured_tissue(0)
    written = {"a": (tissue, (1,)), "b": (tissue, (1, 4)), "c": (textured_tissue(1), (1,))}
    for name, (picture, downsamples) in written.items():
        write_tiff(tmp_path / f"{name}.tif", picture, mpp=2.0, downsamples=downsamples)
    (tmp_path / "d.tif").write_bytes(b"no slide")
    parts = {"a": Part.TRAINING, "b": Part.TEST, "c": Part.TEST, "d": Part.TEST}
    slides = [SlideRecord(slide_id=name, part=part, path=tmp_path / f"{name}.tif") for name, part in parts.items()]
    return Manifest(path=tmp_path / "slides.csv", slides=tuple(slides), sections=())


def test_the_same_pixels_in_two_parts_are_lacking_and_what_was_not_compared_is_told(
    copied: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (lack,) = lacks_of_pixels(copied, StudyPaths(tmp_path / "study"))
    assert lack.startswith("slide b: its pixels are those of a (Training), in another file")
    assert "1 of 4 slides could not be opened, or not in time, and were not compared" in caplog.text
    assert not (tmp_path / "study").exists()


def test_slides_for_which_there_is_no_time_are_counted(
    copied: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert lacks_of_pixels(copied, StudyPaths(tmp_path / "study"), within_s=-1) == []
    assert "4 of 4 slides" in caplog.text


@pytest.mark.parametrize("place", ["study", "beside"])
def test_kept_fingerprints_are_enough(
    copied: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    study = StudyPaths(tmp_path / "study")
    keep_in = study.fingerprints if place == "study" else tmp_path / "fingerprints"
    fingerprints_of(copied.slides[:3], keep_in=keep_in, num_workers=0)
    assert len(lacks_of_pixels(copied, study, within_s=-1)) == 1
    assert "1 of 4 slides" in caplog.text
