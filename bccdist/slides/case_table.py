"""What a laboratory's own table says of slides: CSV or Excel, its columns under whatever names people give them."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

from bccdist.errors import ManifestError
from bccdist.log import LOG
from bccdist.slides.table_file import TableFile, likely_meant, read_table_file

_WORKBOOKS = frozenset({".xlsx", ".xlsm", ".xls", ".ods"})
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """A row of the table."""

    line: int
    """As the file counts, the header being the first."""
    values: dict[str, str]
    """What it says, by the columns that are known; empty cells are left out."""


def read_case_table(path: Path, *, known: Collection[str], sheet: str | None = None) -> list[CaseRow]:
    """The rows of a table, by those of its columns that are known.

    Args:
        path: a CSV file or a workbook.
        known: columns that are looked for, under their names or names that are likely meant.
        sheet: of a workbook; None is the first.

    Raises:
        ManifestError: it cannot be read, or two of its columns would be the same one.
    """
    if not path.is_file():
        what = "is a folder, expected a file" if path.is_dir() else "is not there"
        raise ManifestError(f"{path} {what}; give a CSV or Excel file")
    is_workbook = path.suffix.lower() in _WORKBOOKS
    table = _workbook(path, sheet) if is_workbook else read_table_file(path, expected=known)
    meant = [name if name in known else likely_meant(name, known) for name in table.header]
    if twice := [name for name, num in Counter(filter(None, meant)).items() if num > 1]:
        columns = [name for name, column in zip(table.header, meant, strict=True) if column in twice]
        raise ManifestError(
            f"{path.name}: the columns {', '.join(columns)} would all be {twice[0]}; rename all but one"
        )
    LOG.info(_understood(path, table, meant))
    if wrong := [line for line, texts in table.lines if len(texts) != len(table.header)]:
        raise ManifestError(
            f"{path.name}: line(s) {', '.join(map(str, wrong[:_MOST_NAMED]))} have not {len(table.header)} fields, as "
            "the header has; a field with a separator in it needs quotes around it"
        )
    rows = [
        CaseRow(line=line, values={name: text for name, text in zip(meant, texts, strict=False) if name and text})
        for line, texts in table.lines
    ]
    if not any(row.values for row in rows):
        raise ManifestError(
            f"{path.name}: none of its columns is known, or all are empty; its header has {table.header}, known are "
            f"{', '.join(sorted(known))}"
        )
    return rows


def _understood(path: Path, table: TableFile, meant: Sequence[str | None]) -> str:
    """A sentence on how the table was read: what separates its fields, and which column is taken for what."""
    columns = [
        name if name == column else f"{name!r} as {column}"
        for name, column in zip(table.header, meant, strict=True)
        if column
    ]
    unused = [repr(name) for name, column in zip(table.header, meant, strict=True) if name and not column]
    fields = f"fields separated by {table.separator!r}, " if table.separator else ""
    not_used = f"; not used: {', '.join(unused)}" if unused else ""
    return f"{path.name}: {fields}columns {', '.join(columns) or 'none'}{not_used}"


def _workbook(path: Path, sheet: str | None) -> TableFile:
    import pandas as pd

    # Merged cells are known only to a workbook that is read whole.
    whole = {"read_only": False} if path.suffix.lower() in (".xlsx", ".xlsm") else {}
    try:
        with pd.ExcelFile(path, engine_kwargs=whole) as book:
            frame = pd.read_excel(book, sheet_name=sheet or 0, header=None, dtype=object, na_filter=False)
            sheets = book.book
            merged = [each.coord for each in sheets[sheet or sheets.sheetnames[0]].merged_cells] if whole else []
    except ImportError as error:
        raise ManifestError(
            f"{path.name}: a workbook is read with a package that is not installed: {error}; install it with `pip "
            "install 'bccdist[excel]'`, or save the table as 'CSV UTF-8'"
        ) from error
    except (ValueError, OSError, KeyError, BadZipFile) as error:
        raise ManifestError(f"{path.name}: cannot be read as a workbook: {error}; save it as 'CSV UTF-8'") from error
    if merged:
        raise ManifestError(
            f"{path.name}: the cells {', '.join(merged[:_MOST_NAMED])} are merged, and their value stands in the "
            "first alone: unmerge them, and write it into each row that it is for"
        )
    rows = [(number, cells) for number, cells in enumerate(frame.to_numpy(), start=1)]
    if wrong := [number for number, cells in rows if any(pd.isna(cell) for cell in cells)]:
        raise ManifestError(
            f"{path.name}: a formula gives no value (#N/A, #REF! or the like) in line(s) "
            f"{', '.join(map(str, wrong[:_MOST_NAMED]))}: write what it should give, or nothing"
        )
    texts = [(number, [str(cell).strip() for cell in cells]) for number, cells in rows]
    texts = [(number, cells) for number, cells in texts if any(cells)]
    return TableFile(header=texts[0][1] if texts else [], lines=texts[1:])
