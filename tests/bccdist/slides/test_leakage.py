"""Slides of which one tells about another are named in pairs, with the parts that they are in."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_slides import write_slide
from tissue_pictures import textured_tissue

from bccdist.parts import Part
from bccdist.slides.fingerprints import Fingerprint, fingerprints_of
from bccdist.slides.leakage import likeness_leaks, pixel_leaks
from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord

TRAIN, TEST = Part.TRAINING, Part.TEST


def manifest_of(*slides: tuple[str, Part, str], folder: Path = Path("none")) -> Manifest:
    """Slides by (slide_id, part, patient_id)."""
    records = [
        SlideRecord(slide_id=name, part=part, path=folder / f"{name}.tif", patient_id=patient)
        for name, part, patient in slides
    ]
    return Manifest(path=folder / "slides.csv", slides=tuple(records), sections=())


@pytest.mark.parametrize(("part", "is_across"), [(TEST, True), (TRAIN, False)])
def test_the_same_pixels_are_named_with_both_slides(part: Part, *, is_across: bool) -> None:
    manifest = manifest_of(("a", TRAIN, ""), ("b", TEST, ""), ("c", part, ""))
    (leak,) = pixel_leaks(manifest, {"a": "1", "b": "2", "c": "1"})
    assert (leak.slide_id, leak.other_id, leak.is_across_parts) == ("c", "a", is_across)
    assert leak.text.startswith("its pixels are those of a (Training), in another file: ")


def test_a_copy_in_another_part_is_told_before_one_in_the_same() -> None:
    manifest = manifest_of(("a", TRAIN, ""), ("b", TEST, ""), ("c", TEST, ""), ("d", TRAIN, ""))
    leaks = pixel_leaks(manifest, dict.fromkeys("abcd", "1"))
    assert [(leak.slide_id, leak.other_id) for leak in leaks] == [("b", "a"), ("c", "a"), ("d", "b")]
    assert all(leak.is_across_parts for leak in leaks)


def test_slides_without_content_or_not_compared_are_no_leak() -> None:
    manifest = manifest_of(("a", TRAIN, ""), ("b", TEST, ""), ("c", TEST, ""))
    assert pixel_leaks(manifest, {"a": "", "b": ""}) == pixel_leaks(manifest, {"a": "1"}) == []


def test_one_file_under_two_names_is_left_to_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"1")
    (tmp_path / "b.tif").symlink_to("a.tif")
    (tmp_path / "c.tif").write_bytes(b"1")
    manifest = manifest_of(("a", TRAIN, ""), ("b", TEST, ""), ("c", TEST, ""), folder=tmp_path)
    assert [leak.slide_id for leak in pixel_leaks(manifest, dict.fromkeys("abc", "1"))] == ["c"]


@pytest.fixture(scope="module")
def prints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fingerprint]:
    """Of slide a, its quarter turn b, its copy c, and another piece d."""
    folder = tmp_path_factory.mktemp("slides")
    tissue = textured_tissue(0)
    pictures = {"a": tissue, "b": np.rot90(tissue), "c": tissue, "d": textured_tissue(1)}
    manifest = manifest_of(*((name, TEST, "") for name in pictures), folder=folder)
    for name, picture in pictures.items():
        write_slide(folder / f"{name}.tif", np.ascontiguousarray(picture), mpp=2.0)
    found, _ = fingerprints_of(manifest.slides, keep_in=None, num_workers=0)
    return found


def test_a_piece_scanned_twice_is_told_and_its_copy_is_told_as_a_copy(prints: dict[str, Fingerprint]) -> None:
    manifest = manifest_of(("a", TRAIN, "1"), ("b", TEST, "2"), ("c", TEST, ""), ("d", TEST, ""))
    leaks = likeness_leaks(manifest, prints)
    assert [(leak.slide_id, leak.other_id, leak.is_across_parts) for leak in leaks] == [("b", "a", True)]
    assert leaks[0].text.startswith("it and a (Training) look like one piece of tissue: ")
    assert [
        leak.slide_id for leak in pixel_leaks(manifest, {name: each.content for name, each in prints.items()})
    ] == ["c"]


@pytest.mark.parametrize(
    ("part", "patients", "is_told"),
    [(TRAIN, ("7", "7"), False), (TRAIN, ("7", ""), True), (TRAIN, ("", ""), True), (TEST, ("7", "7"), True)],
)
def test_sections_of_one_patient_in_one_part_may_look_alike(
    prints: dict[str, Fingerprint], part: Part, patients: tuple[str, str], *, is_told: bool
) -> None:
    manifest = manifest_of(("a", TRAIN, patients[0]), ("b", part, patients[1]))
    assert bool(likeness_leaks(manifest, {name: prints[name] for name in "ab"})) is is_told


def test_patients_of_sections_count_too(prints: dict[str, Fingerprint]) -> None:
    slides = manifest_of(("a", TRAIN, "7"), ("b", TRAIN, ""))
    section = SectionRecord(slide_id="b", section_id="b-0", label=None, patient_id="7")
    manifest = Manifest(path=slides.path, slides=slides.slides, sections=(section,))
    assert likeness_leaks(manifest, {name: prints[name] for name in "ab"}) == []
