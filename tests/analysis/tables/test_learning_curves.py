"""The learning curves show each setting's final output once an epoch, as a picture and as a table beside it."""

import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import pandas as pd
import pytest

from analysis.study_evidence.evidence import Evidence
from analysis.tables.learning_curves import draw, read_curves, write_learning_curves
from bccdist.errors import LedgerError
from bccdist.paths import StudyPaths
from bccdist.training.reporting.metrics import write_metrics

DS = {1: 0.5, 2: 0.8125, 3: 0.75}
UNET = {1: 0.25, 2: 0.375}


def _write_run(root: Path, setting: str, iou: Mapping[int, float], *, phantom: bool = False) -> None:
    """With another output that is misleading."""
    rows = [
        {"setting": setting, "epoch": epoch, "psi": psi, "is_final": psi == "psi_4", "iou": value, "phantom": phantom}
        for epoch, final in iou.items()
        for psi, value in (("psi_0", 1 - final), ("psi_4", final))
    ]
    write_metrics(StudyPaths(root).run(setting).metrics, rows)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    _write_run(tmp_path / "study", "resnet34_ds", DS)
    _write_run(tmp_path / "study", "unet", UNET)
    return tmp_path / "study"


def test_a_row_an_epoch_and_a_column_a_setting(study: Path, tmp_path: Path) -> None:
    table = write_learning_curves(Evidence(study), tmp_path / "docs" / "curves.png")
    assert table.markdown.splitlines()[:7] == [
        "**Learning curves. IoU of the final output on Validation I after each epoch.**",
        "",
        "| epoch |   unet | resnet34_ds |",
        "| :---- | -----: | ----------: |",
        "| 1     | 0.2500 |      0.5000 |",
        "| 2     | 0.3750 |      0.8125 |",
        "| 3     |    n/a |      0.7500 |",
    ]
    assert "unet: best in epoch 2 with 0.3750." in table.markdown
    assert "resnet34_ds: best in epoch 2 with 0.8125." in table.markdown
    written = pd.read_csv(tmp_path / "docs" / "curves.csv").set_index("epoch")
    assert written["resnet34_ds"].to_dict() == DS
    assert written["unet"].dropna().to_dict() == UNET
    assert (tmp_path / "docs" / "curves.md").read_text() == table.markdown


def test_the_picture_is_there_and_nothing_else(study: Path, tmp_path: Path) -> None:
    picture = tmp_path / "docs" / "curves.png"
    write_learning_curves(Evidence(study), picture)
    pixels = cv2.imread(str(picture))
    assert pixels is not None
    assert pixels.shape == (600, 1000, 3)
    assert {path.suffix for path in picture.parent.iterdir()} == {".png", ".csv", ".md", ".parquet"}


def test_lines_are_the_final_outputs(study: Path) -> None:
    (axes,) = draw(read_curves(StudyPaths(study))).axes
    drawn = {
        str(line.get_label()): list(zip(*line.get_data(), strict=True))
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }
    assert drawn == {
        "unet: 0.3750 in epoch 2": list(UNET.items()),
        "resnet34_ds: 0.8125 in epoch 2": list(DS.items()),
    }


def test_the_earlier_of_two_equal_epochs_is_the_best(tmp_path: Path) -> None:
    _write_run(tmp_path, "resnet34", {1: 0.5, 2: 0.75, 3: 0.75})
    assert write_learning_curves(Evidence(tmp_path), tmp_path / "c.png").notes == (
        "resnet34: best in epoch 2 with 0.7500.",
    )


def test_an_unknown_iou_is_said(tmp_path: Path) -> None:
    _write_run(tmp_path, "unet", {1: math.nan, 2: math.nan})
    table = write_learning_curves(Evidence(tmp_path), tmp_path / "c.png")
    assert [line.split()[1:4:2] for line in table.markdown.splitlines()[4:6]] == [["1", "n/a"], ["2", "n/a"]]
    assert table.notes[0] == "unet: no epoch has an IoU."
    assert table.notes[1].startswith("n/a: an epoch that the setting does not have so far, or one with no tumor")


@pytest.mark.parametrize("phantom", [True, False])
def test_phantoms_are_named_in_picture_and_table(tmp_path: Path, phantom: bool) -> None:
    _write_run(tmp_path, "unet", UNET, phantom=phantom)
    texts = [text.get_text() for text in draw(read_curves(StudyPaths(tmp_path))).texts]
    table = write_learning_curves(Evidence(tmp_path), tmp_path / "c.png")
    assert any("PHANTOM" in text for text in texts) == phantom
    assert ("PHANTOM" in table.markdown) == phantom


def test_a_run_without_metrics_is_named(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    StudyPaths(study).run("resnet34").root.mkdir(parents=True)
    assert set(read_curves(StudyPaths(study))["setting"]) == {"unet", "resnet34_ds"}
    assert capsys.readouterr().out.endswith("no metrics there yet, so resnet34 is left out\n")


def test_a_study_without_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"runs: no run with metrics there; train a setting for an epoch first"):
        read_curves(StudyPaths(tmp_path))


def test_an_epoch_that_stands_twice_is_refused(tmp_path: Path) -> None:
    _write_run(tmp_path, "unet", UNET)
    path = StudyPaths(tmp_path).run("unet").metrics
    rows = pd.read_parquet(path)
    pd.concat([rows, rows]).to_parquet(path)
    with pytest.raises(LedgerError, match="an epoch stands there twice"):
        read_curves(StudyPaths(tmp_path))


def test_the_file_runs_as_a_script_and_writes_into_the_study(study: Path) -> None:
    command = [sys.executable, "-m", "analysis.make", "learning_curves", str(study)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=study, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("**Learning curves.")
    assert (StudyPaths(study).tables / "learning_curves.png").exists()
