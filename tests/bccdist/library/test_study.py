"""A study in Python gives its slides, thresholds, verdicts and heatmaps, and says what is not there yet."""

import shutil
from pathlib import Path

import pytest
from model_study import EPOCH, SETTING
from small_model import SmallModel, write_small_model

import bccdist
from bccdist.errors import ConfigurationError, HeatmapError, LedgerError, ManifestError
from bccdist.library.study import Study


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    small = write_small_model(tmp_path_factory.mktemp("small"))
    small.infer()
    return small


@pytest.fixture
def study(small: SmallModel) -> Study:
    return bccdist.open_study(small.study.root)


def test_slides_and_thresholds_are_the_studys(study: Study) -> None:
    assert study.slides[["slide_id", "part", "scanner"]].to_numpy().tolist() == [
        ["slide", "Test", ""],
        ["phantom", "Test", "phantom"],
    ]
    assert list(study.selection["setting"]) == [SETTING]
    assert [(choice.setting, choice.epoch) for choice in study.choices] == [(SETTING, EPOCH)]
    assert repr(study) == "<study bcc: 2 slides; with drawn slides>"


def test_sections_are_the_ledgers_and_verdicts_those_of_the_selection(study: Study) -> None:
    assert len(study.sections) == 3 * 5
    verdicts = study.verdicts()
    assert set(verdicts["section_id"]) == {"slide-s0", "slide-s1", "phantom-s0"}
    assert set(verdicts["psi"]) == {"psi_4"}
    assert {"box_level0_px", "verdict", "flip_shift", "area_um2", "coverage", "label"} <= set(verdicts)
    assert set(study.verdicts(SETTING, psi="psi_0")["psi"]) == {"psi_0"}


def test_a_heatmap_is_that_of_the_chosen_epoch_or_of_one_that_is_named(small: SmallModel, study: Study) -> None:
    expected = small.study.heatmap(SETTING, EPOCH, "slide")
    for asked in ({}, {"setting": SETTING}, {"epoch": EPOCH}, {"setting": SETTING, "epoch": EPOCH}):
        assert study.heatmap("slide", **asked).path == expected  # type: ignore[arg-type]
    with pytest.raises(HeatmapError, match="no heatmap there"):
        study.heatmap("slide", epoch=9)
    with pytest.raises(ManifestError, match="no slide 'other'"):
        study.heatmap("other")
    with pytest.raises(LedgerError, match="nothing was selected for unet"):
        study.heatmap("slide", "unet")


def test_what_is_no_study_is_refused_and_what_is_not_there_yet_is_named(small: SmallModel, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", small.path):
        with pytest.raises(ConfigurationError, match=r"is no study: study\.json is not there"):
            bccdist.open_study(path)
    shutil.copytree(small.study.root, tmp_path / "new", ignore=shutil.ignore_patterns("tables", "ledger", "sections*"))
    new = bccdist.open_study(tmp_path / "new")
    with pytest.raises(LedgerError, match="no thresholds were selected yet"):
        new.verdicts()
    with pytest.raises(LedgerError, match="no section ledger there"):
        _ = new.sections
