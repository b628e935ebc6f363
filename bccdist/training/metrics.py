"""The metrics of each epoch, and which epochs are the best (paper, section 2.5)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bccdist.configuration import Setting
from bccdist.files import atomic_path

if TYPE_CHECKING:  # its module imports torch, and the analysis reads these tables without torch
    from bccdist.training.validation import ValidationResult

MetricsRow = dict[str, Any]
"""One row of metrics.parquet."""
SCHEMA = pa.schema(
    [
        ("setting", pa.string()),
        ("epoch", pa.int32()),
        ("psi", pa.string()),
        ("is_final", pa.bool_()),
        ("iou", pa.float64()),
        ("tp_px", pa.int64()),
        ("fp_px", pa.int64()),
        ("fn_px", pa.int64()),
        ("tn_px", pa.int64()),
        ("train_loss", pa.float64()),
        ("val_loss", pa.float64()),
        ("learning_rate", pa.float64()),
        ("seconds", pa.float64()),
        ("patches_per_s", pa.float64()),
        ("phantom", pa.bool_()),
    ],
    metadata={"bccdist.schema": "metrics", "bccdist.schema_version": "1"},
)


def epoch_rows(
    setting: Setting,
    epoch: int,
    validation: "ValidationResult",
    train_losses: Mapping[str, float],
    **shared: float,
) -> list[MetricsRow]:
    """One row per output; `shared` are the columns that are the same for all: learning_rate, seconds, ..."""
    final = next(reversed(validation.confusion_px))
    return [
        {
            "setting": setting,
            "epoch": epoch,
            "psi": psi,
            "is_final": psi == final,
            "iou": iou(tp, fp, fn),
            "tp_px": tp,
            "fp_px": fp,
            "fn_px": fn,
            "tn_px": tn,
            "train_loss": train_losses.get(psi),
            "val_loss": validation.losses.get(psi),
            **shared,
        }
        for psi, (tp, fp, fn, tn) in validation.confusion_px.items()
    ]


def iou(tp: int, fp: int, fn: int) -> float:
    """Intersection over union of the tumor class; NaN where there is neither."""
    union = tp + fp + fn
    return tp / union if union else math.nan


def best_epochs(rows: Sequence[Mapping[Any, Any]], num: int) -> list[int]:
    """The epochs of the highest IoU of the final output, best first; the earlier one where two are equal.

    Args:
        rows: with epoch, is_final and iou, as in metrics.parquet.
        num: at most so many.
    """
    final = [row for row in rows if row["is_final"]]
    ranked = sorted(final, key=lambda row: (-1.0 if math.isnan(row["iou"]) else row["iou"], -row["epoch"]))
    return [row["epoch"] for row in reversed(ranked[-num:])]


def write_metrics(path: Path, rows: Sequence[MetricsRow]) -> None:
    """Write metrics.parquet atomically."""
    with atomic_path(path) as partial:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), partial)
