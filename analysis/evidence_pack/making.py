"""Makes the evidence pack of a study or cohort: `python analysis/evidence.py STUDY --out FOLDER`.

A folder with all that the report rests on, and the program that checks it (`verify.pyz`), which is independent of all
code here. What is too large or may name a patient stays outside, by its digest alone.
"""

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import bccdist
from analysis.evidence_pack import crate
from analysis.evidence_pack.check import findings as names
from analysis.evidence_pack.check.digests import row_digests
from analysis.evidence_pack.check.page_texts import Page
from analysis.evidence_pack.check.verdict_tables import SLIDE_COLUMNS
from analysis.evidence_pack.check.verify import told, verify
from analysis.evidence_pack.job_log import packed_log
from analysis.evidence_pack.sbom import bill_of_materials
from analysis.evidence_pack.zipped import CHECKER, write_checker
from analysis.review.answers import GivenAnswer, Said, Withdrawal
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.readings import journals_of
from analysis.study_evidence.slide_states import SlideState, slide_states
from analysis.tables.subgroups import GROUP_COLUMNS
from bccdist.configuration import SETTINGS
from bccdist.errors import ConfigurationError, NothingToShowError, StageFailedError
from bccdist.files import csv_text, sha256_of_file, write_bytes, write_json, write_text
from bccdist.parts import Part
from bccdist.seals import SEAL_KEY
from bccdist.sections.labels import CONFLICT, ORIGIN, key_of
from bccdist.shard_set.index import read_set_manifest
from bccdist.stages.outdated import Result, outdated_results, told_outdated

_HELD = (Result.HEATMAPS, Result.SELECTION, Result.TABLES, Result.REPORT)
"""What a pack holds; the pictures in the report are of today, or it says which are not."""
_FREE_TEXTS = ("why_openslide", "reason")
"""Columns of sentences, which may name files."""
_FRACTIONS = ("tumornest_fraction", "stroma_fraction", "normal_fraction")
_ABOUT = {
    names.LEDGER: "The raw rows of the section ledger, with their curves and labels",
    names.ROW_DIGESTS: "The SHA-256 of each row of the ledger",
    "slides.csv": "The slides: part, number of the patient, groups, fingerprint",
    "labels.csv": "The label of each section: who set it, when, and what readers said where they differ",
    names.ANSWERS: "What readers said in reviews, step by step, with what they took back",
    names.GOALS: "How high the figures were to be, and when that was stated",
    "runs": "A run's metrics after each epoch, or its weights",
    "without_rows.csv": "The slides that gave no verdict, and why",
    "patches.parquet": "The training patches: shares of annotated pixels",
    "tables": "A table of the report in full precision",
    names.PAGE: "The report",
    names.PAGE_TEXTS: "Every text and the digest of every picture of the report",
    names.JOBS: "The job log, each line with the digest of the line before it",
    "code": "The code that jobs ran",
    "sbom.cdx.json": "The software that made the pack (CycloneDX)",
    CHECKER: "The program that checks the pack, and its sources (unzip)",
    "README.md": "How to check the pack",
}
_README = """# Evidence pack of {name}

    python verify.pyz --head DIGEST

checks every byte, computes the report's numbers anew from raw rows, and names what it does not compute, and why. It
needs Python 3.11 or newer with numpy and pyarrow (`pip install numpy pyarrow`), and neither the study nor bccdist.
DIGEST is the head digest that was printed when the pack was made, {made_at}: keep it elsewhere, or sign it. Without it
nobody can tell this pack from one that was made anew by somebody else.

Made by bccdist {version}, with numpy {numpy} (resampled intervals rest on its random numbers). For research alone.
"""


def write_evidence(study: Evidence, out: Path = Path("evidence-pack"), *, with_weights: bool = False) -> Path:
    """Write all that the report rests on to a folder that anybody can check without the study.

    Args:
        study: The study's folder, or a cohort's.
        out: The folder that is made; it must not be there yet.
        with_weights: Copy the weights of the chosen models, or a cohort's model, instead of their digest alone.

    Returns:
        The folder.

    Raises:
        ConfigurationError: the folder is no study, `out` is there already, or what it would hold is out of date.
        NothingToShowError: the study has no report, no ledger or no choice yet.
        StageFailedError: the pack is made, but its numbers do not follow from its raw rows.
    """
    if out.exists():
        raise ConfigurationError(f"{out} is there already; name a folder for the evidence pack that is not there yet")
    if not study.paths.report.exists():
        raise NothingToShowError(
            f"{study.paths.report}: there is no report yet; `python analysis/make.py report STUDY` makes it"
        )
    if outdated := {
        result: why for result, why in outdated_results(study.paths, study.manifest).items() if result in _HELD
    }:
        raise ConfigurationError(
            f"{study.root}: {told_outdated(outdated, study=study.pasted)}; an evidence pack holds what is so today"
        )
    partial = out.with_name(f"{out.name}.partial-{uuid.uuid4().hex}")
    try:
        _fill(study, partial, with_weights=with_weights)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _tell(out, verify(out))
    return out


def _fill(study: Evidence, folder: Path, *, with_weights: bool) -> None:
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    study_name = study.root.resolve().name
    folder.mkdir(parents=True)
    ledger = _ledger(study)
    _write_parquet(folder / names.LEDGER, ledger)
    lines = (f"{digest} {row}\n" for digest, row in row_digests(ledger))
    write_text(folder / names.ROW_DIGESTS, "".join(lines))
    _write_slides(study, folder, ledger)
    _write_answers(study, folder)
    _write_training(study, folder)
    _write_tables(study, folder)
    _write_page(study, folder)
    log = _write_log(study, folder)
    for archive in sorted(study.paths.code.glob("*.zip")):
        _copy(archive, folder / "code" / archive.name)
    weights = _weights(study)
    if with_weights:
        for place in weights.values():
            _copy(study.root / place, folder / place)
    write_checker(folder / CHECKER)
    software = {"name": study_name, "made_at": made_at, "version": bccdist.__version__, "numpy": np.__version__}
    write_text(folder / "README.md", _README.format(**software))
    write_json(folder / "sbom.cdx.json", bill_of_materials(made_at))
    files = _digests(folder)
    write_json(
        folder / crate.NAME, crate.crate_metadata(folder, files, name=study_name, made_at=made_at, about=_ABOUT)
    )
    manifest = {
        "made_at": made_at,
        "made_by": f"bccdist {bccdist.__version__}",
        "numpy": np.__version__,
        "files": _digests(folder),
        "elsewhere": dict(_elsewhere(study, {} if with_weights else weights)),
        "weights": weights,
        "job_log": log,
        "left_out": {
            "slides and heatmaps": "too large; slides.csv holds the fingerprint of each judged slide's pixels"
        },
    }
    write_json(folder / names.MANIFEST, manifest)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files}


def _copy(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, place)


def _ledger(study: Evidence) -> pa.Table:
    """The rows of the judged parts, with the labels of today."""
    table = study.ledger
    parts = pa.array([part.value for part in Part], pa.string())
    return _without_paths(study, table.filter(pc.is_in(table["part"], parts)))


def _without_paths(study: Evidence, table: pa.Table) -> pa.Table:
    """A table whose sentences name no file."""
    for name in _FREE_TEXTS:
        if name in table.column_names:
            texts = table[name].to_pylist()
            shown = {text: study.without_paths(text) for text in set(texts) if text}
            cleaned = pa.array([shown.get(text, text) for text in texts], pa.string())
            table = table.set_column(table.column_names.index(name), name, cleaned)
    return table


def _write_parquet(path: Path, table: pa.Table) -> None:
    """A table whose bytes differ from the study's, so without the seal of those."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != SEAL_KEY.encode()}
    pq.write_table(table.replace_schema_metadata(kept), path, compression="zstd")


def _write_tables(study: Evidence, folder: Path) -> None:
    """Every table in full precision; the choice and the grid are the study's own even where the report is not."""
    kept = {path.name: path for path in (study.paths.selection, study.paths.grid) if path.exists()}
    there = {path.name: path for path in study.paths.tables.glob("*.parquet")}
    for name, path in sorted({**there, **kept}.items()):
        _write_parquet(folder / "tables" / name, _without_paths(study, pq.read_table(path)))


def _write_training(study: Evidence, folder: Path) -> None:
    """The metrics of each run, and the goals that were stated."""
    for setting in SETTINGS:
        if (metrics := study.paths.run(setting).metrics).exists():
            _write_parquet(folder / metrics.relative_to(study.root), pq.read_table(metrics))
    if study.paths.goals.exists():
        _copy(study.paths.goals, folder / names.GOALS)


def _write_page(study: Evidence, folder: Path) -> None:
    _copy(study.paths.report, folder / names.PAGE)
    page = Page((folder / names.PAGE).read_text(encoding="utf-8"))
    if not any(cell.table for cell in page.cells):
        raise NothingToShowError(
            f"{study.paths.report}: its numbers do not say which table they are from, as an older version made it; "
            "`python analysis/make.py report STUDY` makes it anew"
        )
    write_text(folder / names.PAGE_TEXTS, json.dumps(page.texts, ensure_ascii=False, indent=0) + "\n")


def _write_slides(study: Evidence, folder: Path, ledger: pa.Table) -> None:
    """The slides, their labels, those without a verdict, and the training patches' shares of annotated pixels."""
    slides = study.manifest.slides
    named = {section.patient_id for section in study.manifest.sections}
    patients = sorted(({slide.patient_id for slide in slides} | named) - {""})
    # In the order of their names, which the order of resampled patients follows.
    number = {name: f"{place:0{len(str(len(patients)))}d}" for place, name in enumerate(patients, 1)}
    prints = dict(zip(ledger["slide_id"].to_pylist(), ledger["slide_fingerprint"].to_pylist(), strict=True))
    groups = _group_columns(study)
    rows = [
        {
            "slide_id": slide.slide_id,
            "part": slide.part.value,
            "patient": number.get(slide.patient_id, ""),
            "is_annotated": _yes(bool(slide.annotations)),
            "fingerprint": prints.get(slide.slide_id, ""),
            "scanner": slide.scanner,
            **{name: slide.extra.get(name, "") for name in groups},
        }
        for slide in slides
    ]
    columns = [*SLIDE_COLUMNS, "scanner", *groups]
    write_text(folder / "slides.csv", csv_text(columns, rows))
    labels = list(_labels(study, number))
    write_text(folder / "labels.csv", csv_text(list(_LABEL_COLUMNS), labels))
    write_text(folder / "without_rows.csv", csv_text(list(_WITHOUT_COLUMNS), _without_rows(study)))
    shards = study.paths.shards
    if shards.index.exists():
        index = pq.read_table(shards.index, columns=["part", *_FRACTIONS])
        training = index.filter(pc.equal(index["part"], Part.TRAINING.value)).select(list(_FRACTIONS))
        _write_parquet(folder / "patches.parquet", training)


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _group_columns(study: Evidence) -> list[str]:
    """Columns of slides.csv that the table of subgroups shows; others may hold what names a patient."""
    path = study.paths.tables / "subgroups.parquet"
    asked = set(pq.read_table(path, columns=["column"])["column"].to_pylist()) if path.exists() else set()
    there = {name for slide in study.manifest.slides_of([Part.TEST]) for name in slide.extra}
    return sorted(name for name in there if name in asked or name.lower() in GROUP_COLUMNS)


_LABEL_COLUMNS = (
    *("slide_id", "section_id", "label", "labelled_by", "labelled_at", "prefilled", "patient"),
    *("tells_readers", CONFLICT, ORIGIN, "origin"),
)
_ANSWER_COLUMNS = (
    *("reader", "journal", "entry", "slide_id", "section_id", "answer"),
    *("given_as", "was_shown", "prediction", "withdraws"),
)
_WITHOUT_COLUMNS = (*("part", "setting", "epoch", "slide_id", "state", "reason"), "phantom", "phantom_weights")


def _labels(study: Evidence, number: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Every section with its label of today, and last the corrections of sections that are gone."""
    corrected = {key_of(section) for section in study.corrections}
    named = {key_of(section): number.get(section.patient_id, "") for section in study.manifest.sections}
    known = [(each, "") for each in study.labelled_manifest.sections]
    for section, lost in (*known, *((each, "lost correction") for each in study.lost_corrections)):
        key = key_of(section)
        yield {
            "slide_id": section.slide_id,
            "section_id": section.section_id,
            "label": section.label.value if section.label else "",
            "labelled_by": section.labelled_by,
            "labelled_at": section.labelled_at,
            "prefilled": section.prefilled,
            "patient": named.get(key, ""),
            "tells_readers": _yes(CONFLICT in section.extra),
            **{name: section.extra.get(name, "") for name in (CONFLICT, ORIGIN)},
            "origin": lost or ("correction" if key in corrected else "manifest" if key in named else "found section"),
        }


def _write_answers(study: Evidence, folder: Path) -> None:
    """What readers said in reviews; no file where no review was held."""
    if journals := journals_of(study):
        rows = [row for number, said in enumerate(journals) for row in _steps(said, number)]
        write_text(folder / names.ANSWERS, csv_text(list(_ANSWER_COLUMNS), rows))


def _steps(said: Said, number: int) -> Iterator[dict[str, str]]:
    """The answers of a journal in the order of time, and what takes some back."""
    for step in said.steps:
        about = {**dict.fromkeys(_ANSWER_COLUMNS, ""), "reader": said.reviewer, "journal": str(number)}
        if isinstance(step, GivenAnswer):
            given = {
                name: getattr(step, name) for name in ("entry", "slide_id", "section_id", "given_as", "prediction")
            }
            yield {**about, **given, "answer": step.answer.value, "was_shown": _yes(step.was_shown)}
        elif isinstance(step, Withdrawal):
            yield {**about, "entry": step.entry, "withdraws": " ".join(step.withdrawn)}


def _without_rows(study: Evidence) -> Iterable[Mapping[str, Any]]:
    states = slide_states(study)
    rows = states[states["state"] != SlideState.DONE.value].to_dict("records")
    for row in rows:
        marks = {name: _yes(bool(row[name])) for name in ("phantom", "phantom_weights")}
        yield {**{str(name): row[name] for name in _WITHOUT_COLUMNS}, **marks}


def _write_log(study: Evidence, folder: Path) -> dict[str, Any] | None:
    if not study.paths.journal.exists():
        return None
    lines, about = packed_log(study.paths.journal.read_bytes())
    write_bytes(folder / names.JOBS, lines)
    return about


def _weights(study: Evidence) -> dict[str, str]:
    """Where the weights of each setting lie, as seen from the study; a cohort's are in its model."""
    if study.is_cohort:
        return {choice.setting: study.paths.model.name for choice in study.choices}
    places = {choice.setting: study.paths.run(choice.setting).weights(choice.epoch) for choice in study.choices}
    return {setting: path.relative_to(study.root).as_posix() for setting, path in places.items() if path.exists()}


def _elsewhere(study: Evidence, weights: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """What the pack holds the digest of alone."""
    for setting, place in weights.items():
        yield place, {"what": f"the weights of {setting}", "sha256": sha256_of_file(study.root / place)}
    shards = study.paths.shards
    if shards.manifest.exists():
        about = read_set_manifest(shards)
        root = shards.root.relative_to(study.root).as_posix()
        yield f"{root}/manifest.json", {"what": "the shard set", "sha256": sha256_of_file(shards.manifest)}
        for entry in (about["index"], *about["tars"]):
            yield f"{root}/{entry['path']}", {"what": "training patches", "sha256": entry["sha256"]}


def _tell(out: Path, found: names.Findings) -> None:
    """Print what the pack is and what checking it says.

    Raises:
        StageFailedError: its numbers do not follow from its raw rows.
    """
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(told(out, found))
    print(f"{size / 1e6:.1f} MB; keep the head digest elsewhere, or sign it: it stands for all of the pack")
    if found.faults:
        raise StageFailedError(
            f"{out} is made, but {len(found.faults)} thing(s) in it do not fit together (above): after new labels or "
            "heatmaps `python analysis/make.py report STUDY` makes tables and report anew; then make another pack"
        )
