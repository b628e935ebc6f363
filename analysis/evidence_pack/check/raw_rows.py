"""What the pack holds: raw rows of the ledger, the choice, the slides; and the verdict on each section."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from analysis.evidence_pack.check.digests import lists_of
from analysis.evidence_pack.check.findings import ANSWERS, CURVES, LEDGER, Row

LABELLED, NO_LABEL = "labelled", "no label"
_LOST = "lost correction"


class Pack:
    """The raw rows, what was chosen, and the slides."""

    def __init__(self, folder: Path) -> None:
        """Read the pack."""
        self.folder = folder
        table = pq.read_table(folder / LEDGER)
        self.curves, self.margins_um = (lists_of(table, name) for name in CURVES)
        self.ledger: list[Row] = table.drop_columns(list(CURVES)).to_pylist()
        self.choices = self.table("selection")
        self.slides, labels, self.without_rows = (
            _csv(folder / f"{name}.csv") for name in ("slides", "labels", "without_rows")
        )
        self.labels = [label for label in labels if label["origin"] != _LOST]
        self.lost_labels = [label for label in labels if label["origin"] == _LOST]
        """Corrections of sections that are not there any more."""
        self.answers = _csv(folder / ANSWERS) if (folder / ANSWERS).exists() else None
        """What was said in reviews, step by step; None where none was held."""

    def table(self, name: str) -> list[Row]:
        """The rows of a table as the study wrote it; none where there is none."""
        path = self.folder / "tables" / f"{name}.parquet"
        rows: list[Row] = pq.read_table(path).to_pylist() if path.exists() else []
        return rows

    def metrics(self, setting: str) -> list[Row]:
        """The metrics of a setting's run; none where it has no run, as in a cohort."""
        path = self.folder / "runs" / setting / "metrics.parquet"
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
                "site_choice": choice.get("site_choice", ""),
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

    @cached_property
    def label_states(self) -> dict[tuple[str, str], str]:
        """Whether each section of labels.csv has a label, and why it has none."""
        return {(label["slide_id"], label["section_id"]): label_state(label) for label in self.labels}

    def why_no_label(self, row: Row) -> str:
        """Why a section of the ledger has no label; by the ledger alone where labels.csv says nothing of it."""
        state = self.label_states.get((row["slide_id"], row["section_id"]))
        return (state or ("unsure" if row["labelled_by"] else NO_LABEL)).replace(LABELLED, NO_LABEL)

    def num_without_label(self, rows: Sequence[Row], why: str) -> int:
        """How many of some sections have no label because readers are unsure of them, or in conflict."""
        return sum(row["label"] is None and self.why_no_label(row) == why for row in rows)

    @cached_property
    def is_drawn(self) -> bool:
        """Whether any slide of slides.csv is drawn instead of scanned."""
        return any(slide["scanner"] == "phantom" for slide in self.slides)

    def of_part(self, *parts: str, final_only: bool = True) -> list[Row]:
        """The verdicts on some parts."""
        return [row for row in self.verdicts if row["part"] in parts and (row["is_final"] or not final_only)]

    def by_setting(self, *parts: str) -> Iterator[tuple[Row, list[Row]]]:
        """Each choice with its final verdicts on some parts, where there are any."""
        for choice in self.choices:
            if mine := [row for row in self.of_part(*parts) if row["setting"] == choice["setting"]]:
                yield choice, mine


def label_state(label: Row) -> str:
    """Whether a row of labels.csv has a label, and why it has none: unsure, conflict, or nobody said anything."""
    if label["label"]:
        return LABELLED
    if label["conflict"] and not _is_decided(label):
        return "conflict"
    return "unsure" if label["labelled_by"] else NO_LABEL


def _is_decided(label: Row) -> bool:
    """Whether somebody who is none of the readers has decided that nobody can say."""
    readers = said_in(label)
    deciders = [name for name in label["labelled_by"].split("; ") if name and name not in readers]
    return bool(readers) and (len(deciders) == 1 or (len(deciders) > 1 and bool(label["label_origin"])))


def said_in(label: Row) -> dict[str, str]:
    """What each reader said by a row of labels.csv; nothing where it does not tell them apart."""
    if label["tells_readers"] != "yes" or not label["labelled_by"]:
        return {}
    if not label["conflict"]:
        return dict.fromkeys(label["labelled_by"].split("; "), label["label"] or "unsure")
    pairs = [each.rpartition(": ") for each in label["conflict"].split("; ")]
    if not all(name and answer in ("Tumor", "Normal", "unsure") for name, _, answer in pairs):
        return {}
    return {name: answer for name, _, answer in pairs}


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


def iou_of(row: Row) -> float:
    """IoU from the counted pixels; older metrics hold the IoU alone."""
    if "tp_px" not in row:
        return math.nan if row["iou"] is None else float(row["iou"])
    union = row["tp_px"] + row["fp_px"] + row["fn_px"]
    return float(row["tp_px"] / union) if union else math.nan


def marks(rows: Iterable[Row]) -> Row:
    """Whether anything is drawn instead of tissue."""
    kept = list(rows)
    return {name: any(row[name] for row in kept) for name in ("phantom", "phantom_weights")}
