"""Pairs of models are called resolved only where slides drawn anew would keep them apart."""

from pathlib import Path

import pytest
from scipy.stats import binomtest
from study_folders import NORMAL_CURVE, TUMOR_CURVE, ledger_row, sections, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.tables.comparisons import mcnemar_p, write_comparisons
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import LedgerError

VALIDATION = sections(tp=20, fn=0, fp=0, tn=20)


def slides(*, wrong: dict[int, int], setting: str = "resnet34_ds", psi: str = "psi_4", is_final: bool = True) -> list:  # type: ignore[type-arg]
    """Twenty slides of ten Tumor sections; so many of a slide's first ones are missed."""
    return [
        ledger_row(
            slide_id=f"t{slide:02d}",
            section_id=f"t{slide:02d}-{number}",
            part="Test",
            setting=setting,
            psi=psi,
            is_final=is_final,
            largest_region_px=NORMAL_CURVE if number < wrong.get(slide, 0) else TUMOR_CURVE,
        )
        for slide in range(20)
        for number in range(10)
    ]


def compare(folder: Path, *rows: list) -> dict:  # type: ignore[type-arg]
    settings = sorted({row["setting"] for each in rows for row in each})
    validation = [{**row, "setting": setting} for row in VALIDATION for setting in settings]
    paths = write_study(folder, [*validation, *(row for each in rows for row in each)])
    select_thresholds(paths.root, SelectConfig())
    table = write_comparisons(Evidence(paths.root))
    return {(row["one"], row["other"]): row for row in table.frame.to_dict("records")}


@pytest.mark.parametrize(("one", "other"), [(0, 0), (0, 1), (5, 5), (2, 9), (40, 70), (300, 301)])
def test_mcnemars_p_is_the_exact_binomial_one(one: int, other: int) -> None:
    expected = binomtest(one, one + other).pvalue if one + other else 1.0
    assert mcnemar_p(one, other) == pytest.approx(expected)
    assert mcnemar_p(other, one) == mcnemar_p(one, other)


def test_errors_on_every_slide_are_resolved(tmp_path: Path) -> None:
    many = slides(wrong=dict.fromkeys(range(20), 2), setting="unet")
    row = compare(tmp_path, slides(wrong={}), many)["unet", "resnet34_ds"]
    assert row["num_only_other_right"] == 40
    assert row["accuracy_difference"] == pytest.approx(-0.2)
    assert row["accuracy_difference_high"] < 0
    assert row["is_resolved"]


def test_the_same_errors_on_one_slide_are_not_resolved_though_mcnemar_says_so(tmp_path: Path) -> None:
    one_slide = slides(wrong={3: 10}, setting="unet")
    row = compare(tmp_path, slides(wrong={}), one_slide)["unet", "resnet34_ds"]
    assert row["mcnemar_p"] < 0.01
    assert row["accuracy_difference_low"] < 0 <= row["accuracy_difference_high"]
    assert not row["is_resolved"]


def test_equal_models_are_not_resolved(tmp_path: Path) -> None:
    rows = compare(tmp_path, slides(wrong={1: 1}), slides(wrong={1: 1}, psi="psi_0", is_final=False))
    row = rows["resnet34_ds psi_0", "resnet34_ds"]
    assert (row["accuracy_difference"], row["mcnemar_p"], row["is_resolved"]) == (0, 1, False)


def test_models_without_a_discordant_section_get_a_bound_and_are_said_to_have_none(tmp_path: Path) -> None:
    rows = compare(tmp_path, slides(wrong={1: 1}), slides(wrong={1: 1}, setting="unet"))
    row = rows["unet", "resnet34_ds"]
    # Clopper and Pearson for none of 20 slides.
    assert row["accuracy_difference_high"] == -row["accuracy_difference_low"] == pytest.approx(0.1684, abs=1e-4)
    assert not row["is_resolved"]
    printed = (tmp_path / "tables" / "comparisons.md").read_text()
    assert "no discordant section in 200 (-0.168 to +0.168)" in printed
    assert "+0.000 to +0.000" not in printed


def test_the_table_says_not_resolved(tmp_path: Path) -> None:
    compare(tmp_path, slides(wrong={}), slides(wrong={3: 1}, setting="unet"))
    printed = (tmp_path / "tables" / "comparisons.md").read_text()
    assert "unet - resnet34_ds" in printed
    assert "| not resolved |" in printed


def test_a_single_model_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="nothing to compare"):
        compare(tmp_path, slides(wrong={}))


def test_p_values_of_all_pairs_are_adjusted_together(tmp_path: Path) -> None:
    many = slides(wrong=dict.fromkeys(range(20), 2), setting="unet")
    rows = compare(tmp_path, slides(wrong={}), slides(wrong={1: 3}, psi="psi_0", is_final=False), many)
    clear, open_ = rows["unet", "resnet34_ds"], rows["resnet34_ds psi_0", "resnet34_ds"]
    assert clear["p_adjusted"] == pytest.approx(2 * clear["p"])
    assert clear["mcnemar_p_adjusted"] == pytest.approx(2 * clear["mcnemar_p"])
    assert open_["p_adjusted"] == open_["p"] > 0.05
    printed = (tmp_path / "tables" / "comparisons.md").read_text()
    assert "adjusted for the 2 comparison(s) of this table by Holm's rule (1979)" in printed
