"""One person under two names is asked about."""

from pathlib import Path

import pytest
from review_study import given, say

from analysis.review.reviewers import alike, refuse_alike
from bccdist.errors import ConfigurationError
from bccdist.paths import StudyPaths


@pytest.mark.parametrize("name", ["dr. a", "Dr A", "DR.A.", "Dr. Á", "d-r a"])
def test_names_that_differ_by_case_accents_dots_or_blanks_are_alike(name: str) -> None:
    assert alike(name, ["Dr. A", "Dr. B", name]) == ["Dr. A"]


@pytest.mark.parametrize("name", ["Dr. B", "Dr. AA", "A", "Dr. A2"])
def test_names_of_other_letters_are_not(name: str) -> None:
    assert alike(name, ["Dr. A"]) == []


def test_a_new_name_that_is_nearly_one_of_those_there_is_asked_about(tmp_path: Path) -> None:
    paths = StudyPaths(tmp_path)
    say(paths, "Dr. A", given())
    refuse_alike(paths, "Dr. A")
    refuse_alike(paths, "Dr. B")
    with pytest.raises(ConfigurationError, match=r"there is 'Dr. A'.*give --reviewer \"Dr. A\".*--new-reviewer"):
        refuse_alike(paths, "dr a")
    with pytest.raises(ConfigurationError, match=r"there is 'Prof. Č'"):
        refuse_alike(paths, "prof C", known=["Prof. Č"])
    # Who has a journal was asked before.
    say(paths, "dr a", given())
    refuse_alike(paths, "dr a")
