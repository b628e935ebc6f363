"""A table: printed as markdown, and written as parquet (full precision), csv and md."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pandas as pd

from analysis.study_evidence.schemas import SCHEMAS, with_descriptions
from bccdist.configuration import phantom_warning
from bccdist.files import write_text
from bccdist.parquet import write_table
from bccdist.parts import Part

NOT_KNOWN = "n/a"


@dataclass(frozen=True, kw_only=True)
class NotMade:
    """Why a table or picture is not there."""

    reason: str
    is_fault: bool
    """Whether something is wrong, beside that there is nothing to show (yet)."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the analysis."""

    name: str
    """The stem of its files."""
    title: str
    frame: pd.DataFrame
    """What is written as parquet and csv; its columns `phantom` and `phantom_weights` decide on the warning."""
    printed: pd.DataFrame
    """The same rows as texts under short headings."""
    notes: tuple[str, ...] = ()
    """Sentences below the table."""
    schema: str = ""
    """What `analysis.study_evidence.schemas` describes the columns under, if not `name`."""
    place: Path | None = None
    """Where it was written, without the ending."""

    @property
    def folder(self) -> str:
        """Where it is written within a study."""
        return SCHEMAS[self.schema or self.name].folder

    @property
    def markdown(self) -> str:
        """Title, table and notes."""
        blocks = [f"**{self.title}** {warning_of(self.frame)}".rstrip(), markdown_of(self.printed), *self.notes]
        return "\n\n".join(blocks) + "\n"

    def asked(self, words: str) -> Self:
        """The table under a name of its own, where something else than the study's own was asked for; else itself."""
        return replace(self, name=f"{self.name}_{words}", schema=self.schema or self.name) if words else self

    def write(self, folder: Path) -> Self:
        """Write `name`.parquet, .csv and .md to `folder`; returns the table with its place."""
        write_frame(folder / f"{self.name}.parquet", self.frame, self.schema or self.name)
        write_text(folder / f"{self.name}.csv", self.frame.to_csv(index=False, lineterminator="\n"))
        write_text(folder / f"{self.name}.md", self.markdown)
        return replace(self, place=folder / self.name)


def of_part(part: Part) -> str:
    """What a table of another part than Test is called after, so that it does not take the place of Test's."""
    return "" if part is Part.TEST else part.short


def phantom_marks(rows: pd.DataFrame) -> dict[str, bool]:
    """Sum up rows of the ledger: whether any slide is drawn, and any network was trained on drawn slides."""
    return {name: bool(rows[name].any()) for name in ("phantom", "phantom_weights")}


def warning_of(frame: pd.DataFrame) -> str:
    """Say what is not real about a table's rows; empty where all is. Some tables rest on no network."""
    weights = "phantom_weights" in frame and bool(frame["phantom_weights"].any())
    return phantom_warning(slides=bool(frame["phantom"].any()), weights=weights)


def write_frame(path: Path, frame: pd.DataFrame, schema: str) -> None:
    """Write a frame as parquet, atomically and without its index, with what its columns mean.

    Raises:
        LedgerError: `analysis.study_evidence.schemas` does not describe the file or a column.
    """
    write_table(path, with_descriptions(frame, schema))


def markdown_of(printed: pd.DataFrame) -> str:
    """A frame of texts as a markdown table with aligned columns; all columns but the first align right."""
    rows = [[str(name) for name in printed.columns], *printed.astype(str).to_numpy().tolist()]
    widths = [max(3, *(len(row[col]) for row in rows)) for col in range(len(rows[0]))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def rounded(values: Iterable[float], digits: int) -> list[str]:
    """Numbers as texts, rounded."""
    return [NOT_KNOWN if math.isnan(value) else f"{value:.{digits}f}" for value in values]


def cut(values: Iterable[float], digits: int) -> list[str]:
    """Numbers as texts, cut after some digits as the accuracies of the paper's Table 5 are."""
    scale = 10**digits
    return rounded(
        (value if math.isnan(value) else math.floor(value * scale + 1e-9) / scale for value in values), digits
    )


def read_texts(shares: Iterable[float]) -> list[str]:
    """Shares of tissue that was read as texts; what is not all is never printed as 100 %."""
    return [
        NOT_KNOWN if math.isnan(share) else "100%" if share >= 1 else f"{min(share, 0.999):.1%}" for share in shares
    ]
