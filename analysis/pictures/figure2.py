"""Figure 2, labels of the sections of Test slides (paper, section 2.1): `python analysis/make.py figure2 STUDY`.

Nothing but the manifest and the slides is needed: it can be drawn before anything is trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from analysis.pictures.colours import LABEL_COLOURS, LABEL_LINES
from analysis.pictures.crops import Crop, mpp_to_fit, read_crop
from analysis.pictures.drawing import Mark, Panel, Row, write_figure
from analysis.pictures.picture_state import state_of_labels
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.table import Table
from bccdist.errors import ManifestError, NothingToShowError
from bccdist.parts import Label, Part
from bccdist.slides.geometry import Box
from bccdist.slides.manifest import PHANTOM_SCANNER, Manifest, SectionRecord, SlideRecord
from bccdist.slides.sections import Section, have_boxes, sections_of
from bccdist.slides.slide import Slide
from bccdist.slides.tissue import TISSUE_MPP, tissue_mask

NUM_SLIDES = 2
_PANEL_PX = (760, 900)
_NO_LABEL = "no label"


class _LabelledSlide(NamedTuple):
    """A slide as it is shown."""

    record: SlideRecord
    crop: Crop
    """The whole slide."""
    sections: list[Section]


def labels_shown(study: Evidence) -> list[SectionRecord]:
    """The sections of Test, whose labels decide on what is shown."""
    manifest = study.labelled_manifest
    return [each for slide in manifest.slides_of([Part.TEST]) for each in manifest.sections_of(slide.slide_id)]


def choose_slides(manifest: Manifest) -> list[SlideRecord]:
    """The Test slides with most sections of either label, two at most; without both labels only where none has both.

    Raises:
        NothingToShowError: no section of a Test slide has a label.
    """
    ranked = []
    for record in manifest.slides_of([Part.TEST]):
        labels = [section.label for section in manifest.sections_of(record.slide_id)]
        counts = (labels.count(Label.TUMOR), labels.count(Label.NORMAL))
        if any(counts):
            ranked.append((-min(counts), -max(counts), record.slide_id))
    if not ranked:
        raise NothingToShowError(
            f"needs labels: no section of a {Part.TEST.value} slide has a label; write labels into sections.csv, or "
            "name slides of another part"
        )
    return [manifest.slide(slide_id) for *_, slide_id in sorted(ranked)[:NUM_SLIDES]]


def _read_slide(
    manifest: Manifest, record: SlideRecord, labels: Mapping[tuple[str, str], SectionRecord]
) -> _LabelledSlide:
    """The slide with its sections where the manifest or the tissue has them, and the labels of today."""
    with Slide(record.path, target_mpp=TISSUE_MPP, mpp=record.mpp) as slide:
        records = manifest.sections_of(record.slide_id)
        tissue = tissue_mask(slide, for_sections=not have_boxes(records))
        sections = [
            _with_label(section, labels.get((record.slide_id, section.section_id)))
            for section in sections_of(slide, record.slide_id, tissue, records)
        ]
        whole_level0_px, mpp_level0 = Box(0, 0, *slide.level0_size), slide.resolution.mpp_level0
    width_px, height_px = _PANEL_PX
    mpp = mpp_to_fit(whole_level0_px, mpp_level0, width_px=width_px, height_px=height_px)
    return _LabelledSlide(record, read_crop(record, whole_level0_px, mpp=mpp), sections)


def _with_label(section: Section, labelled: SectionRecord | None) -> Section:
    if labelled is None:
        return section
    return replace(section, label=labelled.label, labelled_by=labelled.labelled_by)


def _panel(slide: _LabelledSlide) -> Panel:
    marks = []
    for section in slide.sections:
        label = None if section.label is None else section.label.value
        # Not by colour alone: lines differ, too, and each box says its label.
        box, line = slide.crop.place(section.box_level0_px), LABEL_LINES[label]
        marks.append(Mark(box=box, colour=LABEL_COLOURS[label], line=line, text=label or _NO_LABEL))
    return Panel(image=slide.crop.tissue, um_per_px=slide.crop.um_per_px, marks=tuple(marks))


def _table(slides: Sequence[_LabelledSlide]) -> Table:
    frame = pd.DataFrame(
        [
            {
                "slide_id": slide.record.slide_id,
                "section_id": section.section_id,
                "part": slide.record.part.value,
                "label": section.label and section.label.value,
                "labelled_by": section.labelled_by,
                **{f"{side}_level0_px": length for side, length in section.box_level0_px._asdict().items()},
                "um_per_px": slide.crop.um_per_px,
                "phantom": slide.record.scanner == PHANTOM_SCANNER,
            }
            for slide in slides
            for section in slide.sections
        ]
    )
    printed = pd.DataFrame(
        {
            "slide": frame["slide_id"],
            "section": frame["section_id"],
            "label": frame["label"].fillna("none"),
            **{f"{side} px": frame[f"{side}_level0_px"].astype(str) for side in ("x", "y", "width", "height")},
        }
    )
    return Table(
        name="figure2",
        title="Figure 2. Labels of sections.",
        frame=frame,
        printed=printed,
        notes=("Boxes are in pixels of the finest level.",),
    )


def write_figure2(study: Evidence, slides: tuple[str, ...] = ()) -> Table:
    """Draw Figure 2, the labels of the sections of Test slides, and write what it shows.

    Args:
        study: The study's folder.
        slides: The slides to show: default is two of Test with both labels.

    Raises:
        ManifestError: a slide is unknown or has no section.
        NothingToShowError: no Test slide has a label.
        SlideError: a slide cannot be read; name others.
    """
    manifest = study.manifest
    records = [manifest.slide(slide_id) for slide_id in slides] or choose_slides(study.labelled_manifest)
    labels = {(each.slide_id, each.section_id): each for each in study.labelled_manifest.sections}
    shown = [_read_slide(manifest, record, labels) for record in records]
    bare = [slide.record.slide_id for slide in shown if not slide.sections]
    if bare:
        raise ManifestError(f"{manifest.path}: no section on {', '.join(bare)}, nor any tissue found; name others")
    return write_figure(
        study.paths,
        _table(shown),
        subtitle=f"box: label {Label.TUMOR.value} (solid) or {Label.NORMAL.value} (dashed)",
        columns=tuple(f"{slide.record.slide_id}\n{slide.record.part.value}" for slide in shown),
        rows=(Row(panels=tuple(map(_panel, shown))),),
        panel_px=_PANEL_PX,
        state=state_of_labels(labels_shown(study)),
    )
