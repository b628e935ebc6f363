"""How far each stage of a study is, read from its folder alone: no job, no scheduler and no network is asked.

Folders are listed, files are not looked at one by one, so that a study of 100,000 slides is read in seconds, also on
a shared file system. A file with its final name is whole (bccdist/files.py), so a name is enough to call a slide done;
whether it was made from what the manifest says today is checked by the job that would make it again.
"""

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bccdist.configuration import TrainConfig
from bccdist.errors import ConfigurationError, LedgerError
from bccdist.failures import BEGUN
from bccdist.files import read_json
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.origins import faults_in
from bccdist.slides.manifest import Manifest
from bccdist.stages.epochs import resolve_epochs
from bccdist.stages.folders import FileOf, folders_in, whole_ids
from bccdist.stages.outdated import (
    MADE_OF_ALL,
    Result,
    certified_so_far,
    chosen_epochs,
    made_files,
    settings_outdated,
    told_moved_boxes,
    why_choices_are_outdated,
    why_made_is_outdated,
    why_schema_is_outdated,
)
from bccdist.stages.stage import ProgressReader, Stage, StageProgress
from bccdist.stages.training_pace import read_run

_MOST_TIMES = 1000
"""Files whose time is looked up for a pace; of more, so many are drawn at random."""


def progress_by_slide(file_of: Callable[[StudyPaths, str], Path]) -> ProgressReader:
    """Progress of a stage that writes a file for each slide of its parts, by its slide_id: then the slide is done."""

    def read(stage: Stage, paths: StudyPaths, manifest: Manifest, since_s: float | None) -> StageProgress:
        return _slides_progress(
            [slide.slide_id for slide in manifest.slides_of(stage.parts)],
            whole_ids(partial(file_of, paths)),
            failures=paths.failures / stage.failures,
            file_of=partial(file_of, paths),
            since_s=since_s,
        )

    return read


def progress_by_file(path_of: Callable[[StudyPaths], Path], *, missing: str) -> ProgressReader:
    """Progress of a stage that is done once its one file is there; `missing` says so where it is not."""

    def read(_stage: Stage, paths: StudyPaths, _manifest: Manifest, _since_s: float | None) -> StageProgress:
        is_there = path_of(paths).exists()
        return StageProgress(num_done=int(is_there), num_total=1, detail="" if is_there else missing)

    return read


def training_progress(stage: Stage, paths: StudyPaths, _manifest: Manifest, _since_s: float | None) -> StageProgress:
    """The epochs of a run, each with its validation, of as many as the run or this launch asks for.

    Raises:
        LedgerError: the run's metrics are damaged.
    """
    run = read_run(stage.run(paths))
    if run is None:
        return StageProgress(num_done=0, num_total=None, detail="not begun")
    if isinstance(stage.config, TrainConfig):
        run = replace(run, num_epochs=max(run.num_epochs, stage.config.epochs))
    return StageProgress(num_done=run.num_done, num_total=run.num_epochs, detail=run.text, eta_s=run.eta_s)


def audit_progress(stage: Stage, paths: StudyPaths, manifest: Manifest, since_s: float | None) -> StageProgress:
    """The slides that were compared with what the networks of the other folds say of them."""
    file_of = paths.audit(stage.its_setting).rows
    return _slides_progress(
        [slide.slide_id for slide in manifest.slides_of(stage.parts)],
        whole_ids(file_of),
        failures=paths.failures / stage.failures,
        file_of=file_of,
        since_s=since_s,
    )


def inference_progress(stage: Stage, paths: StudyPaths, manifest: Manifest, since_s: float | None) -> StageProgress:
    """The slides that have a heatmap and ledger rows for every epoch that is wanted.

    While the epochs are not known, because training or the selection has not run yet, no slide is done.
    """
    wanted = [slide.slide_id for slide in manifest.slides_of(stage.parts)]
    try:
        numbers = resolve_epochs(paths, stage.its_setting, stage.epochs or "best")
    except LedgerError:
        before = "training has not run yet"
        if stage.epochs == "chosen":
            is_outdated = stage.its_setting in settings_outdated(paths)
            before = "the choice is out of date, training has gone on" if is_outdated else "no epoch is chosen"
        detail = f"epochs not known yet: {before}"
        return StageProgress(num_done=0, num_total=len(wanted), detail=detail, missing=tuple(wanted))
    rows = [partial(paths.ledger_rows, stage.its_setting, number) for number in numbers]
    heatmaps = [partial(paths.heatmap, stage.its_setting, number) for number in numbers]
    done = set.intersection(*map(whole_ids, (*rows, *heatmaps))) & set(wanted)
    if reason := why_schema_is_outdated(rows[-1], done) or told_moved_boxes(paths, manifest, rows[-1], done):
        return StageProgress(
            num_done=0,
            num_total=len(wanted),
            detail=reason,
            missing=tuple(wanted),
            is_out_of_date=True,
        )
    outdated, told = (
        certified_so_far(paths, stage.its_setting, rows[-1], done) if stage.epochs == "chosen" else (set(), "")
    )
    found = _slides_progress(
        wanted,
        done - outdated,
        failures=paths.failures / stage.failures,
        file_of=rows[-1],
        since_s=since_s,
        detail="; ".join(filter(None, (_epochs_text(stage, paths, numbers), told))),
    )
    return replace(found, is_out_of_date=bool(outdated))


def _epochs_text(stage: Stage, paths: StudyPaths, numbers: Sequence[int]) -> str:
    text = f"epoch{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
    run = read_run(paths.run(stage.its_setting)) if stage.epochs == "best" else None
    goes_on = run is not None and run.num_done < run.num_epochs
    return f"{text} so far: training has not ended" if goes_on else text


def selection_progress(_stage: Stage, paths: StudyPaths, manifest: Manifest, _since_s: float | None) -> StageProgress:
    """The settings of the ledger whose epoch and thresholds are chosen.

    A choice is out of date, and so not done, once rows came into an epoch that is not the chosen one: those are of
    Validation. Rows of the chosen epoch tell nothing, they may be of Test. It is out of date, too, once training has
    gone on, or the manifest names other slides of Validation.
    """
    settings = folders_in(paths.ledger)
    if not settings:
        return StageProgress(num_done=0, num_total=None, detail="no ledger yet")
    chosen = chosen_epochs(paths)
    outdated = why_choices_are_outdated(paths, manifest)
    words = []
    for setting in settings:
        if setting not in chosen:
            words.append(f"{setting} not chosen")
        else:
            reason = f", out of date: {outdated[setting]}" if setting in outdated else ""
            words.append(f"{setting} epoch {chosen[setting]}{reason}")
    return StageProgress(
        num_done=len(chosen.keys() & set(settings) - outdated.keys()),
        num_total=len(settings),
        detail=", ".join(words),
        is_out_of_date=bool(outdated.keys() & set(settings)),
    )


def speedups_progress(stage: Stage, paths: StudyPaths, _manifest: Manifest, _since_s: float | None) -> StageProgress:
    """Whether the chosen epoch of a setting has a speed-up record for the chosen thresholds, of any machine."""
    from bccdist.sections.choices import choice_for
    from bccdist.speedups.record import read_speedups

    setting = stage.its_setting
    epoch = chosen_epochs(paths).get(setting)
    if epoch is None:
        return StageProgress(num_done=0, num_total=1, detail="no epoch is chosen")
    choice, able, reasons = choice_for(paths, setting), [], []
    for path in paths.run(setting).all_speedups(epoch):
        try:
            reason = choice and read_speedups(path, weights_digest=choice.weights_digest).thresholds.why_others(choice)
        except ConfigurationError as error:
            reason = str(error)
        machine = path.stem.removeprefix(f"epoch-{epoch:03d}-")
        able += [] if reason else [machine]
        reasons += [f"on {machine} {reason}"] if reason else []
    words = f"on {', '.join(able)}" if able else "; ".join(reasons) or "not measured"
    return StageProgress(
        num_done=int(bool(able)),
        num_total=1,
        detail=f"epoch {epoch} {words}",
        is_out_of_date=bool(reasons) and not able,
    )


def tables_progress(_stage: Stage, paths: StudyPaths, manifest: Manifest, _since_s: float | None) -> StageProgress:
    """Whether the tables are made from the newest choice, rows and manifest, and every slide with sections is drawn.

    What could not be made counts as a failure, by the name of the table or picture.
    """
    made = made_files(paths, Result.TABLES)
    if not made or not paths.selection.exists():
        return StageProgress(num_done=0, num_total=1, detail="no tables yet")
    outdated = {each: reason for each in MADE_OF_ALL if (reason := why_made_is_outdated(paths, manifest, each))}
    chosen = chosen_epochs(paths)
    drawn = {setting: whole_ids(partial(paths.overlay, setting)) for setting in chosen}
    shown = {slide.slide_id for slide in manifest.slides if slide.part is not Part.TRAINING}
    are_drawn = all(_are_drawn(paths, setting, epoch, shown - drawn[setting]) for setting, epoch in chosen.items())
    faults = {name: why for each in MADE_OF_ALL for name, why in faults_in(paths.origin(each)).items()}
    of_tables = outdated.get(Result.TABLES, "")
    others = [f"{each} out of date: {reason}" for each, reason in outdated.items() if reason != of_tables]
    words = [
        f"tables {', '.join(path.stem.removeprefix('table') for path in made)}"
        + (f" out of date: {of_tables}" if of_tables else ""),
        f"{sum(map(len, drawn.values()))} overlay pictures{'' if are_drawn else ', not all'}",
        *others,
        *([f"not made: {', '.join(faults)}"] if faults else []),
        *([] if paths.report.exists() else ["no report"]),
    ]
    return StageProgress(
        num_done=int(not outdated and not faults and are_drawn and paths.report.exists()),
        num_total=1,
        failures=faults,
        detail="; ".join(words),
        is_out_of_date=bool(outdated),
    )


def _are_drawn(paths: StudyPaths, setting: str, epoch: int, undrawn: Collection[str]) -> bool:
    """Whether none of the slides without a picture has sections in the chosen epoch."""
    from bccdist.sections.ledger import read_rows

    rows_of = partial(paths.ledger_rows, setting, epoch)
    if why_schema_is_outdated(rows_of, undrawn):
        return False
    return not any(read_rows(rows_of(slide_id)).num_rows for slide_id in whole_ids(rows_of) & set(undrawn))


def _slides_progress(
    wanted: Sequence[str],
    done: Collection[str],
    *,
    failures: Path,
    file_of: FileOf,
    since_s: float | None,
    detail: str = "",
) -> StageProgress:
    missing = tuple(slide_id for slide_id in wanted if slide_id not in done)
    reasons, at_work = _read_failures(failures, missing)
    num_done = len(wanted) - len(missing)
    times_s = _sampled_times([slide_id for slide_id in wanted if slide_id in done], file_of)
    num_left = len(missing) - len(reasons)
    return StageProgress(
        num_done=num_done,
        num_total=len(wanted),
        failures=reasons,
        at_work=tuple(slide_id for slide_id in missing if slide_id in at_work),
        detail=detail,
        eta_s=eta_of(times_s, num_done=num_done, num_left=num_left, since_s=since_s),
        missing=missing,
    )


def eta_of(times_s: Sequence[float], *, num_done: int, num_left: int, since_s: float | None) -> float | None:
    """Seconds that so many slides take at the pace of the slides that are done.

    Args:
        times_s: when they were done, in seconds since 1970; of many slides a random sample.
        num_done: of how many slides `times_s` is a sample.
        num_left: slides still to come, without those that failed.
        since_s: count those done after this time; None counts all, from the first one on.
    """
    if not num_left:
        return 0.0
    counted = [time_s for time_s in times_s if since_s is None or time_s > since_s]
    # The first slide's beginning is not known, so without a start the first slide only starts the clock.
    num = len(counted) if since_s is not None else len(counted) - 1
    if num < 1:
        return None
    first_s = min(counted) if since_s is None else since_s
    slides_per_s = num * (num_done / len(times_s)) / (max(counted) - first_s or 1e-3)
    return num_left / slides_per_s


def _sampled_times(slide_ids: Sequence[str], file_of: FileOf) -> list[float]:
    """When slides were done, in seconds since 1970."""
    some = slide_ids if len(slide_ids) <= _MOST_TIMES else random.Random(0).sample(slide_ids, _MOST_TIMES)
    times_s = []
    for slide_id in some:
        try:
            times_s.append(file_of(slide_id).stat().st_mtime)
        except FileNotFoundError:  # made anew at this moment
            continue
    return times_s


def _read_failures(folder: Path, missing: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """Reasons by slide, and the slides that were begun and not ended."""
    noted = whole_ids(lambda slide_id: folder / f"{slide_id}.json")
    reasons, begun = {}, set()
    for slide_id in missing:
        if slide_id not in noted:
            continue
        try:
            failure = read_json(folder / f"{slide_id}.json")
        except FileNotFoundError:  # ended at this moment
            continue
        if failure["error"] == BEGUN:
            begun.add(slide_id)
        else:
            reasons[slide_id] = failure["reason"]
    return reasons, begun
