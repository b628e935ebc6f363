"""Patient ids that are one but for what spreadsheets and hands do to them: `0012`, `12.0`, `P-012`, `1.2E+01`."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import combinations

from bccdist.parts import Part

_WHOLE_AS_DECIMAL = re.compile(r"([0-9]+)[.,]0*")
_SHORTENED = re.compile(r"(?P<digits>[1-9]([.,][0-9]+)?)E\+(?P<power>[0-9]{1,2})", re.IGNORECASE)
"""How spreadsheets write large numbers: 123456789012 becomes 1.23457E+11."""
_WHOLE = re.compile(r"0*(?P<number>[0-9]+)([.,]0*)?")
_SIGNS = re.compile(r"[\s_'\u2018\u2019\u00b4`\u2010-\u2015\u2212-]+")
"""Blanks, hyphens of all kinds, underscores, and the apostrophe that keeps a number a text."""
_NOT_BETWEEN_DIGITS = re.compile(r"(?<![0-9])-|-(?![0-9])")
_LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")


def alike_warnings(uses: Mapping[str, Sequence[tuple[Part, str]]]) -> list[str]:
    """A sentence for each two patient ids that are equal but for zeros, `.0`, case, hyphens, underscores or blanks.

    Args:
        uses: the parts and slide_ids in which each patient occurs, by patient_id as it is written.
    """
    return [
        f"patient ids {one!r} ({_places(uses[one])}) and {other!r} ({_places(uses[other])}) are equal but for zeros, "
        f"'.0', case, hyphens, blanks or a spreadsheet's form of a number: if they are one patient, write one id"
        f"{_split(uses[one], uses[other])}"
        for one, other in _pairs(uses)
    ]


def likely_patients(ids: Iterable[str]) -> dict[str, str]:
    """For each id the first of those that are likely the same patient's, so that no two parts get one patient."""
    first = {each: each for each in sorted(set(ids))}
    for one, other in _pairs(first):
        kept, gone = sorted((first[one], first[other]))
        first = {each: kept if patient == gone else patient for each, patient in first.items()}
    return first


def _pairs(ids: Iterable[str]) -> list[tuple[str, str]]:
    each = sorted(ids)
    return [*_alike(each), *_shortened(each)]


def _alike(ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    by_letters: defaultdict[str, list[str]] = defaultdict(list)
    for each in ids:
        by_letters[_plain(each).replace("-", "")].append(each)
    for letters, group in by_letters.items():
        for one, other in combinations(group, 2):
            plain = {_plain(one), _plain(other)}
            # 1-12 and 11-2 have their hyphens at different places: two numbers, told apart by them.
            if letters and (len(plain) == 1 or not all("-" in each for each in plain)):
                yield one, other


def _shortened(ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each id in a spreadsheet's form of large numbers with those that it may have been before."""
    forms = {each: found for each in ids if (found := _SHORTENED.fullmatch(each.strip()))}
    wholes = {each: int(found["number"]) for each in ids if (found := _WHOLE.fullmatch(each.strip()))} if forms else {}
    for short, form in forms.items():
        digits, power = form["digits"].replace(",", "."), int(form["power"])
        num_decimals = len(digits.partition(".")[2])
        for other, number in wholes.items():
            if f"{Decimal(number):.{num_decimals}E}" == f"{digits}E+{power}":
                yield short, other


def _plain(patient_id: str) -> str:
    """An id without case, leading zeros and signs, but for a hyphen between digits."""
    text = unicodedata.normalize("NFKC", patient_id).casefold().strip()
    text = _WHOLE_AS_DECIMAL.sub(r"\1", text) if _WHOLE_AS_DECIMAL.fullmatch(text) else text
    return _LEADING_ZEROS.sub("", _NOT_BETWEEN_DIGITS.sub("", _SIGNS.sub("-", text)))


def _places(uses: Sequence[tuple[Part, str]]) -> str:
    slides = sorted({f"{part.value}: {slide_id}" for part, slide_id in uses})
    return ", ".join([*slides[:3], *([f"{len(slides) - 3} more"] if len(slides) > 3 else [])])


def _split(one: Sequence[tuple[Part, str]], other: Sequence[tuple[Part, str]]) -> str:
    parts = {part for part, _ in (*one, *other)}
    return " and keep the patient in one part" if len(parts) > 1 else ""
