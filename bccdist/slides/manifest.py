"""The manifest: slides.csv, sections.csv beside it, and kinds.toml for the names that annotations use.

`slides.csv`: slide_id, part, path; optionally annotation (one path, or several with `;` between them), mpp,
patient_id, scanner.
`sections.csv`: slide_id, section_id, label (Tumor, Normal, or nothing where nobody has labelled it yet); optionally
x_level0_px, y_level0_px, width_level0_px, height_level0_px (all four or none), labelled_by, labelled_at, prefilled,
patient_id.
Paths are relative to the file that names them; an address, such as https:// or s3://, may stand in place of a path.
Unknown columns are kept in `extra`, and named in the manifest's
`warnings` where they may be misspelt, else in its `notes`.
"""

import os
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from bccdist.addresses import Address, Location, doubt_on_path, is_address, parse_address, without_secrets
from bccdist.errors import ManifestError, RemoteError, first_of
from bccdist.files import as_given, digest_of
from bccdist.parts import Kind, Label, Part
from bccdist.slides.frames import DEFAULT_FRAMES, Frame
from bccdist.slides.geometry import Box
from bccdist.slides.patient_ids import alike_warnings
from bccdist.slides.table_file import TableFile, decoded, likely_meant, read_table_file

Record = TypeVar("Record")
PHANTOM_SCANNER = "phantom"
MOST_LISTED_FAULTS = 50
_MOST_NAMED = 5
"""A wrong folder makes every row faulty; one message need not show them all."""
_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?")
"""What may be a large number with commas between thousands."""
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\|file:", re.IGNORECASE)
"""How a path begins that leads to a drive or a server of Windows, or is a URL."""
_NUM_ASKED_AT_ONCE = 8
"""Remote files whose presence is asked for at a time."""
_LABELS = {label.value: label for label in Label}
BOX_COLUMNS = ("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px")
_NEEDED_OF_SLIDE = ("slide_id", "part", "path")
_NEEDED_OF_SECTION = ("slide_id", "section_id", "label")
SLIDE_COLUMNS = ("slide_id", "part", "path", "annotation", "mpp", "patient_id", "scanner")
SECTION_COLUMNS = (
    *("slide_id", "section_id", "label", *BOX_COLUMNS),
    *("labelled_by", "labelled_at", "prefilled", "patient_id"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SlideRecord:
    """One row of slides.csv."""

    slide_id: str
    part: Part
    path: Location
    """Where its file lies."""
    annotations: tuple[Location, ...] = ()
    """The files that together annotate the slide."""
    mpp: float | None = None
    """Overrides what the scanner wrote; um per level-0 pixel."""
    patient_id: str = ""
    scanner: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class SectionRecord:
    """One row of sections.csv: one connected piece of tissue and its label."""

    slide_id: str
    section_id: str
    label: Label | None
    """None where nobody has labelled it yet."""
    box_level0_px: Box | None = None
    labelled_by: str = ""
    labelled_at: str = ""
    prefilled: str = ""
    patient_id: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


_FACTS_OF_SLIDE = attrgetter("slide_id", "part", "mpp", "patient_id", "scanner", "extra")
_FACTS_OF_SECTION = attrgetter(*(each.name for each in fields(SectionRecord)))


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """What the names in annotation files and the values in mask images mean; None means nothing of interest."""

    names: Mapping[str, Kind | None]
    mask_values: Mapping[int, Kind | None]
    frames: Mapping[str, Frame] = field(default_factory=dict, repr=False)
    """What a format's positions count from, where kinds.toml says so; else it is the format's own frame."""


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
    warnings: tuple[str, ...] = ()
    """What may be wrong and cannot be told from the manifest alone, a sentence each."""
    notes: tuple[str, ...] = ()
    """What is kept and not used, a sentence each."""

    @property
    def is_phantom(self) -> bool:
        """Whether any slide is drawn instead of scanned; every output says so then."""
        return any(slide.scanner == PHANTOM_SCANNER for slide in self.slides)

    @cached_property
    def digest(self) -> str:
        """Names what the rows say, not where files lie: a data set that is moved or linked elsewhere keeps it.

        Slides and annotations are known by their own content, which stands beside everything that is made of them.
        """
        slides = [[*_FACTS_OF_SLIDE(slide), len(slide.annotations)] for slide in self.slides]
        facts = [slides, [_FACTS_OF_SECTION(section) for section in self.sections], repr(self.kinds)]
        # Added only where it is said, so that other manifests keep the digest that they had without it.
        return digest_of([*facts, sorted(self.kinds.frames.items())] if self.kinds.frames else facts)

    def slides_of(self, parts: Iterable[Part]) -> list[SlideRecord]:
        """The slides of some parts, in the manifest's order."""
        wanted = set(parts)
        return [slide for slide in self.slides if slide.part in wanted]

    def slide(self, slide_id: str) -> SlideRecord:
        """The slide called `slide_id`.

        Raises:
            ManifestError: there is none.
        """
        if slide_id not in self._slide_by_id:
            close = get_close_matches(slide_id, self._slide_by_id, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise ManifestError(f"{self.path}: no slide {slide_id!r} among its {len(self.slides)} slides{meant}")
        return self._slide_by_id[slide_id]

    def sections_of(self, slide_id: str) -> list[SectionRecord]:
        """The sections of one slide, in the manifest's order."""
        return list(self._sections_by_slide.get(slide_id, ()))

    def only(self, slide_ids: Iterable[str]) -> "Manifest":
        """The manifest of some slides, for the processes that work on them.

        Raises:
            ManifestError: there is no such slide.
        """
        slides = tuple(map(self.slide, slide_ids))
        sections = tuple(section for slide in slides for section in self.sections_of(slide.slide_id))
        return Manifest(path=self.path, slides=slides, sections=sections, kinds=self.kinds)

    @cached_property
    def _slide_by_id(self) -> Mapping[str, SlideRecord]:
        return {slide.slide_id: slide for slide in self.slides}

    @cached_property
    def _sections_by_slide(self) -> Mapping[str, list[SectionRecord]]:
        sections = defaultdict(list)
        for section in self.sections:
            sections[section.slide_id].append(section)
        return dict(sections)


def read_manifest(path: Path, *, files_must_exist: bool = True, all_in: Part | None = None) -> Manifest:
    """Read and check slides.csv at `path`, with sections.csv and kinds.toml beside it where they are.

    Args:
        path: of slides.csv.
        files_must_exist: whether a slide or annotation that is not there is a fault. Jobs that run on many nodes
            leave it out: no file is looked up then, and one that has gone since fails alone when it is opened.
        all_in: the part that all slides are in, whatever a column `part` says, which need not be there then.

    Raises:
        ManifestError: anything is wrong; one message lists the faults.
    """
    manifest, faults = inspect_manifest(path, files_must_exist=files_must_exist, all_in=all_in)
    _refuse(f"{manifest.path}: {len(faults)} fault(s) in the manifest", faults)
    return manifest


def read_sections(path: Path) -> list[SectionRecord]:
    """The rows of a sections.csv by itself.

    Raises:
        ManifestError: rows or columns are wrong, or a section stands there twice; one message lists the faults.
    """
    table = _read_table(path, _NEEDED_OF_SECTION, SECTION_COLUMNS, _parse_section)
    faults = table.faults + _repeated_faults(table, "section_id")
    _refuse(f"{path}: {len(faults)} fault(s)", faults)
    return table.records


def _refuse(what: str, faults: list[str]) -> None:
    if faults:
        listed = [f"  - {fault}" for fault in faults[:MOST_LISTED_FAULTS]]
        if len(faults) > MOST_LISTED_FAULTS:
            listed.append(f"  ... and {len(faults) - MOST_LISTED_FAULTS} more")
        raise ManifestError("\n".join([f"{what}:", *listed]))


def inspect_manifest(
    path: Path, *, files_must_exist: bool = True, all_in: Part | None = None, base: Address | None = None
) -> tuple[Manifest, list[str]]:
    """What can be read of a manifest, and everything that is wrong with it.

    Args:
        path: of slides.csv.
        files_must_exist: as in `read_manifest`.
        all_in: as in `read_manifest`.
        base: the address that the table was fetched from, from which its relative paths are seen.

    Returns:
        The manifest of those rows that have no fault of their own, and the faults, one sentence each. Of slides
        that share a slide_id the first one stays.
    """
    path = as_given(path)
    sections_path = path.with_name("sections.csv")
    files = _Files(base or path, must_exist=files_must_exist)
    needed = tuple(column for column in _NEEDED_OF_SLIDE if column != "part" or all_in is None)
    slides = _read_table(path, needed, SLIDE_COLUMNS, lambda row: _parse_slide(row, files, all_in))
    sections: _Table[SectionRecord] = _Table()
    if sections_path.exists():
        sections = _read_table(sections_path, _NEEDED_OF_SECTION, SECTION_COLUMNS, _parse_section)
    faults = slides.faults + sections.faults
    kinds = _read_kinds(path.with_name("kinds.toml"), faults)
    # By the rows as they are written, so that a row with another fault still counts as the slide or section it names.
    faults += _repeated_faults(slides, "slide_id") + _repeated_faults(sections, "section_id")
    faults += _unknown_slide_faults(slides.rows, sections.rows, place=f"{sections_path.name}, line")
    faults += files.remote_faults()
    faults += _slide_faults(slides.records) + _same_file_faults(slides.records, files)
    faults += _box_faults(sections.records) + _patient_faults(slides.records, sections.records)
    once = {slide.slide_id: slide for slide in reversed(slides.records)}
    kept = tuple(slide for slide in slides.records if once[slide.slide_id] is slide)
    warnings = _column_warnings(path.name, slides.header, SLIDE_COLUMNS, SECTION_COLUMNS)
    warnings += _column_warnings(sections_path.name, sections.header, SECTION_COLUMNS, SLIDE_COLUMNS)
    warnings += alike_warnings(_uses_of_patients(slides.records, sections.records))
    notes = _column_notes(path.name, slides.header, SLIDE_COLUMNS)
    notes += _column_notes(sections_path.name, sections.header, SECTION_COLUMNS)
    manifest = Manifest(
        path=path,
        slides=kept,
        sections=tuple(sections.records),
        kinds=kinds,
        warnings=tuple(warnings),
        notes=tuple(notes),
    )
    return manifest, faults


class _Row(NamedTuple):
    """The names in a row of a CSV file, whatever else is wrong with it."""

    line: int
    slide_id: str
    section_id: str


@dataclass(kw_only=True)
class _Table(Generic[Record]):
    """What a CSV file holds, and what is wrong with it."""

    records: list[Record] = field(default_factory=list)
    """What was read of the rows that have no fault of their own."""
    rows: list[_Row] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def _read_table(
    path: Path, required: tuple[str, ...], known: Collection[str], parse: Callable[[dict[str, str]], Record]
) -> _Table[Record]:
    """The rows of a CSV file that are not blank; a file that is no CSV is one fault without rows."""
    if not path.is_file():
        wanted = "sections.csv" if required == _NEEDED_OF_SECTION else "slides.csv"
        return _Table(faults=[_no_table(path, wanted)])
    try:
        file = read_table_file(path, expected=known)
    except ManifestError as error:
        return _Table(faults=[str(error)])
    faults = _header_faults(path.name, file.header, required)
    if faults:
        return _Table(faults=faults)
    return _parse_lines(path.name, file, parse)


def _no_table(path: Path, name: str) -> str:
    """Why there is no table to read, and what to give instead."""
    if not path.is_dir():
        return f"{path} is not there; give the path of a {name}"
    if (path / name).is_file():
        return f"{path} is a folder, expected a table; give {path / name}"
    makes = f"; `python jobs/make_manifest.py {path} --out FOLDER` makes one of the slides in it"
    return f"{path} is a folder, expected a {name}{makes if name == 'slides.csv' else ''}"


def _parse_lines(name: str, file: TableFile, parse: Callable[[dict[str, str]], Record]) -> _Table[Record]:
    """The rows of the file `name`."""
    table: _Table[Record] = _Table(header=file.header)
    for number, texts in file.lines:
        values = dict(zip(file.header, texts, strict=False))
        table.rows.append(_Row(number, values.get("slide_id", ""), values.get("section_id", "")))
        if len(texts) != len(file.header):
            table.faults.append(
                f"{name}, line {number}: {len(texts)} fields, expected {len(file.header)} as in the header; a field "
                "with a separator in it needs quotes around it"
            )
            continue
        try:
            table.records.append(parse(values))
        except (ValueError, OSError) as error:
            # A value in a wrong column may be an address.
            table.faults.append(without_secrets(f"{name}, line {number}: {error}"))
    if not table.rows:
        table.faults.append(f"{name}: no rows under the header")
    return table


def _header_faults(name: str, header: list[str], required: tuple[str, ...]) -> list[str]:
    if not header:
        return [f"{name}: it is empty"]
    missing = [column for column in required if column not in header]
    repeated = _repeated(header)
    faults = []
    if missing:
        faults.append(
            f"{name}: required column(s) missing: {', '.join(missing)}; its header has {header}"
            f"{_renaming(header, missing)}"
        )
    if repeated:
        faults.append(f"{name}: column(s) named more than once: {', '.join(repeated)}")
    if header.count("") > 1:
        faults.append(f"{name}: {header.count('')} columns have no name; name them, or take them out")
    return faults


def _renaming(header: list[str], missing: list[str]) -> str:
    """Which columns may be the missing ones."""
    meant = {name: likely_meant(name, missing) for name in header if name}
    pairs = [f"{name!r} to {column}" for name, column in meant.items() if column]
    return f"; did you mean to name {', '.join(pairs)}?" if pairs else ""


def _column_warnings(name: str, header: list[str], known: Collection[str], of_other: Collection[str]) -> list[str]:
    """Columns that nobody reads under their names, though they look as if somebody should."""
    absent = sorted(set(known) - set(header))
    other_name = "sections.csv" if name == "slides.csv" else "slides.csv"
    warnings = []
    for column in _unknown(header, known):
        if meant := likely_meant(column, absent):
            warnings.append(f"{name}: column {column!r} is not known and not used; did you mean {meant}?")
        elif meant := likely_meant(column, sorted(set(of_other) - set(known))):
            warnings.append(f"{name}: column {column!r} is not used; {meant} belongs in {other_name}")
    return warnings


def _column_notes(name: str, header: list[str], known: Collection[str]) -> list[str]:
    """One sentence that names all columns that are not used."""
    unknown = [repr(column) for column in _unknown(header, known)]
    unknown += ["one without a name"] if "" in header else []
    return [f"{name}: columns that are kept and not used: {', '.join(unknown)}"] if unknown else []


def _unknown(header: list[str], known: Collection[str]) -> list[str]:
    return [column for column in header if column and column not in known]


class _Files:
    """The files that a manifest names, each looked up once or, where they need not exist, not at all."""

    def __init__(self, base: Location, *, must_exist: bool) -> None:
        """Look nothing up yet.

        Args:
            base: the manifest, from which relative paths are seen.
            must_exist: whether files are looked up.
        """
        self._base = base
        self._must_exist = must_exist
        self._identities: dict[Location, Hashable] = {}
        self._remote: dict[Address, str] = {}

    def find(self, column: str, text: str) -> Location:
        """The file that `text` names; whether a remote one is there, `remote_faults` tells.

        Raises:
            ValueError: it is no path and no address, or has to be there and is not.
            OSError: the file system does not say whether it is there.
        """
        if is_address(text) and not text.lower().startswith("file:"):
            return self._remotely(column, parse_address(text))
        if isinstance(self._base, Address):
            return self._remotely(column, _below(self._base, column, text))
        if _DRIVE.match(text):
            raise ValueError(
                f"{column} {text!r} leads to a drive or server of another computer; give it relative to slides.csv"
            )
        # Between folders Windows has backslashes; here they would be part of a name.
        path = self._base.parent / text.replace("\\", "/")
        if self._must_exist:
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                raise ValueError(f"{column} {text!r} is not there (looked at {path}){doubt_on_path(text)}") from None
            self._identities[path] = (found.st_dev, found.st_ino, found.st_size)
        return path

    def _remotely(self, column: str, address: Address) -> Address:
        self._remote[address] = column
        return address

    def remote_faults(self) -> list[str]:
        """What is wrong with the remote files that have to be there, each asked for its first bytes."""
        if not self._must_exist or not self._remote:
            return []
        with ThreadPoolExecutor(max_workers=_NUM_ASKED_AT_ONCE) as pool:
            found = dict(zip(self._remote, pool.map(_fault_of_remote, self._remote), strict=True))
        return [f"{self._remote[address]}: {fault}" for address, fault in found.items() if fault]

    def identity(self, location: Location) -> Hashable:
        """Equal for two names of one file, links too where files were looked up."""
        if isinstance(location, Address):
            return location.whole
        return self._identities.get(location) or os.path.normpath(location)


def _below(base: Address, column: str, text: str) -> Address:
    if _DRIVE.match(text):
        raise ValueError(f"{column} {text!r} leads to a file of one computer; give it relative to {base}")
    try:
        return base.beside(text.replace("\\", "/"))
    except ValueError as error:
        raise ValueError(f"{column} {error}") from None


def _fault_of_remote(address: Address) -> str:
    # Imported here, as most manifests name no address.
    from bccdist.remote.part_of_file import PartOfFile
    from bccdist.remote.patience import Patience

    try:
        # Not for long: many may be wrong alike, and their jobs have more patience.
        PartOfFile(address, patience=Patience(total_s=10.0)).close()
    except RemoteError as error:
        return str(error)
    return ""


def _parse_slide(row: dict[str, str], files: _Files, all_in: Part | None) -> SlideRecord:
    if not row["path"]:
        raise ValueError("path is empty")
    return SlideRecord(
        slide_id=_identifier(row, "slide_id"),
        part=Part.parse(row["part"]) if all_in is None else all_in,
        path=files.find("path", row["path"]),
        annotations=_annotations(row.get("annotation", ""), files),
        mpp=positive_number(row, "mpp"),
        patient_id=row.get("patient_id", ""),
        scanner=row.get("scanner", ""),
        extra=_extra(row, SLIDE_COLUMNS),
    )


def _annotations(text: str, files: _Files) -> tuple[Location, ...]:
    if not text:
        return ()
    names = [name.strip() for name in text.split(";")]
    if not all(names):
        raise ValueError(f"annotation is {text!r}: a path beside a ';' is empty; put one ';' between two paths")
    repeated = _repeated(names)
    if repeated:
        raise ValueError(f"annotation names a file more than once: {', '.join(map(without_secrets, repeated))}")
    return tuple(files.find("annotation", name) for name in names)


def _parse_section(row: dict[str, str]) -> SectionRecord:
    return SectionRecord(
        slide_id=_identifier(row, "slide_id"),
        section_id=_identifier(row, "section_id"),
        label=_section_label(row["label"]),
        box_level0_px=section_box(row),
        labelled_by=row.get("labelled_by", ""),
        labelled_at=row.get("labelled_at", ""),
        prefilled=row.get("prefilled", ""),
        patient_id=row.get("patient_id", ""),
        extra=_extra(row, SECTION_COLUMNS),
    )


def _extra(row: dict[str, str], known: Collection[str]) -> dict[str, str]:
    """The columns that are kept without being known; sorted, because digests name what they print."""
    unknown = row.keys() - known
    return {column: row[column] for column in sorted(unknown) if column} if unknown else {}


def _identifier(row: dict[str, str], column: str) -> str:
    text = row[column]
    if not _ID_PATTERN.fullmatch(text):
        raise ValueError(
            f"{column} is {text!r}; use letters, digits, '_', '-' and '+' only "
            "(it names files, and WebDataset splits names at the first dot)"
        )
    return text


def _section_label(text: str) -> Label | None:
    if not text:
        return None
    if text not in _LABELS:
        raise ValueError(f"label is {text!r}, expected one of {', '.join(_LABELS)}, or nothing where it is not known")
    return _LABELS[text]


def positive_number(row: Mapping[str, str], column: str) -> float | None:
    """The number above 0 in a column of a row; None where it is empty.

    Raises:
        ValueError: it is something else.
    """
    text = row.get(column, "")
    if not text:
        return None
    number = _number(text)
    if number is None or not 0 < number < float("inf"):
        raise ValueError(f"{column} is {text!r}, expected a number above 0 or nothing{_ambiguous(text)}")
    return number


def _number(text: str) -> float | None:
    """The number that `text` says, with a decimal point or a decimal comma; None where that is not one number."""
    if not _NUMBER.fullmatch(text) or _THOUSANDS.fullmatch(text):
        return None
    return float(text.replace(",", "."))


def _ambiguous(text: str) -> str:
    return (
        "; is its comma a decimal one or between thousands? write a point, or neither"
        if _THOUSANDS.fullmatch(text)
        else ""
    )


def section_box(row: Mapping[str, str]) -> Box | None:
    """The box in pixels of level 0 in the four columns of a row; None where all are empty.

    Raises:
        ValueError: they are not four whole numbers, or there is no such box.
    """
    texts = [row.get(column, "") for column in BOX_COLUMNS]
    if not any(texts):
        return None
    # Spreadsheets write 384 as 384.0 or 384,0; what they write as 1.02E+04 has lost its last digits.
    numbers = [None if "e" in text.lower() else _number(text) for text in texts]
    whole = [int(number) for number in numbers if number is not None and number.is_integer()]
    if len(whole) != len(texts):
        ambiguous = next(filter(None, map(_ambiguous, texts)), "")
        raise ValueError(f"the box {texts} is not four whole numbers ({', '.join(BOX_COLUMNS)}){ambiguous}")
    box = Box(*whole)
    if box.x < 0 or box.y < 0 or box.width <= 0 or box.height <= 0:
        raise ValueError(f"the box {tuple(box)} has a negative corner or no area")
    return box


def _read_kinds(path: Path, problems: list[str]) -> Kinds:
    if not path.exists():
        return DEFAULT_KINDS
    try:
        tables = tomllib.loads(decoded(path))
        unknown = set(tables) - {"names", "mask_values", "frames"}
        if unknown:
            raise ValueError(f"unknown table(s) {sorted(unknown)}; known: names, mask_values, frames")
        names = {name: _parse_kind(kind) for name, kind in tables.get("names", {}).items()}
        values = {int(value): _parse_kind(kind) for value, kind in tables.get("mask_values", {}).items()}
        frames = dict(_parse_frame(*pair) for pair in tables.get("frames", {}).items())
    except (ValueError, AttributeError) as error:
        problems.append(f"{path.name}: {error}")
        return DEFAULT_KINDS
    return Kinds(
        names={**DEFAULT_KINDS.names, **names},
        mask_values=values or DEFAULT_KINDS.mask_values,
        frames=frames,
    )


def _parse_frame(name: str, text: str) -> tuple[str, Frame]:
    if name not in DEFAULT_FRAMES or text not in list(Frame):
        raise ValueError(
            f"[frames] has {name} = {text!r}, expected one of {', '.join(DEFAULT_FRAMES)} to be one of "
            f"{', '.join(map(repr, map(str, Frame)))}"
        )
    return name, Frame(text)


def _parse_kind(text: str) -> Kind | None:
    if text == "none":
        return None
    if text not in list(Kind):
        raise ValueError(f"kind is {text!r}, expected one of {', '.join(Kind)}, none")
    return Kind(text)


def _repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once; what has no name is not counted."""
    return [name for name, count in Counter(names).items() if name and count > 1]


def _repeated_faults(table: _Table[Record], column: str) -> list[str]:
    names = _repeated(getattr(row, column) for row in table.rows)
    return [f"{column} {name!r} occurs more than once" for name in names]


def _unknown_slide_faults(slides: list[_Row], sections: list[_Row], *, place: str) -> list[str]:
    """Sections on slides that no row names; a row that has other faults names its slide all the same."""
    known = {row.slide_id for row in slides} | {""}
    return [
        f"{place} {row.line}: slide_id {row.slide_id!r} is not in slides.csv"
        for row in sections
        if slides and row.slide_id not in known
    ]


def _slide_faults(slides: list[SlideRecord]) -> list[str]:
    """One line for all slides without the annotation that they need, and the masks that lie beside them."""
    bare = [slide for slide in slides if slide.part.is_annotated and not slide.annotations]
    if not bare:
        return []
    masks = [mask.name for mask in map(_mask_beside, bare) if mask is not None]
    hint = f"; {len(masks)} mask image(s) lie beside: name each in column annotation, as {masks[0]}" if masks else ""
    if len(bare) == 1:
        told = f"slide {bare[0].slide_id!r} is in {bare[0].part.value} but names no annotation"
    else:
        names = first_of([repr(slide.slide_id) for slide in bare], _MOST_NAMED)
        told = f"{len(bare)} slides of Training or Validation I name no annotation: {names}"
    return [f"{told}; Training and Validation I need one{hint}"]


def _mask_beside(slide: SlideRecord) -> Path | None:
    """NAME.mask.png beside the slide NAME; None where none is, or the slide lies on a server."""
    if not isinstance(slide.path, Path):
        return None
    path = slide.path.with_suffix(".mask.png")
    return path if path.is_file() else None


def _same_file_faults(slides: list[SlideRecord], files: _Files) -> list[str]:
    """Slides that are one file under two names: it would be trained on or counted twice."""
    names: defaultdict[Hashable, dict[str, Location]] = defaultdict(dict)
    for slide in slides:
        names[files.identity(slide.path)].setdefault(slide.slide_id, slide.path)
    return [
        f"slides {', '.join(map(repr, same))} are one file: {next(iter(same.values()))}"
        for same in names.values()
        if len(same) > 1
    ]


def _box_faults(sections: list[SectionRecord]) -> list[str]:
    with_box = {section.slide_id for section in sections if section.box_level0_px is not None}
    without = {section.slide_id for section in sections if section.box_level0_px is None}
    return [
        f"slide {name!r}: some of its sections have a box and some have none" for name in sorted(with_box & without)
    ]


def _patient_faults(slides: list[SlideRecord], sections: list[SectionRecord]) -> list[str]:
    parts = {patient: {part for part, _ in uses} for patient, uses in _uses_of_patients(slides, sections).items()}
    return [
        f"patient {patient!r} is in more than one part: {', '.join(sorted(found))}"
        for patient, found in parts.items()
        if len(found) > 1
    ]


def _uses_of_patients(slides: list[SlideRecord], sections: list[SectionRecord]) -> dict[str, list[tuple[Part, str]]]:
    """The parts and slides in which each patient occurs, by patient_id as it is written."""
    part_of = {slide.slide_id: slide.part for slide in slides}
    uses: defaultdict[str, list[tuple[Part, str]]] = defaultdict(list)
    records: list[SlideRecord | SectionRecord] = [*slides, *sections]
    for record in records:
        if record.patient_id and record.slide_id in part_of:
            uses[record.patient_id].append((part_of[record.slide_id], record.slide_id))
    return dict(uses)
