"""The report taken apart: its texts, pictures, and the cells of its tables."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from analysis.evidence_pack.check.findings import PAGE, Findings, Row
from analysis.evidence_pack.check.job_chain import parsed


@dataclass(frozen=True)
class Cell:
    """A cell of a table on the page, or a large number."""

    place: str
    text: str
    table: str
    row: Mapping[str, Any]
    """What names the row: the texts of its cells by their headings, or the row that a large number is taken from."""
    column: str
    columns: Sequence[str] = ()
    """Of a large number: the table's columns that it shows."""


class Page(HTMLParser):
    """The texts and pictures of the report in their order, each with its place, and the cells of its tables."""

    def __init__(self, text: str) -> None:
        """Read the page."""
        super().__init__()
        self.texts: list[tuple[str, str]] = []
        self.cells: list[Cell] = []
        self._part = self._title = ""
        self._open: list[str] = []
        self._row: list[tuple[str, str]] | None = None
        self._heading: list[str] = []
        self._table = ""
        self._source: Row | None = None
        self._number: list[str] = []
        self._cell: list[str] = []
        self._words: list[str] = []
        self._is_large_number = False
        self._tile = ""
        self.feed(text)
        self._end_of_text()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        values = dict(attrs)
        self._around(tag)
        kinds = (values.get("class") or "").split()
        self._is_large_number |= "number" in kinds
        if "tile" in kinds or tag in {"h2", "h3", "p", "table", "figure"}:
            self._tile = ""
        if tag not in {"meta", "br", "img", "link", "input", "hr"}:
            self._open.append(tag)
        if tag == "table":
            self._table, self._heading = values.get("data-table") or "", []
        elif tag == "tr":
            self._row = []
        elif tag in {"td", "th"} or tag in {"h2", "h3", "summary", "figcaption"}:
            self._cell = []
        if "data-from" in values:
            self._source, self._number = parsed((values["data-from"] or "").encode()), []
        for name in ("src", "href", "alt"):
            if value := values.get(name):
                shown = f"sha256 {hashlib.sha256(value.encode()).hexdigest()}" if value.startswith("data:") else value
                self.texts.append((f"{self._place()} / {tag} {name}", shown))

    def handle_data(self, data: str) -> None:  # noqa: D102
        text = " ".join(data.split())
        if not text or "style" in self._open:
            return
        self._cell.append(text)
        self._number.append(text)
        if not {"td", "th"} & set(self._open):
            self._words.append(data)

    def handle_endtag(self, tag: str) -> None:  # noqa: D102
        words = " ".join("".join(self._words).split())
        self._around(tag, is_end=True)
        if tag == "b" and not self._is_large_number:
            self._tile = words
        while self._open and self._open.pop() != tag:
            pass
        text = " ".join(self._cell)
        if tag == "h2":
            self._part, self._title = text, ""
        elif tag in {"h3", "summary", "figcaption"}:
            self._title = text
        elif tag in {"td", "th"} and self._row is not None:
            self._row.append((tag, text))
        elif tag == "tr" and self._row is not None:
            self._end_of_row(self._row)
            self._row = None
        elif tag == "div" and self._source is not None:
            shown = " ".join(self._number)
            source = self._source
            name = f"{self._place()} / {shown}"
            self.cells.append(
                Cell(name, shown, str(source.get("table")), source.get("row", {}), "", source.get("columns", ()))
            )
            self._source = None

    def _around(self, tag: str, *, is_end: bool = False) -> None:
        """A tag ends a text, but for what is typed; a large number is one text with all that stands in its box."""
        if self._is_large_number and tag == "div" and is_end:
            self._is_large_number = False
        if self._is_large_number:
            self._words.append(" ")
        elif tag != "code":
            self._end_of_text()

    def _end_of_text(self) -> None:
        if text := " ".join("".join(self._words).split()):
            self.texts.append((self._place(), text))
        self._words = []

    def _end_of_row(self, row: list[tuple[str, str]]) -> None:
        texts = [text for _, text in row]
        is_heading = all(tag == "th" for tag, _ in row)
        if is_heading:
            self._heading = [f"{text} (2)" if text in texts[:at] else text for at, text in enumerate(texts)]
        named = dict(zip(self._heading, texts, strict=False))
        for number, text in enumerate(texts):
            heading = self._heading[number] if number < len(self._heading) else f"column {number + 1}"
            place = f"{self._place()} / row {texts[0]} / column {heading}"
            self.texts.append((place, text))
            if not is_heading:
                self.cells.append(Cell(place, text, self._table, named, heading))

    def _place(self) -> str:
        return " / ".join(
            filter(None, (self._part or "top of the page", self._title, self._tile and f"tile {self._tile}"))
        )


def check_page_texts(page: Page, kept: Sequence[Sequence[str]], found: Findings) -> None:
    """Every text and picture of the page against those of when the pack was made."""
    now, then = page.texts, [(place, text) for place, text in kept]
    told: list[str] = []
    changes: list[tuple[str, int, int, int, int]]
    if len(now) == len(then):
        changes = [("replace", at, at + 1, at, at + 1) for at in range(len(now)) if now[at] != then[at]]
    else:
        matcher = difflib.SequenceMatcher(None, then, now, autojunk=False)
        changes = [each for each in matcher.get_opcodes() if each[0] != "equal"]
    for _, i1, i2, j1, j2 in changes:
        if i2 - i1 == j2 - j1:
            told += [
                f"{PAGE}: {place}: got {got!r}, expected {was!r}"
                for (_, was), (place, got) in zip(then[i1:i2], now[j1:j2], strict=True)
            ]
            continue
        told += [f"{PAGE}: {place}: {was!r} is gone" for place, was in then[i1:i2]]
        told += [f"{PAGE}: {place}: {got!r} was added" for place, got in now[j1:j2]]
    found.fault(PAGE, told)
    found.done.append(f"{len(then)} texts and pictures of the page")
