"""A site's thresholds are chosen by the study's rule, measured on slides that did not choose, and may not do."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.site_transfer.labels import SiteLabels, site_labels
from analysis.site_transfer.thresholds import Goal, one_sided, sections_needed, site_thresholds
from analysis.tables.selection import setting_grid
from bccdist.binomial import greatest_share
from bccdist.configuration import SelectConfig
from bccdist.sections.section_rows import SectionRows
from benchmarks.sites import CHOICE, Site

NOTHING = pd.Series(dtype=object, index=pd.MultiIndex.from_arrays([[], []]))
SHIFTED = Site(num_slides=40, score=-5.0)
"""All scores are lower: a lower t_p mends it."""


def labels_of(site: Site, seed: int = 5) -> SiteLabels:
    return site_labels(site.sections(seed), NOTHING)


def test_the_choice_is_that_of_the_studys_selection_on_the_same_sections() -> None:
    labels = labels_of(SHIFTED)
    found = site_thresholds(labels, SelectConfig(), goal=Goal())
    frame = labels.sections.frame.assign(setting="x", epoch=0, coverage=1.0)
    rows = SectionRows(frame, labels.sections.curves, np.zeros((len(frame), 256), dtype=np.float32))
    grid = setting_grid(rows, SelectConfig())
    best = grid.sort_values(["f_beta", "accuracy", "specificity"], ascending=False).iloc[0]
    chosen = grid[(grid["t_p"] == found.site.t_p) & (grid["t_a_um2"] == found.site.t_a_um2)].iloc[0]
    assert chosen["f_beta"] == best["f_beta"]


def test_lower_scores_are_mended_by_a_lower_threshold_on_slides_that_did_not_choose_it() -> None:
    found = site_thresholds(labels_of(SHIFTED), SelectConfig(), goal=Goal(sensitivity=0.85))
    assert found.before.bounds["sensitivity"].high < 0.5
    assert found.after.bounds["sensitivity"].low > 0.85
    assert found.site.t_p < CHOICE.t_p
    assert not found.is_beyond_mending


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_network_that_no_longer_tells_tumor_is_said_to_be_beyond_mending(seed: int) -> None:
    found = site_thresholds(labels_of(Site(num_slides=40, mixing=0.6), seed), SelectConfig(), goal=Goal())
    assert found.is_beyond_mending
    assert found.best_sensitivity.high < 0.9


def test_few_slides_do_not_prove_that_nothing_mends_it() -> None:
    found = site_thresholds(labels_of(Site(num_slides=5, mixing=0.5), 3), SelectConfig(), goal=Goal())
    assert not found.is_beyond_mending


def test_figures_on_held_out_slides_are_not_those_of_the_slides_that_chose() -> None:
    """Thresholds chosen and judged on the same sections flatter: over noise the held-out ones are lower on average."""
    gaps = []
    for seed in range(4):
        labels = labels_of(Site(num_slides=12, mixing=0.4), seed)
        found = site_thresholds(labels, SelectConfig(), goal=Goal())
        frame = labels.sections.frame.assign(setting="x", epoch=0, coverage=1.0)
        rows = SectionRows(frame, labels.sections.curves, np.zeros((len(frame), 256), dtype=np.float32))
        own = setting_grid(rows, SelectConfig())["f_beta"].max()
        gaps.append(own - found.after.figures["f_beta"].value)
    assert min(gaps) >= -1e-9
    assert np.mean(gaps) > 0.01


def test_the_bound_of_the_random_sections_is_exact_where_slides_do_not_cluster() -> None:
    low, _ = one_sided(1.0, 59)
    assert low == pytest.approx(1 - greatest_share(0, 59, 0.95))
    assert low >= 0.95 > one_sided(1.0, 58)[0]


@pytest.mark.parametrize(
    ("share", "promise", "effect", "expected"),
    [(1.0, 0.95, 1.0, 59), (1.0, 0.95, 2.0, 118), (0.9, 0.95, 1.0, None), (float("nan"), 0.9, 1.0, None)],
)
def test_so_many_labels_bear_a_promise(share: float, promise: float, effect: float, expected: int | None) -> None:
    assert sections_needed(share, promise, effect) == expected


def test_the_number_that_is_needed_is_enough_and_a_tenth_less_is_not() -> None:
    num = sections_needed(0.97, 0.9, 1.0)
    assert num is not None
    assert one_sided(0.97, num)[0] >= 0.9
    assert one_sided(0.97, int(0.6 * num))[0] < 0.9


def half_drawn(site: Site, seed: int) -> SiteLabels:
    """A third of the sections labelled: those with the smallest margins, and as many at random."""
    sections = site.sections(seed)
    random = np.random.default_rng(seed)
    near = np.argsort(np.abs(sections.steps - 128), kind="stable")[: sections.num // 6]
    rest = random.permutation(np.setdiff1d(np.arange(sections.num), near))[: sections.num // 6]
    keep = np.zeros(sections.num, dtype=bool)
    keep[near] = keep[rest] = True
    keys = pd.MultiIndex.from_frame(sections.frame[["slide_id", "section_id"]])
    drawn = pd.Series("random", index=keys).mask(np.isin(np.arange(sections.num), near), "active")[keep]
    frame = sections.frame.assign(label=sections.frame["label"].where(keep, None))
    return site_labels(replace(sections, frame=frame), drawn)


def test_weighted_figures_of_both_kinds_are_those_of_the_cohort_on_average_and_unweighted_ones_are_not() -> None:
    site = Site(num_slides=40, score=-2.0)
    weighted, plain, truth = [], [], []
    for seed in range(12):
        whole = site.sections(seed)
        truth.append((whole.frame["tumor_share"] > 0)[whole.is_tumor].mean())
        labels = half_drawn(site, seed)
        assert labels.weights.sum() == pytest.approx(labels.num_cohort)
        found = (labels.sections.frame["tumor_share"] > 0).to_numpy()
        tumor = labels.sections.is_tumor
        weighted.append(np.average(found[tumor], weights=labels.weights[tumor]))
        plain.append(found[tumor].mean())
    assert abs(np.mean(weighted) - np.mean(truth)) < 0.04
    assert abs(np.mean(plain) - np.mean(truth)) > 0.06


def test_a_promise_rests_on_the_random_sections_alone() -> None:
    labels = half_drawn(Site(num_slides=60), 1)
    found = site_thresholds(labels, SelectConfig(), goal=Goal())
    num = sum(found.before.bounds[name].num for name in ("sensitivity", "specificity"))
    assert num == int((labels.drawn == "random").sum()) < labels.sections.num


def test_labels_of_unknown_origin_bear_no_promise_and_all_of_them_do() -> None:
    whole = Site().sections(1)
    keep = np.arange(whole.num) % 2 == 0
    half = replace(whole, frame=whole.frame.assign(label=whole.frame["label"].where(keep, None)))
    assert not site_labels(half, NOTHING).is_random.any()
    assert site_labels(half, NOTHING, are="random").is_random.all()
    assert site_labels(whole, NOTHING).is_random.all()
