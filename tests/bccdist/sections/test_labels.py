"""Sections that the manifest moved since they were judged are told, whichever way they were moved."""

from pathlib import Path

from bccdist.parts import Part
from bccdist.sections.labels import moved_sections, told_moved
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import Manifest, SectionRecord, SlideRecord


def section(name: str, box: Box | None, slide_id: str = "s") -> SectionRecord:
    return SectionRecord(slide_id=slide_id, section_id=name, label=None, box_level0_px=box)


def moved(*sections: SectionRecord) -> list[tuple[str, str]]:
    slides = tuple(SlideRecord(slide_id=name, part=Part.TEST, path=Path(f"{name}.tif")) for name in ("s", "t"))
    manifest = Manifest(path=Path("slides.csv"), slides=slides, sections=sections)
    there = {("s", "a"): Box(0, 0, 100, 100), ("s", "b"): Box(200, 0, 100, 100)}
    return moved_sections(manifest, there)


def test_another_box_and_a_section_that_was_not_judged_are_told_and_others_are_not() -> None:
    assert moved(
        section("a", Box(0, 0, 100, 100)),
        section("b", Box(200, 0, 100, 90)),
        section("c", Box(400, 0, 50, 50)),
        section("x", Box(0, 0, 10, 10), slide_id="t"),
    ) == [("s", "b"), ("s", "c")]


def test_a_section_without_a_box_says_nothing_of_its_place() -> None:
    assert moved(section("a", None), section("c", None)) == []


def test_what_to_do_is_said_with_the_names() -> None:
    text = told_moved([("s", "b")])
    assert text.startswith("1 section(s) of the manifest lie elsewhere than what was judged, or were not judged: s/b.")
    assert "Run the inference stage again" in text
