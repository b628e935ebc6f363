"""Several readers' files of labels as one: where readers differ, a section has no label, and who said what is kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from analysis.study_evidence.readings import agreed, answer_of, is_decided, names_of, said_in
from bccdist.errors import ConfigurationError, first_of
from bccdist.sections.labels import CONFLICT, SectionKey, key_of
from bccdist.slides.manifest import SectionRecord

Pair = tuple[SectionRecord, SectionRecord]
"""A file's row with the study's section that it speaks of."""
_MOST_NAMED = 10


def joined(files: Mapping[Path, Sequence[Pair]], own: Mapping[SectionKey, SectionRecord]) -> list[Pair]:
    """The rows of several files, one a section.

    A row that says what the manifest says is nobody's answer: an export names those sections, too, to which its reader
    gave none.

    Args:
        files: each file's rows.
        own: the manifest's sections, without corrections.

    Raises:
        ConfigurationError: a row does not say whose answer it is, so that nobody could tell readers apart.
    """
    by_section: dict[SectionKey, list[Pair]] = {}
    for path, pairs in files.items():
        answers = [pair for pair in pairs if _is_answer(pair, own)]
        _require_readers(path, answers)
        for row, section in answers:
            by_section.setdefault(key_of(section), []).append((row, section))
    return [_joined_row(pairs) for pairs in by_section.values()]


def _is_answer(pair: Pair, own: Mapping[SectionKey, SectionRecord]) -> bool:
    row, section = pair
    before = own.get(key_of(section))
    if before is not None and _facts(before) == _facts(row):
        return False
    return row.label is not None or bool(row.labelled_by)


def _facts(section: SectionRecord) -> tuple[object, ...]:
    return section.label, section.labelled_by, section.labelled_at, section.prefilled


def _require_readers(path: Path, answers: Iterable[Pair]) -> None:
    nameless = [f"{row.slide_id}/{row.section_id}" for row, _ in answers if not row.labelled_by]
    if nameless:
        raise ConfigurationError(
            f"{path}: {len(nameless)} row(s) do not say in labelled_by whose answer they are: "
            f"{first_of(nameless, _MOST_NAMED)}; of several files that has to be known, so that readers are told "
            "apart; nothing was changed"
        )


def _joined_row(pairs: Sequence[Pair]) -> Pair:
    """One row for a section; of a reader who stands in several files the newest answer counts."""
    # By name where the time is the same, so that the order of the files says nothing.
    in_time = sorted((row for row, _ in pairs), key=lambda row: (row.labelled_at, row.labelled_by))
    decided = [row for row in in_time if is_decided(row)]
    if decided and len({row.label for row in decided}) == 1:
        # Somebody has decided between readers already: that they differ is known, and no conflict any more.
        return decided[-1], pairs[0][1]
    said: dict[str, str] = {}
    for row in in_time:
        said |= said_in(row) or {row.labelled_by: answer_of(row)}
    label, conflict = agreed(said)
    joint = replace(
        in_time[-1],
        label=label,
        labelled_by=names_of(said),
        # What a model had filled in for one of them may have led the label of all.
        prefilled=next((row.prefilled for row in in_time if row.prefilled), ""),
        extra={**in_time[-1].extra, CONFLICT: conflict},
    )
    return joint, pairs[0][1]
