"""A table that a person wrote, in whatever form a spreadsheet saved it: read where it has one meaning, else refused.

Commas, semicolons, tabs or bars separate fields; UTF-8 or UTF-16, with or without its mark; trailing empty rows and
columns. A workbook, an unknown encoding and a row that does not fit its header are refused by name.
"""

import csv
import io
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from bccdist.errors import ManifestError

_SEPARATORS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<separator>.)"?\s*')
"""What Excel writes, and reads, as the first line of some files."""
_WORKBOOKS = {
    b"PK\x03\x04": "an Excel or LibreOffice workbook (.xlsx, .ods), or another zip file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls)",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip file",
    b"{\\rtf": "a text of a word processor (.rtf)",
    b"PAR1": "a parquet file",
}
"""Files that are no tables of text, by their first bytes."""
_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""Encodings by the mark at their beginning; UTF-32's is tried before UTF-16's, which it begins with."""
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))
_KEPT_AS_TEXT = re.compile(r'="(?P<text>[^"]*)"')
"""A formula that spreadsheets are given so that they leave an id such as 0012 as it is."""
_SAVE_AS = "save it as 'CSV UTF-8'"
_CLOSE = 0.8
"""How alike two names are that may be one, misspelt, as difflib counts it, 0 to 1."""
_OTHER_NAMES = {
    "patient": "patient_id",
    "case": "patient_id",
    "caseid": "patient_id",
    "pid": "patient_id",
    "slide": "slide_id",
    "slidename": "slide_id",
    "wsi": "slide_id",
    "section": "section_id",
    "file": "path",
    "filename": "path",
    "filepath": "path",
    "slidepath": "path",
    "set": "part",
    "split": "part",
    "subset": "part",
    "fold": "part",
    "mask": "annotation",
    "xml": "annotation",
    "umperpx": "mpp",
    "umpx": "mpp",
    "\u03bcmpx": "mpp",
    "pixelsize": "mpp",
    "pixelsizeum": "mpp",
    "class": "label",
    "verdict": "label",
    "truth": "label",
    "x": "x_level0_px",
    "left": "x_level0_px",
    "xmin": "x_level0_px",
    "y": "y_level0_px",
    "top": "y_level0_px",
    "ymin": "y_level0_px",
    "w": "width_level0_px",
    "width": "width_level0_px",
    "widthpx": "width_level0_px",
    "h": "height_level0_px",
    "height": "height_level0_px",
    "heightpx": "height_level0_px",
    "annotator": "labelled_by",
    "labeler": "labelled_by",
    "labeller": "labelled_by",
    "scannername": "scanner",
}
"""What columns are called elsewhere, without signs between the letters, and by us."""


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """Header and rows of a table, without blank rows and without the columns that are empty throughout."""

    header: list[str]
    separator: str = ""
    """What separates its fields; empty in a workbook."""
    lines: list[tuple[int, list[str]]]
    """The number of each row's last line in the file, and its fields; they may be more or fewer than the header's."""


def read_table_file(path: Path, *, expected: Collection[str]) -> TableFile:
    """The table in the file `path`.

    Args:
        path: the file.
        expected: columns by which the header is told; the separator is the one that finds most of them.

    Raises:
        ManifestError: it is no table of text, in no known encoding, or not readable as CSV; the message begins with
            the file's name.
    """
    text = decoded(path)
    separator, first_line = _separator_of(text, expected, name=path.name)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        numbered = [(reader.line_num, [_cleaned(field) for field in fields]) for fields in reader]
    except csv.Error as error:
        raise ManifestError(
            f"{path.name}, after line {reader.line_num}: not readable as CSV in UTF-8: {error}{_open_quote(text)}"
        ) from None
    lines = [(number, fields) for number, fields in numbered if number > first_line and any(fields)]
    if not lines:
        return TableFile(header=[], lines=[])
    header = [" ".join(name.split()) for name in lines[0][1]]
    return _without_empty_columns(TableFile(header=header, separator=separator, lines=lines[1:]))


def _open_quote(text: str) -> str:
    """Where a quotation mark may have been left open, as the end of a sentence."""
    number = next((number for number, line in enumerate(text.splitlines(), start=1) if line.count('"') % 2), None)
    return "" if number is None else f"; the quotation marks of line {number} are no pairs"


def decoded(path: Path) -> str:
    """The text of a file, in whichever Unicode encoding it is.

    Raises:
        ManifestError: it is a workbook or another file that is no text, or in an encoding that is not Unicode's.
    """
    data = path.read_bytes()
    for start, what in _WORKBOOKS.items():
        if data.startswith(start):
            raise ManifestError(f"{path.name} is {what}, whatever its name says; open it and {_SAVE_AS}")
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None) or _unmarked(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise ManifestError(
            f"{path.name}, line {number}: not readable as CSV in UTF-8: {error.reason} "
            f"{data[error.start : error.start + 1]!r}; it may be in an encoding of Windows: {_SAVE_AS}"
        ) from None
    if "\0" in text:
        raise ManifestError(f"{path.name} holds zero bytes, so it is no text; {_SAVE_AS}")
    return text


def _unmarked(data: bytes) -> str:
    """UTF-16 without its mark shows by the zero in each pair of bytes: headers are letters of English."""
    if len(data) > 3 and data[1] == data[3] == 0 != data[0]:
        return "utf-16-le"
    if len(data) > 3 and data[0] == data[2] == 0 != data[1]:
        return "utf-16-be"
    return "utf-8"


def _separator_of(text: str, expected: Collection[str], *, name: str) -> tuple[str, int]:
    """What separates fields, and after how many lines the header may begin.

    Raises:
        ManifestError: the header names as many columns by one separator as by another.
    """
    first, *_ = text.splitlines() or [""]
    if said := _SEPARATOR_LINE.fullmatch(first):
        return said["separator"], 1
    header = next((line for line in text.splitlines() if line.strip()), "")
    known = {
        separator: sum(likely_meant(column, expected) is not None for column in header.split(separator))
        for separator in _SEPARATORS
    }
    best = max(known, key=known.__getitem__)  # the first of those that find as many
    others = [separator for separator in _SEPARATORS if separator in header and known[separator] == known[best] > 0]
    if len(others) > 1:
        raise ManifestError(
            f"{name}: its header {header!r} may be separated by {' or '.join(map(repr, others))}; {_SAVE_AS}, or "
            "write the line sep=; or sep=, above it"
        )
    if not known[best]:
        # Of a header that nobody knows the message names the columns, so they have to be told apart.
        best = max(_SEPARATORS, key=header.count)
    return best, 0


def _cleaned(field: str) -> str:
    """A field without what is not seen around it; blanks and no-break spaces within stay."""
    text = field.translate(_INVISIBLE).strip()
    kept = _KEPT_AS_TEXT.fullmatch(text)
    return kept["text"].strip() if kept else text


def _without_empty_columns(table: TableFile) -> TableFile:
    """Without the columns at the end that have no name and no value, which spreadsheets leave behind."""
    num_named = max((number for number, name in enumerate(table.header, start=1) if name), default=0)
    num_all = len(table.header)

    def kept(fields: list[str]) -> list[str]:
        # A value below no name may be half of a field that was cut at a comma of its own: its row stays too long.
        return fields[:num_named] if len(fields) == num_all and not any(fields[num_named:]) else fields

    return replace(
        table, header=table.header[:num_named], lines=[(number, kept(fields)) for number, fields in table.lines]
    )


def likely_meant(name: str, known: Iterable[str]) -> str | None:
    """The column among `known` that an unknown name may stand for; None where there is none."""
    by_letters = {_letters_of(column): column for column in known}
    letters = _letters_of(name)
    if letters in by_letters:
        return by_letters[letters]
    if (other := _OTHER_NAMES.get(letters)) in by_letters.values():
        return other
    close = get_close_matches(letters, by_letters, n=1, cutoff=_CLOSE)
    return by_letters[close[0]] if close else None


def _letters_of(name: str) -> str:
    """A name without case, blanks and signs."""
    return re.sub(r"[\W_]+", "", name.translate(_INVISIBLE).casefold())
