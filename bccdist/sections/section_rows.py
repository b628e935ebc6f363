"""The section ledger as arrays: a frame with one row per section and output, and the curves beside it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bccdist.configuration import SETTINGS
from bccdist.errors import LedgerError
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths
from bccdist.sections import ledger
from bccdist.sections.curve import CURVE_LENGTH
from bccdist.sections.labels import ledger_of_today, read_corrections
from bccdist.slides.manifest import Manifest
from bccdist.study import manifest_of_study

_CURVE, _MARGINS, _FEATURES = "largest_region_px", "margin_um", "features"
_SECTION = ["slide_id", "section_id"]


@dataclass(frozen=True)
class SectionRows:
    """Rows of the ledger.

    Attributes:
        frame: every column but the curves and features, n rows.
        curves: uint32 [n, 256], heatmap pixels in the largest region at each probability step.
        margins_um: float32 [n, 256], the smallest distance to the tissue's edge at each step; NaN where no pixel
            reaches it. Research use only.
    """

    frame: pd.DataFrame
    curves: NDArray[np.uint32]
    margins_um: NDArray[np.float32]

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """The rows of a ledger's table.

        Raises:
            LedgerError: a curve has not 256 entries.
        """
        curves, margins_um = (by_step(table, name) for name in (_CURVE, _MARGINS))
        return cls(table.drop_columns([_CURVE, _MARGINS, _FEATURES]).to_pandas(), curves, margins_um)

    def where(self, wanted: NDArray[np.bool_]) -> Self:
        """The rows that a bool [n] marks."""
        return type(self)(self.frame[wanted].reset_index(drop=True), self.curves[wanted], self.margins_um[wanted])

    @property
    def is_tumor(self) -> NDArray[np.bool_]:
        """Whether each section is labelled Tumor: bool [n]."""
        return np.asarray(self.frame["label"] == Label.TUMOR.value, dtype=bool)

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Whether each section has a label: bool [n]."""
        return np.asarray(self.frame["label"].notna(), dtype=bool)

    @property
    def settings(self) -> list[str]:
        """The settings that occur, in the paper's order."""
        found = set(self.frame["setting"])
        return [name for name in SETTINGS if name in found] + sorted(found - set(SETTINGS))


def by_step(table: pa.Table, name: str) -> NDArray[Any]:
    """A column of lists as an array [n, 256].

    Raises:
        LedgerError: a list has not 256 entries.
    """
    column = table.column(name).combine_chunks()
    lengths = set(pc.unique(pc.list_value_length(column)).to_pylist())
    if lengths - {CURVE_LENGTH}:
        raise LedgerError(
            f"curves {name} in the ledger have {sorted(lengths, key=str)} entries, expected {CURVE_LENGTH}; "
            "run the inference stage again"
        )
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(-1, CURVE_LENGTH)


def load_ledger(paths: StudyPaths, manifest: Manifest | None = None) -> pa.Table:
    """All rows of a study's ledger, with the labels of today (bccdist/sections/labels.py).

    Where the folder of rows is there, they are gathered anew if one has changed. Rows of slides that the manifest
    does not name (any more) are left out: such a slide is no part of the study.

    Args:
        paths: of the study.
        manifest: the study's, where it was read already.

    Raises:
        LedgerError: there is none, or a section stands there twice.
        ConfigurationError: the study's manifest is nowhere to be found.
        ManifestError: the manifest or labels.csv has faults.
    """
    table = ledger.merge(paths.ledger, paths.sections) if paths.ledger.is_dir() else ledger.read_rows(paths.sections)
    if manifest is None and paths.study.exists():
        manifest = manifest_of_study(paths.root)
    if manifest is not None:
        named = pa.array([slide.slide_id for slide in manifest.slides], pa.string())
        table = table.filter(pc.is_in(table["slide_id"], named))
    return ledger_of_today(table, manifest, read_corrections(paths))


def rows_of(table: pa.Table, parts: Iterable[Part], *, final_only: bool) -> SectionRows:
    """The rows of some parts, of every output or of the settings' own outputs alone.

    Raises:
        LedgerError: a section has two different labels.
    """
    wanted = pc.is_in(table.column("part"), pa.array([part.value for part in parts], pa.string()))
    if final_only:
        wanted = pc.and_(wanted, table.column("is_final"))
    rows = SectionRows.from_table(table.filter(wanted))
    _refuse_two_labels(rows.frame)
    return rows


def _refuse_two_labels(frame: pd.DataFrame) -> None:
    different = frame[[*_SECTION, "label"]].drop_duplicates()
    twice = different[different.duplicated(_SECTION)]
    if len(twice):
        names = ", ".join(f"{row.slide_id}/{row.section_id}" for row in twice.head(5).itertuples())
        raise LedgerError(
            f"{len(twice)} section(s) have different labels in different rows of the ledger ({names}); "
            "labels changed between two inference runs: run the inference stage again"
        )


def sections_in(frame: pd.DataFrame) -> set[tuple[str, str]]:
    """The (slide_id, section_id) that occur."""
    return set(zip(frame["slide_id"], frame["section_id"], strict=True))
