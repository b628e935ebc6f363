"""Groups hold what is joined, directly or by others, and nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bccdist.sections.grouping import Grouping

_NUM_THINGS = 12
_PAIRS = st.lists(st.tuples(st.integers(0, _NUM_THINGS - 1), st.integers(0, _NUM_THINGS - 1)), max_size=20)


def _sets_of(pairs: list[tuple[int, int]]) -> list[set[int]]:
    """The groups, one pair at a time."""
    sets = [{thing} for thing in range(_NUM_THINGS)]
    for one, other in pairs:
        joined = [group for group in sets if group & {one, other}]
        sets = [group for group in sets if not group & {one, other}] + [set().union(*joined)]
    return sets


@given(st.lists(_PAIRS, max_size=4))
def test_groups_are_those_of_joining_one_pair_at_a_time(batches: list[list[tuple[int, int]]]) -> None:
    grouping = Grouping(_NUM_THINGS)
    everything = np.arange(_NUM_THINGS, dtype=np.int32)
    for batch in batches:
        before = set(grouping.roots(everything).tolist())
        one, other = np.array(batch, dtype=np.int32).reshape(-1, 2).T
        former = grouping.join(one, other)
        assert set(former.tolist()) == before - set(grouping.roots(everything).tolist())
        assert len(set(former.tolist())) == len(former)
    roots = grouping.roots(everything)
    expected = _sets_of([pair for batch in batches for pair in batch])
    assert {frozenset(np.flatnonzero(roots == root).tolist()) for root in roots} == set(map(frozenset, expected))


def test_a_long_chain_is_one_group() -> None:
    grouping = Grouping(200_000)
    things = np.arange(200_000, dtype=np.int32)
    grouping.join(things[1:], things[:-1])
    assert not grouping.roots(things).any()
