"""Slides of a shifted site are found to differ, and those of an unshifted one are not, though sections cluster."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.site_transfer.rank_effect import rank_effect, student_quantile
from analysis.site_transfer.sections import MEASURES
from analysis.site_transfer.shift import Shift, find_shift, power_of_refuting, slides_to_refute
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
