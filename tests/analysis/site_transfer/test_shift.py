"""Slides of a shifted site are found to differ, and those of an unshifted one are not, though sections cluster."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from analysis.site_transfer.permutation import (
    adjusted,
    deal_out,
    divided,
    energy,
    p_values,
    rank_distances,
    share_statistic,
    statistics,
)
from analysis.site_transfer.rank_effect import rank_effect, student_quantile
from analysis.site_transfer.sections import MEASURES
from analysis.site_transfer.shift import Shift, find_shift, power_of_refuting, shares_of_error, slides_to_refute
from benchmarks.sites import CHOSEN_ON, Site

FIFTY = Site(num_slides=16)
"""About 50 sections."""
NUM_SITES = 20
MEASURED = [*MEASURES, "features"]


def shifts(site: Site, num: int = NUM_SITES, *, first: int = 0) -> list[Shift]:
    return [
        find_shift(CHOSEN_ON.sections(1000 + seed % 4), site.sections(5000 + seed), num_permutations=399, seed=seed)
        for seed in range(first, first + num)
    ]


@pytest.mark.parametrize(
    ("site", "measure"),
    [
        (replace(FIFTY, stain=2.0), "stain_density"),
        (replace(FIFTY, blur=2.5), "focus"),
        (replace(FIFTY, prevalence=0.95), "tumor_share"),
        (replace(FIFTY, score=-8.0), "tumor_until"),
    ],
)
def test_a_shifted_site_is_found_by_what_was_shifted(site: Site, measure: str) -> None:
    found = shifts(site, 10)
    assert sum(each.is_found for each in found) >= 9
    assert sum(measure in each.found for each in found) >= 8


def test_an_unshifted_site_is_seldom_found_though_its_sections_cluster() -> None:
    # With a true rate of 5 % more than 4 of 20 come in less than 0.3 % of cases.
    assert sum(each.is_found for each in shifts(replace(FIFTY, num_slides=6, sections_each=9.0))) <= 4


def test_clustered_sections_would_be_taken_for_a_shift_if_each_counted() -> None:
    """The control: the same sites, with each section as a slide of its own."""

    def alone(site: Site, seed: int) -> object:
        sections = site.sections(seed)
        return replace(sections, frame=sections.frame.assign(slide_id=[f"{n:04d}" for n in range(sections.num)]))

    site = Site(num_slides=6, sections_each=9.0)
    found = [
        find_shift(alone(replace(CHOSEN_ON, num_slides=20), 100 + seed), alone(site, 200 + seed), num_permutations=299)
        for seed in range(12)
    ]
    assert sum(each.is_found for each in found) >= 9


def test_a_site_with_another_number_of_sections_a_slide_is_not_taken_for_another_share_of_tumor() -> None:
    """A slide of one section is all Tumor or none. The control is the energy distance, which sees that for a shift."""
    site = Site(num_slides=50, sections_each=1.0)
    by_share, by_energy = 0, 0
    for seed in range(20):
        means = [each.slide_means()["tumor_share"] for each in (CHOSEN_ON.sections(1000 + seed), site.sections(seed))]
        values = np.concatenate(means)
        orders = deal_out(len(values), 199, np.random.default_rng(seed))
        division = divided(orders, np.ones(len(values), dtype=bool), len(means[0]))
        by_share += p_values(statistics(division, share_statistic(values)))[0] <= 0.05
        by_energy += p_values(statistics(division, partial(energy, rank_distances(values))))[0] <= 0.05
    # With a true rate of 5 % more than 4 of 20 come in less than 0.3 % of cases.
    assert by_share <= 4 < by_energy


def test_the_statistic_of_a_division_is_its_rank_effect_in_standard_errors() -> None:
    random = np.random.default_rng(0)
    values = np.round(random.normal(size=30), 1)
    division = divided(deal_out(30, 5, random), np.ones(30, dtype=bool), 18)
    orders, last = division
    for order, end, apart in zip(orders, last, statistics(division, share_statistic(values)), strict=True):
        effect = rank_effect(values[order <= end], values[order > end])
        assert apart == pytest.approx(abs(effect.share - 0.5) / effect.error)


def test_a_measure_that_some_slides_lack_is_dealt_out_among_the_others() -> None:
    has = np.array([True, False, True, True, False, True, True])
    orders, last = divided(deal_out(7, 50, np.random.default_rng(0)), has, 3)
    assert np.array_equal(orders[0] > last[0], [False, False, False, True, True])
    assert set((orders > last).sum(axis=1)) == {2}


def test_measures_that_say_the_same_are_adjusted_for_as_one_and_others_for_their_number() -> None:
    p = np.random.default_rng(0).permuted(np.arange(1, 2001) / 2000)
    p[[0, int(np.argmin(np.abs(p - 0.01)))]] = p[[int(np.argmin(np.abs(p - 0.01))), 0]]
    halves = np.array([0.5, 0.5])
    assert adjusted(np.stack([p, p]), halves) == pytest.approx([0.01, 0.01])
    other = np.concatenate([[0.5], np.random.default_rng(1).permuted(np.arange(1, 2000) / 2000)])
    first, second = adjusted(np.stack([p, other]), halves)
    assert first == pytest.approx(1 - 0.99**2, abs=0.003)
    assert second == pytest.approx(0.5, abs=0.003)
    # Three quarters of the error leave it more.
    assert adjusted(np.stack([p, other]), np.array([0.75, 0.25]))[0] == pytest.approx(0.01 + 0.01 / 3, abs=0.003)


def test_the_whole_error_is_spent_a_third_of_it_on_the_share_called_tumor() -> None:
    shares = dict(zip(MEASURED, shares_of_error(MEASURED), strict=True))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["tumor_share"] == pytest.approx(1 / 3)
    assert shares["focus"] == pytest.approx(2 / 3 / 12)
    assert shares_of_error(["focus", "features"]).tolist() == [0.5, 0.5]
    assert shares_of_error(["tumor_share"]).tolist() == [1.0]


def test_slides_that_are_like_the_reference_do_not_drive_the_difference() -> None:
    site = Site(num_slides=12, stain=3.5).sections(3)
    is_like = site.frame["slide_id"].isin(["slide-000", "slide-001"])
    frame = site.frame.assign(stain_density=site.frame["stain_density"].mask(is_like, 0.0))
    found = find_shift(CHOSEN_ON.sections(1), replace(site, frame=frame, features=None), num_permutations=399)
    assert found.found == ["stain_density"]
    assert set(found.influence.nsmallest(2).index) == {"slide-000", "slide-001"}
    assert found.influence.drop(["slide-000", "slide-001"]).median() > 0


def test_what_one_side_lacks_is_not_measured_and_keeps_a_shift_from_being_refuted() -> None:
    large = Site(num_slides=300, sections_each=1.2)
    reference, here = large.sections(1), large.sections(2)
    assert find_shift(reference, here, tolerance=0.3, num_permutations=99).is_refuted
    without = replace(here, frame=here.frame.assign(focus=np.nan), features=None)
    found = find_shift(reference, without, tolerance=0.3, num_permutations=99)
    assert found.not_measured == ("focus", "features")
    assert not found.is_refuted


def test_a_shift_at_the_margin_is_seldom_called_refuted() -> None:
    # Score moved until 65 % of pairs are larger here: 0.545 standard deviations.
    hits = 0
    random = np.random.default_rng(0)
    for _ in range(400):
        low, high = rank_effect(random.normal(size=80), random.normal(0.545, 1.0, size=40)).ends(0.9)
        hits += low > 0.35 and high < 0.65
    assert hits <= 0.08 * 400


def test_so_few_slides_that_nothing_can_be_found_say_so() -> None:
    found = find_shift(Site(num_slides=3).sections(1), Site(num_slides=3, stain=9.0).sections(2), num_permutations=99)
    assert not found.could_find
    assert not found.is_found
    assert not found.is_refuted


def test_slides_that_are_all_alike_in_a_measure_may_still_be_called_so_if_they_are_many() -> None:
    few, many = (rank_effect(np.zeros(num), np.zeros(num)).ends(0.9) for num in (4, 60))
    assert few[1] - few[0] > 0.3 > many[1] - many[0]


def test_the_power_to_refute_grows_with_slides_and_says_how_many_are_needed() -> None:
    reference = Site(num_slides=200, sections_each=1.5).sections(1)
    few, many = (power_of_refuting(reference, MEASURED, num, tolerance=0.2, num=40) for num in (10, 150))
    assert few < 0.2
    assert many > 0.6
    needed = slides_to_refute(reference, MEASURED, tolerance=0.2)
    assert needed is not None
    assert 20 < needed < 300
    assert slides_to_refute(Site(num_slides=8).sections(1), MEASURED, most=100) is None


@pytest.mark.parametrize(("freedom", "expected"), [(4, 2.776), (10, 2.228), (60, 2.000), (float("inf"), 1.960)])
def test_the_quantile_of_students_t_is_that_of_the_tables(freedom: float, expected: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(expected, rel=0.01)


def test_the_share_of_pairs_counts_pairs() -> None:
    there, here = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0])
    assert rank_effect(there, here).share == pytest.approx((1.5 + 3) / 6)
