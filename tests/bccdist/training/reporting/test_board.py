"""TensorBoard finds the steps and epochs of a run, each once, however often the run was started."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from metrics_rows import rows_of_epoch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bccdist.configuration import Psi, Setting
from bccdist.training.reporting.board import Board
from bccdist.training.reporting.metrics import MetricsRow


def _rows(epoch: int, *, setting: Setting = "resnet34_ds", has_tumor: bool = True) -> list[MetricsRow]:
    """Of an epoch with four steps."""
    cells = (6, 0, 4, 90) if has_tumor else (0, 0, 0, 100)
    psis: tuple[Psi, ...] = ("psi_0", "merged") if setting == "resnet34_linear" else ("psi_0", "psi_4")
    return rows_of_epoch(setting, epoch, dict.fromkeys(psis, cells), merge_weights={"psi_0": 0.159})


def _read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def _points(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value)) for event in _read(folder).Scalars(name)]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """Begun an hour ago: TensorBoard reads files in the order of their names, in which two of one second may swap."""
    an_hour_ago = time.time() - 3600
    with monkeypatch.context() as then:
        then.setattr(time, "time", lambda: an_hour_ago)
        board = Board(tmp_path / "tensorboard", first_step=0)
    yield board
    board.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tensorboard"


def _go(board: Board, first: int, last: int, *, loss: float) -> None:
    for step in range(first, last + 1):
        board.step(step, {"psi_0": loss, "psi_4": 2 * loss}, learning_rate=5e-4)
    board.flush()


def test_every_step_has_its_losses_and_their_sum(board: Board, folder: Path) -> None:
    _go(board, 1, 3, loss=0.25)
    assert _points(folder, "step_loss/psi_4") == [(step, 0.5) for step in (1, 2, 3)]
    assert _points(folder, "step_loss/total") == [(step, 0.75) for step in (1, 2, 3)]
    assert _points(folder, "step/learning_rate") == [(step, 5e-4) for step in (1, 2, 3)]


def test_an_epoch_stands_at_its_last_step(board: Board, folder: Path) -> None:
    board.epoch(_rows(1))
    board.epoch(_rows(2))
    assert _points(folder, "iou_validation_1/psi_0") == [(4, 0.6), (8, 0.6)]
    assert _points(folder, "train_loss/psi_4") == [(4, 0.5), (8, 0.5)]
    assert _points(folder, "val_loss/psi_4") == [(4, 0.25), (8, 0.25)]
    assert {name: _points(folder, f"epoch/{name}")[0][1] for name in ("patches_per_s", "memory_gib", "seconds")} == {
        "patches_per_s": 8.0,
        "memory_gib": 1.5,
        "seconds": 2.0,
    }
    assert _points(folder, "epoch/loader_wait_share") == [(4, 0.125), (8, 0.125)]


def test_only_what_exists_has_a_curve(board: Board, folder: Path) -> None:
    board.epoch(_rows(1, setting="resnet34_linear"))
    assert _points(folder, "merge_weight/psi_0") == [(4, 0.159)]
    names = set(_read(folder).Tags()["scalars"])
    assert {name for name in names if name.startswith(("train_loss", "val_loss", "merge_weight"))} == {
        "train_loss/merged",
        "val_loss/merged",
        "merge_weight/psi_0",
    }


def test_an_iou_that_is_unknown_is_marked_and_not_left_out(board: Board, folder: Path) -> None:
    board.epoch(_rows(1, has_tumor=False))
    ((step, _),) = _points(folder, "iou_validation_1/psi_4")
    assert step == 4
    assert math.isnan(_read(folder).Scalars("iou_validation_1/psi_4")[0].value)


def test_steps_that_are_done_again_are_there_once(board: Board, folder: Path) -> None:
    _go(board, 1, 4, loss=0.5)
    board.epoch(_rows(1))
    _go(board, 5, 7, loss=0.5)
    resumed = Board(folder, first_step=5)
    _go(resumed, 6, 8, loss=0.25)
    resumed.epoch(_rows(2))
    resumed.close()
    assert _points(folder, "step_loss/psi_0") == [
        *((step, 0.5) for step in range(1, 6)),
        (6, 0.25),
        (7, 0.25),
        (8, 0.25),
    ]
    assert _points(folder, "iou_validation_1/psi_4") == [(4, 0.6), (8, 0.6)]


def test_a_start_after_the_end_of_an_epoch_keeps_that_epoch(board: Board, folder: Path) -> None:
    _go(board, 1, 4, loss=0.5)
    board.epoch(_rows(1))
    Board(folder, first_step=4).close()
    assert _points(folder, "iou_validation_1/psi_4") == [(4, 0.6)]
    assert len(_points(folder, "step_loss/psi_0")) == 4


def test_a_record_cut_by_a_kill_costs_no_later_one(board: Board, folder: Path) -> None:
    _go(board, 1, 4, loss=0.5)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    resumed = Board(folder, first_step=3)
    _go(resumed, 4, 5, loss=0.25)
    resumed.close()
    assert _points(folder, "step_loss/psi_0") == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.25), (5, 0.25)]
