"""Runs a stage over slides: whatever happens to one of them, the others go on, and it is written down why.

A slide that is begun has a failure file, which tells that it is at work, or that its whole job was killed. Once it is
done the file is gone, and once it has failed the file says why.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from logging import ERROR, INFO
from pathlib import Path

from bccdist.errors import StageFailedError
from bccdist.failures import is_begun, write_begun, write_failure
from bccdist.log import LOG
from bccdist.paths import StudyPaths
from bccdist.processes import Failure, num_cores, run_each
from bccdist.usage import SlideTime, note_slide


@dataclass(frozen=True)
class SlideDone:
    """What was done for a slide from its file on: neither found done, nor made from what was there."""

    text: str
    """What, for the log."""
    read_s: float = 0.0
    """Time that went into reading, which does not grow with the epochs; 0 where it is not told."""
    num_epochs: int = 1
    seconds: float = 0.0
    """Time that it took, which the runner measures."""


SlideWork = Callable[[str], str | SlideDone]
"""From a slide_id to what was done; a text alone where there was little or nothing to do."""


def run_stage(
    stage: str,
    setup: Callable[[], SlideWork],
    slide_ids: Sequence[str],
    paths: StudyPaths,
    *,
    slides_csv: Path,
    num_workers: int | None = None,
) -> None:
    """Do a stage's work on some slides, and tell a line for each.

    Args:
        stage: the name under which its failures are kept.
        setup: called once in each worker; what it returns takes a slide_id, does the work, and says what was done.
        slide_ids: which slides.
        paths: of the study.
        slides_csv: the file that names the slides, and where they are taken out.
        num_workers: see `run_each`.

    Raises:
        StageFailedError: some slides failed; it names them and says why.
        Exception: whatever `setup` raised; then nothing is done.
    """
    row = partial(paths.failure, stage)
    # What a whole job was killed on before comes last, so that all others are done by then.
    ordered = sorted(slide_ids, key=lambda slide_id: is_begun(row(slide_id)))
    num_at_once = max(1, min(num_cores() if num_workers is None else num_workers, len(ordered)))
    failures: dict[str, str] = {}
    with closing(run_each(partial(_noting, stage, setup, row), ordered, num_workers=num_workers)) as outcomes:
        for number, (slide_id, outcome) in enumerate(outcomes, start=1):
            _keep_failure(row(slide_id), stage, slide_id, outcome)
            text = outcome
            if isinstance(outcome, SlideDone):
                text = outcome.text
                note_slide(paths, _time_of(slide_id, outcome, num_at_once))
            if isinstance(outcome, Failure):
                failures[slide_id] = outcome.reason
                text = f"FAILED: {outcome.reason}"
            level = ERROR if isinstance(outcome, Failure) else INFO
            LOG.log(level, f"slide {number}/{len(ordered)} {slide_id}: {text}")
    if failures:
        listed = "\n".join(f"  - {slide_id}: {failures[slide_id]}" for slide_id in slide_ids if slide_id in failures)
        num_done = len(ordered) - len(failures)
        others = f"The other {num_done} are done." if num_done else "None is done."
        raise StageFailedError(
            f"{stage}: {len(failures)} of {len(ordered)} slide(s) failed:\n{listed}\n{others} "
            f"{advice_on_slides(slides_csv, is_cohort=paths.model.exists())}"
        )


def advice_on_slides(slides_csv: Path, *, is_cohort: bool) -> str:
    """What to do about slides that fail, with the file that is read."""
    # A cohort keeps a table of its own, to which a table that is given again adds what it names.
    too = ", and out of a table that --slides gives" if is_cohort else ""
    return (
        f"Mend these, set in {slides_csv} what their files lack (mpp), or take their rows out of it{too}; then launch "
        "again."
    )


def _noting(stage: str, setup: Callable[[], SlideWork], row: Callable[[str], Path]) -> SlideWork:
    """The work of a worker, which notes each slide that it begins; the note names the worker's process."""
    work = setup()

    def begin(slide_id: str) -> str | SlideDone:
        # On a full disk the work itself says so, unless the slide was done before.
        with suppress(OSError):
            write_begun(row(slide_id), stage=stage, slide_id=slide_id)
        started_s = time.perf_counter()
        done = work(slide_id)
        return replace(done, seconds=time.perf_counter() - started_s) if isinstance(done, SlideDone) else done

    return begin


def _time_of(slide_id: str, done: SlideDone, num_at_once: int) -> SlideTime:
    return SlideTime(
        slide_id=slide_id,
        seconds=round(done.seconds, 3),
        read_s=round(done.read_s, 3),
        num_epochs=done.num_epochs,
        num_at_once=num_at_once,
    )


def _keep_failure(path: Path, stage: str, slide_id: str, outcome: str | SlideDone | Failure) -> None:
    """Write why a slide failed, or remove what was noted; on a full disk the reason stands in the log alone."""
    try:
        if isinstance(outcome, Failure):
            write_failure(path, stage=stage, slide_id=slide_id, reason=outcome.reason, error=outcome.error)
        elif path.exists():  # where nothing can be written there is none to remove
            path.unlink(missing_ok=True)
    except OSError as full:
        LOG.error(f"slide {slide_id}: why it failed could not be written to {path}: {full}")
