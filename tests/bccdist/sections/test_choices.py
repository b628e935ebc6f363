"""One rule says which setting comes first, in the report, the review, Figures 6 and 7, and Table 5."""

import math
from pathlib import Path

import pandas as pd
import pytest

from bccdist.errors import LedgerError
from bccdist.paths import StudyPaths
from bccdist.sections.choices import choose_headline, chosen_epochs, of_setting, read_choices


def selection(**f_beta: float) -> pd.DataFrame:
    common = {"epoch": 1, "psi": "psi_4", "t_p": 0.5, "t_a_um2": 1280.0, "beta": 1.5, "area_unit": "physical"}
    common |= {"weights_digest": "a", "phantom_weights": False}
    return pd.DataFrame([{"setting": name, "f_beta": value, **common} for name, value in f_beta.items()])


@pytest.mark.parametrize(
    ("f_beta", "first"),
    [
        ({"unet": 0.9, "resnet34_ds": 0.8}, "unet"),
        ({"unet": 0.8, "resnet34": 0.9, "resnet34_ds": 0.9}, "resnet34"),
        ({"unet": math.nan, "resnet34_ds": 0.0}, "resnet34_ds"),
    ],
)
def test_the_best_on_validation_comes_first(f_beta: dict[str, float], first: str) -> None:
    assert choose_headline(selection(**f_beta)).setting == first


def test_the_one_that_is_asked_for_comes_first() -> None:
    assert choose_headline(selection(unet=0.9, resnet34=0.8), "resnet34", among=["unet"]).setting == "resnet34"


def test_a_selection_of_an_older_version_names_its_epochs_and_no_more(tmp_path: Path) -> None:
    """So the inference can write the ledger anew, before the selection is run again."""
    paths = StudyPaths(tmp_path)
    paths.tables.mkdir()
    selection(unet=0.9).drop(columns="phantom_weights").to_parquet(paths.selection)
    assert chosen_epochs(paths) == {"unet": 1}
    with pytest.raises(LedgerError, match="has no phantom_weights, as it was made by an older version; run the sel"):
        read_choices(paths)


def test_a_setting_that_the_selection_left_out_is_named(tmp_path: Path) -> None:
    paths = StudyPaths(tmp_path)
    assert of_setting({"unet": 3}, "unet", paths) == 3
    with pytest.raises(LedgerError, match=r"selection\.parquet: no epoch was chosen for resnet34; run the selection"):
        of_setting({"unet": 3}, "resnet34", paths)


def test_nothing_is_chosen_before_the_selection_has_run(tmp_path: Path) -> None:
    for read in (chosen_epochs, read_choices):
        with pytest.raises(LedgerError, match="no thresholds were selected yet; run the selection first"):
            read(StudyPaths(tmp_path))


def test_only_some_may_come_first() -> None:
    found = selection(unet=0.9, resnet34_ds=0.8)
    assert choose_headline(found, among=["resnet34_ds", "resnet34_linear"]).setting == "resnet34_ds"
    with pytest.raises(LedgerError, match="nothing was selected for resnet34_linear; selected were unet, resnet34_ds"):
        choose_headline(found, among=["resnet34_linear"])
