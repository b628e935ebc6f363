"""Triage keeps the miss rate that it promised, and says where it cannot."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_folders import flat_curve, ledger_row, write_study

from analysis.evidence.evidence import Evidence
from analysis.tables.selection import select_thresholds
from analysis.tables.triage import NO_STEP, triage_thresholds, write_triage
from bccdist.configuration import SelectConfig
from bccdist.errors import ConfigurationError

steps = st.lists(st.integers(0, 255), min_size=1, max_size=60).map(lambda values: np.array(values, dtype=np.int64))
rates = st.floats(0.005, 0.6)


@given(steps, steps, rates, rates)
def test_of_a_newcomer_and_the_calibration_at_most_the_promised_share_would_be_missed(
    tumor: np.ndarray, normal: np.ndarray, miss_rate: float, false_alarm_rate: float
) -> None:
    # Whichever of n + 1 exchangeable Tumor sections comes last: so many of them would be auto-normal.
    missed = 0
    for number, newcomer in enumerate(tumor):
        others = np.delete(tumor, number)
        if len(others):
            found = triage_thresholds(others, normal, miss_rate=miss_rate, false_alarm_rate=false_alarm_rate)
            missed += int(newcomer < found.normal_below)
    assert missed <= miss_rate * len(tumor) + 1e-9


@given(steps, steps, rates, rates)
def test_every_section_is_in_one_group_and_nothing_contradictory_is_automatic(
    tumor: np.ndarray, normal: np.ndarray, miss_rate: float, false_alarm_rate: float
) -> None:
    found = triage_thresholds(tumor, normal, miss_rate=miss_rate, false_alarm_rate=false_alarm_rate)
    groups = found.groups(np.arange(256))
    assert set(groups) <= {"auto_normal", "review", "auto_tumor"}
    both = (np.arange(256) < found.normal_below) & (np.arange(256) >= found.tumor_from)
    assert (groups[both] == "review").all()


def test_thresholds_of_a_hundred_sections() -> None:
    tumor, normal = np.arange(100, 199), np.arange(0, 99)
    found = triage_thresholds(tumor, normal, miss_rate=0.02, false_alarm_rate=0.05)
    # k = floor(0.02 * 100) = 2: below the second lowest; floor(0.05 * 100) = 5: above the fifth highest.
    assert (found.normal_below, found.tumor_from) == (101, 95)
    assert (tumor < found.normal_below).sum() == 1


def test_too_few_sections_promise_nothing() -> None:
    found = triage_thresholds(np.arange(50, 99), np.arange(9), miss_rate=0.01, false_alarm_rate=0.05)
    assert (found.normal_below, found.tumor_from) == (0, NO_STEP)
    assert (found.groups(np.arange(256)) == "review").all()


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError, match="miss_rate is"):
        triage_thresholds(np.arange(9), np.arange(9), miss_rate=rate, false_alarm_rate=0.05)


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
    table = write_triage(Evidence(study(tmp_path)), miss_rates=[0.05], false_alarm_rate=0.05)
    (row,) = table.frame.to_dict("records")
    # floor(0.05 * 61) = 3: the third lowest of 101, 103, 105, ...
    assert row["normal_below_t_p"] == pytest.approx(105 / 255)
    assert (row["num_calibration_tumor"], row["num_calibration_normal"]) == (60, 60)
    assert row["num_missed"] == 3
    assert row["miss_rate_test"] == pytest.approx(3 / 60)
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


def test_a_rate_that_so_few_sections_cannot_promise_is_said(tmp_path: Path) -> None:
    table = write_triage(Evidence(study(tmp_path)))
    assert "where 60 Tumor sections are too few for the promise: 0.5% takes 199, 1.0% takes 99." in table.markdown
    assert (table.frame.set_index("miss_rate").loc[0.005, ["num_auto_normal", "num_missed"]] == 0).all()
