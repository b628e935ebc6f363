"""The two DICOM files of a slide: what they are made of is read, checked and put together here."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

import pandas as pd
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from analysis.dicom_files.placement import Placement, place_slide
from analysis.dicom_files.report import make_report
from analysis.dicom_files.segmentation import attach_frames, make_segmentation, write_frames
from analysis.study_evidence.evidence import Evidence
from bccdist.configuration import phantom_warning
from bccdist.errors import LedgerError, NothingToShowError, SlideError
from bccdist.files import atomic_path
from bccdist.heatmaps.store import Heatmap
from bccdist.models.model_file import read_model
from bccdist.parts import Part
from bccdist.remote.files import fingerprint_of
from bccdist.sections.choices import Choice
from bccdist.sections.chosen_heatmap import open_chosen
from bccdist.sections.chosen_output import SectionVerdict
from bccdist.sections.section_rows import rows_of
from bccdist.sections.section_verdicts import section_verdicts
from bccdist.slides.manifest import SlideRecord
from bccdist.slides.slide_file import open_slide_file


class _Marked(NamedTuple):
    """A slide, and what the chosen model says of it."""

    heatmap: Heatmap
    choice: Choice
    sections: list[SectionVerdict]
    placement: Placement
    model_digest: str
    """Of the model file that a cohort is judged by; empty in a study."""

    @property
    def warning(self) -> str:
        """What is not real; empty where all is."""
        return phantom_warning(slides=self.heatmap.attributes.phantom, weights=self.choice.phantom_weights)

    @property
    def made_at(self) -> datetime:
        """When the heatmap was made, so that the same files come out whenever they are written."""
        return datetime.fromtimestamp(int(self.heatmap.path.stat().st_mtime), tz=UTC)


def write_files(study: Evidence, slide_id: str, setting: str | None) -> list[Path]:
    """What `analysis.dicom_files.export.write_dicom` does, where all that it needs is installed."""
    marked = _read(study, slide_id, setting)
    name = marked.choice.setting
    segmentation, report = study.paths.dicom_segmentation(name, slide_id), study.paths.dicom_report(name, slide_id)
    # Both come to their places together, or none does.
    with (
        atomic_path(segmentation) as partial_segmentation,
        atomic_path(report) as partial_report,
        tempfile.TemporaryFile(dir=segmentation.parent) as frames,
    ):
        made = _write_segmentation(partial_segmentation, marked, frames)
        _write_report(partial_report, marked, made)
    return [segmentation, report]


def _read(study: Evidence, slide_id: str, setting: str | None) -> _Marked:
    record, choice = study.manifest.slide(slide_id), study.headline(setting)
    heatmap = open_chosen(study.paths, choice, slide_id)
    _require_same_slide(record, heatmap)
    return _Marked(
        heatmap=heatmap,
        choice=choice,
        sections=_sections(study, choice, slide_id),
        placement=_placed(record, heatmap),
        model_digest=read_model(study.paths.model).digest if study.paths.model.exists() else "",
    )


def _placed(record: SlideRecord, heatmap: Heatmap) -> Placement:
    with open_slide_file(record.path) as file:
        return place_slide(file.path, heatmap)


def _sections(study: Evidence, choice: Choice, slide_id: str) -> list[SectionVerdict]:
    rows = rows_of(study.ledger, list(Part), final_only=True)
    verdicts: pd.DataFrame = section_verdicts(rows.where((rows.frame["slide_id"] == slide_id).to_numpy()), choice)
    if verdicts.empty and study.paths.ledger_rows(choice.setting, choice.epoch, slide_id).exists():
        raise NothingToShowError(
            f"{slide_id}: no section was found on it, so there is nothing to say in DICOM; look at the slide, or give "
            "boxes of its sections in sections.csv and launch again"
        )
    if verdicts.empty:
        raise LedgerError(
            f"{study.paths.ledger}: no verdicts on {slide_id} by {choice.setting}, epoch {choice.epoch}; "
            "run the inference stage for it again"
        )
    return list(verdicts.sort_values("section_id").to_dict("records"))


def _require_same_slide(record: SlideRecord, heatmap: Heatmap) -> None:
    try:
        fingerprint = fingerprint_of(record.path)
    except OSError as error:
        raise SlideError(
            f"{record.path}: {error.strerror or error}; the slide's file says whether it is DICOM, and where it lies "
            "then"
        ) from error
    if fingerprint != heatmap.attributes.slide_fingerprint:
        raise SlideError(
            f"{record.path}: it is not the slide that {heatmap.path} was made of: its fingerprint is {fingerprint}, "
            f"expected {heatmap.attributes.slide_fingerprint}; run the inference again, or give the manifest that "
            "the study was made with"
        )


def _write_segmentation(path: Path, marked: _Marked, frames: IO[bytes]) -> Dataset:
    heatmap, psi = marked.heatmap, marked.heatmap.outputs[-1]
    written = write_frames(frames, heatmap, psi)
    made = make_segmentation(
        heatmap,
        psi,
        marked.choice,
        marked.placement,
        written,
        warning=marked.warning,
        made_at=marked.made_at,
    )
    attach_frames(made, frames)
    dcmwrite(path, made, enforce_file_format=True)
    return made


def _write_report(path: Path, marked: _Marked, segmentation: Dataset) -> None:
    report = make_report(
        marked.sections,
        marked.choice,
        marked.placement,
        segmentation,
        model_digest=marked.model_digest,
        source=marked.placement.stand_in(marked.heatmap.attributes.size_level0_px),
        warning=marked.warning,
        made_at=marked.made_at,
    )
    dcmwrite(path, report, enforce_file_format=True)
