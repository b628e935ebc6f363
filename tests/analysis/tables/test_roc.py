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
from analysis.study_evidence.resampling import band_of, draw_slides
from analysis.tables.roc import (
    CURVES,
    GRID,
    average_precision,
    confusion_at_steps,
    precision_at,
    resampled_figures,
    roc_area,
    sensitivity_at,
    write_roc,
)
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


@given(steps, steps)
def test_the_curve_between_thresholds_is_a_straight_line(tumor: list[int], normal: list[int]) -> None:
    points = [(0.0, 0.0)]
    for step in range(255, -1, -1):
        found, false = (np.mean([value >= step for value in each]) for each in (tumor, normal))
        points.append((float(false), float(found)))
    read = sensitivity_at(at_steps(tumor), at_steps(normal))
    for place in (0, 7, 50, 100):
        x = GRID[place]
        before = max(point for point in points if point[0] <= x)
        after = min((point for point in points if point[0] > x), default=before)
        run = after[0] - before[0]
        expected = before[1] + (after[1] - before[1]) * ((x - before[0]) / run if run else 0)
        assert read[place] == pytest.approx(expected)


@given(steps, steps)
def test_precision_at_a_sensitivity_is_that_of_the_highest_threshold_that_reaches_it(
    tumor: list[int], normal: list[int]
) -> None:
    read = precision_at(at_steps(tumor), at_steps(normal))
    assert np.isnan(read[0])
    for place in (1, 33, 50, 100):
        step = max(step for step in range(256) if sum(value >= step for value in tumor) * 100 >= place * len(tumor))
        tp, fp = (sum(value >= step for value in each) for each in (tumor, normal))
        assert read[place] == pytest.approx(tp / (tp + fp))


def test_a_resample_without_one_kind_has_no_curve_and_the_others_have() -> None:
    tumor, normal = np.array([at_steps([9]), at_steps([9])]), np.array([at_steps([3]), at_steps([])])
    read = sensitivity_at(tumor, normal)
    assert (read[0] == 1).all()
    assert np.isnan(read[1]).all()


def clustered(random: np.random.Generator, num_slides: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of sections at each step, whose slides are brighter or darker as a whole."""
    tumor, normal = [], []
    for _ in range(num_slides):
        shift = random.normal(0, 25)
        for counts, mean, most in ((tumor, 170, 5), (normal, 110, 7)):
            found = mean + shift + random.normal(0, 30, size=random.integers(1, most))
            counts.append(at_steps(np.clip(found, 0, 255).astype(int).tolist()))
    return np.array(tumor), np.array(normal)


@pytest.mark.parametrize("num_slides", [20, 40])
def test_bands_hold_the_true_curve_on_slides_that_cluster(num_slides: int) -> None:
    random = np.random.default_rng(1)
    everything = [each.sum(0) for each in clustered(random, 10_000)]
    truth = {name: read(*everything) for name, read in CURVES.items()}
    num, hits = 60, {name: np.zeros(len(GRID)) for name in CURVES}
    for seed in range(num):
        by_slide = clustered(random, num_slides)
        samples = resampled_figures(by_slide, draw_slides(num_slides, num_resamples=400, seed=seed), CURVES)
        for name, read in CURVES.items():
            y = read(*(each.sum(0) for each in by_slide))
            low, high = band_of(y, samples[name], num_trials=num_slides, rises=name == "roc")
            hits[name] += (low <= truth[name]) & (truth[name] <= high)
    for name, each in hits.items():
        assert each[5:96].mean() / num >= 0.9, name
        assert each[10:91].min() / num >= 0.8, name


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


def test_the_band_is_of_every_place_and_around_the_curve(study: StudyPaths) -> None:
    bands = pd.read_parquet(study.tables / "roc_bands.parquet").set_index("curve")
    (row,) = pd.read_parquet(study.tables / "roc.parquet").to_dict("records")
    for name, num in (("roc", 101), ("precision_recall", 100)):
        band = bands.loc[name]
        assert len(band) == num
        assert (band["low"] <= band["y"]).all()
        assert (band["y"] <= band["high"]).all()
        assert (band["high"] - band["low"])[5:-5].max() > 0.05
    # The mean over all sensitivities is the average precision, but for the places between.
    assert bands.loc["precision_recall", "y"].mean() == pytest.approx(row["average_precision"], abs=0.01)


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
    bands = pd.read_parquet(paths.tables / "roc_bands.parquet")
    assert (bands["y"] == 1).all()
    assert bands["low"].to_numpy() == pytest.approx(np.full(len(bands), 0.5407), abs=1e-4)


def test_the_band_of_one_slide_says_that_nothing_is_known(tmp_path: Path) -> None:
    paths = write_study(tmp_path, [*sections(tp=9, fn=1, fp=1, tn=9), *sections(tp=3, fn=1, fp=1, tn=3, part="Test")])
    select_thresholds(paths.root, SelectConfig())
    write_roc(Evidence(paths.root))
    bands = pd.read_parquet(paths.tables / "roc_bands.parquet")
    assert (bands["high"] - bands["low"]).min() >= 0.97


def test_the_picture_is_there(study: StudyPaths) -> None:
    image = cv2.imread(str(study.figure("roc")))
    assert image is not None
    assert image.std() > 10


def test_a_foreign_reader_finds_the_best_threshold(study: StudyPaths) -> None:
    curves = duckdb.read_parquet(str(study.tables / "roc_curves.parquet"))
    ((best,),) = curves.aggregate("max(sensitivity + specificity)").fetchall()
    assert 1.5 < best <= 2
