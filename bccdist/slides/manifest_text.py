"""A manifest as the text of its files: slides.csv, with paths as seen from where it will lie, and sections.csv."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bccdist.addresses import Address, Location
from bccdist.files import csv_text
from bccdist.slides.manifest import BOX_COLUMNS, SECTION_COLUMNS, SLIDE_COLUMNS, Manifest, SectionRecord, SlideRecord


def slides_csv(manifest: Manifest, folder: Path, *, with_secrets: bool = False) -> str:
    """The rows of slides.csv, to lie in `folder`: what lies below the manifest's folder is relative, else absolute.

    Args:
        manifest: what is written.
        folder: in which it will lie.
        with_secrets: whether addresses keep user, password and query, as in a table that their owner makes; a study
            keeps none.
    """
    extra = list(dict.fromkeys(column for slide in manifest.slides for column in slide.extra))
    rows = (_slide_row(slide, manifest.path.parent, folder, with_secrets=with_secrets) for slide in manifest.slides)
    return csv_text([*SLIDE_COLUMNS, *extra], rows)


def _slide_row(slide: SlideRecord, before: Path, folder: Path, *, with_secrets: bool) -> dict[str, Any]:
    def seen_from_there(path: Location) -> str:
        if isinstance(path, Address):
            return path.whole if with_secrets else str(path)
        return os.path.relpath(path, folder.resolve()) if path.is_relative_to(before) else str(path)

    return {
        "slide_id": slide.slide_id,
        "part": slide.part.short,
        "path": seen_from_there(slide.path),
        "annotation": ";".join(map(seen_from_there, slide.annotations)),
        "mpp": "" if slide.mpp is None else repr(slide.mpp),
        "patient_id": slide.patient_id,
        "scanner": slide.scanner,
        **slide.extra,
    }


def sections_csv(sections: Sequence[SectionRecord]) -> str:
    """The rows of sections.csv."""
    extra = list(dict.fromkeys(column for section in sections for column in section.extra))
    return csv_text([*SECTION_COLUMNS, *extra], map(_section_row, sections))


def _section_row(section: SectionRecord) -> dict[str, Any]:
    box = section.box_level0_px or ("",) * len(BOX_COLUMNS)
    return {
        "slide_id": section.slide_id,
        "section_id": section.section_id,
        "label": "" if section.label is None else section.label.value,
        **dict(zip(BOX_COLUMNS, box, strict=True)),
        "labelled_by": section.labelled_by,
        "labelled_at": section.labelled_at,
        "prefilled": section.prefilled,
        "patient_id": section.patient_id,
        **section.extra,
    }
