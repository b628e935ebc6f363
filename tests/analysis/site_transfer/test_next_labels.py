"""The random half of every work list is a random sample of the cohort, whatever else is labelled."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from analysis.site_transfer.labels import site_labels
from analysis.site_transfer.next_labels import next_labels, section_novelty
from analysis.site_transfer.reading import drawn_by_lists
from analysis.site_transfer.sections import MeasuredSections
from bccdist.heatmaps.probability import step_of
from bccdist.sections.assessable import QualityLimits
from bccdist.sections.verdicts import flip_shift
from benchmarks.sites import CHOSEN_ON, Site

REFERENCE = replace(CHOSEN_ON, num_slides=8).sections(1)
HERE = Site(num_slides=16, score=-2.0).sections(4)
KEYS = pd.MultiIndex.from_frame(HERE.frame[["slide_id", "section_id"]])
NOTHING = pd.Series([], index=KEYS[:0], dtype=object)
NUM_HARD = HERE.num // 4
HARD = set(KEYS[np.argsort(flip_shift(HERE.steps, step_of(HERE.choice.t_p)), kind="stable")[:NUM_HARD]])
NUM_DRAWS = 30


def with_labels_of(is_labelled: NDArray[np.bool_]) -> MeasuredSections:
    return replace(HERE, frame=HERE.frame.assign(label=HERE.frame["label"].where(is_labelled, None)))


def hard_and_all(seed: int, num_lists: int) -> tuple[int, int]:
    """Of the labels that count as random after so many filled lists: how many are near the decision, and all."""
    lists: list[pd.DataFrame] = []
    is_labelled = np.zeros(HERE.num, dtype=bool)
    for _ in range(num_lists):
        lists.append(next_labels(REFERENCE, with_labels_of(is_labelled), 12, seed=seed))
        is_labelled |= KEYS.isin(pd.MultiIndex.from_frame(lists[-1][["slide_id", "section_id"]]))
    here = with_labels_of(is_labelled)
    random = site_labels(here, drawn_by_lists(lists, here, NOTHING)).random.sections
    mine = pd.MultiIndex.from_frame(random.frame[["slide_id", "section_id"]])
    return int(sum(key in HARD for key in mine)), random.num


def test_whether_a_section_counts_as_random_does_not_depend_on_its_margin() -> None:
    for num_lists in (1, 2):
        counts = np.array([hard_and_all(seed, num_lists) for seed in range(NUM_DRAWS)])
        hard, num = counts.sum(axis=0)
        assert num >= NUM_DRAWS * 6 * num_lists
        # Draws without replacement scatter less than the binomial, so that this is on the safe side.
        assert binomtest(int(hard), int(num), NUM_HARD / HERE.num).pvalue > 0.05


def test_random_sections_of_a_list_without_a_seed_are_not_counted_as_random() -> None:
    listed = next_labels(REFERENCE, with_labels_of(np.zeros(HERE.num, dtype=bool)), 12)
    assert {"random", "active"} <= set(listed["drawn"])
    assert set(drawn_by_lists([listed.drop(columns="seed")], HERE, NOTHING)) == {"active"}


def test_unlike_the_model_is_what_the_limits_of_quality_call_unlike_it() -> None:
    novelty = section_novelty(REFERENCE, HERE)
    assert novelty is not None
    table = replace(CHOSEN_ON, num_slides=8).table(1)
    slides = pa.array([int(name.rpartition("-")[2]) for name in table["slide_id"].to_pylist()])
    limits = QualityLimits.of(table.append_column("slide", slides))
    assert HERE.features is not None
    assert novelty[:5] == pytest.approx([limits.distance(list(each)) for each in HERE.features[:5]])
