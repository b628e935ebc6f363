"""What stands after each step, and which slides are open by then."""

import random

import pytest
from review_study import given

from analysis.review.answers import Said, Step, Withdrawal
from analysis.review.standing import Opened, Standing

AT = "2026-01-01T00:00:00.000+00:00"
A, B, BESIDE, ELSEWHERE = "slide/a", "slide/b", "slide/c", "other/a"


def taken_back(*entries: str, entry: str, is_undo: bool = False) -> Withdrawal:
    return Withdrawal(at=AT, withdrawn=entries, entry=entry, is_undo=is_undo)


@pytest.mark.parametrize("seed", range(30))
def test_step_by_step_the_same_stands_as_when_all_are_read_again(seed: int) -> None:
    """Answers, withdrawals of several of them, undone withdrawals, and the same taken back twice, in any order."""
    chosen = random.Random(seed)
    said, standing, entries = Said(reviewer="anna"), Standing(), ["never given"]
    for number in range(60):
        step: Step = given(f"slide/{chosen.randrange(4)}", chosen.choice(["Tumor", "unsure"]), entry=f"{number}")
        if chosen.random() < 0.5:
            some = chosen.sample(entries, min(len(entries), chosen.randint(1, 3)))
            step = taken_back(*some, entry=f"{number}", is_undo=chosen.random() < 0.5)
        said.steps.append(step)
        standing.take(step)
        entries.append(step.entry)
        assert standing.latest == said.latest


def test_a_slide_opens_once_all_its_blind_sections_are_called_tumor_or_normal() -> None:
    opened = Opened({"slide": [A, B], "other": []})
    assert opened.closed == {"slide"}
    for key, answer, num_left in ((BESIDE, "Tumor", 2), (A, "Tumor", 1), (B, "unsure", 1), (ELSEWHERE, "Normal", 1)):
        opened.take(given(key, answer))
        assert (opened.closed, opened.num_left("slide")) == ({"slide"}, num_left)
    opened.take(given(B, "Normal"))
    assert (opened.closed, opened.num_left("slide")) == (set(), 0)


def test_an_answer_that_was_taken_back_opens_nothing_and_what_is_open_stays_so() -> None:
    opened = Opened({"slide": [A, B]})
    opened.take(given(A, "Tumor", entry="slip"))
    opened.take(taken_back("slip", entry="undo", is_undo=True))
    opened.take(given(B, "Tumor", entry="b"))
    assert opened.num_left("slide") == 1
    opened.take(given(A, "Normal", entry="a"))
    opened.take(taken_back("a", "b", entry="withdrawn"))
    assert not opened.closed


def test_a_withdrawal_that_is_undone_can_open_a_slide() -> None:
    opened = Opened({"slide": [A, B]})
    opened.take(given(A, "Tumor", entry="a"))
    opened.take(taken_back("a", entry="withdrawn"))
    opened.take(given(B, "Tumor"))
    assert opened.closed == {"slide"}
    opened.take(taken_back("withdrawn", entry="undo", is_undo=True))
    assert not opened.closed


def test_a_blind_section_that_comes_up_later_closes_its_slide_unless_that_was_known() -> None:
    opened = Opened({"slide": [A]})
    opened.take(given(A, "Tumor"))
    opened.take(given("third/a", "Tumor"))
    opened.add({"slide": [A, B], "other": [ELSEWHERE], "third": ["third/a"]})
    assert opened.closed == {"other"}
