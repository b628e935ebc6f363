"""One row per epoch and output, in a schema that other tools read, and the best epochs by the final output's IoU."""

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from metrics_rows import rows_of_epoch

from bccdist.configuration import Setting, outputs_of
from bccdist.training.reporting.metrics import SCHEMA, MetricsRow, best_epochs, iou, write_metrics

MERGE_WEIGHTS = {f"psi_{block}": 0.1 * block - 0.2 for block in range(5)}


def _rows(epoch: int, *, tp: int = 6, setting: Setting = "resnet34_ds") -> list[MetricsRow]:
    """Of an epoch whose final output has the given true positives of 10 px of tumor; the others are perfect."""
    psis = outputs_of(setting)
    confusion_px = dict.fromkeys(psis, (10, 0, 0, 90)) | {psis[-1]: (tp, 0, 10 - tp, 90)}
    return rows_of_epoch(setting, epoch, confusion_px, merge_weights=MERGE_WEIGHTS)


@pytest.mark.parametrize(("tp", "fp", "fn", "expected"), [(2, 1, 1, 0.5), (0, 3, 0, 0.0), (4, 0, 0, 1.0)])
def test_iou_of_the_tumor_class(tp: int, fp: int, fn: int, expected: float) -> None:
    assert iou(tp, fp, fn) == expected


def test_iou_without_tumor_is_unknown() -> None:
    assert math.isnan(iou(0, 0, 0))


def test_an_epoch_has_a_row_per_output_and_one_final() -> None:
    rows = _rows(3)
    assert [row["psi"] for row in rows] == list(outputs_of("resnet34_ds"))
    assert [row["is_final"] for row in rows] == [False] * 4 + [True]
    assert {row["epoch"] for row in rows} == {3}
    assert rows[-1]["iou"] == 0.6
    assert (rows[-1]["tp_px"], rows[-1]["fp_px"], rows[-1]["fn_px"], rows[-1]["tn_px"]) == (6, 0, 4, 90)


def test_only_supervised_outputs_have_a_loss() -> None:
    rows = _rows(1, setting="resnet34_linear")
    assert [row["train_loss"] for row in rows] == [None] * 5 + [0.5]
    assert [row["val_loss"] for row in rows] == [None] * 5 + [0.25]


def test_only_the_linear_merge_has_merge_weights() -> None:
    assert [row["merge_weight"] for row in _rows(1)] == [None] * 5
    assert [row["merge_weight"] for row in _rows(1, setting="resnet34_linear")] == [*MERGE_WEIGHTS.values(), None]


def test_what_is_measured_once_stands_in_every_row() -> None:
    rows = _rows(2)
    assert {(row["num_steps"], row["loader_wait_share"], row["memory_gib"]) for row in rows} == {(4, 0.125, 1.5)}


def test_the_best_epochs_are_those_of_the_final_output() -> None:
    rows = [row for epoch, tp in enumerate((3, 9, 5, 7), start=1) for row in _rows(epoch, tp=tp)]
    assert best_epochs(rows, 1) == [2]
    assert best_epochs(rows, 3) == [2, 4, 3]
    assert best_epochs(rows, 9) == [2, 4, 3, 1]


def test_the_earlier_of_two_equal_epochs_is_better() -> None:
    rows = [row for epoch in (1, 2, 3) for row in _rows(epoch, tp=5)]
    assert best_epochs(rows, 2) == [1, 2]


def test_an_iou_of_0_does_not_rank_above_none() -> None:
    """Without an IoU nothing was to be found, and nothing was; 0 is false alarms alone."""
    rows = [*_rows(1, tp=0), *_rows(2), *_rows(3, tp=0), *_rows(4, tp=0)]
    rows[-1]["iou"] = math.nan
    assert best_epochs(rows, 4) == [2, 4, 1, 3]


def test_the_file_has_the_schema_and_its_version(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.parquet"
    rows = [*_rows(1), *_rows(2, setting="resnet34_linear")]
    write_metrics(path, rows)
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    assert table.schema.metadata[b"bccdist.schema_version"] == b"2"
    assert table.to_pylist() == rows
    assert list(path.parent.iterdir()) == [path]


def test_rows_and_schema_name_the_same_columns() -> None:
    assert set(_rows(1)[0]) == set(SCHEMA.names)


def test_every_column_says_what_it_holds(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.parquet", _rows(1))
    for field in pq.read_schema(tmp_path / "metrics.parquet"):
        assert field.metadata[b"description"], field.name
