"""The calibration of probabilities: tenths, intercept and slope with intervals by slide, and what cannot be said."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_folders import write_study_of_test

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.logistic import expected
from analysis.study_evidence.resampling import draw_slides
from analysis.study_evidence.table import Table
from analysis.tables.reliability import LOGITS, NUM_BINS, recalibration, write_reliability


def table_of(folder: Path, *found: tuple[str, str, int]) -> Table:
    """The table of sections of Test, each with its slide, label and highest step."""
    return write_reliability(Evidence(write_study_of_test(folder, found).root))


def overlapping(num_slides: int) -> list[tuple[str, str, int]]:
    random = np.random.default_rng(0)
    found = []
    for number in range(num_slides * 5):
        step = int(random.integers(0, 256))
        label = "Tumor" if random.random() < expected(0.5 * LOGITS)[step] else "Normal"
        found.append((f"t{number // 5}", label, step))
    return found


def test_tenths_are_counted_section_by_section_and_have_intervals(tmp_path: Path) -> None:
    found = overlapping(30)
    table = table_of(tmp_path, *found)
    bins = pd.read_parquet(tmp_path / "tables" / "reliability_bins.parquet")
    for row in bins.to_dict("records"):
        number = round(row["probability_low"] * NUM_BINS)
        mine = [each for each in found if min(int(each[2] / 255 * NUM_BINS), NUM_BINS - 1) == number]
        assert row["num_sections"] == len(mine)
        assert row["num_slides"] == len({slide_id for slide_id, _, _ in mine})
        assert row["tumor_share"] == pytest.approx(np.mean([label == "Tumor" for _, label, _ in mine]))
        assert row["mean_probability"] == pytest.approx(np.mean([step / 255 for _, _, step in mine]))
        assert row["tumor_share_low"] <= row["tumor_share"] <= row["tumor_share_high"]
        assert row["tumor_share_high"] - row["tumor_share_low"] > 0.1
    assert bins["num_sections"].sum() == 150
    (row,) = table.frame.to_dict("records")
    assert row["slope_low"] < row["slope"] < row["slope_high"] < 1
    assert row["intercept_low"] < row["intercept"] < row["intercept_high"]
    assert row["slope_outcome"] == "fitted"


def test_what_is_told_apart_wholly_has_no_slope_and_the_page_says_so(tmp_path: Path) -> None:
    table = table_of(
        tmp_path, *[(f"t{number}", "Tumor" if number % 2 else "Normal", 40 + number % 2 * 150) for number in range(24)]
    )
    (row,) = table.frame.to_dict("records")
    assert math.isnan(row["slope"])
    assert row["slope_outcome"] == "separated"
    assert "separated |" in table.markdown
    assert "no finite slope fits best" in table.markdown
    assert "nan" not in table.markdown


def test_sections_of_one_probability_have_no_slope_either(tmp_path: Path) -> None:
    table = table_of(tmp_path, *[(f"t{number}", "Tumor" if number % 3 else "Normal", 128) for number in range(24)])
    (row,) = table.frame.to_dict("records")
    assert row["slope_outcome"] == "one value"
    assert row["intercept"] == pytest.approx(math.log(2) - LOGITS[128])


def test_one_slide_gives_a_value_and_no_interval(tmp_path: Path) -> None:
    table = table_of(tmp_path, *[("t0", label, step) for _, label, step in overlapping(8)])
    (row,) = table.frame.to_dict("records")
    assert math.isfinite(row["slope"])
    assert math.isnan(row["slope_low"])
    assert math.isnan(row["intercept_high"])
    assert "(n/a)" in table.markdown


def test_resamples_that_are_separated_leave_the_interval_open(tmp_path: Path) -> None:
    # One slide alone has a Normal section above a Tumor one: a third of the resamples go without it.
    apart = [(f"t{number}", "Tumor" if number % 2 else "Normal", 40 + number % 2 * 150) for number in range(24)]
    table = table_of(tmp_path, *apart, ("odd", "Tumor", 100), ("odd", "Normal", 120))
    (row,) = table.frame.to_dict("records")
    assert math.isfinite(row["slope"])
    assert row["slope_high"] == math.inf
    assert "to inf)" in table.markdown
    assert "An infinite end" in table.markdown


def simulated(random: np.random.Generator, num_slides: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts at each step of slides whose sections have more or less often tumor than the probability says."""
    tumor, normal = np.zeros((num_slides, 256), dtype=int), np.zeros((num_slides, 256), dtype=int)
    for slide in range(num_slides):
        shift = random.normal(0, 0.8)
        for step in random.integers(0, 256, size=random.integers(3, 9)):
            into = tumor if random.random() < expected(np.array(0.3 + shift + 0.7 * LOGITS[step])) else normal
            into[slide, step] += 1
    return tumor, normal


def test_intervals_hold_the_true_intercept_and_slope_on_slides_that_cluster() -> None:
    random = np.random.default_rng(2)
    whole = recalibration(*simulated(random, 20_000), np.ones((1, 20_000), dtype=int))
    num, hits = 60, {"intercept": 0, "slope": 0}
    for seed in range(num):
        found = recalibration(*simulated(random, 40), draw_slides(40, num_resamples=300, seed=seed))
        for name in hits:
            interval = getattr(found, name)
            hits[name] += interval.low <= getattr(whole, name).value <= interval.high
    assert min(hits.values()) / num >= 0.9
