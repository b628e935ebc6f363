"""The picture of a run shows what its rows say, from the first epoch on, and names phantoms and unknown values."""

import math
import time
from pathlib import Path

import cv2
import pytest
from matplotlib.axes import Axes
from metrics_rows import rows_of_epoch

from bccdist.configuration import SETTINGS, Setting, outputs_of
from bccdist.training.reporting.metrics import MetricsRow
from bccdist.training.reporting.summary import draw, write_summary


def _epoch(
    epoch: int, *, setting: Setting = "resnet34_ds", tp: int = 6, has_tumor: bool = True, phantom: bool = False
) -> list[MetricsRow]:
    """With 10 px of tumor, of which each output finds `tp`, or none at all."""
    cells = (tp, 0, 10 - tp, 90) if has_tumor else (0, 0, 0, 100)
    merge_weights = {f"psi_{block}": 0.1 * block - 0.2 for block in range(5)}
    confusion_px = dict.fromkeys(outputs_of(setting), cells)
    return rows_of_epoch(
        setting, epoch, confusion_px, merge_weights=merge_weights, train_loss=0.5 / epoch, phantom=phantom
    )


def _epochs(*tps: int, setting: Setting = "resnet34_ds") -> list[MetricsRow]:
    return [row for epoch, tp in enumerate(tps, start=1) for row in _epoch(epoch, setting=setting, tp=tp)]


def _axes(rows: list[MetricsRow]) -> dict[str, Axes]:
    """By the name of their y axis."""
    return {axes.get_ylabel(): axes for axes in draw(rows, title="run", num_best=2).axes}


def _lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """The points of each line by its name in the legend."""
    return {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in axes.lines}


def _texts(rows: list[MetricsRow]) -> str:
    figure = draw(rows, title="resnet34_ds, abc", num_best=5)
    return "\n".join(text.get_text() for text in [*figure.texts, *(t for axes in figure.axes for t in axes.texts)])


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("num_epochs", [1, 40])
def test_a_run_of_any_setting_and_length_is_drawn(setting: Setting, num_epochs: int, tmp_path: Path) -> None:
    path = tmp_path / "run" / "training.png"
    write_summary(path, _epochs(*[6] * num_epochs, setting=setting), title=setting)
    pixels = cv2.imread(str(path))
    assert pixels is not None
    assert pixels.shape == (850, 1400, 3)
    assert list(path.parent.iterdir()) == [path]


def test_a_picture_costs_less_than_a_second_of_the_processor(tmp_path: Path) -> None:
    rows = _epochs(*[6] * 40)
    write_summary(tmp_path / "first.png", rows, title="run")  # the first one also loads the fonts
    start_s = time.thread_time()
    write_summary(tmp_path / "training.png", rows, title="run")
    assert time.thread_time() - start_s < 1


def test_every_output_has_its_iou_and_the_final_one_is_thick() -> None:
    axes = _axes(_epochs(2, 8))["IoU of tumor, Validation I"]
    points = [(1, 0.2), (2, 0.8)]
    assert {name: line for name, line in _lines(axes).items() if name.startswith("psi")} == dict.fromkeys(
        outputs_of("resnet34_ds"), points
    )
    width = {str(line.get_label()): line.get_linewidth() for line in axes.lines}
    assert width["psi_4"] > 2 * width["psi_3"] == 2 * width["psi_0"]


def test_the_best_epochs_are_marked() -> None:
    axes = _axes(_epochs(3, 9, 5, 7))["IoU of tumor, Validation I"]
    assert _lines(axes)["best 2"] == [(2, 0.9), (4, 0.7)]
    assert axes.get_title(loc="left") == "psi_4 is best in epoch 2: 0.9000"


def test_losses_are_those_of_the_supervised_outputs() -> None:
    both = _axes(_epochs(5, 6))["focal loss"]
    assert len(both.lines) == 10
    alone = _axes(_epochs(5, 6, setting="resnet34_linear"))["focal loss"]
    training, validation = (list(line.get_data()[1]) for line in alone.lines)
    assert (training, validation) == ([0.5, 0.25], [0.25, 0.25])
    assert alone.get_yscale() == "log"


@pytest.mark.parametrize("loss", [0.0, math.nan])
def test_losses_without_a_logarithm_are_drawn_all_the_same(loss: float, tmp_path: Path) -> None:
    rows = [{**row, "val_loss": loss} for row in _epochs(5, 6)]
    assert _axes(rows)["focal loss"].get_yscale() == "linear"
    write_summary(tmp_path / "training.png", rows, title="run")


def test_pace_and_learning_rate_are_shown() -> None:
    axes = _axes(_epochs(5, 6))
    values = {name: list(axes[name].lines[0].get_data()[1]) for name in ("learning rate", "patches/s")}
    assert values == {"learning rate": [5e-4] * 2, "patches/s": [8.0] * 2}
    waiting = axes["waiting for patches"]
    assert list(waiting.lines[0].get_data()[1]) == [0.125, 0.125]
    assert waiting.yaxis.get_major_formatter().format_data(0.1).startswith("10")


def test_an_epoch_that_never_waited_is_drawn(tmp_path: Path) -> None:
    rows = [{**row, "loader_wait_share": 0.0} for row in _epochs(5)]
    write_summary(tmp_path / "training.png", rows, title="run")


def test_only_the_linear_merge_has_merge_weights() -> None:
    assert "merge weight w (eq. 2)" not in _axes(_epochs(5))
    lines = _lines(_axes(_epochs(5, setting="resnet34_linear"))["merge weight w (eq. 2)"])
    assert {name: line for name, line in lines.items() if name.startswith("psi")} == {
        f"psi_{block}": [(1, 0.1 * block - 0.2)] for block in range(5)
    }


def test_an_iou_that_is_nowhere_known_is_said(tmp_path: Path) -> None:
    rows = _epoch(1, has_tumor=False)
    assert "unknown: no tumor there, and none found" in _texts(rows)
    assert "unknown" not in _texts([*rows, *_epoch(2)])
    write_summary(tmp_path / "training.png", rows, title="run")


def test_phantoms_are_named() -> None:
    assert "PHANTOM DATA - drawn slides, not tissue" in _texts(_epoch(1, phantom=True))
    assert "PHANTOM" not in _texts(_epoch(1))


def test_title_and_memory_are_named() -> None:
    texts = _texts(_epochs(5, 6))
    assert "resnet34_ds, abc" in texts
    assert "after epoch 2; peak memory of a rank 1.5 GiB" in texts
