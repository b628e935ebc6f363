"""What a report is made from: tables that are there, why others are not, and pictures."""

import io
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from analysis.evidence.evidence import Evidence
from analysis.evidence.table import NotMade, Table
from analysis.page.blocks import PictureBlock, TableBlock, data_uri, table_block
from analysis.page.summary import Made
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice

_JPEG_QUALITY = 88
_PAPER_FIGURES = {
    "figure2": "Figure 2. Section labels on two Test slides: Tumor red, Normal green.",
    "figure4": "Figure 4. The settings on patches of Validation I.",
    "figure6": "Figure 6. Sections of Test that were classified right.",
    "figure7": "Figure 7. A section of Test that was called Tumor and is not.",
    "figure8": "Figure 8. Outputs of the decoder's blocks on patches of Validation I.",
}

_OF_LABELS = ("figure2", "figure6", "figure7")
"""What shows labels of Test, and was drawn with labels of before where there are none now."""


@dataclass(frozen=True, kw_only=True)
class PageContent:
    """What the page is made from."""

    evidence: Evidence
    headline: Choice
    """The setting that the first numbers and the pictures of errors are of."""
    tables: Made
    faults: dict[str, NotMade] = field(default_factory=dict)
    """What of the page itself could not be made, as it is found."""

    @property
    def paths(self) -> StudyPaths:
        """The study's files."""
        return self.evidence.paths

    def blocks(self, *names: str, folded: bool = False) -> Iterator[TableBlock]:
        """Take some tables; one that could not be made is named by `left_out`."""
        for name in names:
            table = self.tables.get(name)
            if isinstance(table, Table):
                yield table_block(table, folded=folded)

    def left_out(self, *names: str) -> list[str]:
        """A line for each reason why some of these tables are not there."""
        by_reason: dict[str, list[str]] = {}
        for name in names:
            outcome = self.tables.get(name)
            if isinstance(outcome, NotMade):
                by_reason.setdefault(outcome.reason, []).append(spoken(name))
        return [f"Left out: {', '.join(left)}: {reason}." for reason, left in by_reason.items()]

    def picture(self, name: str, caption: str = "") -> Iterator[PictureBlock]:
        """Take a picture from STUDY/figures, if it is there; the paper's figures have their own captions."""
        counts = self.counts()
        is_of_before = name in _OF_LABELS and counts is not None and not counts["num_labelled"]
        if is_of_before or isinstance(self.tables.get(name), NotMade):
            return
        # Made elsewhere, the report shows the study's own where no newer ones were drawn.
        places = (self.paths.figure(name), StudyPaths(self.paths.root).figure(name))
        path = next(filter(Path.exists, places), None)
        if path is not None:
            # The paper's figures show tissue, which is smaller as JPEG.
            shows_tissue = name in _PAPER_FIGURES
            uri = data_uri(as_jpeg(path), "jpeg") if shows_tissue else data_uri(path.read_bytes(), "png")
            yield PictureBlock(uri=uri, caption=caption or _PAPER_FIGURES[name])

    def counts(self) -> Mapping[Hashable, Any] | None:
        """How many slides and sections of Test there are, and how they were judged; None where none were."""
        table = self.tables["verdict_counts"]
        if not isinstance(table, Table):
            return None
        frame = table.frame
        mine = frame[(frame["part"] == Part.TEST.value) & (frame["setting"] == self.headline.setting)]
        return None if mine.empty else mine.to_dict("records")[0]

    def slides(self) -> pd.DataFrame:
        """The slides of Test under the headline's setting, in the order of the table of slides; perhaps none."""
        table = self.tables["slides"]
        if not isinstance(table, Table):
            return pd.DataFrame({"slide_id": [], "state": []})
        mine = (table.frame["part"] == Part.TEST.value) & (table.frame["setting"] == self.headline.setting)
        return table.frame[mine]


def spoken(name: str) -> str:
    """A table's name as a reader knows it: Table 4, Figure 5, error groups."""
    numbered = re.fullmatch(r"(table|figure)(\d)", name)
    return f"{numbered[1].capitalize()} {numbered[2]}" if numbered else name.replace("_", " ")


def as_jpeg(path: Path, *, most_px: int | None = None) -> bytes:
    """A picture as JPEG, at most so large on its longer side."""
    file = io.BytesIO()
    with Image.open(path) as image:
        if most_px:
            image.thumbnail((most_px, most_px))
        image.convert("RGB").save(file, format="jpeg", quality=_JPEG_QUALITY)
    return file.getvalue()
