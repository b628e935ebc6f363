"""The manifest: slides.csv, sections.csv beside it, and kinds.toml for the names that annotations use.

`slides.csv`: slide_id, part, path; optionally annotation, mpp, patient_id, scanner.
`sections.csv`: slide_id, section_id, label; optionally x_level0_px, y_level0_px, width_level0_px,
height_level0_px (all four or none), labelled_by, labelled_at, prefilled, patient_id.
Paths are relative to the file that names them. Unknown columns are kept in `extra`.
"""

import csv
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from bccdist.errors import ManifestError
from bccdist.files import digest_of
from bccdist.parts import Kind, Label, Part
from bccdist.slides.geometry import Box

Record = TypeVar("Record")
PHANTOM_SCANNER = "phantom"
_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
_BOX_COLUMNS = ("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px")
_SLIDE_COLUMNS = ("slide_id", "part", "path", "annotation", "mpp", "patient_id", "scanner")
_SECTION_COLUMNS = (
    "slide_id",
    "section_id",
    "label",
    *_BOX_COLUMNS,
    "labelled_by",
    "labelled_at",
    "prefilled",
    "patient_id",
)


@dataclass(frozen=True, kw_only=True)
class SlideRecord:
    """One row of slides.csv."""

    slide_id: str
    part: Part
    path: Path
    annotation: Path | None = None
    mpp: float | None = None
    """Overrides what the scanner wrote; um per level-0 pixel."""
    patient_id: str = ""
    scanner: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SectionRecord:
    """One row of sections.csv: one connected piece of tissue and its label."""

    slide_id: str
    section_id: str
    label: Label
    box_level0_px: Box | None = None
    labelled_by: str = ""
    labelled_at: str = ""
    prefilled: str = ""
    patient_id: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """What the names in annotation files and the values in mask images mean; None means nothing of interest."""

    names: Mapping[str, Kind | None]
    mask_values: Mapping[int, Kind | None]


DEFAULT_KINDS = Kinds(
    names={kind.value: kind for kind in Kind},
    mask_values={0: None, 1: Kind.TUMORNEST, 2: Kind.STROMA, 3: Kind.NORMAL},
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All slides and sections of a data set, checked."""

    path: Path
    slides: tuple[SlideRecord, ...]
    sections: tuple[SectionRecord, ...]
    kinds: Kinds = DEFAULT_KINDS

    @property
    def is_phantom(self) -> bool:
        """Whether any slide is drawn instead of scanned; every output says so then."""
        return any(slide.scanner == PHANTOM_SCANNER for slide in self.slides)

    @property
    def digest(self) -> str:
        """Names the content of the manifest, not of the slides."""
        rows = [[repr(record) for record in self.slides], [repr(record) for record in self.sections]]
        return digest_of([*rows, repr(self.kinds)])

    def slides_of(self, parts: Iterable[Part]) -> list[SlideRecord]:
        """The slides of some parts, in the manifest's order."""
        wanted = set(parts)
        return [slide for slide in self.slides if slide.part in wanted]

    def slide(self, slide_id: str) -> SlideRecord:
        """The slide called `slide_id`.

        Raises:
            ManifestError: there is none.
        """
        for record in self.slides:
            if record.slide_id == slide_id:
                return record
        raise ManifestError(f"{self.path}: no slide {slide_id!r} among its {len(self.slides)} slides")

    def sections_of(self, slide_id: str) -> list[SectionRecord]:
        """The sections of one slide, in the manifest's order."""
        return [section for section in self.sections if section.slide_id == slide_id]


def read_manifest(path: Path) -> Manifest:
    """Read and check slides.csv at `path`, with sections.csv and kinds.toml beside it where they are.

    Raises:
        ManifestError: anything is wrong; one message lists every fault.
    """
    path = path.resolve()
    sections_path = path.with_name("sections.csv")
    problems: list[str] = []
    slide_rows = _read_rows(path, ("slide_id", "part", "path"), problems)
    section_rows: list[_Row] = []
    if sections_path.exists():
        section_rows = _read_rows(sections_path, ("slide_id", "section_id", "label"), problems)
    slides = _parse_rows(slide_rows, _parse_slide, path.parent, problems)
    sections = _parse_rows(section_rows, _parse_section, path.parent, problems)
    kinds = _read_kinds(path.with_name("kinds.toml"), problems)
    problems += _repetition_faults(slide_rows, "slide_id") + _repetition_faults(section_rows, "section_id")
    problems += _unknown_slide_faults(slide_rows, section_rows)
    problems += _slide_faults(slides) + _box_faults(sections) + _patient_faults(slides, sections)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ManifestError(f"{path}: {len(problems)} fault(s) in the manifest:\n{listed}")
    return Manifest(path=path, slides=tuple(slides), sections=tuple(sections), kinds=kinds)


class _Row(NamedTuple):
    """A row of a CSV file as it stands there."""

    place: str
    """File and line, for messages."""
    header: list[str]
    fields: list[str]

    @property
    def values(self) -> dict[str, str]:
        """The fields by their columns."""
        return dict(zip(self.header, self.fields, strict=False))


def _read_rows(path: Path, required: tuple[str, ...], problems: list[str]) -> list[_Row]:
    """The rows of a CSV file that are not blank; what is wrong with the whole file goes to `problems`."""
    if not path.is_file():
        problems.append(f"{path} is not there; give the path of a slides.csv")
        return []
    lines = _read_lines(path, problems)
    if not lines:
        return []
    (_, header), *rows = lines
    missing = [column for column in required if column not in header]
    repeated = _repeated(column for column in header if column)
    if missing:
        problems.append(f"{path.name}: required column(s) missing: {', '.join(missing)}; its header has {header}")
    if repeated:
        problems.append(f"{path.name}: column(s) named more than once: {', '.join(repeated)}")
    if not rows:
        problems.append(f"{path.name}: no rows under the header")
    if missing or repeated:
        return []
    return [_Row(place=f"{path.name}, line {line}", header=header, fields=fields) for line, fields in rows]


def _read_lines(path: Path, problems: list[str]) -> list[tuple[int, list[str]]]:
    """Line number and fields of each line that is not blank; none if the file is no CSV."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            numbered = [(reader.line_num, [field.strip() for field in fields]) for fields in reader]
        except (UnicodeDecodeError, csv.Error) as error:
            problems.append(f"{path.name}, after line {reader.line_num}: not readable as CSV in UTF-8: {error}")
            return []
    lines = [(number, fields) for number, fields in numbered if any(fields)]
    if not lines:
        problems.append(f"{path.name}: it is empty")
    return lines


def _parse_rows(
    rows: list[_Row], parse: Callable[[dict[str, str], Path], Record], folder: Path, problems: list[str]
) -> list[Record]:
    """The parsed rows; what cannot be parsed goes to `problems`."""
    records = []
    for row in rows:
        if len(row.fields) != len(row.header):
            problems.append(f"{row.place}: {len(row.fields)} fields, expected {len(row.header)} as in the header")
            continue
        try:
            records.append(parse(row.values, folder))
        except (ValueError, OSError) as error:
            problems.append(f"{row.place}: {error}")
    return records


def _parse_slide(row: dict[str, str], folder: Path) -> SlideRecord:
    slide_path = _existing_path(row, "path", folder)
    if slide_path is None:
        raise ValueError("path is empty")
    return SlideRecord(
        slide_id=_identifier(row, "slide_id"),
        part=Part.parse(row["part"]),
        path=slide_path,
        annotation=_existing_path(row, "annotation", folder),
        mpp=_positive_number(row, "mpp"),
        patient_id=row.get("patient_id", ""),
        scanner=row.get("scanner", ""),
        extra={key: value for key, value in row.items() if key and key not in _SLIDE_COLUMNS},
    )


def _parse_section(row: dict[str, str], _folder: Path) -> SectionRecord:
    if row["label"] not in list(Label):
        raise ValueError(f"label is {row['label']!r}, expected one of {', '.join(Label)}")
    return SectionRecord(
        slide_id=_identifier(row, "slide_id"),
        section_id=_identifier(row, "section_id"),
        label=Label(row["label"]),
        box_level0_px=_section_box(row),
        labelled_by=row.get("labelled_by", ""),
        labelled_at=row.get("labelled_at", ""),
        prefilled=row.get("prefilled", ""),
        patient_id=row.get("patient_id", ""),
        extra={key: value for key, value in row.items() if key and key not in _SECTION_COLUMNS},
    )


def _identifier(row: dict[str, str], column: str) -> str:
    text = row[column]
    if not _ID_PATTERN.fullmatch(text):
        raise ValueError(
            f"{column} is {text!r}; use letters, digits, '_', '-' and '+' only "
            "(it names files, and WebDataset splits names at the first dot)"
        )
    return text


def _existing_path(row: dict[str, str], column: str, folder: Path) -> Path | None:
    text = row.get(column, "")
    if not text:
        return None
    path = folder / text
    if not path.exists():
        raise ValueError(f"{column} {text!r} is not there (looked at {path})")
    return path


def _positive_number(row: dict[str, str], column: str) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        raise ValueError(f"{column} is {text!r}, expected a number above 0 or nothing")
    return number


def _section_box(row: dict[str, str]) -> Box | None:
    texts = [row.get(column, "") for column in _BOX_COLUMNS]
    if not any(texts):
        return None
    try:
        box = Box(*(int(text) for text in texts))
    except ValueError:
        raise ValueError(f"the box {texts} is not four whole numbers ({', '.join(_BOX_COLUMNS)})") from None
    if box.x < 0 or box.y < 0 or box.width <= 0 or box.height <= 0:
        raise ValueError(f"the box {tuple(box)} has a negative corner or no area")
    return box


def _read_kinds(path: Path, problems: list[str]) -> Kinds:
    if not path.exists():
        return DEFAULT_KINDS
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        unknown = set(tables) - {"names", "mask_values"}
        if unknown:
            raise ValueError(f"unknown table(s) {sorted(unknown)}; known: names, mask_values")
        names = {name: _parse_kind(kind) for name, kind in tables.get("names", {}).items()}
        values = {int(value): _parse_kind(kind) for value, kind in tables.get("mask_values", {}).items()}
    except (ValueError, AttributeError) as error:
        problems.append(f"{path.name}: {error}")
        return DEFAULT_KINDS
    return Kinds(
        names={**DEFAULT_KINDS.names, **names},
        mask_values=values or DEFAULT_KINDS.mask_values,
    )


def _parse_kind(text: str) -> Kind | None:
    if text == "none":
        return None
    if text not in list(Kind):
        raise ValueError(f"kind is {text!r}, expected one of {', '.join(Kind)}, none")
    return Kind(text)


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


def _repetition_faults(rows: list[_Row], column: str) -> list[str]:
    names = (row.values.get(column, "") for row in rows)
    return [f"{column} {name!r} occurs more than once" for name in _repeated(name for name in names if name)]


def _unknown_slide_faults(slide_rows: list[_Row], section_rows: list[_Row]) -> list[str]:
    """Sections on slides that no row names; a row that has other faults names its slide all the same."""
    known = {row.values.get("slide_id", "") for row in slide_rows}
    return [
        f"{row.place}: slide_id {row.values['slide_id']!r} is not in slides.csv"
        for row in section_rows
        if known and row.values.get("slide_id", "") not in {*known, ""}
    ]


def _slide_faults(slides: list[SlideRecord]) -> list[str]:
    return [
        f"slide {slide.slide_id!r} is in {slide.part.value} but names no annotation; "
        "Training and Validation I need one"
        for slide in slides
        if slide.part.is_annotated and slide.annotation is None
    ]


def _box_faults(sections: list[SectionRecord]) -> list[str]:
    with_box = {section.slide_id for section in sections if section.box_level0_px is not None}
    without = {section.slide_id for section in sections if section.box_level0_px is None}
    return [
        f"slide {name!r}: some of its sections have a box and some have none" for name in sorted(with_box & without)
    ]


def _patient_faults(slides: list[SlideRecord], sections: list[SectionRecord]) -> list[str]:
    part_of = {slide.slide_id: slide.part for slide in slides}
    parts: dict[str, set[Part]] = {}
    records: list[SlideRecord | SectionRecord] = [*slides, *sections]
    for record in records:
        if record.patient_id and record.slide_id in part_of:
            parts.setdefault(record.patient_id, set()).add(part_of[record.slide_id])
    return [
        f"patient {patient!r} is in more than one part: {', '.join(sorted(found))}"
        for patient, found in parts.items()
        if len(found) > 1
    ]
