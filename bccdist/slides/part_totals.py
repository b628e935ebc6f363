"""How many slides, annotations and labelled sections each part of a manifest has (the paper's Table 1)."""

from collections import Counter
from dataclasses import dataclass

from bccdist.parts import Label, Part
from bccdist.slides.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class PartTotals:
    """One row of the paper's Table 1."""

    part: Part
    num_slides: int
    num_annotated: int
    num_tumor: int
    """Sections labelled Tumor."""
    num_normal: int
    num_unlabelled: int
    """Rows of sections.csv without a label."""


def totals_of(manifest: Manifest, part: Part) -> PartTotals:
    """What a manifest holds of one part."""
    slides = manifest.slides_of([part])
    labels = Counter(section.label for slide in slides for section in manifest.sections_of(slide.slide_id))
    return PartTotals(
        part=part,
        num_slides=len(slides),
        num_annotated=sum(bool(slide.annotations) for slide in slides),
        num_tumor=labels[Label.TUMOR],
        num_normal=labels[Label.NORMAL],
        num_unlabelled=labels[None],
    )
