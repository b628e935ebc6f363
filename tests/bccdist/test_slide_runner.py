"""A slide that fails or kills its process leaves a file that says why; the others are done, and the stage fails."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from killing import killed_at

from bccdist.errors import SlideError, StageFailedError
from bccdist.failures import is_begun, read_reason, write_begun
from bccdist.files import read_json
from bccdist.paths import StudyPaths
from bccdist.slide_runner import SlideDone, run_stage
from bccdist.usage import measured, read_starts

STAGE, SLIDES_CSV = "any", Path("data/slides.csv")


def open_worker(root: Path) -> Callable[[str], str]:
    """Says of each slide whether it is noted as begun by this process; a slide called bad cannot be read."""

    def work(slide_id: str) -> str:
        if slide_id == "bad":
            raise SlideError("bad.tif: tile 7 is damaged")
        row = StudyPaths(root).failure(STAGE, slide_id)
        return f"begun {is_begun(row)} here {read_json(row)['process'] == os.getpid()}"

    return work


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_slide_is_noted_while_it_is_at_work_and_not_once_it_is_done(
    tmp_path: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    paths = StudyPaths(tmp_path)
    run_stage(STAGE, partial(open_worker, tmp_path), ["a", "b"], paths, slides_csv=SLIDES_CSV, num_workers=num_workers)
    said = ["slide 1/2 a: begun True here True", "slide 2/2 b: begun True here True"]
    assert caplog.messages == said
    assert list(paths.failures.rglob("*.json")) == []


def test_a_bad_slide_and_one_that_kills_its_process_cost_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = StudyPaths(tmp_path)
    setup = partial(killed_at, "poison", f"{__name__}:open_worker", tmp_path)
    with pytest.raises(
        StageFailedError, match=r"any: 2 of 4 slide\(s\) failed:\n  - bad: .*\n  - poison: .*SIGKILL"
    ) as raised:
        run_stage(STAGE, setup, ["bad", "a", "poison", "b"], paths, slides_csv=SLIDES_CSV, num_workers=1)
    assert "The other 2 are done. Mend these, set in data/slides.csv what" in str(raised.value)
    said = caplog.messages
    assert said[0] == "slide 1/4 bad: FAILED: bad.tif: tile 7 is damaged"
    assert [line.split()[2] for line in said if "begun True" in line] == ["a:", "b:"]
    assert sorted(path.stem for path in paths.failures.rglob("*.json")) == ["bad", "poison"]
    assert "tile 7" in str(read_reason(paths.failure(STAGE, "bad")))
    facts = read_json(paths.failure(STAGE, "poison"))
    assert facts["error"] == "Killed"
    assert facts["reason"].startswith("its process was ended by SIGKILL")
    run_stage(STAGE, partial(open_worker, tmp_path), ["poison"], paths, slides_csv=SLIDES_CSV, num_workers=0)
    assert not paths.failure(STAGE, "poison").exists()


def test_where_no_slide_is_done_none_is_said_to_be(tmp_path: Path) -> None:
    paths, table = StudyPaths(tmp_path), tmp_path / "slides.csv"
    paths.model.touch()
    with pytest.raises(StageFailedError, match=r"any: 1 of 1 slide\(s\) failed") as raised:
        run_stage(STAGE, partial(open_worker, tmp_path), ["bad"], paths, slides_csv=table, num_workers=0)
    assert "\nNone is done. Mend these" in str(raised.value)
    assert "take their rows out of it, and out of a table that --slides gives; then launch again" in str(raised.value)
    assert str(table) in str(raised.value)


def test_what_a_whole_job_was_killed_on_comes_last(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = StudyPaths(tmp_path)
    write_begun(paths.failure(STAGE, "a"), stage=STAGE, slide_id="a")
    run_stage(STAGE, partial(open_worker, tmp_path), ["a", "b", "c"], paths, slides_csv=SLIDES_CSV, num_workers=0)
    assert [line.split()[2] for line in caplog.messages] == ["b:", "c:", "a:"]


def open_timed_worker() -> Callable[[str], str | SlideDone]:
    """Says that it found "a" done before, and that it did the others for three epochs."""
    return lambda slide_id: "done before" if slide_id == "a" else SlideDone("made", read_s=0.5, num_epochs=3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_slides_took_is_recorded_where_they_were_done_from_their_file_on(
    tmp_path: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    paths = StudyPaths(tmp_path)
    with measured({"kind": STAGE}, tmp_path):
        run_stage(STAGE, open_timed_worker, ["a", "b", "c"], paths, slides_csv=SLIDES_CSV, num_workers=num_workers)
    (start,) = read_starts(paths)
    slides = {slide.slide_id: slide for slide in start.slides}
    assert set(slides) == {"b", "c"}
    assert (slides["b"].read_s, slides["b"].num_epochs, slides["b"].num_at_once) == (0.5, 3, max(1, num_workers))
    assert 0 <= slides["b"].seconds < 5
    assert {line.split(maxsplit=2)[2] for line in caplog.messages if line.startswith("slide ")} == {
        "a: done before",
        "b: made",
        "c: made",
    }
