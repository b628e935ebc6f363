"""What a page of the analysis consists of, and how it becomes HTML."""

import base64
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import files
from typing import Literal

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from analysis.study_evidence.table import Table
from bccdist import __version__

_ONE_NUMBER = r"[-+<>]? ?(?:[\d.,]+ ?%?|inf)"
_NUMBER = re.compile(rf"({_ONE_NUMBER}( to {_ONE_NUMBER})?|n/a|never|-|)( \(.*\))?")
"""A number or a range in a cell, or what stands for one that is not known, perhaps with a range or count behind."""
_WITH_RANGE = re.compile(rf"(.+?) (\({_ONE_NUMBER} to {_ONE_NUMBER}\))")
_WIDTHS = ((88, ""), (122, "wide"), (math.inf, "wide widest"))
"""How many letters a row has at least, however its cells are broken into lines, and the class of such a table."""
_MOST_LETTERS_OF_WORD, _LETTERS_BETWEEN = 16, 2
"""Longer words of a table are broken where there is no room; and what lies between two columns."""

_CODE = re.compile(r"`([^`\n]+)`")
"""What is typed, as the notes of tables mark it."""
_PICTURE = "data:image/"
_FEW_ROWS = 14
"""Tables with so many rows at most stay on one sheet of paper."""


@dataclass(frozen=True, kw_only=True)
class TableBlock:
    """A table on the page."""

    title: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    folded: bool = False
    name: str = ""
    """The table in STUDY/tables whose rows these are, all or some: who checks the page finds its numbers by it."""
    kind: Literal["table"] = "table"

    @property
    def is_text(self) -> list[bool]:
        """Which columns hold words, which stand at the left; numbers stand at the right."""
        return [any(not _NUMBER.fullmatch(row[place]) for row in self.rows) for place in range(len(self.heading))]

    @property
    def least_letters(self) -> list[int]:
        """How many letters each column needs: its longest piece that is not broken into lines."""
        return [self._least_letters(place, is_text) for place, is_text in enumerate(self.is_text)]

    @property
    def width(self) -> str:
        """The class of its letters' size: the more has to stand beside each other, the smaller they are."""
        least = sum(self.least_letters) + _LETTERS_BETWEEN * len(self.heading)
        return next(name for most, name in _WIDTHS if least <= most)

    @property
    def is_short(self) -> bool:
        """Whether it stays in one piece on paper."""
        return len(self.rows) <= _FEW_ROWS

    def _least_letters(self, place: int, is_text: bool) -> int:
        most = _MOST_LETTERS_OF_WORD if is_text else 10**6
        pieces = [min(len(piece), most) for row in self.rows for piece in _pieces(row[place])]
        return max([*pieces, *map(len, self.heading[place].split())], default=0)


@dataclass(frozen=True, kw_only=True)
class PictureBlock:
    """A picture on the page."""

    uri: str
    caption: str
    kind: Literal["picture"] = "picture"

    @property
    def alt(self) -> str:
        """What it shows, for those who do not see it."""
        return self.caption


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One section or slide in a gallery."""

    name: str
    lines: Sequence[str]
    error: Literal["fn", "fp", ""] = ""
    """A missed section or a false alarm; nothing where the tile shows no error."""
    uri: str = ""
    alt: str = ""
    """What the picture shows, for those who do not see it."""
    links: Sequence[tuple[str, str]] = ()
    """Texts, and where each leads, seen from the page."""


@dataclass(frozen=True, kw_only=True)
class GalleryBlock:
    """Sections or slides beside each other."""

    title: str
    tiles: Sequence[Tile]
    kind: Literal["gallery"] = "gallery"


@dataclass(frozen=True, kw_only=True)
class Number:
    """One large number."""

    name: str
    value: str
    range: str
    source: str = ""
    """Where value and range stand in STUDY/tables, from `taken_from`; empty where they do not."""
    row: int = 0
    """Numbers of one row stand beside each other."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A word that not every reader knows."""

    name: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page."""

    title: str = ""
    """Set where the parts are put together."""
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
    terms: Sequence[Term] = ()
    """Those that come here first; set where the parts are put together."""
    numbers: Sequence[Number] = ()
    blocks: Sequence[TableBlock | PictureBlock | GalleryBlock] = field(default_factory=tuple)

    @property
    def anchor(self) -> str:
        """The name that links within the page lead to."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


def taken_from(table: str, *columns: str, **row: object) -> str:
    """Where numbers of the page come from: columns of one row of a table, as who checks the page reads it."""
    return json.dumps({"table": table, "row": row, "columns": columns})


def frame_block(title: str, frame: pd.DataFrame) -> TableBlock:
    """A frame of texts."""
    rows = frame.fillna("").astype(str).to_numpy().tolist()
    return TableBlock(title=title, heading=[str(name) for name in frame], rows=rows)


def table_block(table: Table, *, folded: bool = False) -> TableBlock:
    """A table as it is printed."""
    return replace(
        frame_block(table.title, table.printed), notes=table.notes, folded=folded, name=table.schema or table.name
    )


def data_uri(content: bytes, kind: str) -> str:
    """A picture that stands in the page itself."""
    return f"{_PICTURE}{kind};base64,{base64.b64encode(content).decode()}"


def _pieces(cell: str) -> list[str]:
    """What of a cell is not broken into lines."""
    number, range_ = split_range(cell)
    return [*number.split(), *([range_] if range_ else [])]


def split_range(cell: str) -> tuple[str, str]:
    """A cell without the range behind its number, and that range, which stays in one line; perhaps none."""
    found = _WITH_RANGE.fullmatch(cell)
    return (found[1], found[2]) if found else (cell, "")


def render(
    name: str, sections: Sequence[Section], *, warning: str, without_paths: Callable[[str], str] = lambda text: text
) -> str:
    """The page's text; everything that is put in goes through `without_paths` and is escaped."""

    def shown(value: object) -> object:
        # What a macro of the template gives has been here already.
        if not isinstance(value, str) or hasattr(value, "__html__") or value.startswith(_PICTURE):
            return value
        return without_paths(value)

    def coded(text: str) -> Markup:
        pieces = _CODE.split(without_paths(text))
        # Every other piece stood between backticks.
        return Markup("").join(
            Markup("<code>{}</code>").format(piece) if at % 2 else escape(piece) for at, piece in enumerate(pieces)
        )

    room = files("analysis.page")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=shown,
        loader=jinja2.FunctionLoader(lambda file: room.joinpath(file).read_text(encoding="utf-8")),
    )
    environment.filters["coded"] = coded
    template = environment.get_template("report.html.j2")
    tables = [block for section in sections for block in section.blocks if isinstance(block, TableBlock)]
    return template.render(
        split_range=split_range,
        most_columns=max((len(table.heading) for table in tables), default=0),
        name=name,
        sections=sections,
        written_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        software=f"bccdist {__version__}",
        phantom=warning,
    )
