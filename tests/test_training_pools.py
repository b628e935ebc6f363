"""The pools of Table 2 by the share of a patch under each kind of annotation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from bccdist.configuration import PATCH_PX, BalanceConfig
from bccdist.training.pools import POOLS, pool_members

FRACTIONS = st_numpy.arrays(np.float64, (3, 7), elements=st.floats(0, 1))


def _of_px(*num_px: int) -> np.ndarray:
    return np.array(num_px) / PATCH_PX**2


def test_pools_are_the_keys_of_the_configuration() -> None:
    assert list(BalanceConfig.__dataclass_fields__) == list(POOLS)


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
