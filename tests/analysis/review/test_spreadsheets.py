"""What people typed is text in every spreadsheet, and the same text as long as it is harmless."""

import pytest

from analysis.review.spreadsheets import guarded

BEGINNINGS = ("=1+2", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\n\n=cmd", "\nplain", " =1", "\x00=1")
OTHER_SIGNS = ("\uff1d1+2", "\uff0b1", "\uff0d1", "\uff20SUM(A1)", "\ufe661", "\u207a1", "\u22121")
OTHER_SPACES = ("\u00a0=1", "\u3000\uff1d1", "\u200b=1", "\ufeff=1")


@pytest.mark.parametrize("text", [*BEGINNINGS, *OTHER_SIGNS, *OTHER_SPACES])
def test_what_begins_like_a_formula_has_a_sign_before_it(text: str) -> None:
    assert guarded(text).startswith("'")
    assert guarded(text).replace("'", "") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a;=1", "a;'=1"),
        ("a; \uff1d1", "a;' \uff1d1"),
        ("a\n=1", "a\n'=1"),
        ("a\t-1;b", "a\t'-1;b"),
        ("a\r\n@x", "a\r\n'@x"),
    ],
)
def test_a_formula_further_on_is_text_too_where_cells_end_otherwise(text: str, expected: str) -> None:
    assert guarded(text) == expected


HARMLESS = ("", " ", "plain", "a = b", "2-3 nests", "\u00fcber 5 %", "a, b; c", "one\ntwo", "e-mail@x", ";")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert guarded(text) == text
