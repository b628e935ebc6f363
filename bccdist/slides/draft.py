"""A first manifest from slides that were found and a laboratory's table of them, patients dealt out to the parts."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bccdist.addresses import Location, is_address, without_secrets
from bccdist.errors import ConfigurationError, ManifestError, first_of
from bccdist.files import as_given, write_text
from bccdist.log import LOG
from bccdist.parts import Label, Part
from bccdist.slides.case_table import CaseRow
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import (
    BOX_COLUMNS,
    SLIDE_COLUMNS,
    Manifest,
    SectionRecord,
    SlideRecord,
    positive_number,
    read_manifest,
    section_box,
)
from bccdist.slides.manifest_text import sections_csv, slides_csv
from bccdist.slides.patient_ids import likely_patients
from bccdist.slides.slide_file import open_file
from bccdist.slides.splitting import PatientSlides, split_by_patient

OF_SECTION = ("section_id", "label", *BOX_COLUMNS, "labelled_by", "labelled_at")
_ANNOTATION_ENDINGS = (".ndpa", ".xml", ".geojson")
_MOST_NAMED = 5
_OF_PATH = 0
"""The line of what was said by a slide's place, and not by a table."""
_FOLDER = "its folder"
"""Who labelled a slide whose place says its label."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A laboratory's table."""

    path: Path
    rows: Sequence[CaseRow]


@dataclass(frozen=True, kw_only=True)
class LabelWords:
    """What a laboratory calls the two labels; case does not matter."""

    tumor: Sequence[str] = (Label.TUMOR.value,)
    normal: Sequence[str] = (Label.NORMAL.value,)


def draft_manifest(
    path: Path,
    paths: Mapping[str, Path],
    table: Table | None,
    *,
    by_path: Mapping[str, Mapping[str, str]] | None = None,
    words: LabelWords | None = None,
    shares: Mapping[Part, float],
    seed: int,
) -> Manifest:
    """The manifest of some slides, to lie at `path`; nothing is written.

    Args:
        path: of its slides.csv.
        paths: the slides, by slide_id.
        table: what is known of them; slides that it does not name are left out. None: nothing is known.
        by_path: what the places of slides say of them, by slide_id and column; the table may say the same or more.
        words: what stands for the labels; None takes their own names.
        shares: of the slides by part, where neither says a part.
        seed: of the order in which patients are dealt out.

    Raises:
        ManifestError: the table has faults or contradicts `by_path`, or the manifest would have faults.
    """
    rows = _rows_by_slide(table, paths) if table is not None else {slide_id: [] for slide_id in paths}
    if by_path is not None:
        rows = {slide_id: _with_path(slide_id, each, by_path[slide_id]) for slide_id, each in rows.items()}
    slides = tuple(_slide(slide_id, paths[slide_id], of_slide) for slide_id, of_slide in rows.items())
    source = "" if table is None else table.path.name
    sections = tuple(
        section
        for slide in slides
        for section in _sections(slide, rows[slide.slide_id], words or LabelWords(), source=source)
    )
    _tell_in_order(sections)
    said = {
        slide_id: _part(slide_id, row.values["part"])
        for slide_id, each in rows.items()
        for row in each
        if "part" in row.values
    }
    slides = _with_said(slides, said) if said else _with_dealt(slides, sections, shares=shares, seed=seed)
    manifest = Manifest(path=path, slides=slides, sections=sections)
    _check(manifest)
    return manifest


def _rows_by_slide(table: Table, paths: Mapping[str, Path]) -> dict[str, list[CaseRow]]:
    """The table's rows of each slide that is to be in the manifest.

    Raises:
        ManifestError: a row may mean several slides, or no row means one.
    """
    _refuse_addresses(table)
    names: defaultdict[str, set[str]] = defaultdict(set)
    for slide_id, path in paths.items():
        for name in (slide_id, str(path), *_ends(path), *_ends(path.with_suffix(""))):
            names[name].add(slide_id)
    found: defaultdict[str, list[CaseRow]] = defaultdict(list)
    faults, unknown = [], []
    for row in table.rows:
        given = [row.values[column] for column in ("slide_id", "path") if column in row.values]
        matches = next(filter(None, (_meant(text, names, table.path) for text in given)), set())
        if len(matches) > 1:
            faults.append(f"line {row.line}: {given[0]!r} may be {', '.join(sorted(matches))}; give its path")
        elif matches:
            found[matches.pop()].append(row)
        elif row.values:
            unknown.append(f"line {row.line}: {given[0] if given else 'no slide'}")
    if faults or not found:
        told = faults or [f"none of its rows names a slide that was found, as in {'; '.join(unknown[:_MOST_NAMED])}"]
        raise ManifestError("\n  - ".join([f"{table.path}: {len(told)} fault(s), so nothing was made:", *told]))
    rows = {slide_id: found[slide_id] for slide_id in paths if slide_id in found}
    _tell_left_out(f"row(s) of {table.path.name} name no slide that was found", unknown)
    _tell_left_out(
        f"slide(s) have no row in {table.path.name} and are left out",
        [each for each in paths if each not in found],
    )
    return rows


def _refuse_addresses(table: Table) -> None:
    """Refuse a table of slides on a server, of which none would be found on this machine.

    Raises:
        ManifestError: it names addresses.
    """
    found = [
        f"line {row.line}: {column} is {without_secrets(name.strip())}"
        for row in table.rows
        for column in ("slide_id", "path", "annotation")
        for name in row.values.get(column, "").split(";")
        if is_address(name.strip())
    ]
    if found:
        raise ManifestError(
            f"{table.path}: {len(found)} address(es), as in {found[0]}, and this table is of files of this machine: "
            "name slides and annotations on a server in a slides.csv of your own"
        )


def _with_path(slide_id: str, rows: Sequence[CaseRow], said: Mapping[str, str]) -> list[CaseRow]:
    """The rows of a slide with what its place says.

    Raises:
        ManifestError: a row says something else.
    """
    for row in rows:
        for column, value in said.items():
            if row.values.get(column, value) != value:
                raise ManifestError(
                    f"slide {slide_id}: the pattern says {column} {value!r}, the table's line {row.line} "
                    f"{row.values[column]!r}; take it out of one of them"
                )
    return [replace(row, values={**said, **row.values}) for row in rows] or [CaseRow(line=_OF_PATH, values=dict(said))]


def _part(slide_id: str, text: str) -> Part:
    try:
        return Part.parse(text)
    except ConfigurationError as error:
        raise ManifestError(f"slide {slide_id}: {error}") from None


def _ends(path: Path) -> Iterator[str]:
    """The file's name, and the name behind one folder, two folders and so on."""
    for start in range(1, len(path.parts)):
        yield "/".join(path.parts[start:])


def _meant(text: str, names: Mapping[str, set[str]], table: Path) -> set[str]:
    """The slides that a cell may mean: an id, or the end of a path with or without the file's ending."""
    text = text.replace("\\", "/")
    for name in (text, str(as_given(table.parent / text))):
        if name in names:
            return set(names[name])
    return set()


def _tell_left_out(what: str, which: Sequence[str]) -> None:
    if which:
        LOG.warning(f"{len(which)} {what}: {first_of(which, _MOST_NAMED)}")


def _slide(slide_id: str, path: Path, rows: Sequence[CaseRow]) -> SlideRecord:
    """A slide by the rows of the table, which have to agree.

    Raises:
        ManifestError: they do not.
    """
    said = {}
    for column in SLIDE_COLUMNS:
        texts = sorted({row.values[column] for row in rows if column in row.values})
        if len(texts) > 1 and column not in ("slide_id", "path"):
            raise ManifestError(f"slide {slide_id}: its rows have several values of {column}: {', '.join(texts)}")
        said[column] = texts[0] if texts else ""
    annotations = tuple(path.parent / name for name in said["annotation"].split(";") if name)
    try:
        mpp = positive_number(said, "mpp")
    except ValueError as error:
        raise ManifestError(f"slide {slide_id}: {error}") from None
    return SlideRecord(
        slide_id=slide_id,
        part=Part.TEST,
        path=path,
        annotations=annotations or tuple(_annotations_beside(path)),
        mpp=mpp,
        patient_id=said["patient_id"],
        scanner=said["scanner"],
    )


def _annotations_beside(path: Path) -> Iterator[Path]:
    """An annotation that is called like its slide, with another ending or one more."""
    for ending in _ANNOTATION_ENDINGS:
        for candidate in (path.with_name(path.name + ending), path.with_suffix(ending)):
            if candidate.is_file():
                yield candidate
                return


def _sections(
    slide: SlideRecord, rows: Sequence[CaseRow], words: LabelWords, *, source: str
) -> Iterator[SectionRecord]:
    """The labelled sections of a slide; `source` is the table's name.

    A single row without a section's name or box labels the slide: one box around all of it makes it one section.

    Raises:
        ManifestError: a label is neither of the two.
    """
    labelled = [row for row in rows if row.values.keys() & {"label", "section_id"}]
    is_whole = len(labelled) == 1 and not labelled[0].values.keys() & {"section_id", *BOX_COLUMNS}
    for number, row in enumerate(labelled):
        place = str(slide.path) if row.line == _OF_PATH else f"{source}, line {row.line}"
        label = _label(row, words, place=place)
        if is_whole and label is None:
            return
        try:
            box = _whole(slide.path) if is_whole else section_box(row.values)
        except ValueError as error:
            raise ManifestError(f"{place}: {error}") from None
        yield SectionRecord(
            slide_id=slide.slide_id,
            section_id=row.values.get("section_id", f"{slide.slide_id}-s{number}"),
            label=label,
            box_level0_px=box,
            labelled_by=row.values.get("labelled_by", "" if label is None else source or _FOLDER),
            labelled_at=row.values.get("labelled_at", ""),
        )


def _tell_in_order(sections: Sequence[SectionRecord]) -> None:
    """A row that is there twice by mistake looks like a second section."""
    without = {section.slide_id: None for section in sections if section.box_level0_px is None}
    if without:
        LOG.warning(
            f"{len(without)} slide(s) have rows of sections without boxes, which are matched with the tissue in "
            f"reading order: {', '.join([*without][:_MOST_NAMED])}; if a slide is there twice by mistake, remove a row"
        )


def _label(row: CaseRow, words: LabelWords, *, place: str) -> Label | None:
    text = row.values.get("label", "").casefold()
    if not text:
        return None
    for label, names in ((Label.TUMOR, words.tumor), (Label.NORMAL, words.normal)):
        if text in {name.casefold() for name in names}:
            return label
    raise ManifestError(
        f"{place}: label is {row.values['label']!r}, expected one of "
        f"{', '.join((*words.tumor, *words.normal))} or nothing; --tumor and --normal say what else means them"
    )


def _whole(path: Location) -> Box:
    with open_file(path) as handle:
        return Box(0, 0, *handle.dimensions)


def _with_said(slides: Sequence[SlideRecord], said: Mapping[str, Part]) -> tuple[SlideRecord, ...]:
    """The slides with the parts that the table says.

    Raises:
        ManifestError: it says those of some slides only.
    """
    if without := [slide.slide_id for slide in slides if slide.slide_id not in said]:
        raise ManifestError(
            f"the table says no part of {len(without)} slide(s), such as {without[0]}, and of others it does: say "
            "it of all or of none"
        )
    return tuple(replace(slide, part=said[slide.slide_id]) for slide in slides)


def _with_dealt(
    slides: Sequence[SlideRecord], sections: Sequence[SectionRecord], *, shares: Mapping[Part, float], seed: int
) -> tuple[SlideRecord, ...]:
    """The slides with the parts that their patients are dealt to."""
    if without := [slide.slide_id for slide in slides if not slide.patient_id]:
        LOG.warning(
            f"{len(without)} of {len(slides)} slides have no patient_id; each counts as a patient of its own, and two "
            "slides of one patient may come into different parts: give --table with a column patient_id"
        )
    # Ids that may be one patient's are dealt out as one: `read_manifest` warns of them, and nothing leaks meanwhile.
    first = likely_patients(_patient(slide) for slide in slides)
    of_patient: defaultdict[str, list[SlideRecord]] = defaultdict(list)
    for slide in slides:
        of_patient[first[_patient(slide)]].append(slide)
    labels: defaultdict[str, set[Label]] = defaultdict(set)
    for section in sections:
        if section.label is not None:
            labels[section.slide_id].add(section.label)
    patients = [
        PatientSlides(
            patient=patient,
            num_slides=len(members),
            stratum=_stratum({label for slide in members for label in labels[slide.slide_id]}),
            is_annotated=all(slide.annotations for slide in members),
        )
        for patient, members in of_patient.items()
    ]
    parts = split_by_patient(patients, shares, seed=seed)
    _tell_scarce_tumor(patients, parts, shares)
    return tuple(replace(slide, part=parts[first[_patient(slide)]]) for slide in slides)


def _tell_scarce_tumor(
    patients: Sequence[PatientSlides], parts: Mapping[str, Part], shares: Mapping[Part, float]
) -> None:
    """Where labels are known, a part with no Tumor patient, or one alone, says little or nothing of tumor."""
    if not any(each.stratum for each in patients):
        return
    num = Counter(parts[each.patient] for each in patients if each.stratum == Label.TUMOR.value)
    scarce = [part for part in Part if (shares.get(part, 0) > 0 or part in parts.values()) and num[part] < 2]
    if scarce:
        counts = ", ".join(f"{part.value} has {num[part] or 'none'}" for part in scarce)
        LOG.warning(
            f"of {num.total()} patient(s) with a section labelled Tumor {counts}: figures of such a part rest on one "
            "patient, or cannot be made; give other --shares, or more slides"
        )


def _patient(slide: SlideRecord) -> str:
    # No patient's id has a line break, so that a slide of nobody is nobody's.
    return slide.patient_id or f"\n{slide.slide_id}"


def _stratum(labels: set[Label]) -> str:
    return Label.TUMOR.value if Label.TUMOR in labels else Label.NORMAL.value if labels else ""


def _check(manifest: Manifest) -> None:
    """Refuse what `read_manifest` would, before anything is written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slides.csv"
        if manifest.sections:
            write_text(path.with_name("sections.csv"), sections_csv(manifest.sections))
        write_text(path, slides_csv(replace(manifest, path=path), path.parent))
        try:
            warnings = read_manifest(path).warnings
        except ManifestError as error:
            told = str(error).replace(str(path), f"{manifest.path}, which was not written")
            raise ManifestError(told) from None
        for warning in warnings:
            LOG.warning(warning)
