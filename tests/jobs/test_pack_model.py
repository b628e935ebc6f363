"""A study's model is packed by one command, which says what it packed or why it did not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from model_study import write_model_study
from places import REPOSITORY

from bccdist.errors import ConfigurationError
from bccdist.files import write_json
from bccdist.models.model_file import read_model
from bccdist.paths import StudyPaths
from jobs.pack_model import PackArguments, pack


def test_the_command_says_what_it_packed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study = write_model_study(tmp_path / "study")
    out = tmp_path / "models" / "bcc.model"
    said = pack(PackArguments(study=study.root, out=out))
    assert said.startswith(f"{out}: resnet34_ds, width 4, epoch 2, t_p 0.05, t_A 1280 um2, ")
    assert read_model(out).description.network.setting == "resnet34_ds"
    assert f"{out}: this model has no reference of quality (its study's heatmaps hold no quality)" in caplog.text


def test_a_choice_that_rests_on_other_slides_than_today_is_not_packed(tmp_path: Path) -> None:
    study = write_model_study(tmp_path / "study")
    table = study.root / "data" / "slides.csv"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith("slide-2,")), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"slides\.csv names 0 slides of Validation I, and did name 1; make"):
        pack(PackArguments(study=study.root, out=tmp_path / "bcc.model"))
    assert not (tmp_path / "bcc.model").exists()


def test_a_copy_of_an_older_study_packs_with_a_word_on_its_times_and_on_whose_manifest_it_uses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = write_model_study(tmp_path / "study")
    study.origin("selection").unlink()
    write_json(study.study, {"manifest": str(study.root / "data" / "slides.csv"), "phantom": False})
    copy = StudyPaths(tmp_path / "copy")
    shutil.copytree(study.root, copy.root)
    os.utime(copy.selection, (1e9, 1e9))
    other = copy.ledger_rows("resnet34_ds", 1, "slide-2")
    other.parent.mkdir(parents=True)
    shutil.copyfile(copy.ledger_rows("resnet34_ds", 2, "slide-2"), other)
    pack(PackArguments(study=copy.root, out=tmp_path / "bcc.model"))
    assert "whether its choice of resnet34_ds is out of date is not known: by the times of files" in caplog.text
    assert f"{copy.root} is a copy that names the manifest of another study" in caplog.text
    assert f"{copy.root / 'data' / 'slides.csv'}, is read instead" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "error: nowhere is no study"),
        (["study", "--setting", "unet"], "error: nothing was selected for unet; selected were resnet34_ds"),
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
