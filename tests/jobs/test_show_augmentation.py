"""The contact sheet of a study's patches can be drawn without a job, with training's own random numbers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_study import SmallStudy, write_finished_study

from bccdist.configuration import AugmentConfig, BalanceConfig
from bccdist.errors import ShardError
from bccdist.parts import Part
from bccdist.shard_set.epoch_plan import plan_epoch
from bccdist.shard_set.index import read_set
from bccdist.shard_set.reader import PatchReader
from bccdist.training.reporting.contact_sheet import sheet_of_plan
from jobs.show_augmentation import ShowArguments, show_augmentation

SCRIPT = Path(__file__).resolve().parents[2] / "jobs" / "show_augmentation.py"
RUN_AND_TELL = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print("torch", "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    return write_finished_study(tmp_path_factory.mktemp("study"))


def picture(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def test_the_sheet_is_that_of_a_training_with_another_batch(study: SmallStudy, tmp_path: Path) -> None:
    out = show_augmentation(ShowArguments(study=study.root, out=tmp_path / "sheet.png", epoch=2, seed=5))
    shard_set = read_set(study.shards.root)
    training = shard_set.part(Part.TRAINING)
    plan = plan_epoch(training.members, BalanceConfig(), seed=5, epoch=2, global_batch=4)
    expected = sheet_of_plan(PatchReader(shard_set), plan, training, AugmentConfig(), seed=5, epoch=2)
    assert out == tmp_path / "sheet.png"
    assert np.abs(picture(out).astype(int) - expected).mean() < 4


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"epoch": 2}, {"augment": AugmentConfig(enabled=False)}], ids=["seed", "epoch", "augment"]
)
def test_another_argument_is_another_sheet(study: SmallStudy, tmp_path: Path, other: dict[str, int]) -> None:
    here = ShowArguments(study=study.root, out=tmp_path / "here.png")
    there = replace(here, out=tmp_path / "there.png", **other)  # type: ignore[arg-type]
    first, second = (picture(show_augmentation(arguments)) for arguments in (here, there))
    assert first.shape == second.shape
    assert np.abs(first.astype(int) - second).mean() > 4


def test_a_study_without_shards_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="is unfinished"):
        show_augmentation(ShowArguments(study=tmp_path, out=tmp_path / "sheet.png"))
    assert not (tmp_path / "sheet.png").exists()


def test_the_command_needs_no_torch(study: SmallStudy, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN_AND_TELL, str(SCRIPT), str(study.root), "--augment.elastic-px", "20"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["augmentation.png", "torch", "False"]
    assert picture(tmp_path / "augmentation.png").shape[0] == 514


def test_the_command_ends_with_an_error_code_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: ")
    assert "Traceback" not in finished.stderr
