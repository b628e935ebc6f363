"""Who reviews: names that one person may have typed in two ways.

A second journal of the same person would count as a second reader: an agreement of somebody with themself.
"""

import unicodedata
from collections.abc import Iterable

from analysis.review.answers import read_journals
from bccdist.errors import ConfigurationError
from bccdist.paths import StudyPaths


def plain_name(name: str) -> str:
    """A name without case, accents, dots, blanks and other signs."""
    apart = unicodedata.normalize("NFKD", name).casefold()
    return "".join(character for character in apart if character.isalnum())


def alike(name: str, others: Iterable[str]) -> list[str]:
    """The others that differ from a name by case, accents, dots, blanks or signs alone; the name itself is none."""
    return sorted({other for other in others if other != name and plain_name(other) == plain_name(name)})


def refuse_alike(paths: StudyPaths, reviewer: str, known: Iterable[str] = ()) -> None:
    """Ask about a new reviewer whose name is nearly one that is there.

    Args:
        paths: the study's.
        reviewer: the name that was given.
        known: further names, such as the readers of the plan.

    Raises:
        ConfigurationError: nobody has this name, but somebody has nearly the same.
        EventLogError: a journal is damaged.
    """
    there = {said.reviewer for said in read_journals(paths)} | set(known)
    similar = alike(reviewer, there)
    if reviewer in there or not similar:
        return
    raise ConfigurationError(
        f"nobody has reviewed this study as {reviewer!r} yet, but there is {' and '.join(map(repr, similar))}: these "
        f'names differ by case, dots or signs alone. If it is the same person, give --reviewer "{similar[0]}"; if it '
        "is another one, add --new-reviewer"
    )
