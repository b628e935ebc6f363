"""Triage keeps the miss rate that it promised, and says where it cannot."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from study_folders import flat_curve, ledger_row, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from analysis.tables.triage import (
    NO_STEP,
    SlideScores,
    TriageThresholds,
    slides_needed,
    smallest_rate,
    triage_thresholds,
    write_triage,
)
from bccdist.configuration import SelectConfig
from bccdist.errors import ConfigurationError

steps = st.lists(st.integers(0, 255), min_size=1, max_size=60).map(lambda values: np.array(values, dtype=np.int64))
rates = st.floats(0.005, 0.6)


def thresholds(
    tumor: np.ndarray, normal: np.ndarray, miss_rate: float, false_alarm_rate: float = 0.05, confidence: float = 0.95
) -> TriageThresholds:
    slides = SlideScores(lowest_tumor=tumor, highest_normal=normal)
    return triage_thresholds(slides, miss_rate=miss_rate, false_alarm_rate=false_alarm_rate, confidence=confidence)


@given(steps, steps, rates, rates)
def test_every_section_is_in_one_group_and_nothing_contradictory_is_automatic(
    tumor: np.ndarray, normal: np.ndarray, miss_rate: float, false_alarm_rate: float
) -> None:
    found = thresholds(tumor, normal, miss_rate, false_alarm_rate)
    groups = found.groups(np.arange(256))
    assert set(groups) <= {"auto_normal", "review", "auto_tumor"}
    both = (np.arange(256) < found.normal_below) & (np.arange(256) >= found.tumor_from)
    assert (groups[both] == "review").all()


@given(steps, rates)
def test_so_many_slides_with_a_miss_would_be_unlikely_if_the_rate_were_broken(
    tumor: np.ndarray, miss_rate: float
) -> None:
    missed = int((tumor < thresholds(tumor, tumor, miss_rate).normal_below).sum())
    assert missed == 0 or binom.cdf(missed, len(tumor), miss_rate) <= 0.05 + 1e-9


def test_thresholds_of_a_hundred_slides() -> None:
    tumor, normal = np.arange(100, 200), np.arange(0, 100)
    found = thresholds(tumor, normal, 0.1, 0.05)
    # At most 4 of 100 are seen at a true share of 0.1 in 2.4 % of cases, 5 in 5.8 %; at 0.05 at most 1 in 3.7 %.
    assert (found.normal_below, found.tumor_from) == (104, 99)
    assert (tumor < found.normal_below).sum() == 4
    assert (normal >= found.tumor_from).sum() == 1


def test_59_slides_can_just_promise_a_twentieth() -> None:
    assert slides_needed(0.05, 0.95) == 59
    assert thresholds(np.arange(50, 109), np.arange(59), 0.05).normal_below == 50
    assert smallest_rate(59, 0.95) <= 0.05 < smallest_rate(58, 0.95)
    found = thresholds(np.arange(50, 108), np.arange(58), 0.05)
    assert (found.normal_below, found.tumor_from) == (0, NO_STEP)
    assert (found.groups(np.arange(256)) == "review").all()


def clustered_slides(generator: np.random.Generator, num: int) -> np.ndarray:
    """Numbers of Tumor sections [slides, 8] that fall together with their slide."""
    return np.clip(generator.normal(150, 40, (num, 1)) + generator.normal(0, 8, (num, 8)), 0, 255).astype(np.int64)


def test_the_promise_is_kept_over_calibrations_where_sections_cluster_in_slides() -> None:
    generator = np.random.default_rng(0)
    to_come = clustered_slides(generator, 20_000)
    broken, of_sections = [], []
    for _ in range(1000):
        found = thresholds(clustered_slides(generator, 95).min(axis=1), np.arange(95), 0.05)
        broken.append((to_come.min(axis=1) < found.normal_below).mean() > 0.05)
        of_sections.append((to_come < found.normal_below).mean())
    # Two standard errors of 1,000 calibrations above 1 - 0.95; not far below it either, or the promise is wasteful.
    assert 0.02 < np.mean(broken) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)
    assert np.mean(of_sections) < 0.05


def test_sections_taken_for_independent_would_break_it_far_more_often() -> None:
    generator = np.random.default_rng(1)
    to_come = clustered_slides(generator, 20_000)
    broken = []
    for _ in range(300):
        found = thresholds(clustered_slides(generator, 12).ravel(), np.arange(96), 0.05)
        broken.append((to_come < found.normal_below).mean() > 0.05)
    assert np.mean(broken) > 0.15


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError, match="miss_rate is"):
        thresholds(np.arange(9), np.arange(9), rate)
    with pytest.raises(ConfigurationError, match="confidence is"):
        thresholds(np.arange(9), np.arange(9), 0.1, confidence=rate)


def study(folder: Path, *, prefilled: str = "") -> Path:
    """Tumor sections reach steps from 101 on, Normal ones up to 60; on Test three Tumor ones lie lower."""
    rows = []
    for part in ("Validation II", "Test"):
        for number in range(120):
            is_tumor = number % 2 == 0
            step = 101 + number if is_tumor else number // 2
            if part == "Test" and number in (0, 2, 4):
                step = 20
            rows.append(
                ledger_row(
                    part=part,
                    slide_id=f"{part[0]}{number // 8}",
                    section_id=f"{part[0]}{number}",
                    label="Tumor" if is_tumor else "Normal",
                    largest_region_px=flat_curve(top_step=step, num_px=50_000),
                    prefilled=prefilled,
                    coverage=0.5 if part == "Test" and number == 1 else 1.0,
                )
            )
    paths = write_study(folder, rows)
    select_thresholds(paths.root, SelectConfig())
    return paths.root


def test_what_was_promised_and_what_came_stand_beside_each_other(tmp_path: Path) -> None:
    root = study(tmp_path)
    table = write_triage(Evidence(root), miss_rates=(0.4,))
    # Another promise than the report's does not take its place.
    assert [path.stem for path in (root / "tables").glob("triage*.parquet")] == ["triage_asked"]
    row = table.frame.to_dict("records")[0]
    # 15 slides of 8 sections; at a share of 0.4 at most 2 of 15 are seen in 2.7 % of cases, 3 in 9.1 %.
    assert (row["num_calibration_tumor_slides"], row["num_calibration_normal_slides"]) == (15, 15)
    assert row["normal_below_t_p"] == pytest.approx(117 / 255)
    assert (row["num_calibration_tumor"], row["num_calibration_normal"]) == (60, 60)
    # All Tumor sections of the first two slides lie below the third's lowest.
    assert (row["num_missed"], row["num_slides_missed"]) == (8, 2)
    assert row["miss_rate_test"] == pytest.approx(2 / 15)
    # One Normal section was not read whole: it is for review, whatever its number.
    assert row["num_test"] == 120
    assert row["num_auto_normal"] + row["num_review"] + row["num_auto_tumor"] == 120
    assert row["num_review"] >= 1


def test_labels_that_were_filled_in_give_a_warning(tmp_path: Path) -> None:
    assert "WARNING" not in write_triage(Evidence(study(tmp_path / "blind"))).markdown
    assert (
        "WARNING: the labels of 100%"
        in write_triage(Evidence(study(tmp_path / "prefilled", prefilled="Tumor"))).markdown
    )


def test_a_rate_that_so_few_slides_cannot_promise_is_said_with_the_smallest_that_they_can(tmp_path: Path) -> None:
    table = write_triage(Evidence(study(tmp_path)), miss_rates=(0.02, 0.05))
    needed = "where 15 slides with Tumor sections are too few for the promise: 2.0% takes 149, 5.0% takes 59."
    assert f"{needed} The smallest that they can make is 18.1%." in table.markdown
    rows = table.frame.set_index("miss_rate")
    assert (rows.loc[0.02, ["num_auto_normal", "num_missed"]] == 0).all()
    least = rows.iloc[-1]
    assert least.name == pytest.approx(1 - 0.05 ** (1 / 15))
    assert least["false_alarm_rate"] == least["smallest_false_alarm_rate"] == pytest.approx(least.name)
    assert least["normal_below_t_p"] == pytest.approx(101 / 255)
