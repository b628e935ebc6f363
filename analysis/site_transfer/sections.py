"""The sections of a cohort and of its model's reference, measured alike: scores, quality and features.

Both are judged at the model's own thresholds. What was not measured, as in files of before a measure was there, is
NaN, and is told as not measured.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bccdist.heatmaps.probability import step_of
from bccdist.parts import Label
from bccdist.sections.assessable import is_not_assessable, short_reasons
from bccdist.sections.choices import Choice
from bccdist.sections.section_rows import by_step
from bccdist.sections.verdicts import decision_step, has_tumor, region_area_um2

SCORES: Mapping[str, str] = {
    "tumor_share": "share of sections called Tumor",
    "tumor_until": "highest t_p at which sections are Tumor",
    "max_probability": "highest probability",
    "p99_probability": "99th percentile of probability",
    "largest_area": "largest region at t_p, log of um2",
}
"""What is compared of the network's output: means over a slide's sections."""
QUALITY: Mapping[str, str] = {
    "focus": "focus",
    "compression": "compression",
    "stain_density": "stain strength",
    "stain_hue": "stain hue",
    "ink_share": "ink",
    "fold_share": "folds",
    "air_share": "air",
}
"""What is compared of the pictures, columns of the ledger."""
MEASURES = {**SCORES, **QUALITY}
FEATURES = "features"
"""The network's own deepest features, all of them together."""
NOT_ASSESSABLE = "not_assessable"


@dataclass(frozen=True, kw_only=True)
class MeasuredSections:
    """Wholly read sections, n of them, of one network's final output.

    Attributes:
        frame: slide_id, section_id, label (None where nobody labelled it), not_assessable (why, as in the ledger), and
            a column for each of `MEASURES`.
        features: float [n, c], a row of NaN where a section has none; None where none has.
        curves: uint32 [n, 256], heatmap pixels in the largest region at each probability step.
        steps: int [n], the highest probability step at which each is Tumor with the model's t_A.
        choice: the model's thresholds.
        is_assessable: whether nothing speaks against believing the model on each: bool [n]. What is not assessable is
            never Normal, so it is compared with the reference, but judges no threshold.
        num_unread: sections that were left out, as they were not read whole.
    """

    frame: pd.DataFrame
    features: NDArray[np.float64] | None
    curves: NDArray[np.uint32]
    steps: NDArray[np.int64]
    choice: Choice
    is_assessable: NDArray[np.bool_]
    num_unread: int = 0

    @classmethod
    def of(cls, table: pa.Table, choice: Choice, *, slide: str = "slide_id") -> Self:
        """The sections of a ledger's rows, or of a model file's reference.

        Args:
            table: rows; those of other outputs are left out.
            choice: the model's thresholds.
            slide: the column that tells slides apart.
        """
        table = table.filter(table["is_final"])
        num = table.num_rows
        curves = by_step(table, "largest_region_px")
        held = [name for name in (*QUALITY, "mpp", "pixel_px", "coverage", "tissue_um2") if name in table.column_names]
        columns = {name: table[name].to_numpy(zero_copy_only=False) for name in held}
        about: dict[str, Any] = {"mpp": columns["mpp"], "pixel_px": columns["pixel_px"]}
        area_um2 = region_area_um2(curves, step_of(choice.t_p), area_unit=choice.area_unit, **about)
        steps = decision_step(curves, choice.t_a_um2, area_unit=choice.area_unit, **about)
        numbers = [f"section-{number}" for number in range(num)]
        frame = pd.DataFrame(
            {
                "slide_id": [str(name) for name in table[slide].to_pylist()],
                "section_id": table["section_id"].to_pylist() if "section_id" in table.column_names else numbers,
                "label": pd.Series(table["label"].to_pylist(), dtype=object),
                NOT_ASSESSABLE: pd.Series(_why_not_assessable(table), dtype=object),
                **about,
                "tumor_share": has_tumor(area_um2, choice.t_a_um2).astype(np.float64),
                "tumor_until": steps / 255,
                "max_probability": table["max_probability"].to_numpy().astype(np.float64),
                "p99_probability": table["p99_probability"].to_numpy().astype(np.float64),
                "largest_area": np.log1p(area_um2),
                **{name: np.asarray(columns.get(name, np.full(num, np.nan)), dtype=np.float64) for name in QUALITY},
            }
        )
        whole = (columns["coverage"] >= 1) & (columns["tissue_um2"] > 0)
        found = cls(
            frame=frame,
            features=_features(table),
            curves=curves,
            steps=steps,
            choice=choice,
            is_assessable=~is_not_assessable(frame[NOT_ASSESSABLE]),
        )
        return replace(found.where(whole), num_unread=int(num - whole.sum()))

    def where(self, wanted: NDArray[np.bool_]) -> Self:
        """The sections that a bool [n] marks."""
        return replace(
            self,
            frame=self.frame[wanted].reset_index(drop=True),
            features=None if self.features is None else self.features[wanted],
            curves=self.curves[wanted],
            steps=self.steps[wanted],
            is_assessable=self.is_assessable[wanted],
        )

    @property
    def num(self) -> int:
        """How many there are."""
        return len(self.frame)

    @property
    def num_slides(self) -> int:
        """Slides that they are of."""
        return int(self.frame["slide_id"].nunique())

    @property
    def num_assessable_slides(self) -> int:
        """Slides with a section that is assessable: those that labels may be of."""
        return self.where(self.is_assessable).num_slides

    @property
    def reasons(self) -> list[str]:
        """Why sections are not assessable, the most frequent reason first."""
        texts = self.frame.loc[~self.is_assessable, NOT_ASSESSABLE].dropna()
        return [reason for reason, _ in Counter(each for text in texts for each in short_reasons(text)).most_common()]

    @property
    def is_tumor(self) -> NDArray[np.bool_]:
        """Whether each is labelled Tumor: bool [n]."""
        return np.asarray(self.frame["label"] == Label.TUMOR.value, dtype=bool)

    @property
    def is_normal(self) -> NDArray[np.bool_]:
        """Whether each is labelled Normal: bool [n]."""
        return np.asarray(self.frame["label"] == Label.NORMAL.value, dtype=bool)

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Whether each has a label: bool [n]."""
        return self.is_tumor | self.is_normal

    def slide_means(self) -> pd.DataFrame:
        """Each measure's mean over the sections of a slide, by slide_id in their order."""
        return self.frame.groupby("slide_id", sort=True)[list(MEASURES)].mean()

    def slide_features(self) -> NDArray[np.float64] | None:
        """The features' mean over the sections of each slide in the same order: [slides, c]; NaN where none has."""
        if self.features is None:
            return None
        means = pd.DataFrame(self.features).groupby(self.frame["slide_id"].to_numpy(), sort=True).mean()
        return means.to_numpy(dtype=np.float64)


def lacks(sections: MeasuredSections, measures: Sequence[str]) -> list[str]:
    """Which of some measures none of the slides has."""
    means, features = sections.slide_means(), sections.slide_features()
    num = {name: int(means[name].notna().sum()) for name in MEASURES}
    num[FEATURES] = 0 if features is None else int((~np.isnan(features).any(axis=1)).sum())
    return [name for name in measures if not num[name]]


def _features(table: pa.Table) -> NDArray[np.float64] | None:
    """[n, c], NaN where a section has none; None where none has, or they are not all of one length."""
    if FEATURES not in table.column_names:
        return None
    column = table[FEATURES].combine_chunks()
    numbers = pc.list_value_length(column)
    lengths = set(pc.unique(numbers).drop_null().to_pylist())
    if len(lengths) != 1 or not (length := lengths.pop()):
        return None
    features = np.full((len(column), length), np.nan)
    there = np.asarray(numbers.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    features[there] = np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(-1, length)
    return features


def _why_not_assessable(table: pa.Table) -> list[str | None]:
    if NOT_ASSESSABLE not in table.column_names:
        return [None] * table.num_rows
    return list(table[NOT_ASSESSABLE].to_pylist())
