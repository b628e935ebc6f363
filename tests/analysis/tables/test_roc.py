"""ROC and precision-recall curves agree with counting, threshold by threshold."""

from pathlib import Path

import cv2
import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_folders import flat_curve, ledger_row, sections, write_study

from analysis.study_evidence.evidence import Evidence
from analysis.tables.roc import average_precision, confusion_at_steps, roc_area, write_roc
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.heatmaps.probability import step_of
from bccdist.paths import StudyPaths

steps = st.lists(st.integers(0, 255), min_size=1, max_size=30)


def at_steps(values: list[int]) -> np.ndarray:
    return np.bincount(values, minlength=256)


@given(steps, steps)
def test_the_confusion_at_each_step_is_what_counting_gives(tumor: list[int], normal: list[int]) -> None:
    found = confusion_at_steps(at_steps(tumor), at_steps(normal))
    for step in (0, 1, 100, 255):
        assert found.tp[step] == sum(value >= step for value in tumor)
        assert found.fn[step] == sum(value < step for value in tumor)
        assert found.fp[step] == sum(value >= step for value in normal)
        assert found.tn[step] == sum(value < step for value in normal)


@given(steps, steps)
def test_the_area_is_the_share_of_pairs_in_the_right_order(tumor: list[int], normal: list[int]) -> None:
    wins = np.mean([(one > other) + (one == other) / 2 for one in tumor for other in normal])
    assert roc_area(at_steps(tumor), at_steps(normal)) == pytest.approx(wins)


@given(steps, steps)
def test_average_precision_is_the_mean_over_tumor_sections(tumor: list[int], normal: list[int]) -> None:
    def precision(step: int) -> float:
        tp, fp = (sum(value >= step for value in each) for each in (tumor, normal))
        return tp / (tp + fp)

    expected = np.mean([precision(step) for step in tumor])
    assert average_precision(at_steps(tumor), at_steps(normal)) == pytest.approx(expected)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    random = np.random.default_rng(0)
    rows = [
        ledger_row(
            part=part,
            slide_id=f"{part[0]}{number // 5}",
            section_id=f"{part[0]}{number}",
            label=label,
            largest_region_px=flat_curve(top_step=int(np.clip(random.normal(mean, 40), 0, 255)), num_px=50_000),
        )
        for part in ("Validation I", "Test")
        for number, (label, mean) in enumerate([("Tumor", 170), ("Normal", 90)] * 40)
    ]
    paths = write_study(tmp_path_factory.mktemp("roc"), rows)
    select_thresholds(paths.root, SelectConfig())
    write_roc(Evidence(paths.root))
    return paths


def test_the_curve_at_the_chosen_threshold_is_table_4(study: StudyPaths) -> None:
    from analysis.tables.table4 import write_table4

    (row,) = write_table4(Evidence(study.root)).frame.to_dict("records")
    curves = pd.read_parquet(study.tables / "roc_curves.parquet")
    here = curves.iloc[step_of(row["t_p"])]
    assert (here["tp"], here["fn"], here["fp"], here["tn"]) == (row["tp"], row["fn"], row["fp"], row["tn"])


def test_the_area_lies_in_its_interval(study: StudyPaths) -> None:
    (row,) = pd.read_parquet(study.tables / "roc.parquet").to_dict("records")
    assert 0.8 < row["roc_auc_low"] < row["roc_auc"] < row["roc_auc_high"] < 1
    assert row["average_precision_low"] < row["average_precision"] < row["average_precision_high"]


def test_a_perfect_area_is_no_certainty(tmp_path: Path) -> None:
    test = [sections(tp=2, fn=0, fp=0, tn=2, part="Test", slide_id=f"t{number}") for number in range(6)]
    paths = write_study(tmp_path, [*sections(tp=9, fn=0, fp=0, tn=9), *(row for rows in test for row in rows)])
    select_thresholds(paths.root, SelectConfig())
    table = write_roc(Evidence(paths.root))
    # Clopper and Pearson for 6 of 6 slides: 0.025 ** (1 / 6).
    (row,) = table.frame.to_dict("records")
    assert row["roc_auc_low"] == row["average_precision_low"] == pytest.approx(0.5407, abs=1e-4)
    assert "1.000 (0.541 to 1.000)" in table.markdown
    assert "slides: resnet34_ds 6." in table.markdown


def test_the_picture_is_there(study: StudyPaths) -> None:
    image = cv2.imread(str(study.figure("roc")))
    assert image is not None
    assert image.std() > 10


def test_a_foreign_reader_finds_the_best_threshold(study: StudyPaths) -> None:
    curves = duckdb.read_parquet(str(study.tables / "roc_curves.parquet"))
    ((best,),) = curves.aggregate("max(sensitivity + specificity)").fetchall()
    assert 1.5 < best <= 2
