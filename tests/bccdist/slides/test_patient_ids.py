"""Patient ids that differ only in what spreadsheets and hands do to them are named in pairs, and no others."""

from itertools import combinations

import pytest

from bccdist.parts import Part
from bccdist.slides.patient_ids import alike_warnings

SAME = [
    ("12", "012", "0012", "12.0", "12,0", "12.00", "'12", " 12", "1\uff12"),
    ("P-012", "p-012", "P012", "P_012", "P 012", "p12", "P\u2013012", "P\u00a012"),
    ("2021-123", "2021123", "2021_123"),
    ("1.2E+05", "120000"),
    ("1,2e+05", "0120000", "120000.0"),
    ("1.23457E+11", "123456789012"),
    ("2E+10", "20000000000"),
    ("Müller-7", "MÜLLER 7", "müller_07"),
]
OTHER = [
    "12",
    "13",
    "120",
    "1200",
    "P12",
    "Q12",
    "1-13",
    "11-3",
    "12.5",
    "P-12-A",
    "P-12-B",
    "0",
    "12a",
    "A1",
    "A10",
    "1.2E+05",
    "130000",
    "1E5",
    "100000",
    "P1E+05",
]


@pytest.mark.parametrize(("one", "other"), [pair for names in SAME for pair in combinations(names, 2)], ids=repr)
def test_ids_that_are_one_but_for_their_writing_are_a_pair(one: str, other: str) -> None:
    (warning,) = alike_warnings({one: [(Part.TEST, "a")], other: [(Part.TRAINING, "b")]})
    assert repr(one) in warning
    assert repr(other) in warning


def test_ids_of_different_patients_are_no_pair() -> None:
    assert alike_warnings({name: [(Part.TEST, "a")] for name in OTHER}) == []


def test_numbered_ids_of_one_style_are_no_pairs() -> None:
    for style in ("{}", "{:04d}", "P{}", "P-{:03d}", "2021-{}", "B21.{}"):
        assert alike_warnings({style.format(number): [(Part.TEST, "a")] for number in range(600)}) == []


def test_site_and_number_are_no_pairs() -> None:
    ids = {f"{site}-{number}": [(Part.TEST, "a")] for site in range(1, 15) for number in range(1, 120)}
    assert alike_warnings(ids) == []


def test_of_many_slides_only_some_are_listed() -> None:
    (warning,) = alike_warnings({"1": [(Part.TEST, f"s{number}") for number in range(9)], "01": [(Part.TEST, "t")]})
    assert "(Test: s0, Test: s1, Test: s2, 6 more)" in warning
    assert not warning.endswith("part")
