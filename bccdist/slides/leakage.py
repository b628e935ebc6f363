"""Slides of which one tells about another: the same pixels in two files, one piece of tissue scanned twice."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from bccdist.slides.fingerprints import Fingerprint
from bccdist.slides.likeness import look_alikes
from bccdist.slides.manifest import Manifest, SlideRecord


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A slide that tells about another one."""

    slide_id: str
    """The later of the two in the manifest."""
    other_id: str
    has_same_pixels: bool
    """Else it looks alike."""
    is_across_parts: bool
    text: str
    """What, and what to do; the slide's id stands elsewhere."""


def pixel_leaks(manifest: Manifest, contents: Mapping[str, str]) -> list[Leak]:
    """Slides whose pixels are those of an earlier slide, in another file.

    Args:
        manifest: of the slides.
        contents: what `Fingerprint.content` names, by slide_id; slides that are missing are not compared.
    """
    named = [manifest.slide(slide_id) for slide_id, content in contents.items() if content]
    by_content = sorted(named, key=lambda record: contents[record.slide_id])
    groups = [list(group) for _, group in groupby(by_content, key=lambda record: contents[record.slide_id])]
    return [leak for group in groups for leak in _leaks_of_group(group)]


def _leaks_of_group(group: Sequence[SlideRecord]) -> Iterator[Leak]:
    """Each slide but the first, with an earlier one, of another part if there is one."""
    for number, record in enumerate(group[1:], start=1):
        earlier = [other for other in group[:number] if not _is_one_file(record, other)]
        other = next((other for other in earlier if other.part is not record.part), next(iter(earlier), None))
        if other is not None:
            is_across = other.part is not record.part
            why = (
                f"a network would be judged by what it was made with, in {other.part} and {record.part}"
                if is_across
                else "it would count twice"
            )
            yield Leak(
                slide_id=record.slide_id,
                other_id=other.slide_id,
                has_same_pixels=True,
                is_across_parts=is_across,
                text=f"its pixels are those of {other.slide_id} ({other.part}), in another file: {why}; "
                "take one of them out of slides.csv",
            )


def _is_one_file(one: SlideRecord, other: SlideRecord) -> bool:
    """One file under two names is a fault of the manifest already."""
    if isinstance(one.path, Path) and isinstance(other.path, Path):
        return one.path.exists() and other.path.exists() and one.path.samefile(other.path)
    return one.path == other.path


def likeness_leaks(manifest: Manifest, fingerprints: Mapping[str, Fingerprint]) -> list[Leak]:
    """Slides that look like one piece of tissue with another one, though their pixels differ.

    Slides of one patient in one part may: they can be neighbouring sections of a block, and nothing leaks. Of slides
    with the same pixels, which `pixel_leaks` tells of, the first stands for all.
    """
    order = {slide.slide_id: number for number, slide in enumerate(manifest.slides)}
    leaks = []
    for found in look_alikes(_once_each(fingerprints)):
        other, record = (manifest.slide(name) for name in sorted(found.slide_ids, key=lambda name: order[name]))
        is_across = record.part is not other.part
        if not is_across and _patients_of(manifest, record) == _patients_of(manifest, other) != set():
            continue
        text = (
            f"it and {other.slide_id} ({other.part}) look like one piece of tissue: {found.num_agreeing} landmarks "
            f"agree{', mirrored' if found.is_mirrored else ''}; look at both: if they are one piece that was scanned "
            "or saved twice, keep one of them, or both in one part"
        )
        leaks.append(
            Leak(
                slide_id=record.slide_id,
                other_id=other.slide_id,
                has_same_pixels=False,
                is_across_parts=is_across,
                text=text,
            )
        )
    return leaks


def _once_each(fingerprints: Mapping[str, Fingerprint]) -> dict[str, Fingerprint]:
    """Without the slides whose pixels an earlier one has."""
    first_of: dict[str, str] = {}
    for slide_id, fingerprint in fingerprints.items():
        first_of.setdefault(fingerprint.content or slide_id, slide_id)
    return {slide_id: fingerprints[slide_id] for slide_id in first_of.values()}


def _patients_of(manifest: Manifest, record: SlideRecord) -> set[str]:
    named = {record.patient_id, *(section.patient_id for section in manifest.sections_of(record.slide_id))}
    return named - {""}
