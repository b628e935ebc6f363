"""The labels of today, one source for every table, picture and page: the manifest's, then the corrections.

The ledger keeps the labels that sections had when their heatmaps were made. What the manifest says today comes before
them, and a study's labels.csv (`python analysis/make.py relabel`) before both. Each label goes with who set it, when,
and what a model had filled in.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from bccdist.errors import first_of
from bccdist.log import LOG
from bccdist.parts import Label
from bccdist.paths import StudyPaths
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import BOX_COLUMNS, Manifest, SectionRecord, read_sections

SectionKey = tuple[str, str]
"""(slide_id, section_id)."""
CONFLICT = "conflict"
"""Column of sections.csv and labels.csv: who said what, where readers differ, so that the section has no label."""
ORIGIN = "label_origin"
"""Column of the review's export: where a label comes from, or that it is decided that there is none."""
_ABOUT_LABEL = (CONFLICT, ORIGIN)
_MOST_MOVED = 5
_LABEL_COLUMNS: Mapping[str, Callable[[SectionRecord], str | None]] = {
    "label": lambda section: None if section.label is None else section.label.value,
    "labelled_by": lambda section: section.labelled_by,
    "labelled_at": lambda section: section.labelled_at,
    "prefilled": lambda section: section.prefilled,
}


def key_of(section: SectionRecord) -> SectionKey:
    """Names a section within a study."""
    return section.slide_id, section.section_id


def said_of_label(section: SectionRecord) -> tuple[str, ...]:
    """All that a row says of a label, and nothing else: two rows that say the same are one and the same label.

    An empty column says as much as one that is not there, and how a label came about counts where readers differed.
    """
    conflict = section.extra.get(CONFLICT, "")
    origin = section.extra.get(ORIGIN, "") if conflict else ""
    facts = (section.labelled_by, section.labelled_at, section.prefilled)
    return (section.label.value if section.label else "", *facts, conflict, origin)


def section_keys(table: pa.Table) -> list[SectionKey]:
    """(slide_id, section_id) of each row of the ledger."""
    return list(zip(table["slide_id"].to_pylist(), table["section_id"].to_pylist(), strict=True))


def read_corrections(paths: StudyPaths) -> list[SectionRecord]:
    """The sections whose labels were corrected; none where nothing was.

    Raises:
        ManifestError: labels.csv has faults.
    """
    return read_sections(paths.labels) if paths.labels.exists() else []


def ledger_of_today(table: pa.Table, manifest: Manifest | None, corrections: Iterable[SectionRecord]) -> pa.Table:
    """The ledger with the labels of today; a section that neither names keeps the one that it was made with.

    Args:
        table: rows of the ledger.
        manifest: the study's; None where there is none. A section that lies elsewhere there than in the ledger may be
            another piece of tissue: it is told, and keeps its label until its rows are made anew.
        corrections: sections whose labels were corrected.
    """
    if manifest is not None:
        there = sections_in_ledger(table) if manifest.sections else {}
        if moved := moved_sections(manifest, {key: section.box_level0_px for key, section in there.items()}):
            LOG.warning(told_moved(moved))
        named = (section for section in manifest.sections if key_of(section) in there)
        table = with_labels(table, (each for each in named if lie_together(each, there[key_of(each)])))
    return with_labels(table, corrections)


def with_labels(table: pa.Table, sections: Iterable[SectionRecord]) -> pa.Table:
    """The ledger with other labels, and who set them and when; sections that are not named keep theirs."""
    by_section = {key_of(section): section for section in sections}
    if not by_section:
        return table
    keys = section_keys(table)
    for name, value_of in _LABEL_COLUMNS.items():
        old = table[name].to_pylist()
        new = [value_of(by_section[key]) if key in by_section else was for key, was in zip(keys, old, strict=True)]
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(new, table.schema.field(name).type))
    return table


def sections_in_ledger(table: pa.Table) -> dict[SectionKey, SectionRecord]:
    """Each section of the ledger once, with its box in level-0 px and the label that stands there."""
    columns = table.select(["slide_id", "section_id", *BOX_COLUMNS, *_LABEL_COLUMNS])
    rows = columns.to_pandas().drop_duplicates(["slide_id", "section_id"]).to_dict("records")
    return {
        (row["slide_id"], row["section_id"]): SectionRecord(
            slide_id=row["slide_id"],
            section_id=row["section_id"],
            label=Label(row["label"]) if isinstance(row["label"], str) else None,
            box_level0_px=Box(*(int(row[name]) for name in BOX_COLUMNS)),
            labelled_by=row["labelled_by"] or "",
            labelled_at=row["labelled_at"] or "",
            prefilled=row["prefilled"] or "",
        )
        for row in rows
    }


def lost_corrections(
    corrections: Iterable[SectionRecord], there: Mapping[SectionKey, SectionRecord]
) -> list[SectionRecord]:
    """The corrections of slides that were inferred whose section is not there any more, so that they count nowhere.

    Args:
        corrections: sections whose labels were corrected.
        there: the ledger's sections.
    """
    slides = {slide_id for slide_id, _ in there}
    return [each for each in corrections if each.slide_id in slides and key_of(each) not in there]


def boxes_in_ledger(table: pa.Table) -> dict[SectionKey, Box | None]:
    """The box of each section in level-0 px; of the ledger's columns it needs the ids and `BOX_COLUMNS` alone."""
    sides = zip(*(table[name].to_pylist() for name in BOX_COLUMNS), strict=True)
    return {key: Box(*box) for key, box in zip(section_keys(table), sides, strict=True)}


def moved_sections(manifest: Manifest, there: Mapping[SectionKey, Box | None]) -> list[SectionKey]:
    """The sections that the manifest puts elsewhere than they were judged, or that a judged slide lacks.

    Args:
        manifest: the study's; of a section without a box it says nothing.
        there: the boxes of the ledger's sections.
    """
    slides = {slide_id for slide_id, _ in there}
    return [
        key
        for section in manifest.sections
        if section.box_level0_px is not None and section.slide_id in slides
        if (key := key_of(section)) not in there or there[key] != section.box_level0_px
    ]


def told_moved(moved: Sequence[SectionKey]) -> str:
    """A sentence about such sections, with what to do."""
    names = first_of(["/".join(key) for key in moved], _MOST_MOVED)
    return (
        f"{len(moved)} section(s) of the manifest lie elsewhere than what was judged, or were not judged: {names}. "
        "Run the inference stage again for the same parts and epochs: it makes their rows anew"
    )


def lie_together(one: SectionRecord, other: SectionRecord) -> bool:
    """Whether two sections of a slide may be one piece of tissue: half of the smaller box lies within the other.

    A section without a box says nothing against it.
    """
    if one.box_level0_px is None or other.box_level0_px is None:
        return True
    shared = one.box_level0_px.intersection(other.box_level0_px).area
    return 0 < min(one.box_level0_px.area, other.box_level0_px.area) <= 2 * shared


def sections_of_today(
    manifest: Manifest, corrections: Iterable[SectionRecord], found: Iterable[SectionRecord] = ()
) -> tuple[SectionRecord, ...]:
    """All sections with their labels of today.

    Args:
        manifest: the study's.
        corrections: sections whose labels were corrected.
        found: the ledger's sections; those on slides of which the manifest names none are added, and after them those
            that corrections alone name, as their slides were not inferred yet.
    """
    by_section = {key_of(section): section for section in corrections}
    named = [with_label_of(section, by_section.get(key_of(section))) for section in manifest.sections]
    for others in (found, by_section.values()):
        slides = {slide.slide_id for slide in manifest.slides} - {section.slide_id for section in named}
        named += [
            with_label_of(section, by_section.get(key_of(section))) for section in others if section.slide_id in slides
        ]
    return tuple(named)


def with_label_of(section: SectionRecord, later: SectionRecord | None) -> SectionRecord:
    """A section where it is, with what a later row, if there is one, says of its label."""
    if later is None:
        return section
    said_before = {name: text for name, text in section.extra.items() if name not in _ABOUT_LABEL}
    said_later = {name: later.extra[name] for name in _ABOUT_LABEL if name in later.extra}
    return replace(
        section,
        label=later.label,
        labelled_by=later.labelled_by,
        labelled_at=later.labelled_at,
        prefilled=later.prefilled,
        extra={**said_before, **said_later},
    )
