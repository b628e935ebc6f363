"""Labels that came after the inference: `python analysis/make.py relabel STUDY sections.csv`, or `--remove`.

Corrections are kept in STUDY/labels.csv and come before the manifest's labels, in every table, picture and page, at
once and without any heatmap (bccdist/sections/labels.py). A further file is merged over those that are there: a
section that it does not name keeps its label, with who set it and when, and an empty label takes none away unless that
is asked for. Several files at once are several readers': where they differ, a section has no label, and the column
`conflict` keeps who said what.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import tyro

from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.labels_lock import changing_labels
from analysis.study_evidence.readings import LabelState, state_of
from analysis.study_evidence.relabel_match import Matched, match_sections
from analysis.study_evidence.relabel_readers import joined
from bccdist.errors import ConfigurationError, LedgerError, first_of
from bccdist.files import write_text
from bccdist.parts import Part
from bccdist.paths import StudyPaths
from bccdist.sections.labels import ORIGIN, SectionKey, key_of, said_of_label
from bccdist.sections.verdicts import ReachedBy
from bccdist.slides.manifest import BOX_COLUMNS, MOST_LISTED_FAULTS, SectionRecord, read_sections
from bccdist.slides.manifest_text import sections_csv
from bccdist.slides.table_file import likely_meant
from bccdist.study import refuse_address

_MOST_NAMED = 10
_CERTIFIED_BY = ["setting", "part", "certificate_confidence"]


@dataclass(frozen=True, kw_only=True)
class Relabelled:
    """What a file of labels did, in sections of the study."""

    num_changed: int
    """That have another label now."""
    num_added: int
    """That have a label and had none."""
    num_removed: int
    """That had a label and have none."""
    num_kept: int
    """That have the label that they had, whether the file names them or not."""
    num_not_inferred: int = 0
    """Rows of slides that were not inferred (yet), as those of Training."""
    num_unknown: int = 0
    """Rows that were left out, as the study has no such slide."""
    unknown_slides: tuple[str, ...] = ()
    """Those slides."""
    misspelt: Mapping[str, str] = field(default_factory=dict)
    """Columns that are not known and so were not used, with the ones that they may be meant for."""

    conflicts: tuple[str, ...] = ()
    """Sections on which the files' readers differ."""
    num_unsure: int = 0
    """Sections of which all readers who answered are unsure, or who decided between them."""
    num_overruled: int = 0
    """Changed labels that another reader had set before."""
    origins: Mapping[str, int] = field(default_factory=dict)
    """Labels of the files by their origin, where the review wrote it: one reader, readers agree, decided."""

    has_changed: bool = True
    """Whether anything is other than it was, be it who set a label."""

    @property
    def text(self) -> str:
        """The counts in a line."""
        return (
            f"{self.num_changed} label(s) changed, {self.num_added} added, {self.num_removed} removed, "
            f"{self.num_kept} kept"
        )


def relabel(study_root: Path, *sections_csv_paths: Path, remove_labels: bool = False) -> Relabelled:
    """Merge the labels of a sections.csv over the study's, or those of several readers.

    Args:
        study_root: the study's folder.
        sections_csv_paths: the file, or one of each reader.
        remove_labels: whether an empty label, or readers who differ, take away the label that is there.

    Raises:
        LedgerError: there is no ledger, or a row fits no section of the study.
        ManifestError: a file has faults.
        ConfigurationError: labels would be removed, and that is not asked for; or of several files one does not say
            whose answers it has.
            Nothing is changed in any of these cases.
    """
    given = {path: read_sections(path) for path in sections_csv_paths}
    with changing_labels(StudyPaths(study_root)):
        return _merged(Evidence(study_root), given, remove_labels=remove_labels)


def _merged(study: Evidence, given: Mapping[Path, list[SectionRecord]], *, remove_labels: bool) -> Relabelled:
    """Merge what files of labels say over the study's, which nobody else changes meanwhile."""
    before = _sections_of(study)
    found = {path: _matched(study, path, rows, before) for path, rows in given.items()}
    one, *others = (each.pairs for each in found.values())
    own = _own_sections(study)
    pairs = joined({path: each.pairs for path, each in found.items()}, own) if others else one
    new = {
        key_of(section): _relabelled(section, row)
        for row, section in pairs
        if row.label is not None or section.label is not None or row.labelled_by
    }
    if not remove_labels:
        _refuse_removals(list(given), before, new)
    corrected = {key_of(section): section for section in study.corrections}
    # The ledger's sections say nothing of how readers came to a label; the rows that they have it from do.
    rows = {**own, **corrected}
    today = {key: replace(each, extra=rows.get(key, each).extra) for key, each in before.items()}
    changed = {
        key: each
        for key, each in new.items()
        if key not in today or (each is not before[key] and said_of_label(each) != said_of_label(today[key]))
    }
    if changed:
        write_text(study.paths.labels, sections_csv(list({**corrected, **changed}.values())))
    inferred = {slide_id for slide_id, _ in study.sections_in_ledger}
    unknown = [slide_id for each in found.values() for slide_id in each.unknown_slides]
    return replace(
        _counts(before, {**before, **new}),
        has_changed=bool(changed),
        num_not_inferred=sum(section.slide_id not in inferred for _, section in pairs),
        num_unknown=len(unknown),
        unknown_slides=tuple(dict.fromkeys(unknown)),
        misspelt=_misspelt([row for rows in given.values() for row in rows]),
        conflicts=tuple("/".join(key) for key, each in new.items() if state_of(each) is LabelState.CONFLICT),
        origins=Counter(row.extra[ORIGIN] for row, _ in pairs if row.label and row.extra.get(ORIGIN)),
        num_unsure=sum(state_of(each) is LabelState.UNSURE for each in new.values()),
        num_overruled=sum(_overrules(new[key], was) for key, was in corrected.items() if key in new),
    )


def _own_sections(study: Evidence) -> dict[SectionKey, SectionRecord]:
    """The manifest's sections, without what was corrected since."""
    manifest = study.known_manifest
    return {key_of(section): section for section in manifest.sections} if manifest else {}


def _overrules(section: SectionRecord, before: SectionRecord) -> bool:
    """Whether one reader's label takes the place of another's."""
    labels = {section.label, before.label}
    is_another = before.labelled_by not in ("", section.labelled_by)
    return len(labels) == 2 and None not in labels and is_another


def _matched(
    study: Evidence, path: Path, given: list[SectionRecord], before: Mapping[SectionKey, SectionRecord]
) -> Matched:
    """The study's sections that the rows of a file speak of.

    Raises:
        LedgerError: a row fits none, or all are of other slides.
    """
    slide_ids = [slide.slide_id for slide in study.manifest.slides] if study.paths.study.exists() else []
    found = match_sections(given, before, slide_ids)
    _refuse(study, path, found.faults, given)
    if len(found.unknown_slides) == len(given):
        raise LedgerError(
            f"{path}: none of its {len(given)} sections is on a slide of {study.root} (the first is "
            f"{given[0].slide_id}/{given[0].section_id}); give the sections.csv of this study's slides"
        )
    return found


def _misspelt(given: Sequence[SectionRecord]) -> dict[str, str]:
    """Columns that look as if they were meant for one that is empty or not there."""
    columns = {column for row in given for column in row.extra}
    absent = [name for name in ("labelled_by", "labelled_at", "prefilled") if not any(map(attrgetter(name), given))]
    absent += BOX_COLUMNS if all(row.box_level0_px is None for row in given) else []
    return {column: meant for column in sorted(columns) if (meant := likely_meant(column, absent))}


def _sections_of(study: Evidence) -> dict[SectionKey, SectionRecord]:
    """All sections that the study knows, with their labels of today; where one was inferred, with its box there.

    Raises:
        LedgerError: there is no ledger.
    """
    study.ledger  # noqa: B018 - without one nothing shows labels yet, and the manifest is the place for them
    inferred = study.sections_in_ledger
    slides = {slide_id for slide_id, _ in inferred}
    others = study.labelled_manifest.sections if study.paths.study.exists() else study.corrections
    return {**{key_of(each): each for each in others if each.slide_id not in slides}, **inferred}


def _relabelled(section: SectionRecord, row: SectionRecord) -> SectionRecord:
    """A section with a row's label; who set it and when stays known where the row says the same label and not who."""
    says_who = row.labelled_by or row.labelled_at or row.prefilled
    if row.label is section.label and not says_who:
        return section
    return replace(
        section,
        label=row.label,
        labelled_by=row.labelled_by,
        labelled_at=row.labelled_at,
        # Not known to be blind: what a model had filled in may have led whoever corrected it.
        prefilled=row.prefilled if says_who else section.prefilled,
        patient_id=section.patient_id or row.patient_id,
        extra=row.extra,
    )


def _refuse(study: Evidence, path: Path, faults: list[str], given: list[SectionRecord]) -> None:
    if not faults:
        return
    listed = [f"  - {fault}" for fault in faults[:MOST_LISTED_FAULTS]]
    if len(faults) > len(listed):
        listed.append(f"  ... and {len(faults) - len(listed)} more")
    what = f"{path}: {len(faults)} fault(s) in its {len(given)} sections, so nothing was changed:"
    export = f"python jobs/review.py {study.pasted} --export FOLDER"
    advice = (
        "a row with a box is known by it, and may have an id of its own; one without needs this study's section_id, "
        f"as `{export}` writes it. {_other_way(study)}"
    )
    raise LedgerError("\n".join([what, *listed, advice]))


def _other_way(study: Evidence) -> str:
    """What to do with a file of other sections than the study's."""
    place = shlex.quote(str(study.paths.model))
    command = (
        f"python jobs/launch_apply.py --model {place} --slides slides.csv --out NEW"
        if study.is_cohort
        else "python jobs/launch_study.py --manifest slides.csv --study NEW"
    )
    return f"To have sections of your own judged, put the file as sections.csv beside a slides.csv: `{command}`"


def _refuse_removals(
    paths: Sequence[Path], before: Mapping[SectionKey, SectionRecord], new: Mapping[SectionKey, SectionRecord]
) -> None:
    gone = [f"{'/'.join(key)} ({_label(before.get(key))})" for key in _removed(before, new)]
    if gone:
        raise ConfigurationError(
            f"{', '.join(map(str, paths))}: {len(gone)} label(s) would be removed: {first_of(gone, _MOST_NAMED)}; "
            "their rows have no label, or readers differ on them. Add --remove-labels to remove them, or take those "
            "rows out of the file to keep them; nothing was changed"
        )


def _removed(
    before: Mapping[SectionKey, SectionRecord], after: Mapping[SectionKey, SectionRecord]
) -> Iterable[SectionKey]:
    return (key for key, section in after.items() if section.label is None and _label(before.get(key)))


def _label(section: SectionRecord | None) -> str:
    return "" if section is None or section.label is None else section.label.value


def _counts(before: Mapping[SectionKey, SectionRecord], after: Mapping[SectionKey, SectionRecord]) -> Relabelled:
    pairs = [(_label(before.get(key)), _label(section)) for key, section in after.items()]
    return Relabelled(
        num_changed=sum(bool(old and new and old != new) for old, new in pairs),
        num_added=sum(bool(new and not old) for old, new in pairs),
        num_removed=sum(bool(old and not new) for old, new in pairs),
        num_kept=sum(bool(old and old == new) for old, new in pairs),
    )


def remove_corrections(study_root: Path) -> tuple[Relabelled, Path | None]:
    """Set the corrections of a study aside, so that the manifest's labels are its labels again.

    Returns:
        What that did, and where the corrections are now; None where there were none.
    """
    paths = StudyPaths(study_root)
    if not paths.labels.exists():
        return Relabelled(num_changed=0, num_added=0, num_removed=0, num_kept=0), None
    with changing_labels(paths):
        before = _sections_of(Evidence(study_root))
        aside = paths.labels.with_name(f"labels-until-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.csv")
        paths.labels.rename(aside)
        after = _sections_of(Evidence(study_root))
    return _counts(
        before, {**{key: replace(before[key], label=None) for key in before.keys() - after}, **after}
    ), aside


def relabel_study(
    study: Annotated[Path, tyro.conf.arg(metavar="STUDY")],
    sections: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[SECTIONS_CSV ...]")] = (),
    *,
    remove_labels: bool = False,
    remove: bool = False,
) -> str:
    """Correct labels for the selection and everything that is counted and drawn; says what came of it.

    Args:
        study: The study's folder.
        sections: A sections.csv, such as the review exports, or one of each reader; sections that they do not name
            keep their labels, and those on which readers differ have none.
        remove_labels: An empty label, or readers who differ, take away the one that is there; else that is refused.
        remove: Go back to the manifest's labels; the corrections are set aside in the study's folder.

    Raises:
        ConfigurationError: neither or both is asked for, or labels would be removed unasked.
        LedgerError: there is no ledger, or a row fits no section of the study.
        ManifestError: a file has faults. The labels stay as they are then.
    """
    refuse_address(study)
    if bool(sections) == remove:
        raise ConfigurationError("give either a sections.csv or --remove")
    labels = StudyPaths(study).labels
    if remove:
        found, aside = remove_corrections(study)
        if aside is None:
            return f"{labels}: there are no corrections; the labels are the manifest's"
        return f"{found.text}: they are the manifest's again, and the corrections are in {aside}\n{_next(study)}"
    found = relabel(study, *sections, remove_labels=remove_labels)
    lines = [f"{found.text} ({labels})"]
    if found.origins:
        counts = ", ".join(f"{num} {origin}" for origin, num in sorted(found.origins.items()))
        lines.append(f"origin of the labels that were read: {counts}")
    if found.conflicts:
        named = first_of(found.conflicts, _MOST_NAMED)
        lines.append(f"note: readers differ on {len(found.conflicts)} section(s), which have no label: {named}")
    if found.num_unsure:
        lines.append(f"note: of {found.num_unsure} section(s) their readers are unsure; they have no label")
    if found.num_overruled:
        lines.append(
            f"note: {found.num_overruled} label(s) of another reader were replaced; give the readers' files at once "
            "to keep what they differ on"
        )
    if found.num_not_inferred:
        lines.append(f"note: {found.num_not_inferred} of the file's sections are of slides that were not inferred")
    if found.num_unknown:
        slides = first_of(found.unknown_slides, _MOST_NAMED)
        lines.append(f"note: {found.num_unknown} of the file's sections left out, as the study has no slide {slides}")
    lines += [
        f"note: column {column!r} is not known and was not used; did you mean {meant}?"
        for column, meant in found.misspelt.items()
    ]
    return "\n".join([*lines, *([_next(study)] if found.has_changed else [])])


def _next(study: Path) -> str:
    """The one line that makes everything anew; a cohort's thresholds do not rest on its labels."""
    place = shlex.quote(str(study))
    tables = f"python jobs/launch_tables.py --study {place}"
    is_cohort = StudyPaths(study).model.exists()
    commands = tables if is_cohort else f"python analysis/make.py selection {place} && {tables}"
    lines = [
        "report.html, tables and figures show labels of before until you run (without Slurm, with --cluster local):",
        f"  {commands}",
    ]
    return "\n".join([*lines, *([] if is_cohort else _next_of_certified(study))])


def _next_of_certified(study: Path) -> Iterator[str]:
    """What is to be run besides where verdicts were certified: at thresholds that other labels may move."""
    place = shlex.quote(str(study))
    frame = Evidence(study).ledger.select([*_CERTIFIED_BY, "reached_by"]).to_pandas()
    certified = frame[frame["reached_by"] == ReachedBy.CERTIFIED].drop_duplicates(_CERTIFIED_BY)
    if certified.empty:
        return
    yield (
        "some verdicts are certified at the thresholds of before; if the selection chooses others, run before the "
        "tables, each once the one before it has ended:"
    )
    for setting, group in certified.groupby("setting"):
        parts = " ".join(part.short for part in Part if part in set(group["part"]))
        yield f"  python jobs/launch_calibrate.py --study {place} --setting {setting}"
        yield (
            f"  python jobs/launch_infer.py --study {place} --setting {setting} --parts {parts} --epochs chosen "
            f"--inference certified --confidence {group['certificate_confidence'].max():g}"
        )
