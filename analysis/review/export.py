"""What all reviewers said, as files that the other stages read (paper, section 3.2).

    sections.csv       all sections, with the labels that readers agree on or that were decided between them; its
                       column `label_origin` says which, and `conflict` who differs
    conflicts.csv      the answers to sections to which readers gave different ones, with the decisions
    answers.csv        every answer that counts, with all that may have led it; `is_blind` says that the section is of
                       the blind share, `came_blind` that this answer was given before the model's verdict was shown
    agreement.json     kappa of all pairs of reviewers, and anchoring
    regions/           drawn and corrected regions, a file per slide and reviewer, as QuPath opens them

A section keeps no label where reviewers differ or are unsure, or where who decided between them is; one that
nobody answered keeps the label that it has.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.review.agreement import agreement_report
from analysis.review.answers import Said, file_name_of, read_journals
from analysis.review.consensus import Origin, Resolved, resolve
from analysis.review.corrections import qupath_collection
from analysis.review.spreadsheets import guarded
from analysis.review.tiles import TileReader
from analysis.study_evidence.evidence import Evidence
from bccdist.configuration import PHANTOM_WARNING
from bccdist.errors import BccdistError, ConfigurationError, StageFailedError
from bccdist.files import csv_text, write_json, write_text
from bccdist.sections.labels import CONFLICT, ORIGIN, key_of
from bccdist.slides.manifest import Manifest, SectionRecord

_BOX = ("x_level0_px", "y_level0_px", "width_level0_px", "height_level0_px")
_SECTION_COLUMNS = ("slide_id", "section_id", *_BOX, "label", "labelled_by", "labelled_at", "prefilled", "patient_id")
_ANSWER_COLUMNS = (
    *("slide_id", "section_id", "reviewer", "answer", "at", "seconds", "is_blind", "was_shown", "came_blind"),
    *("prefilled", "prediction", "label_before", "setting", "epoch", "weights_digest", "given_as", "is_hasty"),
    *("comment", "more"),
)


def export_review(study_root: Path, out: Path) -> str:
    """Write what all reviewers of a study said to a folder; an export that is there is replaced.

    Returns:
        What was written, in a few lines.

    Raises:
        ConfigurationError: the folder is no study, nobody has reviewed it, or `out` holds the study's own manifest.
        EventLogError: a journal is damaged.
        LedgerError: there is a ledger, but it cannot be read.
        StageFailedError: some slides cannot be opened, so their regions are not written, and all else is; or the disk
            is full, and it says what is written.
    """
    study = Evidence(study_root)
    paths, manifest = study.paths, study.manifest
    journals = read_journals(paths)
    if not journals:
        raise ConfigurationError(
            f"{paths.review}: nobody has reviewed this study yet; begin with `python jobs/review.py {study_root} "
            '--reviewer "NAME"`'
        )
    target = out / "sections.csv"
    if target.resolve() == manifest.path.with_name(target.name).resolve():
        raise ConfigurationError(f"{target} is the study's own; give another folder, compare, and put it there then")
    resolved = resolve(journals)
    sections = placed_sections(study)
    warning = {"warning": PHANTOM_WARNING} if manifest.is_phantom else {}
    report = {**agreement_report(journals), "phantom": manifest.is_phantom, **warning}
    written: list[str] = []
    try:
        _write_tables(out, sections_csv(sections, resolved), resolved.values(), report, written)
        num_regions = _write_regions(out / "regions", manifest, journals, written)
    except OSError as error:
        if isinstance(error, BccdistError):
            raise
        raise StageFailedError(
            f"{out}: {error.strerror or error}; written are {', '.join(written) or 'no files'}; the journals are as "
            "they were: make room, and export again"
        ) from error
    num_reviewers = sum(bool(said.latest) for said in journals)
    notes = [said.unknown_note for said in journals if said.num_unknown]
    summary = _summary(out, sections, resolved, num_reviewers=num_reviewers, num_regions=num_regions)
    return "\n".join([*notes, *summary])


def _write_tables(
    out: Path, sections: str, resolved: Iterable[Resolved], report: Mapping[str, Any], written: list[str]
) -> None:
    """Write all but the regions; the name of each file is added to `written` once it is there."""
    resolved = list(resolved)
    tables = {
        "sections.csv": sections,
        "conflicts.csv": answers_csv(each for each in resolved if each.conflict),
        "answers.csv": answers_csv(resolved),
    }
    for name, text in tables.items():
        write_text(out / name, text)
        written.append(name)
    write_json(out / "agreement.json", report)
    written.append("agreement.json")


def _summary(
    out: Path,
    sections: Sequence[SectionRecord],
    resolved: Mapping[str, Resolved],
    *,
    num_reviewers: int,
    num_regions: int,
) -> Iterable[str]:
    known = {_key(section) for section in sections}
    num_conflicts = sum(each.is_open for each in resolved.values())
    num_decided = sum(each.label is not None and each.origin is Origin.DECIDED for each in resolved.values())
    num_labels = sum(each.label is not None for each in resolved.values())
    yield f"{len(resolved)} of {len(sections)} sections answered by {num_reviewers} reviewer(s):"
    decided = f" ({num_decided} decided between readers)" if num_decided else ""
    yield (
        f"{num_labels} labelled{decided}, {num_conflicts} with different answers (conflicts.csv), "
        f"{len(resolved) - num_labels - num_conflicts} unsure; {num_regions} file(s) of regions"
    )
    unknown = sorted(resolved.keys() - known)
    if unknown:
        yield (
            f"NOT IN sections.csv: {len(unknown)} answered section(s) that neither the manifest nor the ledger has "
            f"any more ({', '.join(unknown[:5])}); their answers are in answers.csv"
        )
    yield str(out)


def placed_sections(study: Evidence) -> list[SectionRecord]:
    """All sections with their labels of today, and with the boxes that were found for those that have none.

    Raises:
        LedgerError: there is a ledger, but it cannot be read.
    """
    found = study.sections_in_ledger
    named = {slide.slide_id for slide in study.manifest.slides}
    sections = [
        *study.labelled_manifest.sections,
        *(section for section in found.values() if section.slide_id not in named),
    ]
    by_slide: dict[str, list[SectionRecord]] = {}
    for section in sections:
        by_slide.setdefault(section.slide_id, []).append(section)
    # A slide has boxes for all of its sections, or for none.
    for slide_id, given in by_slide.items():
        if all(section.box_level0_px is None and key_of(section) in found for section in given):
            by_slide[slide_id] = [
                replace(section, box_level0_px=found[key_of(section)].box_level0_px) for section in given
            ]
    return [section for given in by_slide.values() for section in given]


def sections_csv(sections: Iterable[SectionRecord], resolved: Mapping[str, Resolved]) -> str:
    """Sections as sections.csv, with the labels of the answers."""
    sections = list(sections)
    extra = sorted({name for section in sections for name in section.extra} - {ORIGIN, CONFLICT})
    rows = (_section_row(section, resolved.get(_key(section))) for section in sections)
    return csv_text((*_SECTION_COLUMNS, *extra, ORIGIN, CONFLICT), rows)


def _section_row(section: SectionRecord, said: Resolved | None) -> dict[str, Any]:
    box = dict(zip(_BOX, section.box_level0_px, strict=True)) if section.box_level0_px else {}
    names = ("slide_id", "section_id", "labelled_by", "labelled_at", "prefilled", "patient_id")
    row = {**section.extra, **{name: getattr(section, name) for name in names}, **box, "label": section.label or ""}
    if said is None:
        return {**row, ORIGIN: "", CONFLICT: ""}
    return {
        **row,
        "label": said.label or "",
        "labelled_by": guarded(said.labelled_by),
        "labelled_at": said.newest.at,
        "prefilled": said.newest.prefilled,
        ORIGIN: said.origin or "",
        CONFLICT: guarded(said.conflict),
    }


def _key(section: SectionRecord) -> str:
    return f"{section.slide_id}/{section.section_id}"


def answers_csv(resolved: Iterable[Resolved]) -> str:
    """Answers, one row a section and reviewer; text that a spreadsheet would compute has a ' before it."""
    rows = (
        {
            **{name: getattr(answer, name) for name in _ANSWER_COLUMNS if name != "reviewer"},
            "reviewer": guarded(reviewer),
            "comment": guarded(answer.comment),
            "more": json.dumps(answer.more, ensure_ascii=False) if answer.more else "",
        }
        for each in resolved
        for reviewer, answer in each.all_answers
    )
    ordered = sorted(rows, key=lambda row: (row["slide_id"], row["section_id"], row["reviewer"]))
    return csv_text(_ANSWER_COLUMNS, ordered)


def _write_regions(folder: Path, manifest: Manifest, journals: Iterable[Said], written: list[str]) -> int:
    """Write the regions of every slide and reviewer; returns how many files.

    Raises:
        StageFailedError: slides cannot be opened, so that nobody knows where QuPath counts from; the others are
            written.
    """
    reader = TileReader({slide.slide_id: slide for slide in manifest.slides})
    known = {slide.slide_id for slide in manifest.slides}
    failures, num = [], 0
    for said in journals:
        for slide_id, drawn in said.latest_regions.items():
            error = reader.facts(slide_id).error if slide_id in known else "it is not in the manifest any more"
            if error is not None:
                failures.append(f"  - {slide_id}, by {said.reviewer}: {error}")
                continue
            content = qupath_collection(
                drawn.features,
                reviewer=said.reviewer,
                at=drawn.at,
                origin_level0_px=reader.facts(slide_id).origin_level0_px,
            )
            if manifest.is_phantom:
                content["warning"] = PHANTOM_WARNING
            write_text(folder / f"{slide_id}.{file_name_of(said.reviewer)}.geojson", json.dumps(content) + "\n")
            num += 1
            written.append(f"{folder.name}/{slide_id}, by {said.reviewer}")
    if failures:
        raise StageFailedError(
            f"the regions of {len(failures)} slide(s) were not written to {folder}, of {num} they were:\n"
            + "\n".join(failures)
        )
    return num
