"""A measuring job says in words how far it is, once a minute and not more, and how long the rest takes."""

import pytest

from bccdist.speedups import telling
from bccdist.speedups.telling import PassTold, text_of_fields, text_of_paces, text_of_rest


def test_a_pass_tells_once_a_minute_what_is_done_and_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(telling, "perf_counter", lambda: now_s[0])
    told = PassTold("slide 1/3 a, tiling paper, 9 ways at once")
    for second, share in ((1, 0.0), (59, 0.1), (100, 0.25), (120, 0.3), (161, 0.0), (200, 0.5), (400, 1.0)):
        now_s[0] = second
        told(share)
    assert [record.message for record in caplog.records] == [
        "slide 1/3 a, tiling paper, 9 ways at once: 25% done, about 5 min left of it",
        "slide 1/3 a, tiling paper, 9 ways at once: 50% done, about 3 min left of it",
        "slide 1/3 a, tiling paper, 9 ways at once: 100% done, about 0 s left of it",
    ]


@pytest.mark.parametrize(
    ("took_s", "num_left", "expected"),
    [
        ([10.0], 0, ""),
        ([10.0, 20.0], 4, "; about 1 min for the 4 left"),
        ([3600.0], 30, "; about 1 d 6 h for the 30 left"),
    ],
)
def test_the_rest_takes_what_those_before_took(took_s: list[float], num_left: int, expected: str) -> None:
    assert text_of_rest(took_s, num_left) == expected


def test_ways_are_told_from_the_slowest_on() -> None:
    assert text_of_paces({"paper int8": 3.2, "paper eager": 130.0}) == "paper eager 2 min, paper int8 3 s"


def test_fields_are_told_in_words() -> None:
    fields = {"psi_0": {"99": 206, "99.9": 236}, "psi_4": {"99": 3, "99.9": 24}}
    assert text_of_fields(fields) == "psi_0 236 px, psi_4 24 px"
