"""A line tells how far a prediction is, where somebody looks on; a log gets a line for each slide that is done."""

import sys
from dataclasses import replace

import pytest

from bccdist.library.progress import Progress, ProgressLine

HALF = Progress(slide_id="slide-7", share=0.5, elapsed_s=30.0)
DONE = Progress(slide_id="slide-7", share=1.0, elapsed_s=61.0, result="2 sections: 2 Normal")


def test_a_log_gets_one_line_for_a_slide(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine()
    line(HALF)
    line(DONE)
    line.clear()
    assert capsys.readouterr().err == "slide-7: 2 sections: 2 Normal, 1 min\n"


def test_where_somebody_looks_on_the_line_is_written_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = ProgressLine()
    line(Progress(slide_id="slide-7", share=0.0, elapsed_s=0.0))
    line(HALF)
    first = "slide-7:   0%, 0 s"
    assert capsys.readouterr().err == first, "a second text came too soon to be read"
    line(DONE)
    assert capsys.readouterr().err == f"\r{' ' * len(first)}\rslide-7: 2 sections: 2 Normal, 1 min\n"
    line.clear()
    assert capsys.readouterr().err == ""


def test_how_much_is_left_is_what_the_same_pace_takes() -> None:
    assert str(HALF) == "slide-7:  50%, 30 s, about 30 s left"
    assert "left" not in str(Progress(slide_id="slide-7", share=0.0, elapsed_s=3.0))


def test_a_line_that_came_to_no_end_is_taken_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = ProgressLine()
    line(HALF)
    line.clear()
    assert capsys.readouterr().err.endswith(f"\r{' ' * len(str(HALF))}\r")


def test_of_several_slides_it_says_which_it_is() -> None:
    assert str(replace(HALF, number=3, num_slides=12)).startswith("3/12 slide-7:  50%")
