"""What the pack holds: raw rows of the ledger, the choice, the slides; and the verdict on each section."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from analysis.evidence_pack.check.digests import lists_of
from analysis.evidence_pack.check.findings import CURVES, LEDGER, Row


class Pack:
    """The raw rows, what was chosen, and the slides."""

    def __init__(self, folder: Path) -> None:
        """Read the pack."""
        self.folder = folder
        table = pq.read_table(folder / LEDGER)
        self.curves, self.margins_um = (lists_of(table, name) for name in CURVES)
        self.ledger: list[Row] = table.drop_columns(list(CURVES)).to_pylist()
        self.choices = self.table("selection")
        self.slides, self.labels, self.without_rows = (
            _csv(folder / f"{name}.csv") for name in ("slides", "labels", "without_rows")
        )

    def table(self, name: str) -> list[Row]:
        """The rows of a table as the study wrote it; none where there is none."""
        path = self.folder / "tables" / f"{name}.parquet"
        rows: list[Row] = pq.read_table(path).to_pylist() if path.exists() else []
        return rows

    @cached_property
    def verdicts(self) -> list[Row]:
        """The verdict on each section of each chosen model and output, with all that follows from its curve."""
        return [row for choice in self.choices for row in self._judged(choice)]

    def _judged(self, choice: Row) -> Iterator[Row]:
        step = step_of(choice["t_p"])
        for number, row in enumerate(self.ledger):
            if (row["setting"], row["epoch"]) != (choice["setting"], choice["epoch"]):
                continue
            areas_um2 = self.curves[number].astype(np.float64) * pixel_um2(row, choice["area_unit"])
            is_tumor = (areas_um2 >= choice["t_a_um2"]) & (areas_um2 > 0)
            area_um2, until = float(areas_um2[step]), int(np.max(np.flatnonzero(is_tumor), initial=0))
            verdict = (
                "Tumor"
                if is_tumor[step]
                else "review"
                if row["coverage"] < 1 or row.get("not_assessable")
                else "Normal"
            )
            open_ = row["label"] is None or verdict == "review"
            factor = 0.0 if area_um2 <= 0 else area_um2 / choice["t_a_um2"] if choice["t_a_um2"] else math.inf
            yield {
                **row,
                **{name: choice[name] for name in ("t_p", "t_a_um2", "beta")},
                "area_um2": area_um2,
                "area_difference_um2": area_um2 - choice["t_a_um2"],
                "area_factor": factor,
                "tumor_until": until / 255,
                "until_step": until,
                "flip_shift": flip_shift(until, step),
                "ledger_margin_um": float(self.margins_um[number][step]),
                "verdict": verdict,
                "correct": None if open_ else verdict == row["label"],
            }

    def num_without_label(self, rows: Sequence[Row], why: str) -> int:
        """How many of some sections have no label because readers are unsure of them, or in conflict."""
        states = {(label["slide_id"], label["section_id"]): label["state"] for label in self.labels}
        here = [row for row in rows if row["label"] is None]
        otherwise = ["unsure" if row["labelled_by"] else "no label" for row in here]
        keys = [(row["slide_id"], row["section_id"]) for row in here]
        return sum(states.get(key, state) == why for key, state in zip(keys, otherwise, strict=True))

    def of_part(self, *parts: str, final_only: bool = True) -> list[Row]:
        """The verdicts on some parts."""
        return [row for row in self.verdicts if row["part"] in parts and (row["is_final"] or not final_only)]

    def by_setting(self, *parts: str) -> Iterator[tuple[Row, list[Row]]]:
        """Each choice with its final verdicts on some parts, where there are any."""
        for choice in self.choices:
            if mine := [row for row in self.of_part(*parts) if row["setting"] == choice["setting"]]:
                yield choice, mine


def _csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def step_of(t_p: float) -> int:
    """The lowest stored value, of 0 to 255, whose probability (value / 255) is at least t_p."""
    return next(value for value in range(256) if value / 255 >= t_p - 1e-11)


def pixel_um2(row: Row, area_unit: str) -> float:
    """The area of a pixel of the heatmap; nominal takes 1 um per pixel of the slide whatever the scanner says."""
    edge_um = row["pixel_px"] * (row["mpp"] if area_unit == "physical" else 1.0)
    return float(edge_um**2)


def flip_shift(until: int, step: int) -> float:
    """The smallest shift of all stored values, as a probability, that changes the verdict; a stored 0 stays 0."""
    if not until or not step:
        return math.inf
    return (until - step + 1 if until >= step else step - until) / 255


def marks(rows: Iterable[Row]) -> Row:
    """Whether anything is drawn instead of tissue."""
    kept = list(rows)
    return {name: any(row[name] for row in kept) for name in ("phantom", "phantom_weights")}
