"""The pools of Table 2 by the share of a patch under each kind of annotation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from bccdist.configuration import PATCH_PX, BalanceConfig, DrawCounts
from bccdist.shard_set.pools import NO_PATCHES, POOLS, pool_members, pool_totals

FRACTIONS = st_numpy.arrays(np.float64, (3, 7), elements=st.floats(0, 1))


def _of_px(*num_px: int) -> np.ndarray:
    return np.array(num_px) / PATCH_PX**2


def test_pools_are_the_keys_of_the_configuration() -> None:
    assert [*POOLS, "draws"] == list(BalanceConfig.__dataclass_fields__)
    assert list(POOLS) == list(DrawCounts.__dataclass_fields__)


def test_a_patch_counts_from_132_px_on() -> None:
    shares = _of_px(0, 131, 132, 26_214, 26_215)
    members = pool_members(shares, shares, shares)
    assert members["tumor_free"].tolist() == [True, True, False, False, False]
    assert members["tumor"].tolist() == [False, False, True, True, True]
    assert members["tumor_dense"].tolist() == [False, False, False, False, True]
    assert members["stroma"].tolist() == members["normal"].tolist() == [False, False, True, True, True]


@given(FRACTIONS)
def test_the_first_two_partition_the_patches_and_the_third_lies_in_the_second(fractions: np.ndarray) -> None:
    members = pool_members(*fractions)
    assert (members["tumor_free"] ^ members["tumor"]).all()
    assert not (members["tumor_dense"] & ~members["tumor"]).any()


@given(FRACTIONS)
def test_stroma_and_normal_do_not_look_at_the_tumor(fractions: np.ndarray) -> None:
    members = pool_members(*fractions)
    without = pool_members(np.zeros(7), *fractions[1:])
    assert np.array_equal(members["stroma"], without["stroma"])
    assert np.array_equal(members["normal"], without["normal"])


def test_totals_count_patches_and_sum_their_tumor() -> None:
    tumornest, none = np.array([0.0, 0.0004, 0.05, 0.5]), np.zeros(4)
    totals = pool_totals(pool_members(tumornest, np.array([0, 1, 1, 0]), none), tumornest)
    assert totals.num_patches == {"tumor_free": 2, "tumor": 2, "tumor_dense": 1, "stroma": 2, "normal": 0}
    expected = {"tumor_free": 0.0004, "tumor": 0.55, "tumor_dense": 0.5, "stroma": 0.0504, "normal": 0.0}
    assert totals.tumornest_sum == pytest.approx(expected)
    assert totals.num_distinct == 4
    assert totals.distinct_tumornest_sum == pytest.approx(tumornest.sum())


@given(FRACTIONS, st.integers(0, 7))
def test_totals_of_disjoint_patches_add_up(fractions: np.ndarray, cut: int) -> None:
    members = pool_members(*fractions)
    halves = [slice(0, cut), slice(cut, None)]
    parts = [
        pool_totals({pool: members[pool][half] for pool in POOLS}, fractions[0][half]) for half in (*halves, slice(0))
    ]
    total = sum(parts, start=NO_PATCHES)
    whole = pool_totals(members, fractions[0])
    assert total.num_patches == whole.num_patches
    assert total.tumornest_sum == pytest.approx(whole.tumornest_sum)
