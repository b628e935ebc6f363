"""A study's model is packed by one command, which says what it packed or why it did not."""

import subprocess
import sys
from pathlib import Path

import pytest
from model_study import write_model_study
from places import REPOSITORY

from bccdist.models.model_file import read_model
from jobs.pack_model import PackArguments, pack


def test_the_command_says_what_it_packed(tmp_path: Path) -> None:
    study = write_model_study(tmp_path / "study")
    out = tmp_path / "models" / "bcc.model"
    said = pack(PackArguments(study=study.root, out=out, feature_patches=0))
    assert said.startswith(f"{out}: resnet34_ds, width 4, epoch 2, t_p 0.05, t_A 1280 um2, ")
    assert read_model(out).description.network.setting == "resnet34_ds"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "error: nowhere is no study"),
        (["study", "--setting", "unet"], "error: nothing was selected for unet; selected were resnet34_ds"),
        (["study"], "or pack without reference features (--feature-patches 0)"),
    ],
)
def test_a_study_that_is_not_far_enough_is_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    write_model_study(tmp_path / "study")
    script = str(REPOSITORY / "jobs" / "pack_model.py")
    ran = subprocess.run(
        [sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr
