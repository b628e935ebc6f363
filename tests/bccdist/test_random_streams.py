"""Each purpose draws from a stream of its own, and each place of a purpose from its own part of it."""

import numpy as np
import pytest

from bccdist.random_streams import Purpose, random_stream


def _numbers(purpose: Purpose, **place: int | str) -> tuple[int, ...]:
    return tuple(random_stream(purpose, **place).integers(1 << 62, size=2).tolist())


def test_no_two_purposes_and_places_share_numbers() -> None:
    places = [{"seed": s, "epoch": e, "position": p} for s in (0, 1, 2, 1 << 32) for e in range(4) for p in range(6)]
    shorter = [{"seed": s, "epoch": e} for s in (0, 1, 2, 1 << 32) for e in range(4)]
    names = [(purpose, place) for purpose in Purpose for place in (*places, *shorter)]
    assert len({_numbers(purpose, **place) for purpose, place in names}) == len(names)


def test_a_stream_is_named_by_what_is_said_and_not_by_its_order() -> None:
    one, other = (_numbers(Purpose.AUGMENTATION, **place) for place in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert one == other
    assert one != _numbers(Purpose.AUGMENTATION, a=2, b=1)


# What a run of this version draws, its successors must draw too, or else raise STREAMS_VERSION.
GOLDEN = {
    Purpose.POOL_DRAWS: {"seed": 0, "epoch": 1, "pool": "tumor"},
    Purpose.EPOCH_ORDER: {"seed": 0, "epoch": 1},
    Purpose.AUGMENTATION: {"seed": 0, "epoch": 1, "position": 0},
}


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [(Purpose.POOL_DRAWS, 835671), (Purpose.EPOCH_ORDER, 505161), (Purpose.AUGMENTATION, 331683)],
)
def test_streams_of_this_version_stay(purpose: Purpose, expected: int) -> None:
    assert random_stream(purpose, **GOLDEN[purpose]).integers(1_000_000) == expected


def test_numbers_are_spread_evenly() -> None:
    drawn = np.array([random_stream(Purpose.AUGMENTATION, seed=0, epoch=1, position=p).random() for p in range(2000)])
    assert abs(drawn.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.08
