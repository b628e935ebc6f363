"""What a report is made from: tables that are there, why others are not, and pictures."""

import io
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from analysis.page.blocks import PictureBlock, TableBlock, data_uri, table_block
from analysis.page.summary import Made
from analysis.pictures.figure2 import labels_shown
from analysis.pictures.picture_state import is_of_today, state_of_choices, state_of_labels, state_of_verdicts
from analysis.pictures.shown_sections import of_setting
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import NotMade, Table
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.choices import Choice

_JPEG_QUALITY = 88
_PAPER_FIGURES = {
    "figure2": "Figure 2. Section labels on two Test slides: Tumor orange and solid, Normal blue and dashed.",
    "figure4": "Figure 4. The settings on patches of Validation I.",
    "figure6": "Figure 6. Sections of Test that were classified right.",
    "figure7": "Figure 7. A section of Test that was called Tumor and is not.",
    "figure8": "Figure 8. Outputs of the decoder's blocks on patches of Validation I.",
}

_OF_LABELS = ("figure2", "figure6", "figure7")
"""What shows labels of Test, and may have been drawn with labels of before."""
_OF_CHOICES = ("figure4", "figure8")
"""What shows networks at their thresholds, and may have been drawn of those of before."""
_OF_ONE_SETTING = ("figure6", "figure7")
"""What shows the verdicts of one setting: the headline's."""


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
        """A line for each reason why some of these tables and pictures are not there."""
        by_reason: dict[str, list[str]] = {}
        for name in names:
            outcome = self.tables.get(name)
            if isinstance(outcome, NotMade):
                by_reason.setdefault(outcome.reason, []).append(spoken(name))
            elif reason := self._why_not_shown(name):
                by_reason.setdefault(reason, []).append(spoken(name))
        return [f"Left out: {', '.join(left)}: {reason}." for reason, left in by_reason.items()]

    def _why_not_shown(self, name: str) -> str:
        """Why a picture of labels and verdicts is not on the page; nothing where it is, or where it is not one."""
        if name not in (*_OF_LABELS, *_OF_CHOICES) or (name in _OF_LABELS and not self._has_labels()):
            return ""
        path = self._picture_path(name)
        if path is None and self._picture_name(name) != name:
            command = f"python analysis/make.py {name} STUDY --setting {self.headline.setting}"
            return f"not drawn of {self.headline.setting}; `{command}` draws it"
        if path is None or self._is_of_today(name, path):
            return ""
        what = "of models or thresholds" if name in _OF_CHOICES else "with labels or verdicts"
        return f"drawn {what} of before; {self.redraw}"

    @property
    def redraw(self) -> str:
        """What draws all pictures anew, as the end of a sentence."""
        return "`python jobs/launch_tables.py --study STUDY` draws it anew"

    def is_of_before(self, path: Path, state: str) -> bool:
        """Whether a picture shows labels or verdicts of before."""
        return not is_of_today(path, state, are_corrected=self.paths.labels.exists())

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """The verdicts on Test under the headline's setting.

        Raises:
            LedgerError: nothing was selected, or Test was not inferred.
        """
        verdicts = self.evidence.verdicts(Part.TEST)
        return verdicts[verdicts["setting"] == self.headline.setting]

    def _is_of_today(self, name: str, path: Path) -> bool:
        if name in _OF_CHOICES:
            state = state_of_choices(self.evidence.choices)
        elif name == "figure2":
            state = state_of_labels(labels_shown(self.evidence))
        else:
            state = state_of_verdicts(self.verdicts)
        return not self.is_of_before(path, state)

    def _picture_name(self, name: str) -> str:
        asked = of_setting(self.evidence, self.headline) if name in _OF_ONE_SETTING else ""
        return f"{name}_{asked}" if asked else name

    def _picture_path(self, name: str) -> Path | None:
        # Made elsewhere, the report shows the study's own where no newer ones were drawn.
        file_name = self._picture_name(name)
        places = (self.paths.figure(file_name), StudyPaths(self.paths.root).figure(file_name))
        return next(filter(Path.exists, places), None)

    def _has_labels(self) -> bool:
        counts = self.counts()
        return counts is None or bool(counts["num_labelled"])

    def picture(self, name: str, caption: str = "") -> Iterator[PictureBlock]:
        """Take a picture from STUDY/figures, if it is there; the paper's figures have their own captions."""
        is_without_labels = name in _OF_LABELS and not self._has_labels()
        if is_without_labels or isinstance(self.tables.get(name), NotMade):
            return
        path = self._picture_path(name)
        may_be_of_before = name in (*_OF_LABELS, *_OF_CHOICES)
        if path is not None and not (may_be_of_before and not self._is_of_today(name, path)):
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
