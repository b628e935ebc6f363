"""The section ledger as arrays: a frame with one row per section and output, and the curves beside it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bccdist.configuration import SETTINGS
from bccdist.errors import LedgerError
from bccdist.heatmaps import ledger
from bccdist.heatmaps.curve import NUM_LEVELS
from bccdist.parts import Label, Part
from bccdist.paths import StudyPaths

_CURVE = "largest_region_px"
_SECTION = ["slide_id", "section_id"]


@dataclass(frozen=True)
class SectionRows:
    """Rows of the ledger.

    Attributes:
        frame: every column but the curve, n rows.
        curves: uint32 [n, 256], heatmap pixels in the largest region at each level of stored probability.
    """

    frame: pd.DataFrame
    curves: NDArray[np.uint32]

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """The rows of a ledger's table.

        Raises:
            LedgerError: a curve has not 256 entries.
        """
        column = table.column(_CURVE).combine_chunks()
        lengths = set(pc.unique(pc.list_value_length(column)).to_pylist())
        if lengths - {NUM_LEVELS}:
            raise LedgerError(f"curves in the ledger have {sorted(lengths, key=str)} entries, expected {NUM_LEVELS}")
        curves = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, NUM_LEVELS)
        return cls(table.drop_columns([_CURVE]).to_pandas(), curves)

    def where(self, wanted: NDArray[np.bool_]) -> Self:
        """The rows that a bool [n] marks."""
        return type(self)(self.frame[wanted].reset_index(drop=True), self.curves[wanted])

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


def load_ledger(paths: StudyPaths) -> pa.Table:
    """All rows of a study's ledger; where the folder of rows is there, it is merged anew.

    Raises:
        LedgerError: there is none, or a section stands there twice.
    """
    if paths.ledger.is_dir():
        return ledger.merge(paths.ledger, paths.sections)
    return ledger.read_rows(paths.sections)


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
