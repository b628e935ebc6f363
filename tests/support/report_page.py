"""The report as its reader meets it, taken apart; and what it has to say, counted from the ledger by other code."""

import json
import math
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd


class ReportPage(HTMLParser):
    """Headings, lines, large numbers and tables of the page, by the part that they stand in."""

    def __init__(self, path: Path) -> None:
        """Read the page."""
        super().__init__()
        self.numbers: dict[str, tuple[str, str]] = {}
        self.sources: dict[str, dict[str, Any]] = {}
        """Where each large number stands in the study's tables, as the page says it."""
        self.named_tables: dict[str, str] = {}
        """The parquet file's name of each table, by title."""
        self.lines: dict[str, list[str]] = {}
        self.warnings: dict[str, list[str]] = {}
        self.tables: dict[str, list[dict[str, str]]] = {}
        self.parts: list[str] = []
        self._text: list[str] = []
        self._class: str | None = None
        self._title = ""
        self._heading: list[str] = []
        self._row: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._class = dict(attrs).get("class") if tag in ("p", "div") else self._class
        if self._class == "number" and tag == "div":
            self._source = dict(attrs).get("data-from")
        # A large number is <b>value</b>name<br><span>range</span>.
        if tag == "br" and self._class == "number":
            self._text.append("|")
        elif tag not in ("br", "span", "code", "a", "abbr", "dfn"):
            self._text = []
        if tag == "table":
            self._heading = []
            if name := dict(attrs).get("data-table"):
                self.named_tables[self._title] = name
        if tag == "tr":
            self._row = []

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        text = "".join(self._text).strip()
        part = self.parts[-1] if self.parts else ""
        if tag == "h2":
            self.parts.append(text)
        elif tag in ("h3", "summary"):
            self._title = text
        elif tag == "p":
            place = self.warnings if self._class == "warning" else self.lines
            place.setdefault(part, []).append(text)
        elif tag == "b" and self._class == "number":
            self._value, self._text = text, []
        elif tag == "div" and self._class == "number":
            name, _, about = text.partition("|")
            self.numbers[name.strip()] = (self._value, about.strip())
            if self._source:
                self.sources[name.strip()] = json.loads(self._source)
            self._class = None
        elif tag == "th":
            assert text not in self._heading, f"two columns are headed {text!r}"
            self._heading.append(text)
        elif tag == "td":
            self._row.append(text)
        elif tag == "tr" and self._row:
            rows = self.tables.setdefault(self._title, [])
            rows.append(dict(zip(self._heading, self._row, strict=True)))

    def table(self, beginning: str) -> list[dict[str, str]]:
        """The rows of the one table whose title begins so."""
        (title,) = [title for title in self.tables if title.startswith(beginning)]
        return self.tables[title]

    def left_out(self) -> dict[str, str]:
        """Why each thing is left out that is named so."""
        found = {}
        for line in chain.from_iterable(self.lines.values()):
            if match := re.fullmatch(r"Left out: (.*?): (.*)\.", line, re.DOTALL):
                found |= dict.fromkeys(match[1].split(", "), match[2])
        return found


def verdicts_from_ledger(root: Path, setting: str, part: str = "Test") -> pd.DataFrame:
    """The sections of a part with `verdict`, by the curves and later labels, by no code of ours."""
    ledger = pd.read_parquet(root / "sections.parquet")
    choices = pd.read_parquet(root / "tables" / "selection.parquet")
    choice = choices[choices.setting == setting].iloc[0]
    mine = ledger[
        (ledger.setting == setting) & (ledger.epoch == choice.epoch) & ledger.is_final & (ledger.part == part)
    ]
    place = math.ceil(255 * choice.t_p - 1e-9)
    area_um2 = mine.largest_region_px.map(lambda curve: float(curve[place])) * (mine.pixel_px * mine.mpp) ** 2
    is_tumor = (area_um2 > 0) & (area_um2 >= choice.t_a_um2)
    otherwise = mine.coverage.map(lambda read: "review" if read < 1 else "Normal")
    verdict = otherwise.where(~is_tumor, "Tumor")
    later = {}
    if (root / "labels.csv").exists():
        later = pd.read_csv(root / "labels.csv").set_index(["slide_id", "section_id"])["label"].to_dict()
    keys = zip(mine.slide_id, mine.section_id, strict=True)
    label = [later.get(key, was) for key, was in zip(keys, mine.label.to_list(), strict=True)]
    return mine.assign(area_um2=area_um2, verdict=verdict, label=pd.Series(label, mine.index, dtype=object))


def confusion(verdicts: pd.DataFrame) -> dict[str, int]:
    """TP, FN, FP, TN of the labelled sections, and how many of those are for review."""
    pairs = Counter(zip(verdicts.label.fillna(""), verdicts.verdict, strict=True))
    names = {
        "TP": ("Tumor", "Tumor"),
        "FN": ("Tumor", "Normal"),
        "FP": ("Normal", "Tumor"),
        "TN": ("Normal", "Normal"),
    }
    counts = {name: pairs[pair] for name, pair in names.items()}
    return {**counts, "review": pairs["Tumor", "review"] + pairs["Normal", "review"]}


def check_page_against_ledger(page: ReportPage, root: Path, setting: str) -> pd.DataFrame:
    """Compare every count on the page with the ledger; returns the verdicts on Test."""
    verdicts = verdicts_from_ledger(root, setting)
    counts = Counter(verdicts.verdict)
    total = len(verdicts)
    assert page.numbers["sections"][0] == str(total)
    for name, verdict in (("called Tumor", "Tumor"), ("called Normal", "Normal"), ("review", "review")):
        share = f"{counts[verdict] / total:.0%} of the sections" if total else ""
        assert page.numbers[name] == (str(counts[verdict]), share)
    unread = int((verdicts.coverage < 1).sum())
    assert page.numbers["sections"][1] == (f"{unread} not read whole" if unread else "all read whole")
    _check_lists(page, verdicts, setting)
    _check_figures(page, verdicts, setting)
    _check_sources(page, root)
    _check_cells(page, root)
    return verdicts


def _check_sources(page: ReportPage, root: Path) -> None:
    """Each large number and its range are what the page says that the study's tables hold."""
    for name, source in page.sources.items():
        frame = pd.read_parquet(root / "tables" / f"{source['table']}.parquet")
        for column, value in source["row"].items():
            frame = frame[frame[column] == value]
        (row,) = frame[source["columns"]].to_numpy().tolist()
        value, about = page.numbers[name]
        said = [value, *re.findall(r"-?\d+\.\d+", about)[: len(row) - 1]]
        assert said == [_as_printed(number) for number in row][: len(said)], name
        assert len(said) == len(row) or all(map(pd.isna, row[len(said) :])), name


def _as_printed(number: float) -> str:
    if pd.isna(number):
        return "n/a"
    return f"{number:,}" if isinstance(number, int) else f"{number:.3f}"


def _check_cells(page: ReportPage, root: Path) -> None:
    """Each number in the cells of a table stands in a row of its parquet file, rounded, cut or as a percentage."""
    for title, name in page.named_tables.items():
        path = root / "tables" / f"{name}.parquet"
        path = path if path.exists() else root / "figures" / f"{name}.parquet"
        known = [value for row in pd.read_parquet(path).to_numpy().tolist() for value in row]
        numbers = [float(value) for value in known if isinstance(value, (int, float)) and not pd.isna(value)]
        words = " ".join(str(value) for value in known if isinstance(value, str))
        for row in page.tables[title]:
            for heading, cell in row.items():
                for text in re.findall(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?%?(?![\w.])", cell):
                    assert text in words or _stands_in(text, numbers), (title, heading, cell)


def _stands_in(text: str, numbers: list[float]) -> bool:
    scale = 100 if text.endswith("%") else 1
    digits = len(text.rstrip("%").partition(".")[2])
    value, step = float(text.rstrip("%").replace(",", "")), 10.0**-digits
    # Half a unit of the last digit; a whole one where digits were cut off.
    return any(abs(number * factor - value) < step for number in numbers for factor in (scale, scale / 1e6, 1000))


def _check_lists(page: ReportPage, verdicts: pd.DataFrame, setting: str) -> None:
    """The sections one by one, and the sums of the slides' table and of the verdicts' table."""
    if len(verdicts):
        rest = (rows for title, rows in page.tables.items() if title.startswith("The other "))
        listed = [*page.table("Section verdicts, Test"), *chain.from_iterable(rest)]
        said = {row["section"]: (row["verdict"], row["label"], row["area um2"]) for row in listed}
        assert said == {
            row.section_id: (row.verdict, row.label if isinstance(row.label, str) else "none", f"{row.area_um2:.0f}")
            for row in verdicts.itertuples()
        }
    slides = [row for row in page.table("Slides:") if row["part"] == "Test" and row["setting"] == setting]
    (sums,) = [row for row in page.table("Verdicts: slides") if row["part"] == "Test" and row["setting"] == setting]
    assert page.numbers["slides of Test"][0] == sums["slides"] == str(len(slides))
    for heading, expected in (
        ("sections", len(verdicts)),
        *((name, int((verdicts.verdict == name).sum())) for name in ("Tumor", "Normal", "review")),
    ):
        assert int(sums[heading]) == sum(int(row[heading]) for row in slides) == expected
    assert int(sums["labelled"]) == verdicts.label.notna().sum()
    for state in ("failed", "not there", "no section"):
        assert int(sums[state]) == sum(row["state"] == state for row in slides)


def _check_figures(page: ReportPage, verdicts: pd.DataFrame, setting: str) -> None:
    """Table 4, the line on labels and the large figures where there are labels; none of them where there are none."""
    counts, labelled = confusion(verdicts), int(verdicts.label.notna().sum())
    overview = " ".join(page.lines["Overview"])
    figures = {"accuracy", "sensitivity", "specificity", "TP", "FN", "FP", "TN", "sections left out"}
    if not labelled:
        assert f"(0 of {len(verdicts)})" in overview
        assert not figures & set(page.numbers)
        assert not [title for title in page.tables if title.startswith("Table 4")]
        assert page.left_out()["Table 4"].startswith(f"needs labels: 0 of {len(verdicts)} sections of Test have one")
        return
    (table4,) = [row for row in page.table("Table 4.") if row["setting"] == setting]
    assert {name: int(table4[name]) for name in counts} == counts
    assert int(table4["sections"]) == labelled
    for name in ("TP", "FN", "FP", "TN"):
        assert page.numbers[name][0] == str(counts[name])
    nameless = len(verdicts) - labelled
    left_out = page.numbers["sections left out"]
    assert left_out[0] == str(nameless + counts["review"])
    assert sum(map(int, re.findall(r"(\d+) [a-z]", left_out[1]))) == nameless + counts["review"]
    spoken = ", ".join(f"{counts[name]} {name}" for name in ("TP", "FN", "FP", "TN"))
    assert f"{spoken}, {counts['review']} for review." in overview
    right, judged = counts["TP"] + counts["TN"], labelled - counts["review"]
    expected: dict[str, Any] = {
        "accuracy": (right, judged),
        "sensitivity": (counts["TP"], counts["TP"] + counts["FN"]),
        "specificity": (counts["TN"], counts["TN"] + counts["FP"]),
    }
    for name, (top, bottom) in expected.items():
        text = f"{top / bottom:.3f}" if bottom else "n/a"
        assert table4[name] == page.numbers[name][0] == text
