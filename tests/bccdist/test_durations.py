"""Durations are read at a glance, and an end on another day has its date."""

from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bccdist.durations import as_duration, as_end


@pytest.mark.parametrize(("seconds", "text"), [(60, "12:01"), (86_400, "2026-03-02 12:00")])
def test_an_end_on_another_day_has_its_date(seconds: float, text: str) -> None:
    assert as_end(seconds, datetime(2026, 3, 1, 12, tzinfo=UTC)) == text


class Duration(NamedTuple):
    seconds: float
    text: str


@pytest.mark.parametrize(
    "case",
    [
        Duration(0, "0 s"),
        Duration(59.4, "59 s"),
        Duration(59.6, "1 min"),
        Duration(3569, "59 min"),
        Duration(3571, "1 h 0 min"),
        Duration(7980, "2 h 13 min"),
        Duration(86_399, "1 d 0 h"),
        Duration(273_600, "3 d 4 h"),
    ],
)
def test_durations_are_read_at_a_glance(case: Duration) -> None:
    assert as_duration(case.seconds) == case.text


@given(st.floats(0, 1e7))
def test_a_duration_is_right_to_its_smaller_unit(seconds: float) -> None:
    in_s = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
    words = as_duration(seconds).split()
    units = words[1::2]
    total_s = sum(int(number) * in_s[unit] for number, unit in zip(words[::2], units, strict=True))
    assert abs(total_s - seconds) <= in_s[units[-1]] / 2 + 1e-6
