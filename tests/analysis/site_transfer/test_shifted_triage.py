"""Auto-Normal is given where a shift is refuted or the site promises itself, and never because nothing was found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.site_transfer.labels import SiteLabels, site_labels
from analysis.site_transfer.next_labels import next_labels
from analysis.site_transfer.sections import MeasuredSections
from analysis.site_transfer.shift import find_shift
from analysis.site_transfer.shifted_triage import ShiftedTriage, shifted_triage
from benchmarks.sites import CHOSEN_ON, Site

NOTHING = pd.Series(dtype=object, index=pd.MultiIndex.from_arrays([[], []]))


def without_labels(sections: MeasuredSections) -> MeasuredSections:
    return replace(sections, frame=sections.frame.assign(label=None))


def triage_of(reference: MeasuredSections, here: MeasuredSections, *, tolerance: float = 0.15) -> ShiftedTriage:
    labels: SiteLabels = site_labels(here, NOTHING)
    shift = find_shift(reference, here, tolerance=tolerance, num_permutations=99)
    return shifted_triage(reference, here, shift, labels)


def test_a_test_that_finds_nothing_gives_no_auto_normal() -> None:
    found = triage_of(CHOSEN_ON.sections(1), without_labels(Site(num_slides=8).sections(2)))
    assert not found.is_allowed
    assert not found.frame["num_auto_normal"].any()
    assert "neither found nor refuted" in found.why


def test_a_refuted_shift_gives_the_models_promise() -> None:
    large = Site(num_slides=300, sections_each=1.2)
    found = triage_of(large.sections(1), without_labels(large.sections(2)), tolerance=0.3)
    assert found.is_allowed
    assert (found.frame["source"] == "model").all()
    assert found.frame["num_auto_normal"].any()
    assert (found.frame["is_allowed"] <= (found.frame["normal_below_t_p"] > 0)).all()


def test_a_shifted_site_with_labels_enough_promises_itself_and_says_what_happened() -> None:
    here = Site(num_slides=120, score=-9.0).sections(3)
    found = triage_of(replace(CHOSEN_ON, num_slides=150).sections(1), here)
    by_source = found.frame.set_index("source")
    assert not by_source.loc["model", "is_allowed"].any()
    assert not by_source.loc["model", "num_auto_normal"].any()
    assert by_source.loc["site", "num_auto_normal"].max() > 0
    assert (by_source["miss_rate_here"].dropna() <= 1).all()
    # The model's own promise, had it been given, would have been broken.
    assert by_source.loc["model", "miss_rate_here"].max() > 0.3
    assert by_source.loc["site", "miss_rate_here"].min() < 0.1


def test_what_is_not_assessable_is_never_auto_normal() -> None:
    here = Site(num_slides=120, score=-6.0).sections(3)
    closed = replace(here, is_assessable=np.zeros(here.num, dtype=bool))
    labels = site_labels(here, NOTHING)
    shift = find_shift(CHOSEN_ON.sections(1), here, num_permutations=99)
    assert not shifted_triage(CHOSEN_ON.sections(1), closed, shift, labels).frame["num_auto_normal"].any()
    assert site_labels(closed, NOTHING).num_not_assessable == here.num


@pytest.mark.parametrize("num", [1, 10, 30])
def test_a_work_list_alternates_keeps_its_quota_and_names_open_sections_alone(num: int) -> None:
    whole = Site(num_slides=12).sections(4)
    is_open = np.arange(whole.num) % 3 > 0
    here = replace(whole, frame=whole.frame.assign(label=whole.frame["label"].mask(is_open, None)))
    listed = next_labels(CHOSEN_ON.sections(1), here, num)
    keys = set(zip(listed["slide_id"], listed["section_id"], strict=True))
    open_keys = here.frame[is_open]
    assert len(listed) == len(keys) == min(num, int(is_open.sum()))
    assert keys <= set(zip(open_keys["slide_id"], open_keys["section_id"], strict=True))
    taken = listed.loc[listed["drawn"] == "active", "slide_id"]
    assert taken.empty or taken.value_counts().max() <= max(1, int(np.ceil(2 * len(taken) / 12)))


def test_the_random_sections_are_the_first_of_an_order_that_the_seed_alone_decides() -> None:
    here = without_labels(Site(num_slides=12).sections(4))
    few, more = (next_labels(CHOSEN_ON.sections(1), here, num, random_share=1.0) for num in (5, 15))
    assert few["section_id"].tolist() == more["section_id"].tolist()[:5]
    other = next_labels(CHOSEN_ON.sections(1), here, 5, random_share=1.0, seed=1)
    assert few["section_id"].tolist() != other["section_id"].tolist()


def test_sections_near_the_decision_come_before_those_far_from_it() -> None:
    here = without_labels(Site(num_slides=30, score=-2.0).sections(5))
    listed = next_labels(CHOSEN_ON.sections(1), here, 20, random_share=0.0)
    near = listed[listed["why"].str.startswith("near")]
    shifts = near["why"].str.extract(r"([0-9.]+)\)$")[0].astype(float)
    assert len(near) == 15
    assert shifts.is_monotonic_increasing


def test_few_labelled_slides_show_what_they_could_promise_and_give_no_auto_normal() -> None:
    found = triage_of(CHOSEN_ON.sections(1), Site(num_slides=10).sections(6))
    of_site = found.frame[found.frame["source"] == "site"]
    assert of_site["miss_rate"].max() > 0.1
    assert not found.frame["is_allowed"].any()
    assert not of_site["num_auto_normal"].any()
    assert not found.is_allowed
