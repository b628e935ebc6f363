"""The metrics of each epoch, and which epochs are the best (paper, section 2.5)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from bccdist.configuration import Setting, read_claimed
from bccdist.errors import LedgerError
from bccdist.parquet import read_frame, write_table
from bccdist.paths import RunPaths

if TYPE_CHECKING:  # its module imports torch, and the analysis reads these tables without torch
    from bccdist.training.validation import ValidationResult

MetricsRow = dict[str, Any]
"""One row of metrics.parquet."""
_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("setting", pa.string(), "unet, resnet34, resnet34_ds or resnet34_linear"),
    ("epoch", pa.int32(), "the first is 1"),
    ("psi", pa.string(), "psi_0 to psi_4, or merged"),
    ("is_final", pa.bool_(), "whether this psi is the setting's own output"),
    ("iou", pa.float64(), "of the tumor class on Validation I at `iou_probability`, 0 to 1; NaN where there is none"),
    ("tp_px", pa.int64(), "pixels of this psi that are tumor and called so"),
    ("fp_px", pa.int64(), "pixels that are called tumor and are not"),
    ("fn_px", pa.int64(), "pixels that are tumor and not called so"),
    ("tn_px", pa.int64(), "all other pixels of Validation I"),
    ("train_loss", pa.float64(), "mean over the epoch's patches; null where the loss does not reach this psi"),
    ("val_loss", pa.float64(), "mean over the patches of Validation I; null where train_loss is"),
    ("learning_rate", pa.float64(), "of Adam in this epoch"),
    ("seconds", pa.float64(), "that the epoch took, its steps and its validation"),
    ("patches_per_s", pa.float64(), "training patches of all ranks per second of the steps"),
    ("num_steps", pa.int32(), "optimiser steps of this epoch"),
    ("loader_wait_share", pa.float64(), "share of the steps' time in which the first rank waited for patches, 0 to 1"),
    ("memory_gib", pa.float64(), "peak memory: of the device on a GPU, else of the process; the rank with most"),
    ("merge_weight", pa.float64(), "eq. 2's w of this psi after the epoch; null where psi is not merged"),
    ("phantom", pa.bool_(), "true for drawn slides: not tissue"),
)
SCHEMA = pa.schema(
    [pa.field(name, kind, metadata={"description": text}) for name, kind, text in _COLUMNS],
    metadata={"bccdist.schema": "metrics", "bccdist.schema_version": "2"},
)
"""The contract of metrics.parquet; each field's metadata says what it holds."""


@dataclass(frozen=True, kw_only=True)
class EpochFacts:
    """The columns that are the same in all rows of an epoch; `SCHEMA` says what they hold."""

    setting: Setting
    epoch: int
    learning_rate: float
    seconds: float
    patches_per_s: float
    num_steps: int
    loader_wait_share: float
    memory_gib: float
    phantom: bool


def epoch_rows(
    facts: EpochFacts,
    validation: "ValidationResult",
    train_losses: Mapping[str, float],
    *,
    merge_weights: Mapping[str, float] | None = None,
) -> list[MetricsRow]:
    """One row per output, the final one last.

    Args:
        facts: what all of them share.
        validation: what was found on Validation I.
        train_losses: mean loss of each supervised output over the epoch.
        merge_weights: eq. 2's w by psi, only in `resnet34_linear`.
    """
    final = next(reversed(validation.confusion_px))
    return [
        {
            **asdict(facts),
            "psi": psi,
            "is_final": psi == final,
            "iou": iou(tp, fp, fn),
            "tp_px": tp,
            "fp_px": fp,
            "fn_px": fn,
            "tn_px": tn,
            "train_loss": train_losses.get(psi),
            "val_loss": validation.losses.get(psi),
            "merge_weight": (merge_weights or {}).get(psi),
        }
        for psi, (tp, fp, fn, tn) in validation.confusion_px.items()
    ]


def iou(tp: int, fp: int, fn: int) -> float:
    """Intersection over union of the tumor class; NaN where there is neither."""
    union = tp + fp + fn
    return tp / union if union else math.nan


def best_epochs(rows: Sequence[Mapping[Any, Any]], num: int) -> list[int]:
    """The epochs with the highest IoU of the final output, best first; the earlier one where two are equal.

    Args:
        rows: rows of metrics.parquet; epoch, is_final and iou are enough.
        num: the most epochs to return.
    """
    final = [row for row in rows if row["is_final"]]
    ranked = sorted(final, key=lambda row: (*_rank(row["iou"]), -row["epoch"]))
    return [row["epoch"] for row in reversed(ranked[-num:])]


def _rank(iou: float) -> tuple[float, bool]:
    """Rank an IoU; without one nothing was to be found and nothing was, which is better than only false alarms."""
    return (0.0, True) if math.isnan(iou) else (iou, False)


def read_best_epochs(paths: RunPaths) -> list[int]:
    """The best epochs of a run, best first: as many as its configuration says (`keep_best`).

    Training keeps the weights of these epochs, inference applies them, and the selection chooses among them.

    Raises:
        ConfigurationError: its configuration is damaged.
        LedgerError: the run has no configuration or metrics, or damaged ones; an epoch stands there twice; or no
            epoch has an IoU.
    """
    if not paths.config.exists():
        raise LedgerError(f"{paths.root}: not trained yet; run `python jobs/launch_train.py` for this setting first")
    if not paths.metrics.exists():
        raise LedgerError(f"{paths.metrics}: no metrics there; train the setting first")
    metrics = read_metrics(paths.metrics)
    final = metrics[metrics["is_final"]]
    if final["epoch"].duplicated().any():
        raise LedgerError(f"{paths.metrics}: an epoch stands there twice; the run's folder was mixed with another")
    if final["iou"].isna().all():
        raise LedgerError(f"{paths.metrics}: no epoch has an IoU; Validation I needs annotated tumor")
    return best_epochs(final.to_dict("records"), read_claimed(paths.config)["keep_best"])


def num_epochs_done(paths: RunPaths) -> int:
    """Epochs of a run that are done, validation too; 0 where it has no metrics.

    Raises:
        LedgerError: the metrics are damaged.
    """
    return int(read_metrics(paths.metrics)["epoch"].max()) if paths.metrics.exists() else 0


def write_metrics(path: Path, rows: Sequence[MetricsRow]) -> None:
    """Write metrics.parquet atomically."""
    write_table(path, pa.Table.from_pylist(list(rows), schema=SCHEMA))


def read_metrics(path: Path) -> pd.DataFrame:
    """The rows of metrics.parquet.

    Raises:
        LedgerError: the file is damaged.
    """
    advice = "copy it again from where it is whole; while the run goes on, its next epoch writes it anew"
    return read_frame(path, error=LedgerError, advice=advice)
