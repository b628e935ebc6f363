"""Sections on which reviewers contradict the model, as a manifest from which extra shards are built (section 2.3).

    python jobs/review.py STUDY --export-hard OUT
    python jobs/launch_shards.py --manifest OUT/slides.csv --study studies/extra

Shards are cut from whole slides. So a slide with a hard section goes in only where all of it is known: somebody drew
its regions, every section has a label, and every Tumor section has a region of Tumornest in it. Otherwise tumor that
nobody drew would be learned as tissue without tumor.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely

from analysis.review.answers import GivenRegions, Said, read_journals
from analysis.review.consensus import Resolved, resolve
from analysis.review.corrections import qupath_collection
from analysis.review.export import placed_sections, sections_csv
from analysis.review.geojson import geometry_of
from analysis.review.tiles import TileReader
from analysis.review.worklist import ReviewPlan, Worklist, WorkSection, read_worklist
from analysis.study_evidence.evidence import Evidence
from bccdist.addresses import Address
from bccdist.errors import ConfigurationError, StageFailedError
from bccdist.files import csv_text, write_text
from bccdist.parts import Kind, Label, Part
from bccdist.slides.manifest import SlideRecord, read_manifest

_ANNOTATIONS = "annotations"
_LABELS = frozenset(label.value for label in Label)


@dataclass(frozen=True, kw_only=True)
class HardSlide:
    """A slide with at least one hard section, ready for the shards."""

    record: SlideRecord
    hard: tuple[str, ...]
    """Names of its hard sections."""
    regions: GivenRegions
    reviewer: str
    """Who drew the regions."""
    origin_level0_px: tuple[int, int]
    """The level-0 pixel that QuPath counts from."""


def export_hard_sections(study_root: Path, out: Path, *, setting: str | None = None) -> str:
    """Write the slides with hard sections as a manifest of Training slides, with annotations from drawn regions.

    Args:
        study_root: the study's folder.
        out: a folder for slides.csv, sections.csv and annotations.
        setting: whose verdicts are contradicted; None is the one with the best F_beta on Validation I + II.

    Returns:
        What was written, and what follows from it, in a few lines.

    Raises:
        ConfigurationError: the folder is no study, `out` holds a manifest already, no answer contradicts the model,
            or what there is has no tumor, without which shards cannot be finished.
        LedgerError: nothing was selected, or not for this setting.
        StageFailedError: some slides are not known well enough, and it says what is missing; the others are written.
    """
    if (out / "slides.csv").exists():
        raise ConfigurationError(f"{out / 'slides.csv'} is there already; give a new folder")
    worklist = read_worklist(study_root, list(Part), ReviewPlan(), setting=setting)
    journals = read_journals(worklist.paths)
    resolved = resolve(journals)
    hard = hard_sections(worklist, resolved)
    if not hard:
        raise ConfigurationError(
            f"{worklist.paths.review}: no answer contradicts a verdict of {worklist.headline.setting}, so there is "
            "nothing to export"
        )
    slides, faults = _ready_slides(worklist, journals, resolved, hard)
    listed = "\n".join(f"  - {fault}" for fault in faults)
    left_out = f"\n{len(faults)} slide(s) are left out:\n{listed}" if faults else ""
    if not any(_has_tumor(slide.regions) for slide in slides):
        raise ConfigurationError(
            f"{len(hard)} hard section(s), but no slide that is ready has a region of {Kind.TUMORNEST}, without which "
            f"a shard set cannot be finished: draw regions on the page{left_out}"
        )
    text = _write(out, worklist, slides, resolved)
    if faults:
        raise StageFailedError(f"{text}{left_out}")
    return text


def hard_sections(worklist: Worklist, resolved: Mapping[str, Resolved]) -> list[WorkSection]:
    """The sections that readers call Tumor or Normal, or whoever decided between them, and the headline the other."""
    return [
        section
        for section in worklist.sections
        if section.key in resolved
        and section.prefilled in _LABELS
        and (label := resolved[section.key].label) is not None
        and label.value != section.prefilled
    ]


def _ready_slides(
    worklist: Worklist, journals: Sequence[Said], resolved: Mapping[str, Resolved], hard: Iterable[WorkSection]
) -> tuple[list[HardSlide], list[str]]:
    """The slides that can be cut, and what the others lack."""
    names: dict[str, list[str]] = {}
    for section in hard:
        names.setdefault(section.slide_id, []).append(section.section_id)
    ready, faults = [], []
    reader = TileReader({slide.slide_id: slide for slide in worklist.manifest.slides})
    for slide_id in sorted(names):
        drawn = [
            (said.latest_regions[slide_id], said.reviewer) for said in journals if slide_id in said.latest_regions
        ]
        if not drawn:
            faults.append(
                f"{slide_id}: nobody drew its regions, and Training slides need annotations; draw them on the page "
                f"({', '.join(names[slide_id])})"
            )
            continue
        # One slide, one annotation: the newest drawing, whoever made it.
        regions, reviewer = max(drawn, key=lambda each: each[0].at)
        lacking = _lacking(worklist.by_slide[slide_id], regions, resolved)
        facts = reader.facts(slide_id)
        if facts.error is not None:
            lacking.append(facts.error)
        if lacking:
            faults.append(f"{slide_id}: {'; '.join(lacking)}")
            continue
        ready.append(
            HardSlide(
                record=worklist.manifest.slide(slide_id),
                hard=tuple(names[slide_id]),
                regions=regions,
                reviewer=reviewer,
                origin_level0_px=facts.origin_level0_px,
            )
        )
    return ready, faults


def _lacking(sections: Iterable[WorkSection], regions: GivenRegions, resolved: Mapping[str, Resolved]) -> list[str]:
    """What is not known of a slide's sections."""
    tumor = shapely.union_all(_tumor_shapes(regions))
    found = []
    for section in sections:
        label = resolved[section.key].label if section.key in resolved else section.label
        box = section.box_level0_px
        if label is None:
            found.append(f"section {section.section_id} has no label that reviewers agree on: label it")
        elif label == Label.TUMOR and not shapely.box(box.x, box.y, box.x_end, box.y_end).intersects(tumor):
            found.append(
                f"section {section.section_id} is Tumor, but no region of {Kind.TUMORNEST} lies in it: draw it"
            )
    return found


def _tumor_shapes(regions: GivenRegions) -> list[shapely.Geometry]:
    return [geometry_of(each) for each in regions.features if each["properties"]["kind"] == Kind.TUMORNEST]


def _has_tumor(regions: GivenRegions) -> bool:
    return bool(_tumor_shapes(regions))


def _write(out: Path, worklist: Worklist, slides: Sequence[HardSlide], resolved: Mapping[str, Resolved]) -> str:
    for slide in slides:
        content = qupath_collection(
            slide.regions.features,
            reviewer=slide.reviewer,
            at=slide.regions.at,
            origin_level0_px=slide.origin_level0_px,
        )
        write_text(out / _annotation(slide), json.dumps(content) + "\n")
    wanted = {slide.record.slide_id for slide in slides}
    sections = [each for each in placed_sections(Evidence(worklist.paths.root)) if each.slide_id in wanted]
    write_text(out / "sections.csv", sections_csv(sections, resolved))
    write_text(out / "slides.csv", _slides_csv(slides))
    # What is written has to pass as a manifest: a fault is found now and not in a job.
    read_manifest(out / "slides.csv")
    return "\n".join(_summary(out, slides))


def _annotation(slide: HardSlide) -> str:
    return f"{_ANNOTATIONS}/{slide.record.slide_id}.geojson"


def _slides_csv(slides: Sequence[HardSlide]) -> str:
    extra = sorted({name for slide in slides for name in slide.record.extra} - {"former_part", "hard_sections"})
    columns = ("slide_id", "part", "path", "annotation", "mpp", "patient_id", "scanner", *extra)
    return csv_text((*columns, "former_part", "hard_sections"), map(_slide_row, slides))


def _slide_row(slide: HardSlide) -> dict[str, Any]:
    record = slide.record
    return {
        **record.extra,
        "slide_id": record.slide_id,
        "part": Part.TRAINING.value,
        "path": record.path.whole if isinstance(record.path, Address) else record.path.resolve(),
        "annotation": _annotation(slide),
        "mpp": record.mpp,
        "patient_id": record.patient_id,
        "scanner": record.scanner,
        "former_part": record.part.value,
        "hard_sections": " ".join(slide.hard),
    }


def _summary(out: Path, slides: Sequence[HardSlide]) -> Iterable[str]:
    yield f"{sum(len(slide.hard) for slide in slides)} hard section(s) on {len(slides)} slide(s): {out / 'slides.csv'}"
    judged = sorted({slide.record.part.value for slide in slides} - {Part.TRAINING.value})
    if judged:
        yield (
            f"Some of them are in {', '.join(judged)}. Take these slides out of there before a model is trained on "
            "them: what it is measured by must be new to it."
        )
    yield f"next: python jobs/launch_shards.py --manifest {out / 'slides.csv'} --study studies/extra"
