"""Predictive values follow Bayes' rule, and claim no certainty where nothing was wrong."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_folders import sections, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.tables.predictive_values import values_at, write_predictive_values
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.errors import ConfigurationError, NothingToShowError


def table_of(folder: Path, *, slides: int = 8, **of_test: int) -> pd.DataFrame:
    rows = sections(tp=9, fn=1, fp=1, tn=9)
    for number in range(slides):
        rows += [
            {**row, "slide_id": f"t{number}", "section_id": f"t{number}-{row['section_id']}"}
            for row in sections(part="Test", **of_test)
        ]
    paths = write_study(folder, rows)
    select_thresholds(paths.root, SelectConfig())
    return write_predictive_values(Evidence(paths.root)).frame.set_index("prevalence")


def test_values_are_those_of_a_thousand_sections_by_hand() -> None:
    # Of 1,000 with 100 Tumor: 90 found, 10 missed; of 900 Normal 45 false alarms.
    found = values_at(np.array(0.9), np.array(0.95), 0.1)
    expected = {"ppv": 90 / 135, "npv": 855 / 865, "lr_positive": 18.0, "lr_negative": 0.1 / 0.95}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected)


def test_at_tests_own_prevalence_they_are_the_shares_that_were_counted(tmp_path: Path) -> None:
    own = table_of(tmp_path, tp=3, fn=1, fp=2, tn=6).query("is_own").iloc[0]
    assert (own["ppv"], own["npv"]) == pytest.approx((3 / 5, 6 / 7))
    assert own["ppv_low"] <= own["ppv"] <= own["ppv_high"]


def test_without_an_error_the_interval_is_not_a_point(tmp_path: Path) -> None:
    frame = table_of(tmp_path, tp=3, fn=0, fp=0, tn=3)
    assert (frame["ppv"] == 1).all()
    frame = frame[~frame["is_own"]]
    # Of 8 slides none was wrong: sensitivity and specificity may be 0.025 ** (1 / 8) = 0.63.
    assert frame.loc[0.5, "ppv_low"] == pytest.approx(0.631, abs=1e-3)
    assert np.isinf(frame.loc[0.5, "lr_positive"])
    assert frame.loc[0.5, "lr_negative_high"] == pytest.approx(0.585, abs=1e-3)


def test_of_one_kind_alone_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(NothingToShowError, match="both Tumor and Normal"):
        table_of(tmp_path, tp=3, fn=1, fp=0, tn=0)


@pytest.mark.parametrize("prevalence", [0.0, 1.0, 5.0])
def test_a_prevalence_that_is_no_share_is_refused(tmp_path: Path, prevalence: float) -> None:
    table_of(tmp_path, tp=3, fn=1, fp=1, tn=3)
    with pytest.raises(ConfigurationError, match="prevalence is"):
        write_predictive_values(Evidence(tmp_path), prevalences=(prevalence,))


def test_resamples_without_a_false_alarm_make_a_ratio_infinite_and_not_unknown(tmp_path: Path) -> None:
    rows = sections(tp=9, fn=1, fp=1, tn=9)
    for number in range(8):
        counts = {"tp": 3, "fn": int(number == 1), "fp": int(number == 0), "tn": 3}
        rows += [
            {**row, "slide_id": f"t{number}", "section_id": f"t{number}-{row['section_id']}"}
            for row in sections(part="Test", **counts)
        ]
    paths = write_study(tmp_path, rows)
    select_thresholds(paths.root, SelectConfig())
    row = write_predictive_values(Evidence(paths.root)).frame.iloc[0]
    assert np.isinf(row["lr_positive_high"])
    assert np.isfinite(row["lr_positive_low"])
