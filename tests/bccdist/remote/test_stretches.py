"""Sets of bytes: what is there and what is missing make up the whole, however it came in."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from bccdist.remote.stretches import Stretches, cut, merged

STRETCH = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def bytes_of(stretches: object) -> set[int]:
    return {each for start, end in stretches for each in range(start, end)}  # type: ignore[attr-defined]


@given(st.lists(STRETCH), STRETCH)
def test_missing_is_what_was_never_added(added: list[tuple[int, int]], wanted: tuple[int, int]) -> None:
    there = Stretches(added)
    assert bytes_of(there) == bytes_of(added)
    assert there.num_bytes == len(bytes_of(added))
    assert bytes_of(there.missing(*wanted)) == bytes_of([wanted]) - bytes_of(added)
    assert there.overlaps(*wanted) == bool(bytes_of([wanted]) & bytes_of(added))


@given(st.lists(STRETCH), st.integers(0, 5))
def test_merged_stretches_hold_all_and_lie_farther_apart_than_the_gap(wanted: list[tuple[int, int]], gap: int) -> None:
    together = merged(wanted, gap=gap)
    assert bytes_of(wanted) <= bytes_of(together)
    assert all(later[0] - earlier[1] > gap for earlier, later in itertools.pairwise(together))


@given(st.lists(STRETCH), st.integers(1, 5))
def test_cut_stretches_are_the_same_bytes_in_pieces(wanted: list[tuple[int, int]], most: int) -> None:
    pieces = list(cut(wanted, most=most))
    assert bytes_of(pieces) == bytes_of(wanted)
    assert all(end - start <= most for start, end in pieces)
