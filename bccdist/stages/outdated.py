"""Which results of a study are out of date, and why: decided here, and read wherever results are shown or sent.

What results were made from is kept beside them (bccdist/sections/origins.py). What rests on something that is out of
date is so itself. Nothing here needs torch, and nothing is made anew.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache, partial
from pathlib import Path

from bccdist.errors import LedgerError, first_of
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.origins import changes_since, faults_in, is_of_one_result
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import BOX_COLUMNS, Manifest
from bccdist.stages.folders import FileOf, epoch_folders, folders_in, names_in, whole_ids


class Result(StrEnum):
    """A kind of result of a study."""

    HEATMAPS = "heatmaps"
    """With the rows of the ledger that were made of them."""
    SELECTION = "selection"
    TABLES = "tables"
    REPORT = "report"
    FIGURES = "figures"
    OVERLAYS = "overlays"


MADE_OF_ALL = (Result.TABLES, Result.REPORT, Result.FIGURES, Result.OVERLAYS)
"""What is made from ledger, labels, manifest and selection."""
REMEDY: Mapping[Result, str] = {
    Result.HEATMAPS: "launch the inference again (`python jobs/status.py STUDY` says which)",
    Result.SELECTION: "`python analysis/make.py selection STUDY`",
    **dict.fromkeys(MADE_OF_ALL, "`python jobs/launch_tables.py --study STUDY`"),
}
"""What makes a result anew; those that others rest on come first."""
BY_TIMES = (
    "by the times of files: rows are newer, and an older version did not note what it was made from; so is a copy "
    "without times (cp -r without -p)"
)
MAIN_TABLES = ("table3", "table4", "table5")
"""The tables whose presence means that there are tables."""
MOST_READ = 1000
"""Slides whose certificates are read; of more, so many are drawn at random."""
_FILES_LOOKED_AT = 3
_MOST_NAMED = 3


def outdated_results(paths: StudyPaths, manifest: Manifest) -> dict[Result, str]:
    """The results that are there and out of date, each with why, in a few words; those that others rest on come first.

    Tables and pictures that could not all be made count, too: files of before may stand among them.

    Raises:
        LedgerError: the selection is damaged.
    """
    rows = {
        setting: reason
        for setting in folders_in(paths.ledger)
        if (reason := why_rows_are_outdated(paths, manifest, setting) or _why_certified_are_outdated(paths, setting))
    }
    found = {
        Result.HEATMAPS: told_together(rows),
        Result.SELECTION: told_together(why_choices_are_outdated(paths, manifest)),
    }
    for result in MADE_OF_ALL:
        faults = faults_in(paths.origin(result)) if made_files(paths, result) else {}
        found[result] = why_made_is_outdated(paths, manifest, result) or (
            f"not all could be made: {first_of(list(faults), _MOST_NAMED)}" if faults else ""
        )
    return {result: reason for result, reason in found.items() if reason}


def told_outdated(found: Mapping[Result, str], *, study: str) -> str:
    """The results that are out of date as a sentence, what is so for the same reason together; with what to do.

    Args:
        found: each result with why.
        study: the study's folder as a word of a command.
    """
    listed = told_together({result.value: reason for result, reason in found.items()})
    steps = dict.fromkeys(REMEDY[result] for result in Result if result in found)
    return f"out of date: {listed}. To make them anew: {', then '.join(steps).replace('STUDY', study)}"


def why_rows_are_outdated(paths: StudyPaths, manifest: Manifest, setting: str) -> str:
    """Why a setting's ledger rows, of any epoch, cannot be read as those of today; empty where they can."""
    named = {slide.slide_id for slide in manifest.slides}
    for epoch in epoch_folders(paths, setting):
        rows_of = partial(paths.ledger_rows, setting, epoch)
        done = whole_ids(rows_of) & named
        if reason := why_schema_is_outdated(rows_of, done) or told_moved_boxes(paths, manifest, rows_of, done):
            return reason
    return ""


def _why_certified_are_outdated(paths: StudyPaths, setting: str) -> str:
    """Why verdicts of the chosen epoch that are certified hold no more; empty where they do, or there are none."""
    epoch = chosen_epochs(paths).get(setting)
    if epoch is None:
        return ""
    rows_of = partial(paths.ledger_rows, setting, epoch)
    outdated, told = certified_so_far(paths, setting, rows_of, whole_ids(rows_of))
    return told if outdated else ""


def why_choices_are_outdated(paths: StudyPaths, manifest: Manifest) -> dict[str, str]:
    """The settings whose chosen epoch and thresholds do not stand any more, each with why; of a cohort none."""
    if paths.model.exists():
        return {}
    outdated = settings_outdated(paths)
    reasons = {
        setting: why_choice_is_outdated(paths, manifest, setting, epoch, has_gone_on=setting in outdated)
        for setting, epoch in chosen_epochs(paths).items()
    }
    return {setting: reason for setting, reason in reasons.items() if reason}


def why_choice_is_outdated(
    paths: StudyPaths, manifest: Manifest, setting: str, chosen: int, *, has_gone_on: bool
) -> str:
    """Why a setting's choice does not stand any more, in a few words; empty where it does."""
    if has_gone_on:
        return "training has gone on"
    changes = changes_since(
        paths.origin(Result.SELECTION),
        paths,
        manifest,
        made=paths.selection,
        parts=(Part.VALIDATION_1, Part.VALIDATION_2),
        counts=lambda each, epoch: each == setting and epoch != chosen,
    )
    if changes is not None:
        return changes
    others = [folder for epoch, folder in epoch_folders(paths, setting).items() if epoch != chosen]
    newest_ns = max((folder.stat().st_mtime_ns for folder in others), default=0)
    return BY_TIMES if newest_ns > paths.selection.stat().st_mtime_ns else ""


def why_made_is_outdated(paths: StudyPaths, manifest: Manifest, result: Result) -> str:
    """Why tables, report, figures or overlays do not say what is so today, in a few words; empty where they do.

    Also empty where there are none, or no selection that they could rest on.
    """
    made = made_files(paths, result)
    if not made or not paths.selection.exists():
        return ""
    if reason := _why_files_are_outdated(paths, manifest, result, made):
        return reason
    rows = {each: why for each in chosen_epochs(paths) if (why := why_rows_are_outdated(paths, manifest, each))}
    if rows:
        return f"so are the rows that it rests on: {told_together(rows)}"
    choices = why_choices_are_outdated(paths, manifest)
    return f"so is the selection that it rests on: {told_together(choices)}" if choices else ""


def _why_files_are_outdated(paths: StudyPaths, manifest: Manifest, result: Result, made: Sequence[Path]) -> str:
    own, tables = paths.origin(result), paths.origin(Result.TABLES)
    origin = own if own.exists() or is_of_one_result(tables) else tables
    changes = changes_since(origin, paths, manifest, made=paths.selection)
    if changes is not None:
        return changes
    folders = [folder for setting in folders_in(paths.ledger) for folder in epoch_folders(paths, setting).values()]
    rested_on = [path for path in (*folders, paths.selection, paths.labels) if path.exists()]
    newest_ns = max(path.stat().st_mtime_ns for path in rested_on)
    return "" if min(path.stat().st_mtime_ns for path in made) >= newest_ns else BY_TIMES


def made_files(paths: StudyPaths, result: Result) -> list[Path]:
    """Files or folders by whose times it is told how old a result is; none where it is not there."""
    if result is Result.REPORT:
        return [path for path in [paths.report] if path.exists()]
    if result is Result.TABLES:
        return [path for path in (paths.tables / f"{name}.parquet" for name in MAIN_TABLES) if path.exists()]
    folder = paths.figures if result is Result.FIGURES else paths.overlays
    if result is Result.FIGURES:
        return [folder] if names_in(folder) else []
    return [folder / name for name in folders_in(folder) if names_in(folder / name)]


def told_together(reasons: Mapping[str, str]) -> str:
    """Reasons by name as a text, what is so for the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


def certified_so_far(paths: StudyPaths, setting: str, rows_of: FileOf, done: Collection[str]) -> tuple[set[str], str]:
    """The slides whose certified verdicts are for other thresholds than the chosen ones; and what there is, in words.

    Of many slides a sample is read; the tables read all, and refuse such verdicts.
    """
    from bccdist.sections.choices import choice_for
    from bccdist.sections.how_reached import how_reached

    if not done:
        return set(), ""
    some = sorted(done) if len(done) <= MOST_READ else random.Random(0).sample(sorted(done), MOST_READ)
    choice = choice_for(paths, setting)
    found = how_reached(map(rows_of, some), choice)
    text = found.text if len(some) == len(done) else f"{found.text} on {len(some)} slides, drawn from {len(done)}"
    if choice is None or found.certified_for is None:
        return set(), text if found.text else ""
    reason = found.certified_for.why_others(choice)
    told = f"{text}; {len(found.outdated)} slide(s) certified at other thresholds: {reason}, and launch this again"
    # Where not all were read, the others may be so, too.
    return set(found.outdated if len(some) == len(done) else done), told


def why_schema_is_outdated(rows_of: FileOf, slide_ids: Collection[str]) -> str:
    """Why ledger rows cannot be read as those of today, by a few of their files; empty where they can."""
    from bccdist.parquet import open_table
    from bccdist.sections.ledger import why_outdated

    # One version writes all rows of a stage, so that a few files tell; of many slides not all can be opened.
    for slide_id in sorted(whole_ids(rows_of) & set(slide_ids))[:_FILES_LOOKED_AT]:
        try:
            metadata = open_table(rows_of(slide_id), error=LedgerError, advice="").schema.metadata
        except LedgerError:
            # A damaged file is told, by name, by whoever reads it.
            continue
        if reason := why_outdated(metadata or {}):
            return f"{reason}; launch it again, which makes the rows anew from the heatmaps"
    return ""


def told_moved_boxes(paths: StudyPaths, manifest: Manifest, rows_of: FileOf, slide_ids: Collection[str]) -> str:
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


def settings_outdated(paths: StudyPaths) -> Collection[str]:
    """The settings whose training has gone on since the selection; none where there is no selection."""
    from bccdist.sections import choices

    return choices.settings_outdated(paths) if paths.selection.exists() else ()


def chosen_epochs(paths: StudyPaths) -> dict[str, int]:
    """The chosen epoch of each setting; none where there is no selection."""
    from bccdist.sections import choices

    return choices.chosen_epochs(paths) if paths.selection.exists() else {}
