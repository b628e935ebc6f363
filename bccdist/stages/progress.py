"""How far each stage of a study is, read from its folder alone: no job, no scheduler and no network is asked.

Folders are listed, files are not looked at one by one, so that a study of 100,000 slides is read in seconds, also on
a shared file system. A file with its final name is whole (bccdist/files.py), so a name is enough to call a slide done;
whether it was made from what the manifest says today is checked by the job that would make it again.
"""

import os
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from bccdist.configuration import TrainConfig
from bccdist.errors import ConfigurationError, LedgerError
from bccdist.failures import BEGUN
from bccdist.files import read_json
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.origins import changes_since, faults_in
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import BOX_COLUMNS, Manifest
from bccdist.stages.epochs import resolve_epochs
from bccdist.stages.stage import ProgressReader, Stage, StageProgress
from bccdist.stages.training_pace import read_run

_MOST_TIMES = 1000
"""Files whose time is looked up for a pace; of more, so many are drawn at random."""
_TABLES = ("table3", "table4", "table5")
BY_TIMES = (
    "by the times of files: rows are newer, and an older version did not note what it was made from; so is a copy "
    "without times (cp -r without -p)"
)
_FILES_LOOKED_AT = 3
_FileOf = Callable[[str], Path]
"""The file of a slide, by its slide_id."""


def progress_by_slide(file_of: Callable[[StudyPaths, str], Path]) -> ProgressReader:
    """Progress of a stage that writes a file for each slide of its parts, by its slide_id: then the slide is done."""

    def read(stage: Stage, paths: StudyPaths, manifest: Manifest, since_s: float | None) -> StageProgress:
        return _slides_progress(
            [slide.slide_id for slide in manifest.slides_of(stage.parts)],
            _whole_ids(partial(file_of, paths)),
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
        _whole_ids(file_of),
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
            is_outdated = stage.its_setting in _settings_outdated(paths)
            before = "the choice is out of date, training has gone on" if is_outdated else "no epoch is chosen"
        detail = f"epochs not known yet: {before}"
        return StageProgress(num_done=0, num_total=len(wanted), detail=detail, missing=tuple(wanted))
    rows = [partial(paths.ledger_rows, stage.its_setting, number) for number in numbers]
    heatmaps = [partial(paths.heatmap, stage.its_setting, number) for number in numbers]
    done = set.intersection(*map(_whole_ids, (*rows, *heatmaps))) & set(wanted)
    if reason := _why_rows_outdated(rows[-1], done) or _told_moved(paths, manifest, rows[-1], done):
        return StageProgress(
            num_done=0,
            num_total=len(wanted),
            detail=reason,
            missing=tuple(wanted),
            is_out_of_date=True,
        )
    outdated, told = _certified_so_far(stage, paths, rows[-1], done)
    found = _slides_progress(
        wanted,
        done - outdated,
        failures=paths.failures / stage.failures,
        file_of=rows[-1],
        since_s=since_s,
        detail="; ".join(filter(None, (_epochs_text(stage, paths, numbers), told))),
    )
    return replace(found, is_out_of_date=bool(outdated))


def _certified_so_far(
    stage: Stage, paths: StudyPaths, rows_of: _FileOf, done: Collection[str]
) -> tuple[set[str], str]:
    """The slides whose certified verdicts are for other thresholds than the chosen ones; and what there is, in words.

    Of many slides a sample is read; the tables read all, and refuse such verdicts.
    """
    from bccdist.sections.choices import choice_for
    from bccdist.sections.how_reached import how_reached

    if stage.epochs != "chosen" or not done:
        return set(), ""
    some = sorted(done) if len(done) <= _MOST_TIMES else random.Random(0).sample(sorted(done), _MOST_TIMES)
    choice = choice_for(paths, stage.its_setting)
    found = how_reached(map(rows_of, some), choice)
    text = found.text if len(some) == len(done) else f"{found.text} on {len(some)} slides, drawn from {len(done)}"
    if choice is None or found.certified_for is None:
        return set(), text if found.text else ""
    reason = found.certified_for.why_others(choice)
    told = f"{text}; {len(found.outdated)} slide(s) certified at other thresholds: {reason}, and launch this again"
    # Where not all were read, the others may be so, too.
    return set(found.outdated if len(some) == len(done) else done), told


def _why_rows_outdated(rows_of: _FileOf, slide_ids: Collection[str]) -> str:
    """Why ledger rows cannot be read as those of today, by a few of their files; empty where they can."""
    from bccdist.parquet import open_table
    from bccdist.sections.ledger import why_outdated

    # One version writes all rows of a stage, so that a few files tell; of many slides not all can be opened.
    for slide_id in sorted(_whole_ids(rows_of) & set(slide_ids))[:_FILES_LOOKED_AT]:
        try:
            metadata = open_table(rows_of(slide_id), error=LedgerError, advice="").schema.metadata
        except LedgerError:
            # A damaged file is told, by name, by whoever reads it.
            continue
        if reason := why_outdated(metadata or {}):
            return f"{reason}; launch it again, which makes the rows anew from the heatmaps"
    return ""


def _told_moved(paths: StudyPaths, manifest: Manifest, rows_of: _FileOf, slide_ids: Collection[str]) -> str:
    """Which sections of these slides lie elsewhere now than they were judged, by the gathered ledger; or nothing."""
    from bccdist.sections.labels import moved_sections, told_moved

    has_boxes = any(section.box_level0_px is not None for section in manifest.sections)
    if not has_boxes or not slide_ids or not paths.sections.exists():
        return ""
    gathered_ns = paths.sections.stat().st_mtime_ns
    # Rows that came since are not in it, and may be those that were made anew.
    if gathered_ns < rows_of("any").parent.stat().st_mtime_ns:
        return ""
    boxes = _gathered_boxes(paths.sections, gathered_ns)
    moved = moved_sections(manifest, {key: box for key, box in boxes.items() if key[0] in slide_ids})
    return told_moved(moved) if moved else ""


@lru_cache(maxsize=1)
def _gathered_boxes(path: Path, _time_ns: int) -> Mapping[tuple[str, str], Box | None]:
    """The boxes of the gathered ledger, read once for all stages; none where it cannot be read."""
    from bccdist.parquet import open_table
    from bccdist.sections.labels import boxes_in_ledger

    try:
        table = open_table(path, error=LedgerError, advice="it is made anew")
        return boxes_in_ledger(table.read(columns=["slide_id", "section_id", *BOX_COLUMNS]))
    except (LedgerError, KeyError):
        return {}


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
    settings = _folders_in(paths.ledger)
    if not settings:
        return StageProgress(num_done=0, num_total=None, detail="no ledger yet")
    chosen = _chosen_epochs(paths)
    outdated = _settings_outdated(paths)
    words, num_done, num_outdated = [], 0, 0
    for setting in settings:
        if setting not in chosen:
            words.append(f"{setting} not chosen")
        elif reason := why_choice_is_outdated(
            paths, manifest, setting, chosen[setting], has_gone_on=setting in outdated
        ):
            words.append(f"{setting} epoch {chosen[setting]}, out of date: {reason}")
            num_outdated += 1
        else:
            words.append(f"{setting} epoch {chosen[setting]}")
            num_done += 1
    return StageProgress(
        num_done=num_done, num_total=len(settings), detail=", ".join(words), is_out_of_date=num_outdated > 0
    )


def why_choice_is_outdated(
    paths: StudyPaths, manifest: Manifest, setting: str, chosen: int, *, has_gone_on: bool
) -> str:
    """Why a setting's choice does not stand any more, in a few words; empty where it does."""
    if has_gone_on:
        return "training has gone on"
    changes = changes_since(
        paths.selection_origin,
        paths,
        manifest,
        made=paths.selection,
        parts=(Part.VALIDATION_1, Part.VALIDATION_2),
        counts=lambda each, epoch: each == setting and epoch != chosen,
    )
    if changes is not None:
        return changes
    others = [folder for epoch, folder in _epoch_folders(paths, setting).items() if epoch != chosen]
    newest_ns = max((folder.stat().st_mtime_ns for folder in others), default=0)
    return BY_TIMES if newest_ns > paths.selection.stat().st_mtime_ns else ""


def speedups_progress(stage: Stage, paths: StudyPaths, _manifest: Manifest, _since_s: float | None) -> StageProgress:
    """Whether the chosen epoch of a setting has a speed-up record for the chosen thresholds, of any machine."""
    from bccdist.sections.choices import choice_for
    from bccdist.speedups.record import read_speedups

    setting = stage.its_setting
    epoch = _chosen_epochs(paths).get(setting)
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
    made = [path for path in (paths.tables / f"{name}.parquet" for name in _TABLES) if path.exists()]
    if not made or not paths.selection.exists():
        return StageProgress(num_done=0, num_total=1, detail="no tables yet")
    outdated = "training has gone on" if _settings_outdated(paths) else _why_outdated(paths, manifest, made)
    chosen = _chosen_epochs(paths)
    drawn = {setting: _whole_ids(partial(paths.overlay, setting)) for setting in chosen}
    shown = {slide.slide_id for slide in manifest.slides if slide.part is not Part.TRAINING}
    are_drawn = all(_are_drawn(paths, setting, epoch, shown - drawn[setting]) for setting, epoch in chosen.items())
    faults = faults_in(paths.tables_origin)
    state = f" out of date: {outdated}" if outdated else ""
    words = [
        f"tables {', '.join(path.stem.removeprefix('table') for path in made)}{state}",
        f"{sum(map(len, drawn.values()))} overlay pictures{'' if are_drawn else ', not all'}",
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


def _why_outdated(paths: StudyPaths, manifest: Manifest, made: Sequence[Path]) -> str:
    """What has changed since tables were made, in a few words; empty where nothing has."""
    changes = changes_since(paths.tables_origin, paths, manifest, made=paths.selection)
    if changes is not None:
        return changes
    folders = [folder for setting in _folders_in(paths.ledger) for folder in _epoch_folders(paths, setting).values()]
    newest_ns = max(path.stat().st_mtime_ns for path in (*folders, paths.selection))
    return "" if min(path.stat().st_mtime_ns for path in made) >= newest_ns else BY_TIMES


def _are_drawn(paths: StudyPaths, setting: str, epoch: int, undrawn: Collection[str]) -> bool:
    """Whether none of the slides without a picture has sections in the chosen epoch."""
    from bccdist.sections.ledger import read_rows

    rows_of = partial(paths.ledger_rows, setting, epoch)
    if _why_rows_outdated(rows_of, undrawn):
        return False
    return not any(read_rows(rows_of(slide_id)).num_rows for slide_id in _whole_ids(rows_of) & set(undrawn))


def _slides_progress(
    wanted: Sequence[str],
    done: Collection[str],
    *,
    failures: Path,
    file_of: _FileOf,
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


def _sampled_times(slide_ids: Sequence[str], file_of: _FileOf) -> list[float]:
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
    noted = _whole_ids(lambda slide_id: folder / f"{slide_id}.json")
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


def _names_in(folder: Path) -> list[str]:
    """Names of a folder's entries; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def _whole_ids(file_of: _FileOf) -> set[str]:
    """The slides that have a whole file; one that is being written has a name that goes on after its suffix."""
    example = file_of("x")
    names = _names_in(example.parent)
    return {name.removesuffix(example.suffix) for name in names if name.endswith(example.suffix)}


def _folders_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []


def _epoch_folders(paths: StudyPaths, setting: str) -> dict[int, Path]:
    """The folders of a setting's ledger rows, by epoch."""
    folder = paths.ledger / setting
    return {int(name.removeprefix("epoch-")): folder / name for name in _folders_in(folder)}


def _settings_outdated(paths: StudyPaths) -> Collection[str]:
    from bccdist.sections.choices import settings_outdated

    return settings_outdated(paths) if paths.selection.exists() else ()


def _chosen_epochs(paths: StudyPaths) -> dict[str, int]:
    from bccdist.sections.choices import chosen_epochs

    return chosen_epochs(paths) if paths.selection.exists() else {}
