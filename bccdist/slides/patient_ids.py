"""Patient ids that are one but for what spreadsheets and hands do to them: `0012`, `12.0`, `P-012`, `p 12`."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from bccdist.parts import Part

_WHOLE_AS_DECIMAL = re.compile(r"([0-9]+)[.,]0*")
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
        f"'.0', case, hyphens or blanks: if they are one patient, write one id{_split(uses[one], uses[other])}"
        for one, other in _alike(sorted(uses))
    ]


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
