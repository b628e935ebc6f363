"""Intervals come from whole slides drawn anew, and claim no certainty where no error was seen."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from study_folders import verdict_rows

from analysis.study_evidence.confusion import Confusion
from analysis.study_evidence.resampling import (
    band_of,
    counts_by_slide,
    differences,
    draw_slides,
    few_slides_notes,
    figures_of,
    holm,
    interval_of,
    intervals,
    judged_by_both,
    p_of_difference,
    resampled,
    smallest_p_of_groups,
    smallest_p_of_pairs,
    total,
)

BETA = 1.5


def counts(*, tp: list[int], fn: list[int], fp: list[int], tn: list[int]) -> Confusion:
    return Confusion(tp=np.array(tp), fn=np.array(fn), fp=np.array(fp), tn=np.array(tn))


def test_each_resample_has_as_many_slides_as_there_are() -> None:
    draws = draw_slides(7, num_resamples=50)
    assert draws.shape == (50, 7)
    assert (draws.sum(axis=1) == 7).all()


def test_the_same_seed_draws_the_same_slides() -> None:
    assert (draw_slides(9, seed=3) == draw_slides(9, seed=3)).all()
    assert (draw_slides(9, seed=3) != draw_slides(9, seed=4)).any()


def test_counts_of_slides_add_up_to_those_of_all() -> None:
    verdicts = verdict_rows(
        ("a", "Tumor", "Tumor"),
        ("a", "Tumor", "Normal"),
        ("b", "Normal", "Tumor"),
        ("b", "Normal", "Normal"),
        ("b", "Normal", "Normal"),
        ("b", "Tumor", "review"),
        ("c", None, "Tumor"),
    )
    by_slide = counts_by_slide(verdicts, pd.Index(["a", "b", "c"]))
    assert by_slide.tp.tolist() == [1, 0, 0]
    assert by_slide.fn.tolist() == [1, 0, 0]
    assert by_slide.fp.tolist() == [0, 1, 0]
    assert by_slide.tn.tolist() == [0, 2, 0]
    assert total(by_slide) == Confusion(tp=1, fn=1, fp=1, tn=2)


def test_a_resample_is_the_confusion_of_the_slides_it_drew() -> None:
    by_slide = counts(tp=[3, 1], fn=[0, 2], fp=[1, 0], tn=[4, 4])
    found = resampled(by_slide, np.array([[2, 0], [1, 1], [0, 2]]))
    assert found.tp.tolist() == [6, 4, 2]
    assert found.fn.tolist() == [0, 2, 4]
    assert found.fp.tolist() == [2, 1, 0]
    assert found.tn.tolist() == [8, 8, 8]


def test_intervals_hold_the_value_and_shrink_with_more_slides() -> None:
    few = intervals(counts(tp=[3, 2] * 5, fn=[0, 1] * 5, fp=[1, 0] * 5, tn=[4, 4] * 5), draw_slides(10), BETA)
    many = intervals(counts(tp=[3, 2] * 50, fn=[0, 1] * 50, fp=[1, 0] * 50, tn=[4, 4] * 50), draw_slides(100), BETA)
    for name, found in few.items():
        assert found.low < found.value < found.high
        assert many[name].value == pytest.approx(found.value)
        assert many[name].high - many[name].low < (found.high - found.low) / 2


def test_sections_that_cluster_in_slides_give_wider_intervals_than_spread_ones() -> None:
    # Ten wrong of a hundred both times: on one slide of ten, or one on each.
    clustered = counts(tp=[10] * 9 + [0], fn=[0] * 9 + [10], fp=[0] * 10, tn=[5] * 10)
    spread = counts(tp=[9] * 10, fn=[1] * 10, fp=[0] * 10, tn=[5] * 10)
    wide, narrow = (intervals(each, draw_slides(10), BETA)["sensitivity"] for each in (clustered, spread))
    assert wide.value == narrow.value == 0.9
    assert wide.low < 0.75
    # Every slide is alike, so resampling finds 0.9 alone: the bounds of 9 in 10 slides.
    assert (narrow.low, narrow.high) == pytest.approx((0.5550, 0.9975), abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("num_slides", [1, 2, 7, 40])
def test_samples_that_are_all_alike_have_the_exact_bounds_of_so_many_slides(value: float, num_slides: int) -> None:
    found = interval_of(value, np.full(100, value), num_trials=num_slides)
    counted = value * num_slides
    lower = binomtest(math.floor(counted), num_slides).proportion_ci(method="exact").low
    upper = binomtest(math.ceil(counted), num_slides).proportion_ci(method="exact").high
    assert (found.low, found.high) == pytest.approx((lower, upper))
    assert found.low <= value <= found.high
    assert found.high - found.low > 0.05
    mirrored = interval_of(-value, np.full(100, -value), num_trials=num_slides, is_difference=True)
    assert (mirrored.low, mirrored.high) == pytest.approx((-upper, -lower if value else upper))


def test_exact_bounds_of_a_band_hold_on_where_the_curve_is_lower() -> None:
    values = np.array([0.5, 0.9, 1.0, 1.0])
    samples = np.column_stack([np.linspace(*ends, 1000) for ends in ((0.3, 0.7), (0.8, 1), (1, 1), (1, 1))])
    low, high = band_of(values, samples, num_trials=6, rises=True)
    assert low == pytest.approx([0.31, 0.5407, 0.5407, 0.5407], abs=1e-3)
    assert high == pytest.approx([0.69, 0.995, 1, 1], abs=1e-3)
    falling_low, _ = band_of(values[::-1], samples[:, ::-1], num_trials=6, rises=False)
    assert falling_low == pytest.approx(low[::-1])


def test_samples_of_which_nearly_all_are_alike_have_the_exact_bounds_too() -> None:
    found = interval_of(1.0, np.array([1.0] * 990 + [0.9] * 10), num_trials=6)
    assert found.low == pytest.approx(0.5407, abs=1e-4)


def test_one_slide_tells_next_to_nothing_whatever_is_on_it() -> None:
    found = intervals(counts(tp=[4], fn=[1], fp=[0], tn=[5]), draw_slides(1), BETA)
    assert (found["sensitivity"].low, found["sensitivity"].high) == (0, 1)
    assert (found["specificity"].low, found["specificity"].high) == pytest.approx((0.025, 1))
    assert found["f_beta"].low < found["f_beta"].value < found["f_beta"].high


def test_few_slides_are_noted_only_where_they_are_few() -> None:
    assert few_slides_notes({"Test": 20, "Validation I + II": 300}) == ()
    (note,) = few_slides_notes({"Test": 321, "Validation I + II": 3})
    assert note.endswith("slides: Validation I + II 3.")


def test_two_models_without_a_discordant_section_may_differ_by_the_bound_for_none() -> None:
    one = counts(tp=[5, 4] * 10, fn=[0, 1] * 10, fp=[0] * 20, tn=[5] * 20)
    found = differences(one, one, draw_slides(20), BETA)
    for name in ("accuracy", "sensitivity", "specificity"):
        # Clopper and Pearson for none of 20.
        assert (found[name].low, found[name].high) == pytest.approx((-0.1684, 0.1684), abs=1e-4)
    assert found["f_beta"].value == 0
    assert 0.1 < found["f_beta"].high < 0.3
    assert not any(each.excludes_zero for each in found.values())


def test_no_error_seen_is_no_certainty() -> None:
    found = intervals(counts(tp=[5] * 30, fn=[0] * 30, fp=[0] * 30, tn=[5] * 30), draw_slides(30), BETA)
    # Clopper and Pearson for 30 of 30.
    assert found["sensitivity"].value == 1
    assert found["sensitivity"].low == pytest.approx(0.8843, abs=1e-4)
    assert found["accuracy"].low == pytest.approx(0.8843, abs=1e-4)
    assert 0.8 < found["f_beta"].low < 1


def test_nothing_right_is_no_certainty_either() -> None:
    found = intervals(counts(tp=[0] * 30, fn=[2] * 30, fp=[0] * 30, tn=[0] * 30), draw_slides(30), BETA)
    assert found["sensitivity"].low == 0
    assert found["sensitivity"].high == pytest.approx(1 - 0.8843, abs=1e-4)
    assert math.isnan(found["specificity"].value)


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 4), min_size=1, max_size=12))
def test_figures_of_all_slides_are_those_of_drawing_each_once(slides: list[tuple[int, int, int, int]]) -> None:
    tp, fn, fp, tn = (list(each) for each in zip(*slides, strict=True))
    by_slide = counts(tp=tp, fn=fn, fp=fp, tn=tn)
    once = figures_of(resampled(by_slide, np.ones((1, len(slides)), dtype=np.int64)), BETA)
    for name, value in figures_of(total(by_slide), BETA).items():
        np.testing.assert_equal(once[name][0], value)


def test_pairs_are_the_labelled_sections_that_both_judge() -> None:
    one = verdict_rows(
        ("a", "Tumor", "Tumor"), ("a", "Normal", "review"), ("b", None, "Tumor"), ("b", "Normal", "Normal")
    )
    other = verdict_rows(
        ("a", "Tumor", "Normal"), ("a", "Normal", "Normal"), ("b", None, "Tumor"), ("b", "Normal", "Tumor")
    )
    first, second = judged_by_both(one, other.iloc[::-1])
    assert first["section_id"].tolist() == second["section_id"].tolist() == ["s0", "s3"]
    assert second["verdict"].tolist() == ["Normal", "Tumor"]


def test_holms_rule_on_a_known_example() -> None:
    adjusted = holm(pd.Series([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert adjusted.tolist()[:2] + adjusted.tolist()[3:] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(adjusted[2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_rule_is_the_textbooks(p: list[float]) -> None:
    """The k-th smallest p, from 0, times n - k, and never less than that of a smaller one."""
    adjusted = holm(pd.Series(p)).tolist()
    ranked = sorted(p)
    for each, found in zip(p, adjusted, strict=True):
        place = max(number for number, other in enumerate(ranked) if other == each)
        assert found == pytest.approx(min(1.0, max(ranked[k] * (len(p) - k) for k in range(place + 1))))


def test_a_difference_that_is_always_there_has_the_smallest_p_of_so_few_slides() -> None:
    samples = np.full(10_000, -0.2)
    assert p_of_difference(samples, smallest_p_of_pairs(20)) == pytest.approx(2 / 10_001)
    # Heads or tails, three times the same.
    assert p_of_difference(samples, smallest_p_of_pairs(3)) == 0.25
    assert p_of_difference(samples, smallest_p_of_groups(2, 3)) == pytest.approx(2 / 10)
    assert p_of_difference(samples, smallest_p_of_pairs(1)) == 1


def test_no_difference_at_all_has_a_p_of_one_and_an_unknown_one_none() -> None:
    assert p_of_difference(np.zeros(100), 0.0) == 1
    assert math.isnan(p_of_difference(np.full(100, np.nan), 0.0))


def test_the_p_of_equal_models_is_below_five_percent_in_no_more_than_some_five_percent_of_studies() -> None:
    random = np.random.default_rng(0)
    num, false = 200, 0
    for seed in range(num):
        # Thirty slides of five sections; of each slide both models have more or less often right, alike.
        share = random.uniform(0.5, 1, size=30)
        one, other = (random.binomial(5, share) for _ in range(2))
        samples = draw_slides(30, num_resamples=400, seed=seed) @ (one - other) / 150
        false += p_of_difference(samples, smallest_p_of_pairs(30)) < 0.05
    assert false / num < 0.1
