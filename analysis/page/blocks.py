"""What a page of the analysis consists of, and how it becomes HTML."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import files
from typing import Literal

import jinja2
import pandas as pd

from analysis.study_evidence.table import Table
from bccdist import __version__

_NUMBER = re.compile(r"([-+<]? ?[\d.,]+ ?%?|n/a|never|)( \(.*\))?")
"""A cell that is a number, with what stands for one that is not known, and perhaps with a range or count behind."""

_PICTURE = "data:image/"


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


@dataclass(frozen=True, kw_only=True)
class PictureBlock:
    """A picture on the page."""

    uri: str
    caption: str
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One section or slide in a gallery."""

    name: str
    lines: Sequence[str]
    error: Literal["fn", "fp", ""] = ""
    """A missed section or a false alarm; nothing where the tile shows no error."""
    uri: str = ""
    link: str = ""
    """Where the whole picture lies, seen from the page."""


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


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page."""

    title: str = ""
    """Set where the parts are put together."""
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
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


def render(
    name: str, sections: Sequence[Section], *, warning: str, without_paths: Callable[[str], str] = lambda text: text
) -> str:
    """The page's text; everything that is put in goes through `without_paths` and is escaped."""

    def shown(value: object) -> object:
        return without_paths(value) if isinstance(value, str) and not value.startswith(_PICTURE) else value

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=shown
    )
    template = environment.from_string(files("analysis.page").joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        name=name,
        sections=sections,
        written_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        software=f"bccdist {__version__}",
        phantom=warning,
    )
