"""Which section of a study each row of a file of labels speaks of: by its box where it gives one, else by its id."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bccdist.errors import first_of
from bccdist.sections.labels import SectionKey, key_of, lie_together
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import SectionRecord

_MOST_NAMED = 5
_LEAST_OVERLAP = 0.5
"""Share of what two boxes cover together that both cover, from which on they are about the same."""


class Matched(NamedTuple):
    """What was found for the rows of a file."""

    pairs: list[tuple[SectionRecord, SectionRecord]]
    """Each row with the study's section that it speaks of; a row of a slide without known sections with itself."""
    unknown_slides: list[str]
    """Slides that the study does not have."""
    faults: list[str]
    """Rows that fit no section, a sentence each."""


def match_sections(
    given: Iterable[SectionRecord], there: Mapping[SectionKey, SectionRecord], slide_ids: Iterable[str]
) -> Matched:
    """The section of the study that each row speaks of.

    Args:
        given: the rows.
        there: the study's sections.
        slide_ids: all of the study's slides; of some no section may be known yet.
    """
    by_slide: defaultdict[str, dict[str, SectionRecord]] = defaultdict(dict)
    for slide_id, section_id in there:
        by_slide[slide_id][section_id] = there[slide_id, section_id]
    known = {*slide_ids, *by_slide}
    matched = Matched([], [], [])
    rows_of: defaultdict[SectionKey, list[str]] = defaultdict(list)
    for row in given:
        if row.slide_id not in known:
            matched.unknown_slides.append(row.slide_id)
            continue
        found = _find(row, by_slide[row.slide_id]) if row.slide_id in by_slide else row
        if isinstance(found, str):
            matched.faults.append(f"{row.slide_id}: {found}")
        else:
            rows_of[key_of(found)].append(row.section_id)
            matched.pairs.append((row, found))
    matched.faults.extend(_twice_faults(rows_of))
    return matched


def _find(row: SectionRecord, there: Mapping[str, SectionRecord]) -> SectionRecord | str:
    """The section that a row speaks of, or what is wrong with the row."""
    same_id = there.get(row.section_id)
    if row.box_level0_px is None or all(section.box_level0_px is None for section in there.values()):
        names = first_of(sorted(there), _MOST_NAMED)
        return same_id or f"section_id {row.section_id!r} is none of its {len(there)} section(s) ({names})"
    lying_there = [each for each in there.values() if lie_together(row, each)]
    place = _text(row.box_level0_px)
    if not lying_there:
        if same_id is not None and same_id.box_level0_px is not None:
            here = _text(same_id.box_level0_px)
            return f"section_id {row.section_id!r} lies at {place} in the file, and at {here} here"
        return f"no section lies where {row.section_id!r} is, at {place}"
    best = lying_there[0] if len(lying_there) == 1 else _most_alike(row, lying_there)
    if best is None:
        names = first_of([each.section_id for each in lying_there], _MOST_NAMED)
        return f"{row.section_id!r}, at {place}, lies over several sections: {names}"
    if same_id is not None and best is not same_id:
        return f"section_id {row.section_id!r} has the place of section {best.section_id!r} here, {place}"
    return best


def _most_alike(row: SectionRecord, sections: Sequence[SectionRecord]) -> SectionRecord | None:
    """The section whose box is about the row's; None where none is. Boxes of oblique strips overlap."""
    alike = {each.section_id: _overlap(row, each) for each in sections}
    best = max(sections, key=lambda each: (alike[each.section_id], each.section_id == row.section_id))
    return best if alike[best.section_id] >= _LEAST_OVERLAP else None


def _overlap(row: SectionRecord, section: SectionRecord) -> float:
    if row.box_level0_px is None or section.box_level0_px is None:
        return 0.0
    return row.box_level0_px.overlap(section.box_level0_px)


def _twice_faults(rows_of: Mapping[SectionKey, list[str]]) -> Iterator[str]:
    for (slide_id, section_id), names in rows_of.items():
        if len(names) > 1:
            yield f"{slide_id}: {', '.join(map(repr, names))} all lie where section {section_id!r} is"


def _text(box_level0_px: Box) -> str:
    x, y, width, height = box_level0_px
    return f"({x}, {y}, {width} x {height} px)"
