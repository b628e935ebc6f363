"""Every number of the page against the one that is computed anew."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.evidence_pack.check.findings import PAGE, Findings, Row
from analysis.evidence_pack.check.page_tables import SHOWN, shown_rows
from analysis.evidence_pack.check.page_texts import Cell, Page
from analysis.evidence_pack.check.raw_rows import Pack
from analysis.evidence_pack.check.saying import NUMBER, says
from analysis.evidence_pack.check.sentences import check_sentences
from analysis.evidence_pack.check.slide_tables import slide_times

FLOOR_SHOWN = {("table5", "accuracy"), ("slides", "tissue read"), ("section_verdicts", "tissue read")}
"""What the page cuts instead of rounding."""
_BY_TITLE = {"Seconds a slide took, by the ledger.": "slide_times", "The chosen models.": "chosen_models"}
"""Tables of the page that are in no file."""
_WHY_NOT = {
    "Terms": "explains words of the method, and no number of the study",
    "Provenance / The study.": "counts and digests of files that are not in the pack",
    "Provenance / The chosen models.": "digests, and software of a run whose folder is not in the pack",
    "Provenance / What the stages took.": "measured by jobs, in files that are not in the pack",
    "Provenance / Failed, and not in the results.": "messages of failures, which are not in the pack",
    "Provenance / Not made.": "words that say what is missing",
    "Quality": "against the reference of a model, which is in its file",
    "Model": "of the model's own file, whose study is elsewhere",
}
"""Why places of the page are not computed anew."""
_UNKNOWN = "no rule of this check knows it"


def check_page_numbers(page: Page, pack: Pack, computed: Mapping[str, list[Row]], found: Findings) -> None:
    """Every number of the page that a computed table gives; all others are named."""
    rows_of = {**computed, "slide_times": slide_times(pack), "chosen_models": pack.choices}
    shown = {name: ShownTable(name, rows_of[name], pack) for name in rows_of if name in SHOWN}
    told: list[str] = []
    num = 0
    seen = set()
    for cell in page.cells:
        if cell.columns:
            rows = computed.get(cell.table, [])
            row = next((each for each in rows if all(each.get(key) == cell.row[key] for key in cell.row)), None)
            columns = [*cell.columns]
        elif (table := cell.table or _BY_TITLE.get([*cell.place.split(" / "), ""][1], "")) in shown:
            if cell.column in SHOWN[table][0]:
                seen.add((cell.place, cell.text))
                continue
            row, columns = shown[table].behind(cell)
        else:
            continue
        if not columns or (row is not None and not set(columns) <= row.keys()):
            continue
        seen.add((cell.place, cell.text))
        if row is None:
            told.append(f"{PAGE}: {cell.place}: {cell.text!r} is in a row that does not follow from the ledger")
            continue
        values = [row.get(name) for name in columns]
        num += len(values)
        if cell.columns and len(NUMBER.findall(cell.text)) <= len(values):
            seen.add((cell.place.removesuffix(f" / {cell.text}"), cell.text))
        if not says(cell.text, values, is_cut=(cell.table, cell.column) in FLOOR_SHOWN):
            told.append(f"{PAGE}: {cell.place}: got {cell.text!r}, expected {_told(values)} by the ledger")
    found.fault(f"{PAGE} against the ledger", told)
    found.done.append(f"{num} numbers of the page by the ledger")
    check_sentences(page, pack, computed, found, seen=seen)
    _name_the_rest(page, seen, found)


class ShownTable:
    """A computed table as the page shows it: its rows by the texts that name them."""

    def __init__(self, name: str, rows: Sequence[Row], pack: Pack) -> None:
        """Index the rows."""
        self.keys = SHOWN[name][0]
        grouped, self.headings = shown_rows(name, rows, {choice["beta"] for choice in pack.choices})
        self.rows = {tuple(_name_on_page(row.get(each)) for each in self.keys.values()): row for row in grouped}

    def behind(self, cell: Cell) -> tuple[Row | None, list[str]]:
        """The row and the columns that a cell shows; no column where its heading is not known."""
        key = tuple(cell.row.get(heading, "") for heading in self.keys)
        return self.rows.get(key), self.headings.get(cell.column, [])


def _name_on_page(value: Any) -> str:
    return "n/a" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _told(values: Sequence[Any]) -> str:
    return " ".join(f"{each:.6g}" if isinstance(each, float) else str(each) for each in values)


def _name_the_rest(page: Page, seen: set[tuple[str, str]], found: Findings) -> None:
    """Count, by their place on the page, the texts with numbers that nothing above has computed."""
    rest: dict[str, list[str]] = {}
    for place, text in page.texts:
        part, *inner = place.split(" / ")
        column = next((each for each in inner if each.startswith("column ")), "")
        is_heading = column == f"column {text}"
        if re.search(r"\d", text) and (place, text) not in seen and not text.startswith("sha256 ") and not is_heading:
            rest.setdefault(" / ".join([part, *inner[:1]]), []).append(column.removeprefix("column "))
    for where, columns in rest.items():
        named = ", ".join(dict.fromkeys(filter(None, columns)))
        why = _WHY_NOT.get(where, _WHY_NOT.get(where.partition(" / ")[0], _UNKNOWN))
        found.leave("texts of the page", f"{where} ({len(columns)}{': ' + named if named else ''}): {why}")
