"""What was decided about an audit's findings, as files that shards are built from anew.

slides.csv         the manifest; slides with a fix have their corrected annotation in it
annotations/       the corrected annotations, a GeoJSON file a slide
decisions.csv      every decision that counts
sections.csv, kinds.toml   as they are
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from analysis.review.audit.decisions import Decided, Decision, conflicts
from analysis.review.audit.session import AuditedStudy
from analysis.review.spreadsheets import guarded
from bccdist.audit.corrections import Fix, as_geojson, corrected
from bccdist.configuration import PHANTOM_WARNING
from bccdist.errors import ConfigurationError
from bccdist.files import csv_text, write_bytes, write_text
from bccdist.parts import Kind
from bccdist.paths import StudyPaths
from bccdist.slides.manifest import read_manifest
from bccdist.slides.manifest_text import slides_csv

_BESIDE = ("sections.csv", "kinds.toml")
_COLUMNS = ("id", "slide_id", "reviewer", "decision", "kind", "at", "reason", "score", "text")


def export_audit(study_root: Path, setting: str, out: Path) -> str:
    """Write a manifest with corrected annotations into a new folder.

    Returns:
        What was written, in a few lines.

    Raises:
        ConfigurationError: `out` holds a manifest, nothing was fixed, or no name means a kind.
        LedgerError: there is no audit of this setting.
        EventLogError: a journal is damaged.
    """
    if (out / "slides.csv").exists():
        raise ConfigurationError(f"{out / 'slides.csv'} is there already; give a new folder")
    study = AuditedStudy(StudyPaths(study_root), setting)
    by_row, num_earlier = study.decisions()
    open_rows = conflicts(by_row)
    settled = {row: next(iter(own.values())) for row, own in by_row.items() if row not in open_rows}
    fixes = _fixes(study, settled.values())
    if not fixes:
        earlier = f"; {num_earlier} decision(s) were about an earlier audit" if num_earlier else ""
        raise ConfigurationError(
            f"{study.audit.table}: nothing of this audit was fixed, or not by all who decided{earlier}; go through it "
            f'with `python jobs/review.py {study_root} --reviewer "NAME" --audit {setting}`'
        )
    _write(study, out, fixes)
    write_text(out / "decisions.csv", csv_text(_COLUMNS, _decision_rows(study, by_row)))
    # What is written has to pass as a manifest: a fault is found now and not in a job.
    read_manifest(out / "slides.csv")
    return "\n".join(_summary(study, out, settled.values(), fixes, open_rows, num_earlier))


def _fixes(study: AuditedStudy, settled: Iterable[Decided]) -> dict[str, dict[str, Fix]]:
    """What is fixed, by slide."""
    fixes: dict[str, dict[str, Fix]] = {}
    for decided in settled:
        if decided.decision == Decision.FIX:
            kind = None if decided.kind is None else Kind(decided.kind)
            fixes.setdefault(study.by_id[decided.id]["slide_id"], {})[decided.id] = Fix(kind=kind)
    return fixes


def _write(study: AuditedStudy, out: Path, fixes: Mapping[str, Mapping[str, Fix]]) -> None:
    manifest, written = study.manifest, {}
    for slide_id, own in fixes.items():
        content = as_geojson(corrected(study.rows_of(slide_id), own), manifest.kinds)
        if manifest.is_phantom:
            content["warning"] = PHANTOM_WARNING
        written[slide_id] = out.resolve() / "annotations" / f"{slide_id}.geojson"
        write_text(written[slide_id], json.dumps(content) + "\n")
    for name in _BESIDE:
        if (source := manifest.path.with_name(name)).exists():
            write_bytes(out / name, source.read_bytes())
    slides = tuple(
        replace(slide, annotations=(written[slide.slide_id],)) if slide.slide_id in written else slide
        for slide in manifest.slides
    )
    # Seen from its new place: the corrected annotations go where it goes, and all else is found where it lies.
    moved = replace(manifest, path=out.resolve() / "slides.csv", slides=slides)
    write_text(out / "slides.csv", slides_csv(moved, out))


def _decision_rows(study: AuditedStudy, by_row: Mapping[str, Mapping[str, Decided]]) -> Iterable[Mapping[str, object]]:
    for row_id in sorted(by_row, key=lambda each: study.by_id[each]["rank"]):
        row = study.by_id[row_id]
        for decided in by_row[row_id].values():
            yield {
                **{name: row[name] for name in ("slide_id", "reason", "score", "text")},
                "id": row_id,
                "reviewer": guarded(decided.reviewer),
                "decision": decided.decision,
                "kind": decided.kind or "",
                "at": decided.at,
            }


def _summary(
    study: AuditedStudy,
    out: Path,
    settled: Iterable[Decided],
    fixes: Mapping[str, Mapping[str, Fix]],
    open_rows: list[str],
    num_earlier: int,
) -> Iterable[str]:
    settled = list(settled)
    num_fixed = sum(map(len, fixes.values()))
    yield (
        f"{num_fixed} fixed on {len(fixes)} slide(s), {len(settled) - num_fixed} accepted, of {len(study.rows)} "
        f"outlines and regions: {out / 'slides.csv'}"
    )
    if open_rows:
        yield f"NOT CHANGED: reviewers differ on {len(open_rows)} ({', '.join(open_rows[:5])}); decisions.csv has all"
    if num_earlier:
        yield f"{num_earlier} decision(s) were about an earlier audit, and do not count"
    yield f"next: python jobs/launch_shards.py --manifest {out / 'slides.csv'} --study NEW_STUDY"
